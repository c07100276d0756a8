# The task loop of a daemon, around .Call(C_daemon_loop). A task that fails jumps out of the loop into the handlers here:
# so a task that succeeds costs nothing for them.
#
# An interrupt (SIGINT, a cancel) is the task's: outside of allowInterrupts() one that came late would find no handler and end
# the daemon.
.daemon_run <- function(link, options, started = NULL) suspendInterrupts(.daemon_turns(link, options, started))

.daemon_turns <- function(link, options, started) {
  .Call(C_daemon_attach, c(link$segment, link$host_page, link$refill, link$index, link$epoch), .daemon_numbers(options),
        .daemon_stream(options$stream, options$place %||% c(link$index, link$epoch)))
  .Call(C_daemon_hooks, options$serial)
  .Call(C_daemon_start, .restore_scope(options$forked %||% TRUE), .calm)
  if (!is.null(started)) started()
  outcome <- .daemon_rounds(C_daemon_loop)
  .Call(C_daemon_leave, outcome)
  outcome
}

.daemon_numbers <- function(options) {
  as.double(c(
    options$cleanup %||% TRUE,
    options$forked %||% TRUE,
    .limit(options$idletime),
    .limit(options$walltime),
    .limit(options$maxtasks)
  ))
}

# Calls `daemon_loop` until it returns an integer, why the daemon shall leave, or NULL. The fork server waits in here as well: its
# daemons are born in the midst of the loop, and what else that one returns is for other().
.daemon_rounds <- function(daemon_loop, other) {
  calls <- NULL
  remember <- function(e) calls <<- sys.calls()
  # How many calls there are around a task.
  depth <- tryCatch(
    withCallingHandlers(allowInterrupts(.depth()), error = remember),
    error = identity,
    interrupt = identity
  )
  repeat {
    outcome <- tryCatch(
      withCallingHandlers(allowInterrupts(.Call(daemon_loop)), error = remember),
      error = identity,
      interrupt = identity
    )
    if (is.integer(outcome) || is.null(outcome)) return(outcome)
    if (inherits(outcome, "condition")) .finish_task(outcome, calls, depth) else other(outcome)
    calls <- NULL
  }
}

`%||%` <- function(x, y) if (is.null(x)) y else x

.limit <- function(x) if (is.null(x) || is.infinite(x)) -1 else x

# Daemon k has stream k of the profile; a replacement goes on in a substream of its own.
.daemon_stream <- function(base, place) {
  if (is.null(base)) return(NULL)
  .Call(C_daemon_stream, base, place[1L], bitwAnd(place[2L], 65535L))
}

# The result of the task that has just failed. Making it may fail too (no memory, a broken condition): then a plain one.
.finish_task <- function(condition, calls, depth) {
  interrupted <- inherits(condition, "interrupt")
  value <- if (interrupted) .mirai_interrupt() else tryCatch(
    allowInterrupts(.mirai_error(condition, .user_calls(calls, depth))),
    error = function(e) .mirai_error(simpleError("an error whose description failed as well")),
    interrupt = function(e) .mirai_interrupt()
  )
  failed <- tryCatch(allowInterrupts({
    .Call(C_daemon_finish, value, interrupted)
    NULL
  }), error = identity, interrupt = identity)
  if (is.null(failed)) return()
  # What could not be sent was the error itself.
  tryCatch(.Call(C_daemon_finish, .mirai_error(simpleError(paste0("an error that could not be sent: ",
    tryCatch(conditionMessage(failed), error = function(e) "unknown")))), FALSE),
    error = function(e) quit("no", 70L, runLast = FALSE), interrupt = function(e) NULL)
}

# The function that undoes what a task left behind (task_scope.cpp says what has changed): `globals` and `options` as named
# lists of what should be there, `search` the attached environments, `directory`. NULL: unchanged.
.restore_scope <- function(forked) {
  function(globals, options, search, directory) suspendInterrupts(tryCatch({
    if (!is.null(search)) .restore_search(search)
    if (!is.null(globals)) .restore_globals(globals)
    if (!is.null(options)) .restore_options(options)
    if (!is.null(directory)) tryCatch(setwd(directory), error = function(e) NULL)
    NULL
  }, error = function(e) {
    # What cannot be undone (a locked global environment) must not be met by the next task: a fresh process takes over.
    if (forked) quit("no", 71L, runLast = FALSE)
    warning("what the last task left behind cannot be undone: ", conditionMessage(e), call. = FALSE)
  }))
}

# Removed first: a task may have locked a variable or made it an active one.
.restore_globals <- function(values) {
  env <- globalenv()
  if (environmentIsLocked(env)) stop("the global environment is locked") # R cannot unlock it
  rm(list = setdiff(ls(env, all.names = TRUE, sorted = FALSE), ".Random.seed"), envir = env)
  list2env(values, env)
}

.restore_options <- function(values) {
  now <- base::options()
  extra <- setdiff(names(now), names(values))
  if (length(extra)) base::options(structure(vector("list", length(extra)), names = extra))
  changed <- names(values)[!mapply(identical, now[names(values)], values)]
  for (name in changed) tryCatch(base::options(values[name]), error = function(e) NULL)
}

# `wanted`: the environments between the global one and base, in their order.
.restore_search <- function(wanted) {
  is_wanted <- function(env) any(vapply(wanted, identical, NA, env))
  for (position in rev(seq_len(length(search()) - 1L))[-1L]) {
    if (position > 1L && !is_wanted(as.environment(position))) detach(pos = position, character.only = TRUE)
  }
  for (i in seq_along(wanted)) {
    env <- wanted[[i]]
    there <- Position(function(position) identical(as.environment(position), env), seq_along(search()))
    if (identical(there, i + 1L)) next
    if (!is.na(there)) detach(pos = there, character.only = TRUE)
    .attach_again(env, i + 1L)
  }
}

.attach_again <- function(env, position) {
  name <- attr(env, "name", exact = TRUE)
  again <- attach(env, pos = position, name = if (is.null(name)) "" else name, warn.conflicts = FALSE)
  kept <- attributes(env)
  for (what in names(kept)) attr(again, what) <- kept[[what]]
}

# Time limits and diversions of output that the last task left in force.
.calm <- function() {
  setTimeLimit()
  setSessionTimeLimit()
  while (sink.number() > 0L) sink()
  if (sink.number("message") != 2L) sink(type = "message")
  NULL
}
