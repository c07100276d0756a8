# Promises: a mirai is a promise where the package promises is used. Nothing polls: the reactor thread hands the news of a
# resolution to the event loop of the package later (promise_calls.cpp).

#' Mirai as promises
#'
#' With the package \pkg{promises} a mirai, and a `mirai_map`, can be used where a promise can: in `promises::then()`, with
#' its pipes, in \pkg{shiny}. A value that is an error (see [is_error_value()]) rejects the promise; the condition has it
#' as `$value`. The promise of a `mirai_map` resolves to the list of all values, and is rejected by the first error.
#'
#' These methods are registered when \pkg{promises} is loaded. They run on the event loop of \pkg{later}, when R is idle at
#' the prompt or in `later::run_now()`.
#'
#' @param x a mirai or `mirai_map`.
#' @return For `as.promise()` a promise; for `is.promising()` `TRUE` (with a version of \pkg{promises} in which it is a generic
#'   function).
#' @examplesIf requireNamespace("promises", quietly = TRUE)
#' done <- FALSE
#' promises::then(mirai("hello"), function(value) {
#'   cat(value, "\n")
#'   done <<- TRUE
#' })
#' while (!done) later::run_now(10) # at the prompt it comes by itself
#' @name as.promise.mirai
#' @exportS3Method promises::as.promise
as.promise.mirai <- function(x) {
  .need("promises", "as.promise() of a mirai")
  .need("later", "as.promise() of a mirai")
  promises::promise(function(resolve, reject) {
    .when_resolved(x, function() {
      value <- .Call(C_mirai_data, x)
      if (is_error_value(value)) reject(.as_condition(value)) else resolve(value)
    })
  })
}

#' @rdname as.promise.mirai
#' @exportS3Method promises::as.promise
as.promise.mirai_map <- function(x) {
  .need("promises", "as.promise() of a mirai_map")
  promises::promise_all(.list = lapply(unclass(x), as.promise.mirai))
}

#' @rdname as.promise.mirai
#' @exportS3Method promises::is.promising
is.promising.mirai <- function(x) TRUE

#' @rdname as.promise.mirai
#' @exportS3Method promises::is.promising
is.promising.mirai_map <- function(x) TRUE

# By key of promise_watch(): lists of list(mirai, callback). A key is used again for a later task.
.waiting <- new.env(parent = emptyenv())

.when_resolved <- function(x, callback) {
  key <- .Call(C_promise_watch, x, later::current_loop()$id)
  if (is.null(key)) callback() else .waiting[[key]] <- c(.waiting[[key]], list(list(x, callback)))
}

# Called from the event loop.
.promises_ready <- function(keys) {
  for (key in keys) {
    entries <- .waiting[[key]]
    if (!is.null(entries)) rm(list = key, envir = .waiting)
    for (entry in entries) {
      if (unresolved(entry[[1L]])) .when_resolved(entry[[1L]], entry[[2L]]) else entry[[2L]]()
    }
  }
}

# `.promise` of mirai_map().
.map_promise <- function(x) {
  if (is.null(x)) return(NULL)
  if (is.function(x)) x <- list(x)
  if (!is.list(x) || !length(x) || length(x) > 2L || !all(vapply(x, function(f) is.null(f) || is.function(f), NA)))
    .abort("'.promise' must be a function, a list of one or two functions, or NULL, not ", .describe(x))
  .need("promises", "'.promise'")
  .need("later", "'.promise'")
  unname(x)
}

.map_then <- function(x, callbacks) {
  for (m in unclass(x)) do.call(promises::then, c(list(as.promise.mirai(m)), callbacks))
}
