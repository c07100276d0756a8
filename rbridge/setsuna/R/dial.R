#' Daemon of a profile that listens
#'
#' Makes this R process a daemon: it dials `url`, takes tasks of the host that listens there, and returns when its work is
#' over. For processes that were not started by [daemons()], such as `Rscript -e "setsuna::daemon('abstract://...')"`. A host
#' of the same machine shares its memory with it, as with the daemons that it starts itself.
#'
#' @param url text: where the host listens, `abstract://name` or `ipc:///path` (see `status()$url`).
#' @param dispatcher accepted for compatibility: how tasks are distributed is the host's choice.
#' @param ... not used; any argument here is an error.
#' @param asyncdial `TRUE`: if nobody listens at `url` yet, try again (at intervals of up to a second) instead of an error.
#' @param autoexit what to do when the host ends: `TRUE` interrupt the task in hand and return, `NA` finish it first, `FALSE`
#'   finish it, then wait for a host at the same URL and join that (implies `asyncdial`; `daemons(NULL)` ends it all the
#'   same), a signal number: raise this signal.
#' @param cleanup `TRUE`: restore global variables, attached packages, options and working directory after each task.
#' @param output accepted for compatibility: standard output and error of this process are where they are.
#' @param idletime milliseconds without a task after which to return.
#' @param walltime milliseconds after which to return, once the task in hand is done.
#' @param maxtasks number of tasks after which to return.
#' @param tls,tlscert,token accepted for URLs on the network, which this version does not have.
#' @param rs integer: a `.Random.seed` of kind L'Ecuyer-CMRG to start from, instead of this daemon's stream of the profile.
#' @return Invisibly, an integer: 0 the host has ended the connection, 1 `idletime`, 2 `walltime`, 3 `maxtasks`.
#' @examples
#' if (interactive()) {
#'   daemon("abstract://08b4b97238bde0689bc9514b")
#' }
#' @export
daemon <- function(url, dispatcher = TRUE, ..., asyncdial = FALSE, autoexit = TRUE, cleanup = TRUE, output = FALSE,
                   idletime = Inf, walltime = Inf, maxtasks = Inf, tls = NULL, tlscert = tls, token = NULL, rs = NULL) {
  if (...length()) stop("daemon() has no argument '", names(list(...))[1L] %||% "", "'")
  if (missing(url) || !is.character(url) || length(url) != 1L || is.na(url))
    stop("'url' must be one string: where the host listens")
  if (.Call(C_daemon_attached)) stop("this process is a daemon already")
  options <- .daemon_options(list(autoexit = autoexit, cleanup = cleanup, output = output, idletime = idletime,
                                  walltime = walltime, maxtasks = maxtasks))
  options$forked <- FALSE
  options$serial <- .serial_resolve()
  persistent <- isFALSE(autoexit)
  repeat {
    joined <- .join(url, asyncdial || persistent)
    link <- as.list(stats::setNames(joined[[1L]], c("segment", "host_page", "refill", "index", "epoch")))
    options$stream <- joined[[2L]]
    status <- .daemon_run(link, options, function() {
      if (!is.null(rs)) assign(".Random.seed", as.integer(rs), envir = globalenv())
      .Call(C_daemon_watch_host, isTRUE(autoexit), if (is.numeric(autoexit)) as.integer(autoexit) else 0L)
    })
    again <- persistent && status == 0L && !.Call(C_daemon_is_final)
    gc() # views of the host's memory
    .Call(C_daemon_detach, again)
    if (!again) break
  }
  invisible(status)
}

.join <- function(url, wait) {
  pause <- 10
  repeat {
    joined <- .Call(C_daemon_join, url)
    if (is.list(joined)) return(joined)
    if (!wait || !isTRUE(attr(joined, "retry"))) stop("daemon(): ", joined, call. = FALSE)
    # Nothing tells when a name starts to be listened at: ask again, ever more seldom.
    Sys.sleep(pause / 1000)
    pause <- min(pause * 2, 1000)
  }
}
