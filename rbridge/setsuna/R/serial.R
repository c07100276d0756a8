# Custom serialisation of reference objects. The codec calls these functions for environments, external pointers and weak
# references whose class is listed, whatever they are part of, before anything else is tried.

#' Custom serialization of reference objects
#'
#' Objects such as Arrow tables or torch tensors are handles to something outside of R, which does not survive the way to
#' another process. `serial_config()` says with which functions objects of a class are turned into a raw vector and back. Set
#' it for a profile with `daemons(serial = )`; `register_serial()`, made for the `.onLoad()` of packages, sets it for
#' every later call of [daemons()].
#'
#' The functions are called wherever such an object occurs, however deep inside an argument or a result. They are called for
#' reference objects only: environments (R6 and reference class objects among them), external pointers and weak references.
#' An object that occurs several times within one value is serialized once and stays one object.
#'
#' @param class a character vector: the S3 classes of the objects. The first class that an object inherits from counts.
#' @param sfunc a function, or a list of one function for each class. It is called with the object and must return a raw
#'   vector.
#' @param ufunc a function, or a list of one function for each class. It is called with that raw vector and must return the
#'   object.
#' @return For `serial_config()` a list, to be used as the argument `serial` of [daemons()]. For `register_serial()` `NULL`,
#'   invisibly.
#' @examples
#' box <- structure(new.env(), class = "box")
#' box$content <- 1:3
#'
#' config <- serial_config("box", function(x) serialize(x$content, NULL), function(x) {
#'   structure(list2env(list(content = unserialize(x))), class = "box")
#' })
#' str(config, give.attr = FALSE, max.level = 1)
#' @export
serial_config <- function(class, sfunc, ufunc) {
  if (!is.character(class) || !length(class) || anyNA(class) || !all(nzchar(class)))
    stop("`class` must be a character vector of class names", call. = FALSE)
  if (anyDuplicated(class))
    stop("`class` names \"", class[anyDuplicated(class)], "\" twice", call. = FALSE)
  list(class, .serial_functions(sfunc, "sfunc", length(class)), .serial_functions(ufunc, "ufunc", length(class)))
}

#' @rdname serial_config
#' @export
register_serial <- function(class, sfunc, ufunc) {
  .serial$registered <- .serial_merge(serial_config(class, sfunc, ufunc), .serial$registered)
  invisible()
}

.serial <- new.env(parent = emptyenv()) # $registered: a configuration or NULL

.serial_functions <- function(x, name, n) {
  if (is.function(x)) x <- list(x)
  if (!is.list(x) || !all(vapply(x, is.function, NA)))
    stop("`", name, "` must be a function or a list of functions", call. = FALSE)
  if (length(x) != n)
    stop("`", name, "` must have one function for each class: ", length(x), " for ", n, call. = FALSE)
  unname(x)
}

# What `second` has for classes that `first` does not name, after it.
.serial_merge <- function(first, second) {
  if (is.null(first) || is.null(second)) return(if (is.null(first)) second else first)
  more <- !second[[1L]] %in% first[[1L]]
  list(c(first[[1L]], second[[1L]][more]), c(first[[2L]], second[[2L]][more]), c(first[[3L]], second[[3L]][more]))
}

# The configuration of a profile: the argument `serial` of daemons(), checked, and what packages registered. NULL for none.
.serial_resolve <- function(serial = NULL) {
  if (!is.null(serial)) {
    if (!is.list(serial) || length(serial) != 3L)
      stop("`serial` must be a value of serial_config() or NULL", call. = FALSE)
    serial <- serial_config(serial[[1L]], serial[[2L]], serial[[3L]])
  }
  .serial_merge(serial, .serial$registered)
}
