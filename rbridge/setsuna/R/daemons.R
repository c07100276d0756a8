daemons <- function(n, url = NULL, remote = NULL, dispatcher = TRUE, ..., sync = FALSE, seed = NULL, memory = NULL,
                    serial = NULL, tls = NULL, pass = NULL, .compute = NULL, spin = 0, respawn = TRUE, preload = NULL,
                    auth = TRUE, config = NULL, trace = NULL) {
  name <- .profile_name(.compute)
  if (nzchar(Sys.getenv("SETSUNA_CHILD")))
    stop("daemons() was called while a daemon's own R starts (in .Rprofile?): guard it with ",
         "if (!nzchar(Sys.getenv(\"SETSUNA_CHILD\")))")
  if (!is.null(url) || !is.null(remote) || !is.null(tls) || !is.null(config) || !is.null(trace))
    .not_yet(c(url = !is.null(url), remote = !is.null(remote), tls = !is.null(tls), config = !is.null(config),
               trace = !is.null(trace)))
  if (missing(n)) stop("'n' is missing: give the number of daemons, or 0 to reset")
  if (is.null(n)) return(.reset(name, TRUE))
  n <- .count(n, "n")
  if (sync) {
    .reset(name, FALSE)
    .Call(C_profile_set_sync, name, TRUE)
    return(.daemons_value(1L, name))
  }
  if (n == 0L) return(.reset(name, FALSE))
  if (n > 1024L) stop("'n' is ", n, ": at most 1024 daemons can share one machine's memory")
  options <- .profile_options(name, dispatcher, list(...), seed, memory, serial, spin, respawn, preload)
  .state$dispatcher[[name]] <- options$dispatcher
  .Call(C_profile_set_sync, name, FALSE)
  id <- .Call(C_profile_open, options, n)
  .state$urls[[as.character(id)]] <- options$url
  .await_online(id, n, name, options)
  .daemons_value(n, name)
}

.await_online <- function(id, n, name, options) {
  problem <- .Call(C_profile_wait_online, id, n)
  if (is.null(problem)) return()
  .Call(C_profile_close, name, TRUE)
  stop("the daemons did not start: ", if (nzchar(problem)) problem else "their processes ended at once", call. = FALSE)
}

.daemons_value <- function(n, name) n

.not_yet <- function(given) {
  stop("daemons(): '", names(which(given))[1L], "' is for daemons on other machines, which this version does not have yet",
       call. = FALSE)
}

.reset <- function(name, all) {
  sync <- .Call(C_profile_is_sync, name)
  if (sync) .Call(C_profile_set_sync, name, FALSE)
  .Call(C_profile_close, name, TRUE)
  0L
}

.profile_name <- function(.compute) {
  if (is.null(.compute)) return(.Call(C_default_profile))
  if (!is.character(.compute) || length(.compute) != 1L || is.na(.compute) || !nzchar(.compute))
    stop("'.compute' must be one non-empty string (the name of a compute profile) or NULL", call. = sys.call(-1L))
  .compute
}

.count <- function(n, what) {
  if (!is.numeric(n) || length(n) != 1L || is.na(n))
    stop("'", what, "' must be one whole number, not ", .describe(n), call. = FALSE)
  if (n < 0 || n != trunc(n)) stop("'", what, "' is ", n, ": it must be a whole number of at least 0", call. = FALSE)
  as.integer(n)
}

.describe <- function(x) {
  if (length(x) == 1L && is.atomic(x)) paste0(typeof(x), " ", format(x)) else paste0(typeof(x), " of length ", length(x))
}

.daemon_defaults <- list(autoexit = TRUE, cleanup = TRUE, output = FALSE, idletime = Inf, walltime = Inf, maxtasks = Inf)

# `...` of daemons() and launch_local(): the arguments of daemon() that make sense for a local process.
.daemon_options <- function(given) {
  unknown <- setdiff(names(given), names(.daemon_defaults))
  if (length(given) && (is.null(names(given)) || any(!nzchar(names(given)))))
    stop("all ... arguments must be named (they go to daemon())", call. = FALSE)
  if (length(unknown))
    stop("daemon() has no argument '", unknown[1L], "' for local daemons: there are ",
         paste(names(.daemon_defaults), collapse = ", "), call. = FALSE)
  options <- .daemon_defaults
  options[names(given)] <- given
  for (name in c("idletime", "walltime", "maxtasks")) {
    value <- options[[name]]
    if (!is.numeric(value) || length(value) != 1L || is.na(value) || value < 0)
      stop("'", name, "' must be one number, not negative, or Inf, not ", .describe(value), call. = FALSE)
  }
  for (name in c("cleanup", "output")) {
    value <- options[[name]]
    if (!is.logical(value) || length(value) != 1L || is.na(value))
      stop("'", name, "' must be TRUE or FALSE, not ", .describe(value), call. = FALSE)
  }
  if (length(options$autoexit) != 1L || !(is.logical(options$autoexit) || is.numeric(options$autoexit)))
    stop("'autoexit' must be TRUE, NA, FALSE or a signal number", call. = FALSE)
  options
}

# As in embed::ForkRequest: 0 kill, -1 finish, a positive number is a signal.
.autoexit_code <- function(autoexit) {
  if (is.numeric(autoexit)) return(as.integer(autoexit))
  if (isTRUE(autoexit)) 0L else -1L
}

.flag <- function(x, what) {
  if (!is.logical(x) || length(x) != 1L || is.na(x)) stop("'", what, "' must be TRUE or FALSE, not ", .describe(x), call. = FALSE)
  x
}

.profile_options <- function(name, dispatcher, daemon, seed, memory, serial, spin, respawn, preload, ephemeral = FALSE,
                             url = .new_url()) {
  daemon <- .daemon_options(daemon)
  if (!is.null(seed)) seed <- .seed(seed)
  if (!is.null(memory) && (!is.numeric(memory) || length(memory) != 1L || is.na(memory) || memory <= 0))
    stop("'memory' must be one positive number of MB, or NULL, not ", .describe(memory), call. = FALSE)
  if (!is.numeric(spin) || length(spin) != 1L || is.na(spin) || spin < 0 || spin > 1e6)
    stop("'spin' must be one number of microseconds between 0 and 1e6, not ", .describe(spin), call. = FALSE)
  if (!is.null(preload) && !is.character(preload))
    stop("'preload' must be the names of packages, not ", .describe(preload), call. = FALSE)
  base <- if (is.null(seed)) .random_stream() else .Call(C_seed_stream, seed)
  daemon$stream <- base
  program <- .daemon_program()
  list(
    name = name,
    dispatcher = .flag(dispatcher, "dispatcher"),
    respawn = .flag(respawn, "respawn"),
    ephemeral = ephemeral,
    url = if (ephemeral) "" else url,
    seeded = !is.null(seed),
    stream = base,
    memory = memory,
    spin = spin,
    output = daemon$output,
    autoexit = .autoexit_code(daemon$autoexit),
    config = .host_config(daemon),
    zygote_key = paste(.key_text(preload), collapse = "\n"),
    program = program,
    library = dirname(getNamespaceInfo("setsuna", "path")),
    preload = preload
  )
}

.key_text <- function(preload) {
  key <- .zygote_key(preload)
  deparse(key, width.cutoff = 500L)
}

.seed <- function(seed) {
  if (!is.numeric(seed) || length(seed) != 1L || is.na(seed) || seed != trunc(seed) || abs(seed) > .Machine$integer.max)
    stop("'seed' must be one integer or NULL, not ", .describe(seed), call. = FALSE)
  as.integer(seed)
}

# A stream that nobody chose: from the system's randomness, so that the session's own generator is not touched.
.random_stream <- function() {
  con <- file("/dev/urandom", "rb", raw = TRUE)
  on.exit(close(con))
  .Call(C_seed_stream, readBin(con, "integer", 1L) %||% Sys.getpid())
}

# Called by mirai() where no daemons are set: the pool of fresh processes, with the session's present configuration.
.open_ephemeral <- function() {
  options <- .profile_options("default", TRUE, list(maxtasks = 1L), NULL, NULL, NULL, 0, TRUE, NULL, TRUE)
  id <- .Call(C_ephemeral_id)
  fresh <- list(options$config, options$zygote_key)
  state <- .state
  # The stream differs each time; what decides is the rest.
  shared <- list(.config_identity(options$config), options$zygote_key)
  if (!is.null(id) && identical(shared, state$ephemeral)) return(id)
  state$ephemeral <- shared
  .Call(C_profile_open, options, 0L)
}

.config_identity <- function(bytes) {
  config <- unserialize(bytes)
  config$daemon$stream <- NULL
  config
}

.state <- new.env(parent = emptyenv())
.state$dispatcher <- list()

# One name a daemon, made up by the host: 12 random bytes, as listeners of the same machine have them.
.new_url <- function() {
  con <- file("/dev/urandom", "rb", raw = TRUE)
  on.exit(close(con))
  paste0("abstract://", paste(readBin(con, "raw", 12L), collapse = ""))
}

# ---- state ----

.daemon_urls <- function(id, n) {
  key <- as.character(id)
  urls <- .state$urls[[key]]
  while (length(urls) < n) urls <- c(urls, .new_url())
  .state$urls[[key]] <- urls
  urls[seq_len(n)]
}

.profile_url <- function(id) .daemon_urls(id, 1L)

status <- function(.compute = NULL) {
  name <- .profile_name(.compute)
  id <- .Call(C_profile_id, name)
  raw <- if (!is.null(id)) .Call(C_profile_status, id)
  if (is.null(raw)) return(structure(list(connections = 0L, daemons = 0L), class = "miraiStatus"))
  counts <- as.integer(raw[[1L]])
  matrix <- raw[[2L]]
  n <- nrow(matrix)
  urls <- .daemon_urls(id, n)
  daemons <- cbind(i = seq_len(n), matrix[, 1:4, drop = FALSE])
  dimnames(daemons) <- list(urls, c("i", "online", "instance", "assigned", "complete"))
  memory <- raw[[3L]]
  structure(list(
    connections = if (isTRUE(.state$dispatcher[[name]] %||% TRUE)) 1L else counts[1L],
    daemons = if (isTRUE(.state$dispatcher[[name]] %||% TRUE)) daemons else .profile_url(id),
    mirai = c(awaiting = counts[3L], executing = counts[4L], completed = counts[5L]),
    memory = c(used = memory[1L], budget = memory[2L], resident = memory[3L], segment = memory[4L]),
    segment = raw[[5L]],
    backend = raw[[4L]],
    pids = matrix[, 5L]
  ), class = "miraiStatus")
}

print.miraiStatus <- function(x, ...) {
  print(unclass(x)[c("connections", "daemons")], ...)
  invisible(x)
}

info <- function(.compute = NULL) {
  id <- .Call(C_profile_id, .profile_name(.compute))
  if (is.null(id)) return(NULL)
  counts <- as.integer(.Call(C_profile_status, id)[[1L]])
  names(counts) <- c("connections", "cumulative", "awaiting", "executing", "completed")
  counts
}

everywhere <- function(.expr, ..., .args = list(), .min = 1L, .compute = NULL) {
  name <- .profile_name(.compute)
  id <- .Call(C_profile_id, name)
  if (is.null(id)) stop("everywhere(): no daemons are set for the compute profile '", name, "'")
  out <- .Call(C_profile_everywhere, substitute(.expr), environment(), id)
  class(out) <- "mirai_map"
  invisible(out)
}
