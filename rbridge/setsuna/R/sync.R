# daemons(sync = TRUE): tasks are evaluated in this session when they are submitted, with what a daemon would give them:
# variables, random numbers, errors as values. What a task leaves behind in this session stays.

.set_sync <- function(name, options) {
  .reset(name)
  state <- new.env(parent = emptyenv())
  state$scope <- new.env(parent = globalenv()) # what everywhere() leaves behind
  state$seeded <- options$seeded
  state$stream <- options$stream # before the first stream
  state$seed <- .next_stream(options$stream) # of the one daemon
  state$completed <- 0L
  .profiles[[name]] <- list(sync = state, n = 1L, dispatcher = options$dispatcher, url = "", seeded = options$seeded,
                            stream = options$stream, serial = options$serial)
  .Call(C_profile_set_sync, name, TRUE)
  .daemons_value(1L, name)
}

.next_stream <- function(stream) .Call(C_daemon_stream, stream, 0L, 1L)

.sync_next_stream <- function(state) {
  state$stream <- .next_stream(state$stream)
  c(10407L, state$stream)
}

.sync_status <- function(state) {
  row <- matrix(c(1L, 1L, 1L, state$completed, state$completed), 1L,
                dimnames = list("sync", c("i", "online", "instance", "assigned", "complete")))
  structure(list(
    connections = 1L, daemons = row, mirai = c(awaiting = 0L, executing = 0L, completed = state$completed), url = "",
    pids = Sys.getpid()
  ), class = "miraiStatus")
}

# Called by mirai(): the value of the task.
.evaluate_here <- function(expr, globals, locals, name) {
  state <- .profiles[[name]]$sync
  env <- new.env(parent = state$scope)
  list2env(as.list(globals), env)
  list2env(as.list(locals), env)
  .run_here(state, globals, function() eval(expr, env))
}

.everywhere_here <- function(state, parts) {
  list2env(as.list(parts[[2L]]), state$scope)
  list2env(as.list(parts[[3L]]), state$scope)
  expr <- parts[[1L]]
  env <- state$scope
  .Call(C_mirai_resolved_from, .run_here(state, NULL, function() eval(expr, env), own_stream = FALSE))
}

.map_here <- function(name, x, f, constants, globals, rows) {
  state <- .profiles[[name]]$sync
  lapply(x, function(element) {
    call <- as.call(c(list(f), lapply(c(if (rows) element else list(element), constants), .quoted)))
    .Call(C_mirai_resolved_from, .run_here(state, globals, function() eval(call, globalenv())))
  })
}

.quoted <- function(x) if (is.language(x)) call("quote", x) else x

.run_here <- function(state, globals, run, own_stream = state$seeded) {
  visible <- c(as.list(state$scope, all.names = TRUE), as.list(globals))
  unbind <- if (length(visible)) .bind_here(visible) else function() NULL
  on.exit(unbind())
  seed <- .borrow_seed(if (own_stream) .sync_next_stream(state) else c(10407L, state$seed))
  on.exit({
    after <- seed()
    if (!own_stream && length(after) == 7L) state$seed <- after[-1L]
    state$completed <- state$completed + 1L
  }, add = TRUE)
  calls <- NULL
  depth <- 0L
  tryCatch(
    withCallingHandlers({
      depth <- .depth()
      run()
    }, error = function(e) calls <<- .user_calls(sys.calls(), depth + 1L)), # 1: run()
    error = function(e) .mirai_error(e, calls),
    interrupt = function(e) .mirai_interrupt()
  )
}

# Global variables for a while. Returns the function that ends it.
.bind_here <- function(values) {
  env <- globalenv()
  hidden <- mget(names(values), envir = env, ifnotfound = list(NULL))
  there <- vapply(as.character(names(values)), exists, NA, envir = env, inherits = FALSE)
  list2env(values, env)
  function() {
    rm(list = names(values)[!there], envir = env)
    list2env(hidden[there], env)
  }
}

# The session's generator is put aside. Returns the function that puts it back and gives the state that it replaces.
.borrow_seed <- function(seed) {
  env <- globalenv()
  before <- env[[".Random.seed"]]
  kinds <- if (is.null(before)) RNGkind()
  assign(".Random.seed", seed, envir = env)
  function() {
    after <- env[[".Random.seed"]]
    if (!is.null(before)) {
      assign(".Random.seed", before, envir = env)
      RNGkind() # takes the kind from there
    } else {
      RNGkind(kinds[1L], kinds[2L], kinds[3L])
      rm(".Random.seed", envir = env)
    }
    after
  }
}
