.lsf <- list(
  submit = function(config, n, script) {
    answer <- .submit(config, if (n > 1L) c("-J", paste0("setsuna[1-", n, "]")), script("LSB_JOBINDEX"))
    list(kind = "bsub", id = .job_id(answer, "Job <([0-9]+)>", config), command = config$command)
  },

  state = function(job) {
    answer <- .run_tool(.sibling(job$command, "bjobs"),
                        c("-noheader", "-a", "-o", "jobid jobindex stat exit_reason pend_reason delimiter='|'", job$id))
    rows <- strsplit(paste0(answer, "|"), "|", fixed = TRUE)
    rows <- rows[lengths(rows) >= 3L & grepl("^[0-9]+[|]", answer)]
    if (!length(rows)) return(.last_state(job, NULL))
    field <- function(i) vapply(rows, function(row) if (length(row) >= i) row[i] else "", "")
    states <- c(PEND = "pending", PSUSP = "pending", USUSP = "pending", SSUSP = "pending", WAIT = "pending", RUN = "running",
                DONE = "ended", EXIT = "failed")
    state <- unname(states[field(3L)])
    state[is.na(state)] <- "unknown"
    index <- ifelse(field(2L) %in% c("", "-", "0"), "", paste0("[", field(2L), "]"))
    why <- gsub("^-$", "", ifelse(state == "failed", field(4L), field(5L)))
    .last_state(job, .job_rows(paste0(field(1L), index), state, why))
  },

  cancel = function(job) .run_tool(.sibling(job$command, "bkill"), job$id)
)
