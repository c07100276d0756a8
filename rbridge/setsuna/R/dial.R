#' Daemon of a profile that listens
#'
#' Makes this R process a daemon: it dials `url`, takes tasks of the host that listens there, and returns when its work is
#' over. For processes that were not started by [daemons()], such as `Rscript -e "setsuna::daemon('tcp://host:5555')"`. A host
#' of the same machine that is dialled by its name shares its memory with it, as with the daemons that it starts itself. From
#' a shell, `setsuna daemon tcp://host:5555` does the same (see `setsuna daemon --help`; the program lies in the folder `bin`
#' of the installed package).
#'
#' @param url text: where the host listens, see `status()$daemons`: on the same machine `abstract://name` or `ipc:///path`, on
#'   the network `tcp://host:port`, `tls+tcp://host:port`, `ws://host:port/path` or `wss://host:port/path`.
#' @param dispatcher accepted for compatibility: how tasks are distributed is the host's choice.
#' @param ... not used; any argument here is an error.
#' @param asyncdial `TRUE`: if nobody listens at `url` yet, try again, ever more seldom, instead of an error.
#' @param autoexit what to do when the connection to the host ends: `TRUE` interrupt the task in hand and return, `NA` finish
#'   it first, `FALSE` finish it, then wait for a host at the same URL and join that (implies `asyncdial`), a signal number:
#'   raise this signal. With `FALSE`, `daemons(NULL)` ends it all the same if it is connected then; one that has lost its
#'   host just before cannot hear of that, and waits until another host at this URL calls `daemons(NULL)` or it is killed. Hosts
#'   that end connections as soon as they have begun are dialled ever more seldom, at least every five seconds.
#' @param cleanup `TRUE`: restore global variables, attached packages, options and working directory after each task.
#' @param output accepted for compatibility: standard output and error of this process are where they are.
#' @param idletime milliseconds without a task after which to return.
#' @param walltime milliseconds after which to return, once the task in hand is done.
#' @param maxtasks number of tasks after which to return.
#' @param tls,tlscert for `tls+tcp://` and `wss://`: the certificates, as PEM text or the name of a file with it, by which the
#'   host is recognised; also `c(text, "")`. Without any, those that this system trusts.
#' @param token text: the secret by which host and daemon know each other on the network. It stands in the commands that
#'   `launch_remote()` returns, and is wiped from the process's command line.
#' @param rs integer: a `.Random.seed` of kind L'Ecuyer-CMRG to start from, instead of this daemon's stream of the profile.
#' @return Invisibly, an integer: 0 the host has ended the connection, 1 `idletime`, 2 `walltime`, 3 `maxtasks`.
#' @examples
#' if (interactive()) {
#'   daemon("abstract://08b4b97238bde0689bc9514b")
#'   daemon("tcp://192.168.0.2:5555", token = "36ba2f8c")
#' }
#' @export
daemon <- function(url, dispatcher = TRUE, ..., asyncdial = FALSE, autoexit = TRUE, cleanup = TRUE, output = FALSE,
                   idletime = Inf, walltime = Inf, maxtasks = Inf, tls = NULL, tlscert = tls, token = NULL, rs = NULL) {
  .Call(C_relay_scrub) # first of all: other users can read the command line
  if (...length()) stop("daemon() has no argument '", names(list(...))[1L] %||% "", "'")
  if (missing(url) || !is.character(url) || length(url) != 1L || is.na(url))
    stop("'url' must be one string: where the host listens")
  if (.Call(C_daemon_attached)) stop("this process is a daemon already")
  .steady_sigint()
  options <- .daemon_options(list(autoexit = autoexit, cleanup = cleanup, output = output, idletime = idletime,
                                  walltime = walltime, maxtasks = maxtasks))
  options$forked <- FALSE
  persistent <- isFALSE(autoexit)
  host <- if (.is_local_url(url)) .local_host(url, autoexit)
          else .remote_host(url, autoexit, .token(token), .certificates(tlscert))
  on.exit(host$end())
  status <- .serve(host, .flag(asyncdial, "asyncdial") || persistent, function(joined) {
    link <- as.list(stats::setNames(joined[[1L]], c("segment", "host_page", "refill", "index", "epoch")))
    options$stream <- joined$stream
    options$place <- joined$place
    options$serial <- .serial_merge(joined$hooks, .serial_resolve())
    status <- .daemon_run(link, options, function() {
      if (!is.null(rs)) assign(".Random.seed", as.integer(rs), envir = globalenv())
      host$started()
    })
    again <- persistent && status == 0L && !.Call(C_daemon_is_final)
    gc() # views of the host's memory
    .Call(C_daemon_detach, again)
    host$finish()
    list(status = status, again = again)
  })
  invisible(status)
}

# Joins hosts until one is the last, and returns how that ended. serve(): one connection, from the welcome to its end. A
# connection that did not live: the host, or what is between, is not well, and is not helped by a daemon that dials at once.
.serve <- function(host, wait, serve, pauses = .pauses(5000), now_s = function() proc.time()[["elapsed"]]) {
  repeat {
    joined <- .join(host, wait)
    began <- now_s()
    ended <- serve(joined)
    if (!ended$again) return(ended$status)
    if (now_s() - began >= 5) pauses$start_again() else pauses$take()
  }
}

# Pauses that double from 10 ms up to `longest` ms. Each is shortened by chance, up to a half, so that daemons that have lost
# their host together do not come back together; not by R's random numbers, which are the tasks'. By the clock, since nothing
# tells this process when it is time: the other side is on another machine, or not there.
.pauses <- function(longest, sleep = function(ms) Sys.sleep(ms / 1000),
                    chance = function() (as.numeric(Sys.time()) * 1e6 + Sys.getpid() * 7919) %% 1000 / 1000) {
  pause <- 10
  list(
    take = function() {
      sleep(pause * (1 - chance() / 2))
      pause <<- min(pause * 2, longest)
    },
    start_again = function() pause <<- 10
  )
}

# What a daemon does with its host. dial(): list(link, stream = , place = , hooks = ), or a string that says why not, with
# attribute "retry" if it may be so later. finish(): the task loop has ended. end(): so has daemon(), however.
.local_host <- function(url, autoexit) {
  list(
    dial = function() .Call(C_daemon_join, url),
    started = function() {
      .Call(C_daemon_watch_host, isTRUE(autoexit), if (is.numeric(autoexit)) as.integer(autoexit) else 0L)
    },
    finish = function() NULL,
    end = function() NULL,
    longest_pause = 1000
  )
}

# A thread of this process talks to the host, and is the host of the task loop (relay.cpp).
.remote_host <- function(url, autoexit, token, certificates) {
  numbers <- c(isTRUE(autoexit), if (is.numeric(autoexit)) autoexit else 0, 0)
  no_room <- list(quote(stop("this daemon has no memory for the task's arguments: give it more, or send less at a time",
                             call. = FALSE)), list(), list())
  list(
    dial = function() {
      .Call(C_relay_start, url, token, certificates, numbers, no_room)
      .Call(C_relay_wait)
    },
    started = function() NULL,
    finish = function() .Call(C_relay_finish),
    end = function() .Call(C_relay_end),
    longest_pause = 5000
  )
}

.is_local_url <- function(url) grepl("^(abstract|ipc)://", url)

.token <- function(token) if (is.null(token)) NULL else .string(token, "token")

# PEM text or the name of a file with it; none: what this system trusts.
.certificates <- function(x) {
  if (is.null(x)) return("")
  if (!is.character(x) || !length(x) %in% 1:2 || anyNA(x) || (length(x) == 2L && nzchar(x[2L])))
    .abort("'tlscert' must be PEM text, the name of a file with it, or c(text, \"\"), not ", .describe(x))
  x[1L]
}

.join <- function(host, wait, pauses = .pauses(host$longest_pause)) {
  repeat {
    joined <- host$dial()
    if (is.list(joined)) return(joined)
    if (!wait || !isTRUE(attr(joined, "retry"))) stop("daemon(): ", joined, call. = FALSE)
    # Nothing tells when a name starts to be listened at: ask again, ever more seldom.
    pauses$take()
  }
}
