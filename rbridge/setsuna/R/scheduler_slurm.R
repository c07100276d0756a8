.slurm <- list(
  submit = function(config, n, script) {
    args <- c("--parsable", if (n > 1L) paste0("--array=1-", n))
    answer <- .submit(config, args, script("SLURM_ARRAY_TASK_ID"))
    list(kind = "sbatch", id = .job_id(answer, "^([0-9]+(;[^ ]+)?)$", config), command = config$command)
  },

  state = function(job) {
    answer <- .run_tool(.sibling(job$command, "squeue"),
                        c(.slurm_job(job), "--noheader", "--array", "--states=all", "--format=%i|%T|%r"))
    rows <- strsplit(answer, "|", fixed = TRUE)
    rows <- rows[lengths(rows) == 3L]
    failed <- !is.null(attr(answer, "status")) && !any(grepl("Invalid job id", answer))
    if (failed) return(.job_rows(job$id, "unknown", paste(answer, collapse = " ")))
    if (!length(rows)) return(.last_state(job, NULL))
    field <- function(i) vapply(rows, `[`, "", i)
    table <- .job_rows(field(1L), .slurm_state(field(2L)), field(3L))
    .last_state(job, table[order(nchar(table$id), table$id), ])
  },

  cancel = function(job) .run_tool(.sibling(job$command, "scancel"), c("--quiet", .slurm_job(job, FALSE)))
)

# "id" or "id;cluster"
.slurm_job <- function(job, option = TRUE) {
  parts <- strsplit(job$id, ";", fixed = TRUE)[[1L]]
  c(if (length(parts) > 1L) paste0("--clusters=", parts[2L]), if (option) paste0("--jobs=", parts[1L]) else parts[1L])
}

.slurm_state <- function(word) {
  states <- c(PENDING = "pending", CONFIGURING = "pending", REQUEUED = "pending", SUSPENDED = "pending", STOPPED = "pending",
              RUNNING = "running", COMPLETING = "running", COMPLETED = "ended", CANCELLED = "cancelled")
  known <- states[word]
  unname(ifelse(is.na(known), "failed", known))
}
