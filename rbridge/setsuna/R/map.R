#' Map a function over a vector, on daemons
#'
#' Calls `.f` with each element of `.x`, asynchronously. The value is a list of mirai, one for each element, that is collected
#' with `x[]`.
#'
#' `.f` and `.args` are sent to the daemons once, not with each element.
#'
#' @section Collecting:
#' `x[]` waits for all values and gives them as a list. Options, also combined (`x[.stop, .progress]`), are:
#'
#' * `.flat`: a vector instead of a list. The values must be of one type, and no errors.
#' * `.progress`: shows a progress bar on standard error, that of package \pkg{cli} if it is installed.
#' * `.stop`: an error ends the collection at once, whichever element it comes from: the tasks that are still under way are
#'   cancelled, and it is raised as an error that names the index.
#'
#' [collect_mirai()] takes the same options as text: `collect_mirai(x, c(".flat", ".progress"))`. `x[[i]]` is the mirai of an
#' element.
#'
#' @param .x a vector or a list. Of a data frame or matrix the rows: the columns become the arguments of `.f`, by name where
#'   the columns have names.
#' @param .f a function. Its first argument is the element, or its arguments are the columns of a row.
#' @param ... named objects that `.f` refers to. They are global variables for the time of the evaluation.
#' @param .args a list of further arguments of `.f`, the same for all elements.
#' @param .promise a function to be called with each value when it is there, or a list of two functions, for values and for
#'   errors: they are registered with `promises::then()`.
#' @inheritParams mirai
#' @return A list of class `mirai_map` with the names of `.x` (its row names, if it has rows with names).
#' @examples
#' daemons(2)
#'
#' m <- mirai_map(1:3, function(i) i^2)
#' m
#' m[]
#'
#' mirai_map(c(a = 1, b = 2, c = 3), rnorm, .args = list(n = 2))[]
#'
#' # a vector instead of a list
#' mirai_map(1:3, function(i) i + offset, offset = 10)[.flat]
#'
#' # over the rows of a data frame
#' df <- data.frame(x = 1:3, y = c(10, 20, 30))
#' mirai_map(df, function(x, y) x * y)[.flat]
#'
#' # the first error ends it
#' m <- mirai_map(list(1, "a", 3), function(x) x + 1)
#' tryCatch(m[.stop], error = function(e) cat(conditionMessage(e), "\n"))
#'
#' daemons(0)
#' @export
mirai_map <- function(.x, .f, ..., .args = list(), .promise = NULL, .compute = NULL) {
  if (missing(.f) || !is.function(.f)) .abort("'.f' must be a function, not ", if (missing(.f)) "missing" else .describe(.f))
  globals <- .map_globals(...)
  if (!is.list(.args)) .abort("'.args' must be a list of arguments of '.f', not ", .describe(.args))
  callbacks <- .map_promise(.promise)
  rows <- is.data.frame(.x) || is.matrix(.x)
  x <- .map_elements(.x)
  name <- .profile_name(.compute)
  out <- if (.Call(C_profile_is_sync, name)) .map_here(name, x, .f, .args, globals, rows)
         else .Call(C_mirai_map_submit, x, .f, .args, globals, rows, environment())
  names(out) <- if (rows) .row_names(.x) else names(x)
  class(out) <- "mirai_map"
  if (!is.null(callbacks)) .map_then(out, callbacks)
  out
}

.map_globals <- function(...) {
  if (!...length()) return(list())
  globals <- list(...)
  given <- names(globals)
  if (is.null(given) || !all(nzchar(given)))
    .abort("all ... arguments must be named: they are variables that '.f' refers to (arguments of '.f' go to '.args')")
  globals
}

.map_elements <- function(x) {
  if (is.data.frame(x)) {
    columns <- as.list(x)
    return(lapply(seq_len(nrow(x)), function(i) lapply(columns, function(column) column[[i]])))
  }
  if (is.matrix(x)) return(lapply(seq_len(nrow(x)), function(i) as.list(x[i, ])))
  if (is.function(x) || is.symbol(x)) .abort("'.x' must be a vector or a list, not ", .describe(x))
  if (is.vector(x) && !is.expression(x)) return(x)
  tryCatch(as.list(x), error = function(e) .abort("'.x' must be a vector or a list, not ", .describe(x)))
}

# Not those that R made up.
.row_names <- function(x) if (is.matrix(x)) rownames(x) else if (.row_names_info(x) > 0L) attr(x, "row.names")

#' @export
`[.mirai_map` <- function(x, ...) {
  given <- as.list(substitute(alist(...)))[-1L]
  given <- given[!vapply(given, identical, NA, quote(expr = ))]
  if (!length(given)) return(.Call(C_mirai_collect, x))
  options <- vapply(given, function(option) if (is.symbol(option)) as.character(option) else "", "")
  if (all(options %in% .known_options)) return(.collect_map(x, options))
  wrong <- given[!options %in% .known_options]
  if (length(given) > 1L || (is.symbol(wrong[[1L]]) && !exists(options, parent.frame())))
    .abort("the options of a mirai_map are ", toString(.known_options), ", not ", deparse(wrong[[1L]])[1L])
  structure(unclass(x)[...], class = "mirai_map")
}

.known_options <- c(".flat", ".progress", ".stop")

.map_options <- function(options) {
  if (is.list(options)) options <- unlist(options)
  options <- as.character(options)
  bad <- setdiff(options, .known_options)
  if (length(bad)) .abort("'options' must be of ", toString(dQuote(.known_options, FALSE)), ", not ", .describe(bad[1L]))
  options
}

.collect_map <- function(x, options) {
  if (!is.list(x)) .abort("'options' are for lists of mirai, and 'x' is ", .describe(x))
  watched <- c(".progress", ".stop") %in% options
  if (any(watched)) .watch_map(unclass(x), watched[1L], watched[2L])
  out <- .Call(C_mirai_collect, x)
  if (".flat" %in% options) .flatten(out) else out
}

# Waits for all, in the order in which they resolve.
.watch_map <- function(x, progress, stop_early) {
  watch <- .Call(C_map_watch, x)
  bar <- if (progress && length(x)) .progress_bar(length(x))
  on.exit(if (!is.null(bar)) bar$done())
  count <- 0L
  repeat {
    done <- .Call(C_map_next, x, watch, stop_early)
    if (!length(done)) break
    if (done[1L] < 0L) .stop_map(x, -done[1L])
    count <- count + length(done)
    if (!is.null(bar)) bar$step(count)
  }
}

.stop_map <- function(x, i) {
  .Call(C_mirai_stop, x)
  value <- .Call(C_mirai_data, x[[i]])
  name <- names(x)[i]
  stop("In index: ", i, if (!is.null(name) && nzchar(name)) paste0("\nWith name: ", name), "\n",
       conditionMessage(.as_condition(value)), call. = FALSE)
}

.flatten <- function(values) {
  bad <- which(vapply(values, is_error_value, NA))
  if (length(bad)) .abort("[.flat] needs values: element ", bad[1L], " is an error (",
                          conditionMessage(.as_condition(values[[bad[1L]]])), ")")
  types <- unique(vapply(values, typeof, ""))
  if (length(types) > 1L) .abort("[.flat] needs values of one type: there are ", toString(types))
  unlist(values, recursive = FALSE)
}

.progress_bar <- function(n) if (requireNamespace("cli", quietly = TRUE)) .cli_bar(n) else .text_bar(n)

.cli_bar <- function(n) {
  frame <- environment()
  id <- cli::cli_progress_bar(name = "mirai", total = n, .auto_close = FALSE, .envir = frame)
  list(step = function(i) cli::cli_progress_update(set = i, id = id, .envir = frame),
       done = function() cli::cli_progress_done(id = id, .envir = frame))
}

# A line on standard error, rewritten when the whole percentage changes.
.text_bar <- function(n, width = 40L) {
  shown <- -1L
  step <- function(i) {
    percent <- as.integer(100 * i / n)
    if (percent == shown) return()
    shown <<- percent
    filled <- as.integer(width * i / n)
    cat("\r[", strrep("=", filled), strrep(" ", width - filled), "] ", i, "/", n, sep = "", file = stderr())
  }
  step(0L)
  list(step = step, done = function() cat("\n", file = stderr()))
}

#' @export
print.mirai_map <- function(x, ...) {
  done <- sum(!vapply(unclass(x), unresolved, NA))
  cat(sprintf("< mirai map [%d/%d] >\n", done, length(x)))
  invisible(x)
}

#' @rawNamespace S3method(utils::str, mirai_map)
str.mirai_map <- function(object, ...) {
  cat(" 'mirai_map' of ", length(object), "\n", sep = "")
}
