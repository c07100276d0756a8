#' Evaluate an expression asynchronously
#'
#' `mirai()` returns at once: the expression is evaluated in another process, on one of the daemons set by [daemons()] or,
#' if none are set, in a fresh process of its own. The value is found in `$data` of the returned object as soon as it is
#' there. `try_mirai()` is the same, except that it returns `NULL` instead of waiting when the memory for the arguments of
#' unfinished tasks is full (see `memory` of [daemons()]).
#'
#' The expression is not evaluated in the calling process, and sees nothing of it but what it is given:
#'
#' * Objects in `...` are variables of the evaluation environment *and* global variables for the time of the evaluation, so
#'   that functions find them as well.
#' * Objects in `.args` are variables of the evaluation environment alone.
#'
#' The parent of the evaluation environment is the global environment of that process.
#'
#' An expression that raises an error resolves to a value of class `miraiError`, see [is_error_value()]; an error never
#' leaves `mirai()`.
#'
#' @param .expr the expression. It is not evaluated here. A symbol that is bound to a language object (made by `quote()`,
#'   say) stands for that object.
#' @param ... named objects that the expression refers to, `name = value`. An environment without a name is unpacked: each of
#'   its variables is passed by its name.
#' @param .args a named list, or an environment, of further objects. The names may be left out where the objects are
#'   variables: `.args = list(x, file)`.
#' @param .timeout milliseconds after which the mirai resolves to an `errorValue` of 5, 'Timed out', counted from this call;
#'   `NULL` for no limit. A task that runs by then is interrupted, and its process replaced if it does not react.
#' @param .compute name of the compute profile, see [daemons()]; `NULL` for the one in force.
#' @param .retry how often the task may be run again if the daemon that runs it dies. An error that R raises is a result, and
#'   is not retried.
#' @return An object of class `mirai`. `$data` gives the value, or an 'unresolved' logical `NA` as long as there is none.
#'   `[]` waits for the value and returns it.
#' @seealso [call_mirai()] and [unresolved()] to wait and to look, [stop_mirai()] to cancel, [mirai_map()] for many at once.
#' @examples
#' m <- mirai({
#'   Sys.sleep(0.1)
#'   x + y
#' }, x = 1, y = 2)
#' m
#' m$data
#' m[]
#'
#' # a constructed expression, and objects passed by their names
#' x <- 5
#' twice <- function(x) 2 * x
#' expr <- quote(twice(x))
#' mirai(expr, .args = list(twice, x))[]
#'
#' # an error is a value
#' m <- mirai(stop("something went wrong"))
#' m[]
#' is_error_value(m$data)
#'
#' # a limit of time
#' mirai(Sys.sleep(60), .timeout = 100)[]
#' @export
mirai <- function(.expr, ..., .args = list(), .timeout = NULL, .compute = NULL, .retry = 0L)
  .External2(C_mirai_submit, TRUE)

#' @rdname mirai
#' @export
try_mirai <- function(.expr, ..., .args = list(), .timeout = NULL, .compute = NULL, .retry = 0L)
  .External2(C_mirai_submit, FALSE)

#' @export
`$.mirai` <- function(x, name) if (identical(name, "data")) .Call(C_mirai_data, x)

#' @export
`[[.mirai` <- function(x, i, ...) if (identical(i, "data") || identical(as.vector(i), 1)) .Call(C_mirai_data, x)

#' @export
`[.mirai` <- function(x, ...) .Call(C_mirai_collect, x)

#' @export
`$<-.mirai` <- function(x, name, value)
  stop("the value of a mirai cannot be set: `$", name, "` is read-only", call. = FALSE)

#' @export
`[[<-.mirai` <- function(x, i, value) stop("the value of a mirai cannot be set: it is read-only", call. = FALSE)

#' @export
`[<-.mirai` <- `[[<-.mirai`

#' @export
names.mirai <- function(x) "data"

#' @rawNamespace S3method(utils::.DollarNames, mirai)
.DollarNames.mirai <- function(x, pattern = "") grep(pattern, "data", value = TRUE)

#' @export
print.mirai <- function(x, ...) {
  cat("< mirai | $data >\n")
  invisible(x)
}

#' @export
format.mirai <- function(x, ...) "< mirai | $data >"

#' @rawNamespace S3method(utils::str, mirai)
str.mirai <- function(object, ...) {
  state <- tryCatch(if (unresolved(object)) "unresolved" else "resolved", error = function(e) "of another session")
  cat(" 'mirai', ", state, "\n", sep = "")
}

#' @exportS3Method all.equal mirai
all.equal.mirai <- function(target, current, ...) {
  if (identical(target, current)) return(TRUE)
  if (!is_mirai(current)) return("'current' is not a mirai")
  if (unresolved(target) || unresolved(current)) return("two mirai of which one is unresolved")
  all.equal(target$data, current$data, ...)
}

#' Wait for, collect and look at mirai
#'
#' `call_mirai()` and `collect_mirai()` wait until a mirai, or each one of a list, has resolved. The first returns the object
#' itself, the second the value or values; for a single mirai `m[]` is short for `collect_mirai(m)`. `race_mirai()` waits
#' until at least one of a list has resolved. `unresolved()` does not wait. All waits end on a user interrupt, which leaves
#' the tasks alone.
#'
#' Waiting costs no CPU time: the process sleeps until the completion that it waits for.
#'
#' @param x a mirai, or a list of mirai (such as a `mirai_map`). For `unresolved()` also the value `$data` of a mirai; any
#'   other object counts as resolved.
#' @param options for a list, text: how to collect, of `".flat"`, `".progress"`, `".stop"`. See [mirai_map()].
#' @return
#' * `call_mirai()`: `x`, invisibly.
#' * `collect_mirai()`: the value, or a list of values with the names of `x`.
#' * `race_mirai()`: the index of the first in `x` that has resolved; 0 if `x` is empty. One that has resolved before counts:
#'   take it out of the list to wait for the next.
#' * `unresolved()`: `TRUE` if `x`, or anything in it, has not resolved yet.
#' @examples
#' m <- mirai({
#'   Sys.sleep(0.1)
#'   "done"
#' })
#' while (unresolved(m)) {
#'   # do something else
#'   msleep(20)
#' }
#' m$data
#'
#' call_mirai(mirai(1 + 1))$data
#' collect_mirai(list(a = mirai(1), b = mirai(2)))
#'
#' race_mirai(list(mirai(Sys.sleep(5)), mirai("quick")))
#' @export
call_mirai <- function(x) invisible(.Call(C_mirai_wait, x))

#' @rdname call_mirai
#' @export
collect_mirai <- function(x, options = NULL) {
  if (!length(options)) return(.Call(C_mirai_collect, x))
  options <- .map_options(options)
  .collect_map(x, options)
}

#' @rdname call_mirai
#' @export
race_mirai <- function(x) {
  if (!is.list(x)) .abort("'x' must be a list of mirai, not ", .describe(x))
  .Call(C_mirai_race, x, TRUE)
}

#' @rdname call_mirai
#' @export
unresolved <- function(x) .Call(C_mirai_unresolved, x)

#' Cancel a mirai
#'
#' A task that waits is not run; one that runs is interrupted. (If it does not react to the interrupt, its process is
#' replaced after two seconds; a process of its own, without daemons, is ended at once.) The mirai resolves at once, to an
#' `errorValue` of 20, 'Operation canceled'.
#'
#' @param x a mirai, or a list of mirai.
#' @return Invisibly `TRUE` if the mirai was unresolved, else `FALSE`; for a list a logical vector.
#' @examples
#' m <- mirai(Sys.sleep(60))
#' stop_mirai(m)
#' m$data
#' @export
stop_mirai <- function(x) invisible(.Call(C_mirai_stop, x))

#' Is it a mirai?
#'
#' @param x any object.
#' @return `TRUE` or `FALSE`.
#' @examples
#' is_mirai(mirai(1))
#' is_mirai(1)
#' is_mirai_map(mirai_map(1:2, identity))
#' @export
is_mirai <- function(x) .Call(C_mirai_is, x)

#' @rdname is_mirai
#' @export
is_mirai_map <- function(x) inherits(x, "mirai_map")

#' Sleep for milliseconds
#'
#' @param time milliseconds.
#' @return `NULL`, invisibly. A user interrupt ends the sleep.
#' @examples
#' msleep(5)
#' @export
msleep <- function(time) {
  if (!.is_number(time) || time < 0)
    .abort("'time' must be one number of milliseconds of at least 0, not ", .describe(time))
  Sys.sleep(time / 1000) # the caller's own pause: there is no event to wait for
  invisible()
}
