# Grid Engine, PBS and Torque share the names of their commands, but not how these are used.
.qsub <- list(
  submit = function(config, n, script) {
    flavour <- .qsub_flavour(config$command)
    config$options <- c(flavour$shell, config$options)
    answer <- .submit(config, c(flavour$args, if (n > 1L) c(flavour$array, paste0("1-", n))), script(flavour$index))
    list(kind = "qsub", id = .job_id(answer, "^([0-9]+(\\[\\])?[^ :]*)", config), command = config$command,
         failed = flavour$failed)
  },

  # The state is the fifth column with all of them.
  state = function(job) {
    answer <- .run_tool(.sibling(job$command, "qstat"), character())
    if (!is.null(attr(answer, "status"))) return(.job_rows(job$id, "unknown", paste(answer, collapse = " ")))
    number <- sub("^([0-9]+).*", "\\1", job$id)
    rows <- strsplit(trimws(grep(paste0("^ *", number, "([^0-9]|$)"), answer, value = TRUE)), " +")
    rows <- rows[lengths(rows) >= 5L]
    if (!length(rows)) return(.last_state(job, NULL))
    words <- vapply(rows, `[`, "", 5L)
    state <- ifelse(grepl(job$failed, words), "failed", ifelse(grepl("[qwhHQWTsS]", words), "pending", "running"))
    state[grepl("^[CFX]$", words)] <- "ended"
    tasks <- vapply(rows, function(row) if (length(row) >= 10L) paste0(".", row[10L]) else "", "")
    .last_state(job, .job_rows(paste0(vapply(rows, `[`, "", 1L), tasks), state, ifelse(state == "running", "", words)))
  },

  cancel = function(job) .run_tool(.sibling(job$command, "qdel"), sub("\\.[0-9]+-.*", "", job$id))
)

# PBS and Torque say their version; Grid Engine has no such option.
.qsub_flavour <- function(command) {
  version <- paste(.run_tool(command, "--version"), collapse = " ")
  if (grepl("pbs_version", version)) {
    list(array = "-J", index = "PBS_ARRAY_INDEX", shell = "#PBS -S /bin/sh", failed = "^$")
  } else if (grepl("^ *Version", version)) {
    list(array = "-t", index = "PBS_ARRAYID", shell = "#PBS -S /bin/sh", failed = "^$")
  } else {
    list(args = "-terse", array = "-t", index = "SGE_TASK_ID", shell = "#$ -S /bin/sh", failed = "E")
  }
}
