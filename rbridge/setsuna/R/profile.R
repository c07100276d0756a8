#' A compute profile for a part of a program
#'
#' Sets which profile is meant where `.compute` is not given (or `NULL`): `with_daemons()` while an expression is evaluated,
#' `local_daemons()` until the function that calls it returns. The daemons must have been set, and are not reset afterwards.
#'
#' @param .compute name of the compute profile, see [daemons()].
#' @param expr an expression.
#' @param frame the frame of the function until whose end the setting lasts. At the top level it lasts until the next call:
#'   `local_daemons("default")` ends it.
#' @return `with_daemons()`: the value of `expr`. `local_daemons()`: the name of the profile in force before, invisibly.
#' @examples
#' daemons(1, .compute = "gpu")
#' with_daemons("gpu", {
#'   mirai("on gpu")[]
#' })
#'
#' run <- function() {
#'   local_daemons("gpu")
#'   mirai("on gpu as well")[]
#' }
#' run()
#' daemons(0, .compute = "gpu")
#' @export
with_daemons <- function(.compute, expr) {
  before <- .Call(C_set_default_profile, .named_profile(.compute))
  on.exit(.Call(C_set_default_profile, before))
  expr
}

#' @rdname with_daemons
#' @export
local_daemons <- function(.compute, frame = parent.frame()) {
  name <- .named_profile(.compute)
  if (!is.environment(frame)) .abort("'frame' must be an environment, not ", .describe(frame))
  before <- .Call(C_set_default_profile, name)
  if (!identical(frame, globalenv()))
    do.call(base::on.exit, list(as.call(list(.back_to, before)), TRUE), envir = frame)
  invisible(before)
}

.back_to <- function(name) .Call(C_set_default_profile, name)

.named_profile <- function(.compute) {
  name <- .profile_name(.string(.compute, ".compute"))
  if (name != "default") .set_profile(name)
  name
}

#' Are daemons set?
#'
#' @param .compute name of the compute profile; `NULL` for the one in force.
#' @param call for the error message: the environment of a function on whose behalf it is asked, or a call.
#' @return `daemons_set()`: `TRUE` or `FALSE`. `require_daemons()`: `TRUE`, invisibly, or else an error that says what to do.
#' @examples
#' daemons_set()
#'
#' f <- function() {
#'   require_daemons(call = environment())
#'   mirai(1)[]
#' }
#' try(f())
#' with(daemons(1), f())
#' @export
daemons_set <- function(.compute = NULL) !is.null(.profile(.profile_name(.compute)))

#' @rdname daemons_set
#' @export
require_daemons <- function(.compute = NULL, call = environment()) {
  name <- .profile_name(.compute)
  if (is.null(.profile(name))) stop(simpleError(.unset_text(name), .call_of(call)))
  invisible(TRUE)
}

.call_of <- function(x) {
  if (!is.environment(x)) return(x)
  frame <- Position(function(i) identical(sys.frame(i), x), seq_len(sys.nframe()), nomatch = 0L)
  if (frame > 0L) sys.call(frame)
}

#' Is this code evaluated on a daemon?
#'
#' @return `TRUE` in the evaluation of a mirai on a daemon, else `FALSE`.
#' @examples
#' on_daemon()
#' mirai(setsuna::on_daemon())[]
#' @export
on_daemon <- function() .Call(C_daemon_attached)
