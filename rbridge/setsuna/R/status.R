# What stands in the first column for each row of C_profile_status: the URL of its seat, or the one that all share. Local
# daemons, which dial nobody, have names that are made up when they are first shown.
.daemon_urls <- function(name, raw) {
  record <- .profiles[[name]]
  urls <- raw[[6L]]
  if (record$listens == "shared") return(rep(record$url, length(urls)))
  nowhere <- which(!nzchar(urls))
  while (length(record$made_urls) < length(nowhere)) record$made_urls <- c(record$made_urls, .new_url())
  .profiles[[name]] <- record
  urls[nowhere] <- record$made_urls[seq_along(nowhere)]
  urls
}

#' Daemons and tasks at this moment
#'
#' `status()` shows each daemon, `info()` sums up in a few numbers.
#'
#' @param .compute name of the compute profile, or a cluster made by [make_cluster()]; `NULL` for the profile in force.
#' @return `status()`: a list of class `miraiStatus`, of which the first two are printed:
#'
#' * `connections`: 1 with a dispatcher, else the number of daemons that are connected; 0 if none are set.
#' * `daemons`: a matrix with a row for each daemon: its number `i`, whether it is `online`, how many processes have been this
#'   daemon (`instance`), and the tasks that the latest was `assigned` and has made `complete`. Where they share one
#'   URL, a row for each that is online. Without dispatcher the URL.
#' * `mirai`: tasks `awaiting`, `executing` and `completed`.
#' * `memory`: bytes `used` by arguments of unfinished tasks, their `budget`, what is `resident` of the shared memory and the
#'   size of that `segment`; `segment` says what decided this size.
#' * `backend`: how this process waits for the kernel.
#' * `launches`: what has become of launches by [launch_remote()] and `daemons(remote = )`: `id` (of a job; where there is none,
#'   what was launched), `state` (`"pending"`, `"running"`, `"ended"`, `"failed"`, `"cancelled"` or `"unknown"`) and `why`.
#'   A scheduler is asked every two seconds at most; in between its last answer is shown.
#' * `url`: where further processes can join with [daemon()]. `pids`: the process of each daemon.
#' * `events`: what happened to connections lately: refused ones and the reason, broken ones.
#' * `config`: the value in force of each knob, see [tune()].
#' * `monitor`: `"on"` if the commands `setsuna top` and `setsuna status`, run by the same user, can look at this session; else
#'   `"off"` and why. With `SETSUNA_MONITOR=off` in the environment before the first use of daemons, they cannot.
#'
#' `info()`: whole numbers `connections` (daemons online), `cumulative` (that ever were), `awaiting`, `executing` and
#' `completed` (tasks); `NULL` if no daemons are set.
#' @examples
#' daemons(2)
#' mirai_map(1:10, identity)[.flat]
#' status()
#' status()$mirai
#' info()
#' daemons(0)
#' @export
status <- function(.compute = NULL) {
  name <- .profile_name(.compute)
  record <- .profile(name)
  if (!is.null(record$sync)) return(.sync_status(record$sync))
  raw <- if (!is.null(record)) .Call(C_profile_status, record$id)
  if (is.null(raw)) return(structure(list(connections = 0L, daemons = 0L), class = "miraiStatus"))
  counts <- as.integer(raw[[1L]])
  matrix <- raw[[2L]]
  n <- nrow(matrix)
  daemons <- cbind(seq_len(n), matrix)
  dimnames(daemons) <- list(.daemon_urls(name, raw), c("i", "online", "instance", "assigned", "complete", "pid"))
  if (record$listens == "shared") daemons <- daemons[daemons[, "online"] == 1L, , drop = FALSE]
  memory <- raw[[3L]]
  structure(list(
    connections = if (record$dispatcher) 1L else counts[1L],
    daemons = if (record$dispatcher) daemons[, 1:5, drop = FALSE] else record$urls,
    mirai = c(awaiting = counts[3L], executing = counts[4L], completed = counts[5L]),
    memory = c(used = memory[1L], budget = memory[2L], resident = memory[3L], segment = memory[4L]),
    segment = raw[[5L]],
    backend = raw[[4L]],
    url = record$urls,
    launches = .jobs_status(name),
    pids = as.vector(daemons[, "pid"]),
    events = raw[[7L]],
    config = record$knobs,
    monitor = raw[[8L]]
  ), class = "miraiStatus")
}

#' @export
print.miraiStatus <- function(x, ...) {
  print(unclass(x)[c("connections", "daemons")], ...)
  invisible(x)
}

#' @rdname status
#' @export
info <- function(.compute = NULL) {
  record <- .profile(.profile_name(.compute))
  if (is.null(record)) return(NULL)
  counts <- if (is.null(record$sync)) as.integer(.Call(C_profile_status, record$id)[[1L]])
            else c(1L, 1L, 0L, 0L, record$sync$completed)
  names(counts) <- c("connections", "cumulative", "awaiting", "executing", "completed")
  counts
}

#' What is known of a compute profile
#'
#' For programs that build on this package.
#'
#' `nextstream()` takes the next stream of random numbers of the profile: with a `seed` (see [daemons()]) it is one that no
#' task gets.
#'
#' `nextget()` looks up one item: `"n"` (the number that [daemons()] was called with), `"dispatcher"`, `"seeded"` (logical),
#' `"url"` (where processes can join), `"urls"` (one for each daemon), `"pids"`, `"stream"` (the state before the first
#' stream), `"serial"` (see [serial_config()]).
#'
#' `saisei()` gives the place of a daemon that will not come back a new URL, at which a new daemon can take it. A daemon that
#' is online keeps its URL, unless `force = TRUE`: then it is ended first.
#'
#' @param x name of the item.
#' @param i number of the daemon, as in [status()].
#' @param force `TRUE`: also if the daemon is online.
#' @param .compute name of the compute profile; `NULL` for the one in force.
#' @return `nextstream()`: a value for `.Random.seed`, of kind L'Ecuyer-CMRG. `nextget()`: the item. `saisei()`: the new URL,
#'   or `NULL` if the daemon is online; both invisibly. All are `NULL` if no daemons are set.
#' @examples
#' daemons(1, seed = 1)
#' nextstream()
#' nextget("dispatcher")
#' print(saisei(1))
#' daemons(0)
#' @export
nextstream <- function(.compute = NULL) {
  record <- .profile(.profile_name(.compute))
  if (is.null(record)) return(NULL)
  if (is.null(record$sync)) .Call(C_profile_next_stream, record$id) else .sync_next_stream(record$sync)
}

#' @rdname nextstream
#' @export
nextget <- function(x, .compute = NULL) {
  x <- .string(x, "x")
  name <- .profile_name(.compute)
  record <- .profile(name)
  known <- c("n", "dispatcher", "seeded", "url", "urls", "pids", "stream", "serial")
  if (!x %in% known) .abort("'x' must be one of ", toString(dQuote(known, FALSE)), ", not ", .describe(x))
  if (is.null(record)) return(NULL)
  if (!x %in% c("urls", "pids")) return(record[[x]])
  if (!is.null(record$sync)) return(NULL)
  raw <- .Call(C_profile_status, record$id)
  if (x == "pids") raw[[2L]][, 5L] else .daemon_urls(name, raw)
}

#' @rdname nextstream
#' @export
saisei <- function(i, force = FALSE, .compute = NULL) {
  i <- .count(i, "i", 1)
  force <- .flag(force, "force")
  name <- .profile_name(.compute)
  record <- .profile(name)
  if (is.null(record) || !is.null(record$sync)) return(invisible())
  raw <- .Call(C_profile_status, record$id)
  online <- raw[[2L]][, 1L]
  if (i > length(online)) .abort("'i' is ", i, ": the profile has ", length(online), " daemons")
  if (online[i] && !force) return(invisible())
  if (record$listens == "seats" && nzchar(raw[[6L]][i])) return(invisible(.move_seat(name, record, i)))
  if (online[i]) .Call(C_daemon_kill, record$id, i)
  .daemon_urls(name, raw)
  place <- sum(!nzchar(raw[[6L]][seq_len(i)]))
  .profiles[[name]]$made_urls[place] <- url <- .new_url()
  invisible(url)
}

.move_seat <- function(name, record, i) {
  url <- .Call(C_profile_move_seat, record$id, i, .url_elsewhere(record$urls[i]),
               list(access = record$access))
  .profiles[[name]]$urls[i] <- url
  if (i == 1L) .profiles[[name]]$url <- url
  url
}
