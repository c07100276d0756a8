mirai_map <- function(.x, .f, ..., .args = list(), .promise = NULL, .compute = NULL) {
  if (!is.function(.f)) stop("mirai_map: '.f' must be a function, not ", typeof(.f))
  globals <- list(...)
  if (length(globals) && (is.null(names(globals)) || any(!nzchar(names(globals)))))
    stop("mirai_map: all ... arguments must be named")
  if (!is.list(.args)) stop("mirai_map: '.args' must be a list, not ", typeof(.args))
  rows <- is.data.frame(.x) || is.matrix(.x)
  names <- if (rows) rownames(.x) else names(.x)
  x <- if (is.data.frame(.x)) .rows_of(.x) else if (is.matrix(.x)) .matrix_rows(.x) else .x
  if (!is.vector(x)) x <- as.list(x)
  out <- .Call(C_mirai_map_submit, x, .f, .args, globals, rows, environment())
  if (!is.null(names)) names(out) <- names
  class(out) <- "mirai_map"
  out
}

.rows_of <- function(x) {
  lapply(seq_len(nrow(x)), function(i) lapply(as.list(x), function(column) column[[i]]))
}

.matrix_rows <- function(x) {
  lapply(seq_len(nrow(x)), function(i) as.list(x[i, ]))
}

`[.mirai_map` <- function(x, ...) {
  options <- as.list(substitute(alist(...)))[-1L]
  options <- options[!vapply(options, identical, NA, quote(expr = ))]
  if (!length(options)) return(.Call(C_mirai_collect, unclass(x)))
  .collect_map(x, vapply(options, deparse, ""))
}

.collect_map <- function(x, options) {
  if (is.list(options)) options <- unlist(options)
  options <- as.character(options)
  known <- c(".flat", ".progress", ".stop")
  bad <- setdiff(options, known)
  if (length(bad)) stop("collect_mirai: '", bad[1L], "' is not one of ", paste(known, collapse = ", "), call. = FALSE)
  x <- unclass(x)
  if (any(c(".progress", ".stop") %in% options)) .watch_map(x, ".progress" %in% options, ".stop" %in% options)
  out <- .Call(C_mirai_collect, x)
  if (".flat" %in% options) unlist(out, recursive = FALSE) else out
}

# Waits element by element, in order.
.watch_map <- function(x, progress, stop_early) {
  n <- length(x)
  bar <- if (progress) .progress_bar(n)
  on.exit(if (progress) bar$done())
  for (i in seq_len(n)) {
    value <- .Call(C_mirai_collect, x[[i]])
    if (stop_early && is_error_value(value)) {
      .Call(C_mirai_stop, x)
      stop(sprintf("In index: %d%s.\n%s", i, if (is.null(names(x))) "" else paste0(" (name: ", names(x)[i], ")"),
                   if (is_mirai_error(value)) as.character(value) else nextcode(value)), call. = FALSE)
    }
    if (progress) bar$step(i)
  }
}

.progress_bar <- function(n) {
  if (requireNamespace("cli", quietly = TRUE)) {
    id <- cli::cli_progress_bar(type = NULL, total = n, auto_terminate = FALSE, .envir = emptyenv())
    return(list(step = function(i) cli::cli_progress_update(set = i, id = id, .envir = emptyenv()),
                done = function() cli::cli_progress_done(id = id, .envir = emptyenv())))
  }
  shown <- 0L
  list(step = function(i) {
    share <- as.integer(100 * i / n)
    if (share > shown) {
      shown <<- share
      cat(sprintf("\r[ %d / %d .... ]", i, n), file = stderr())
    }
  }, done = function() cat("\n", file = stderr()))
}

print.mirai_map <- function(x, ...) {
  done <- sum(!vapply(unclass(x), unresolved, NA))
  cat(sprintf("< mirai map [%d/%d] >\n", done, length(x)))
  invisible(x)
}
