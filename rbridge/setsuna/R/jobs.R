# Launches of each profile: jobs of schedulers and launching processes, until the profile is reset.
.jobs <- new.env(parent = emptyenv())

.add_job <- function(name, job) {
  if (job$kind != "process") .cancel_at_exit()
  .jobs[[name]] <- c(.jobs[[name]], list(job))
}

# A session that ends without a reset. (Its forked children have the finalizer too.)
.cancel_at_exit <- function() {
  if (identical(.jobs_owner$pid, Sys.getpid())) return()
  .jobs_owner$pid <- Sys.getpid()
  reg.finalizer(.jobs_owner, function(owner) {
    if (identical(owner$pid, Sys.getpid())) for (name in names(.jobs)) .jobs_cancel(name)
  }, onexit = TRUE)
}

.jobs_owner <- new.env(parent = emptyenv())

# A row for each launch (and each element of a job array): its id, its state ("pending", "running", "ended", "failed",
# "cancelled" or "unknown"), and why. NULL if nothing was launched.
.jobs_status <- function(name) {
  jobs <- .jobs[[name]]
  if (!length(jobs)) return(NULL)
  rows <- lapply(jobs, function(job) if (job$kind == "process") .process_state(job) else .scheduler_state(job))
  table <- do.call(rbind, rows)
  rownames(table) <- NULL
  table
}

# A scheduler that many ask often becomes slow, and status() with it: an answer is good for `good_s` seconds.
.scheduler_state <- function(job) {
  key <- paste(c(job$kind, job$command, job$id), collapse = "\r")
  now <- proc.time()[["elapsed"]]
  kept <- .answers[[key]]
  if (is.null(kept) || now - kept$at >= .answers$good_s) {
    kept <- list(at = now, rows = .scheduler(job$kind)$state(job))
    .answers[[key]] <- kept
  }
  kept$rows
}

.answers <- list2env(list(good_s = 2), parent = emptyenv())

.forget_answers <- function() rm(list = setdiff(ls(.answers, all.names = TRUE), "good_s"), envir = .answers)

# For a reset: jobs that wait in a queue must not start for nothing. Launching processes end with their daemons.
.jobs_cancel <- function(name) {
  for (job in .jobs[[name]]) if (job$kind != "process") .scheduler(job$kind)$cancel(job)
  .jobs[[name]] <- NULL
  .forget_answers()
  .launched[[name]] <- NULL
  invisible()
}

# Runs a scheduler's command: its output's lines, with the attribute "status" if that is not 0 (124: no answer in a minute).
.run_tool <- function(command, args, input = NULL) {
  suppressWarnings(tryCatch(
    system2(command, shQuote(args, "sh"), stdout = TRUE, stderr = TRUE, input = input, timeout = 60),
    error = function(e) structure(conditionMessage(e), status = 127L)
  ))
}
