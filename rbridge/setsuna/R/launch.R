#' Add local daemons
#'
#' Starts further daemons on this machine for a profile that is set, with the environment that this session has now. They are
#' online when it returns.
#'
#' @param n number of daemons.
#' @param ... arguments of [daemon()] for these daemons: `autoexit`, `cleanup`, `output`, `idletime`, `walltime`, `maxtasks`.
#' @param .compute name of the compute profile; `NULL` for the one in force.
#' @return The number of daemons started.
#' @examples
#' daemons(1)
#' launch_local(1, maxtasks = 10)
#' status()
#' daemons(0)
#' @export
launch_local <- function(n = 1L, ..., .compute = NULL) {
  n <- .count(n, "n")
  name <- .profile_name(.compute)
  record <- .set_profile(name)
  if (!is.null(record$sync)) .abort("the profile '", name, "' evaluates in this session (sync = TRUE): it takes no daemons")
  daemon <- .daemon_options(list(...))
  daemon$stream <- record$stream
  daemon$serial <- record$serial
  options <- list(config = .host_config(daemon), output = daemon$output, autoexit = .autoexit_code(daemon$autoexit))
  started <- .Call(C_profile_add_daemons, record$id, n, options)
  if (length(started) < n)
    .abort("only ", length(started), " of ", n, " daemons could be added: at most 1024 can share one machine's memory")
  problem <- .Call(C_daemons_wait_started, record$id, started)
  if (!is.null(problem)) .abort("the daemons did not start: ", .start_problem(problem))
  n
}
