#' Evaluate an expression on every daemon
#'
#' The expression is evaluated on each daemon that is connected, and on each one that connects or is replaced later, before
#' its first task. What it leaves behind stays, whatever `cleanup` says: packages that it attaches, options that it sets,
#' variables of the global environment, in which it is evaluated. It comes before any task that is submitted after it.
#'
#' Random numbers that it draws are those of the daemon's own stream, also where `seed` is set (see [daemons()]).
#'
#' @inheritParams mirai
#' @param ... named objects, which become variables of the global environment of each daemon, and stay.
#' @param .args a named list, or an environment, of more such objects.
#' @param .min number of daemons that must be connected: it waits until there are so many.
#' @return Invisibly a `mirai_map`, with a mirai for each daemon that was connected.
#' @examples
#' daemons(2)
#' everywhere({
#'   library(parallel)
#'   options(digits = 4)
#' })
#' mirai("package:parallel" %in% search())[]
#'
#' everywhere({}, offset = 100)
#' mirai_map(1:3, function(i) i + offset)[.flat]
#' daemons(0)
#' @export
everywhere <- function(.expr, ..., .args = list(), .min = 1L, .compute = NULL) {
  name <- .profile_name(.compute)
  record <- .set_profile(name)
  .min <- .count(.min, ".min")
  if (.min > 1024L) .abort("'.min' is ", .min, ": a profile has at most 1024 daemons")
  if (missing(.expr)) .abort("missing expression, perhaps wrap in {}?")
  if (!is.null(record$sync)) {
    out <- list(.everywhere_here(record$sync, .Call(C_task_parts, substitute(.expr), environment())))
  } else {
    if (.min > 0L) {
      problem <- .Call(C_profile_wait_min, record$id, .min)
      if (!is.null(problem)) .abort("the daemons did not start: ", problem)
    }
    out <- .Call(C_profile_everywhere, substitute(.expr), environment(), record$id)
  }
  invisible(structure(out, class = "mirai_map"))
}
