# Checks of arguments. Messages name the argument, say what was given and what to do instead; they are reported as errors
# of the exported function that the user called.

.abort <- function(...) {
  own <- topenv()
  call <- NULL
  for (i in rev(seq_len(sys.nframe() - 1L))) {
    if (!identical(topenv(environment(sys.function(i))), own)) break
    call <- sys.call(i)
  }
  stop(simpleError(paste0(...), call))
}

# What was given, in a few words.
.describe <- function(x) {
  if (is.null(x)) return("NULL")
  if (is.function(x)) return("a function")
  if (is.environment(x)) return("an environment")
  if (is.atomic(x) && is.null(dim(x)) && length(x) == 1L) {
    return(if (is.character(x)) paste0("the text \"", x, "\"") else if (is.na(x)) "NA" else format(x))
  }
  paste0(if (is.object(x)) class(x)[1L] else typeof(x), " of length ", length(x))
}

.is_number <- function(x) is.numeric(x) && !is.object(x) && length(x) == 1L && !is.na(x)

.count <- function(x, what, low = 0) {
  if (!.is_number(x)) .abort("'", what, "' must be one whole number, not ", .describe(x))
  if (x < low || x != trunc(x))
    .abort("'", what, "' is ", format(x), ": it must be a whole number of at least ", low)
  if (x > .Machine$integer.max) .abort("'", what, "' is ", format(x), ": that is too large")
  as.integer(x)
}

.flag <- function(x, what) {
  if (!is.logical(x) || length(x) != 1L || is.na(x)) .abort("'", what, "' must be TRUE or FALSE, not ", .describe(x))
  isTRUE(as.vector(x))
}

.string <- function(x, what) {
  if (!is.character(x) || length(x) != 1L || is.na(x) || !nzchar(x))
    .abort("'", what, "' must be one string, not ", .describe(x))
  x
}

# The name of a compute profile; NULL is the one in force (see with_daemons()).
.profile_name <- function(.compute) {
  if (is.null(.compute)) return(.Call(C_default_profile))
  if (inherits(.compute, "miraiCluster")) return(attr(.compute, "id"))
  if (!is.character(.compute) || length(.compute) != 1L || is.na(.compute) || !nzchar(.compute))
    .abort("'.compute' must be the name of a compute profile (one string) or NULL, not ", .describe(.compute))
  .compute
}

.need <- function(package, what) {
  if (!requireNamespace(package, quietly = TRUE))
    .abort(what, " needs the package '", package, "': install.packages(\"", package, "\")")
}
