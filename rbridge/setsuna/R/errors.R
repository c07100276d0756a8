is_error_value <- function(x) inherits(x, "errorValue")

is_mirai_error <- function(x) inherits(x, "miraiError")

is_mirai_interrupt <- function(x) inherits(x, "miraiInterrupt")

# What a task that raised `e` resolves to. `calls`: the stack when it was raised.
.mirai_error <- function(e, calls = NULL) {
  call <- conditionCall(e)
  message <- conditionMessage(e)
  text <- if (is.null(call) || .is_own_call(call)) {
    paste0("Error: ", message)
  } else {
    sprintf("Error in %s: %s", paste(deparse(call, nlines = 1L), collapse = ""), message)
  }
  fields <- unclass(e)
  fields <- fields[setdiff(names(fields), c("message", "call"))]
  attributes(fields) <- list(names = names(fields))
  `attributes<-`(text, c(
    fields[setdiff(names(fields), c("class", "names", ""))],
    list(
      message = message,
      call = if (.is_own_call(call)) NULL else call,
      stack.trace = .user_calls(calls),
      condition.class = class(e),
      class = c("miraiError", "errorValue", "try-error")
    )
  ))
}

.mirai_interrupt <- function() structure("", class = c("miraiInterrupt", "errorValue", "try-error"))

.damaged_result <- function(...) {
  .mirai_error(simpleError("the result arrived damaged: did the task write to memory that is not its own?"))
}

# Calls of ours around the user's expression.
.is_own_call <- function(call) {
  is.call(call) && (identical(call[[1L]], base::eval) || identical(call[[1L]], quote(eval)) && length(call) >= 3L &&
    is.environment(call[[3L]]) || identical(call[[1L]], quote(.Call)) || identical(call, quote(eval(expr, env))))
}

# The stack from the user's expression to where the error was raised.
.user_calls <- function(calls) {
  if (is.null(calls)) return(list())
  calls <- as.list(calls)
  own <- which(vapply(calls, .is_own_call, NA))
  if (length(own)) calls <- calls[-seq_len(max(own))]
  handler <- vapply(calls, function(call) {
    is.call(call) && is.symbol(call[[1L]]) && as.character(call[[1L]]) %in% c(".handleSimpleError", "h")
  }, NA)
  calls <- calls[!handler]
  lapply(calls, function(call) {
    attributes(call) <- NULL
    call
  })
}

conditionCall.miraiError <- function(c) attr(c, "call")

conditionMessage.miraiError <- function(c) attr(c, "message")

`$.miraiError` <- function(x, name) attr(x, name, exact = FALSE)

.DollarNames.miraiError <- function(x, pattern = "") grep(pattern, names(attributes(x)), value = TRUE)

print.miraiError <- function(x, ...) {
  cat("'miraiError' chr ", x, if (!endsWith(x, "\n")) "\n", sep = "")
  invisible(x)
}

print.miraiInterrupt <- function(x, ...) {
  cat("'miraiInterrupt' chr \"\"\n")
  invisible(x)
}

.error_texts <- c(`5` = "Timed out", `7` = "Object closed", `19` = "Connection reset", `20` = "Operation canceled")

nextcode <- function(x) {
  code <- as.character(as.integer(x))
  text <- .error_texts[code]
  paste(code, "|", ifelse(is.na(text), "Unknown error", text))
}

print.errorValue <- function(x, ...) {
  cat("'errorValue' int ", nextcode(x), "\n", sep = "")
  invisible(x)
}

print.unresolvedValue <- function(x, ...) {
  cat("'unresolved' logi NA\n")
  invisible(x)
}
