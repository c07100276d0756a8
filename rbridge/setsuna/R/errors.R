#' Errors, interrupts and timeouts
#'
#' What went wrong with a task is its value. `is_error_value()` tells such a value from a proper one, whatever the cause:
#'
#' * The expression raised an error: text of class `miraiError`, see `is_mirai_error()`. It prints as R would have printed it.
#' * The process that evaluated it was sent an interrupt: empty text of class `miraiInterrupt`, see `is_mirai_interrupt()`.
#' * It had no result: a number of class `errorValue`, one of 5 'Timed out' (see `.timeout` of [mirai()]), 7 'Object closed'
#'   (the daemons were reset), 19 'Connection reset' (the process died) and 20 'Operation canceled' (see [stop_mirai()]). A 19
#'   has attributes that say more, where it is known: `pid`, the `signal` or the exit `status`, and `out_of_memory` if the
#'   kernel killed the process for want of memory.
#'
#' All of them inherit from `errorValue`, the first two also from `try-error`.
#'
#' A `miraiError` carries more: `$stack.trace` is the list of calls at the error, the innermost first; `$condition.class` the
#' classes of the condition; any other field of the condition is there by its name. `conditionCall()` and
#' `conditionMessage()` work.
#'
#' @param x any object, such as `$data` of a mirai.
#' @return `TRUE` or `FALSE`.
#' @examples
#' f <- function(x) if (x > 0) stop("positive")
#' m <- call_mirai(mirai(f(1), f = f))
#' m$data
#' is_error_value(m$data)
#' is_mirai_error(m$data)
#' is_mirai_interrupt(m$data)
#' m$data$stack.trace
#' m$data$condition.class
#' conditionMessage(m$data)
#'
#' m <- call_mirai(mirai(Sys.sleep(60), .timeout = 50))
#' m$data
#' is_error_value(m$data)
#' is_mirai_error(m$data)
#' @export
is_error_value <- function(x) inherits(x, "errorValue")

#' @rdname is_error_value
#' @export
is_mirai_error <- function(x) inherits(x, "miraiError")

#' @rdname is_error_value
#' @export
is_mirai_interrupt <- function(x) inherits(x, "miraiInterrupt")

# Attributes that mean something else on a string.
.reserved_fields <- c("", "message", "call", "class", "names", "dim", "dimnames", "tsp", "row.names", "stack.trace",
                      "condition.class")

# What a task that raised `e` resolves to. `calls`: those from the user's expression to where the error was raised,
# outermost first.
.mirai_error <- function(e, calls = NULL) {
  call <- conditionCall(e)
  message <- paste(conditionMessage(e), collapse = "\n")
  call <- if (!.is_own_call(call)) .readable_call(call, calls)
  text <- if (is.null(call)) paste0("Error: ", message)
          else paste0("Error in ", paste(deparse(call, nlines = 1L), collapse = ""), ": ", message)
  fields <- unclass(e)
  fields <- if (is.list(fields)) fields[setdiff(names(fields), .reserved_fields)]
  attributes(fields) <- list(names = names(fields))
  `attributes<-`(text, c(fields, list(
    message = message,
    call = call,
    stack.trace = rev(lapply(calls, .readable_call, calls)),
    condition.class = class(e),
    class = c("miraiError", "errorValue", "try-error")
  )))
}

# Without source references. In a map the function itself stands in the outermost call.
.readable_call <- function(call, calls) {
  if (!is.call(call)) return(call)
  if (is.function(call[[1L]]) && length(calls) && identical(call, calls[[1L]])) call[[1L]] <- quote(.f)
  attributes(call) <- NULL
  call
}

# The frames of eval() around the user's expression. That of a daemon's bears the call of the function that it was called in.
.is_own_call <- function(call) {
  is.call(call) && (identical(call[[1L]], base::eval) || identical(call, quote(allowInterrupts(.Call(daemon_loop)))) ||
    identical(call, quote(.Call(daemon_loop))) || identical(call, quote(eval(expr, env))) ||
    identical(call, quote(eval(call, globalenv()))))
}

# The number of calls around the place where it is called.
.depth <- function() sys.nframe() - 1L

# `calls`: sys.calls() in a calling handler; `depth` of them were there before the task. What belongs to the user.
.user_calls <- function(calls, depth) {
  calls <- as.list(calls)
  if (length(calls) <= depth) return(list()) # the handler did not run: no stack was left for it
  calls <- calls[-length(calls)] # the handler
  last <- calls[[length(calls)]]
  if (is.call(last) && identical(last[[1L]], quote(.handleSimpleError))) calls <- calls[-length(calls)]
  calls <- calls[-seq_len(depth)]
  frames <- which(!vapply(calls, .is_own_call, NA))
  if (length(frames)) calls[frames[1L]:length(calls)] else list()
}

.mirai_interrupt <- function() structure("", class = c("miraiInterrupt", "errorValue", "try-error"))

.damaged_result <- function(...) {
  .mirai_error(simpleError("the result arrived damaged: did the task write to memory that is not its own?"))
}

# As a condition, for those who want an error to be one.
.as_condition <- function(value) {
  text <- if (is_mirai_error(value)) as.character(value) else if (is_mirai_interrupt(value)) "interrupted" else nextcode(value)
  condition <- simpleError(sub("\n$", "", text))
  condition$value <- value
  condition
}

#' @export
conditionCall.miraiError <- function(c) attr(c, "call", exact = TRUE)

#' @export
conditionMessage.miraiError <- function(c) attr(c, "message", exact = TRUE)

#' @export
`$.miraiError` <- function(x, name) attr(x, name, exact = FALSE)

#' @rawNamespace S3method(utils::.DollarNames, miraiError)
.DollarNames.miraiError <- function(x, pattern = "") grep(pattern, names(attributes(x)), value = TRUE)

#' @export
print.miraiError <- function(x, ...) {
  cat("'miraiError' chr ", x, if (!endsWith(x, "\n")) "\n", sep = "")
  invisible(x)
}

#' @export
print.miraiInterrupt <- function(x, ...) {
  cat("'miraiInterrupt' chr \"\"\n")
  invisible(x)
}

#' @export
print.errorValue <- function(x, ...) {
  cat("'errorValue' int ", nextcode(x), "\n", sep = "")
  invisible(x)
}

#' @export
print.unresolvedValue <- function(x, ...) {
  cat("'unresolved' logi NA\n")
  invisible(x)
}

#' @export
as.data.frame.errorValue <- function(x, ...) as.data.frame.vector(x, ...)

#' @export
as.data.frame.unresolvedValue <- as.data.frame.errorValue

.code_texts <- c(
  `0` = "Daemon connection terminated", `1` = "Daemon idletime limit reached", `2` = "Daemon walltime limit reached",
  `3` = "Daemon task limit reached", `5` = "Timed out", `7` = "Object closed", `19` = "Connection reset",
  `20` = "Operation canceled"
)

#' What a number means
#'
#' In words: the value of [daemon()] (0 to 3), and the number of an `errorValue` (see [is_error_value()]).
#'
#' @param x whole numbers.
#' @return Text, one for each number.
#' @examples
#' nextcode(0:3)
#' nextcode(mirai(Sys.sleep(60), .timeout = 10)[])
#' @export
nextcode <- function(x) {
  if (!is.numeric(x)) .abort("'x' must be whole numbers, not ", .describe(x))
  code <- as.character(as.integer(x))
  text <- unname(.code_texts[code])
  paste(code, "|", ifelse(is.na(text), "Unknown code", text))
}
