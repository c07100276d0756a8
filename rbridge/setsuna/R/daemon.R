# The task loop of a daemon, around .Call(C_daemon_loop). A task that fails jumps out of the loop into the handlers here:
# so a task that succeeds costs nothing for them.
.daemon_run <- function(link, options, started = NULL) {
  numbers <- c(
    options$cleanup %||% TRUE,
    options$forked %||% TRUE,
    .limit(options$idletime),
    .limit(options$walltime),
    .limit(options$maxtasks)
  )
  .Call(C_daemon_attach, c(link$segment, link$host_page, link$refill, link$index, link$epoch), as.double(numbers),
        .daemon_stream(options$stream, link$index, link$epoch))
  .Call(C_daemon_start, .restore_scope)
  if (!is.null(started)) started()
  calls <- NULL
  remember <- function(e) calls <<- sys.calls()
  repeat {
    outcome <- tryCatch(
      withCallingHandlers(.Call(C_daemon_loop), error = remember),
      error = identity,
      interrupt = identity
    )
    if (is.integer(outcome)) break
    .finish_task(outcome, calls)
    calls <- NULL
  }
  .Call(C_daemon_leave, outcome)
  outcome
}

`%||%` <- function(x, y) if (is.null(x)) y else x

.limit <- function(x) if (is.null(x) || is.infinite(x)) -1 else x

# Daemon k has stream k of the profile; a replacement goes on in a substream of its own.
.daemon_stream <- function(base, index, epoch) {
  if (is.null(base)) return(NULL)
  .Call(C_daemon_stream, base, index, bitwAnd(epoch, 65535L))
}

# The result of the task that has just failed. Making it may fail too (no memory, a broken condition): then a plain one.
.finish_task <- function(condition, calls) {
  interrupted <- inherits(condition, "interrupt")
  value <- if (interrupted) .mirai_interrupt() else tryCatch(
    .mirai_error(condition, calls),
    error = function(e) .mirai_error(simpleError("an error whose description failed as well")),
    interrupt = function(e) .mirai_interrupt()
  )
  failed <- tryCatch({
    .Call(C_daemon_finish, value, interrupted)
    NULL
  }, error = identity, interrupt = identity)
  if (is.null(failed)) return()
  # What could not be sent was the error itself.
  tryCatch(.Call(C_daemon_finish, .mirai_error(simpleError(paste0("an error that could not be sent: ",
    tryCatch(conditionMessage(failed), error = function(e) "unknown")))), FALSE),
    error = function(e) quit("no", 70L, runLast = FALSE), interrupt = function(e) NULL)
}

# Undoes what a task left behind (task_scope.cpp says what has changed): `globals` and `options` as named lists of what
# should be there, `search` the attached environments, `directory`. NULL: unchanged.
.restore_scope <- function(globals, options, search, directory) {
  if (!is.null(search)) .restore_search(search)
  if (!is.null(globals)) .restore_globals(globals)
  if (!is.null(options)) .restore_options(options)
  if (!is.null(directory)) tryCatch(setwd(directory), error = function(e) NULL)
  NULL
}

.restore_globals <- function(values) {
  env <- globalenv()
  extra <- setdiff(ls(env, all.names = TRUE, sorted = FALSE), c(names(values), ".Random.seed"))
  for (name in intersect(extra, names(which(unlist(eapply(env, function(v) TRUE, all.names = TRUE)))))) {
    if (bindingIsLocked(name, env)) unlockBinding(name, env)
  }
  rm(list = extra, envir = env)
  for (name in names(values)) {
    if (exists(name, env, inherits = FALSE) && bindingIsLocked(name, env)) unlockBinding(name, env)
    assign(name, values[[name]], envir = env)
  }
}

.restore_options <- function(values) {
  now <- base::options()
  extra <- setdiff(names(now), names(values))
  if (length(extra)) base::options(structure(vector("list", length(extra)), names = extra))
  changed <- names(values)[!mapply(identical, now[names(values)], values)]
  for (name in changed) tryCatch(base::options(values[name]), error = function(e) NULL)
}

.restore_search <- function(wanted) {
  position <- 2L
  while (position < length(search())) {
    env <- as.environment(position)
    if (any(vapply(wanted, identical, NA, env))) position <- position + 1L
    else detach(pos = position, character.only = TRUE)
  }
}
