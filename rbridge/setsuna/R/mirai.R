mirai <- function(.expr, ..., .args = list(), .timeout = NULL, .compute = NULL, .retry = 0L)
  .Call(C_mirai_submit, substitute(.expr), environment(), TRUE)

try_mirai <- function(.expr, ..., .args = list(), .timeout = NULL, .compute = NULL, .retry = 0L)
  .Call(C_mirai_submit, substitute(.expr), environment(), FALSE)

`$.mirai` <- function(x, name) if (identical(name, "data")) .Call(C_mirai_data, x)

`[[.mirai` <- function(x, i, ...) if (identical(i, "data")) .Call(C_mirai_data, x)

`[.mirai` <- function(x, ...) .Call(C_mirai_collect, x)

`$<-.mirai` <- function(x, name, value) {
  stop("the value of a mirai cannot be set: `", name, "` is read-only", call. = FALSE)
}

names.mirai <- function(x) "data"

.DollarNames.mirai <- function(x, pattern = "") grep(pattern, "data", value = TRUE)

print.mirai <- function(x, ...) {
  cat("< mirai | $data >\n")
  invisible(x)
}

unresolved <- function(x) .Call(C_mirai_unresolved, x)

is_mirai <- function(x) .Call(C_mirai_is, x)

is_mirai_map <- function(x) inherits(x, "mirai_map")

call_mirai <- function(x) .Call(C_mirai_wait, x)

collect_mirai <- function(x, options = NULL) {
  if (length(options)) return(.collect_map(x, options))
  .Call(C_mirai_collect, x)
}

race_mirai <- function(x) {
  if (!is.list(x)) stop("race_mirai: 'x' must be a list of mirai, not ", typeof(x))
  if (!length(x)) return(NULL)
  .Call(C_mirai_race, x, TRUE)
}

stop_mirai <- function(x) invisible(.Call(C_mirai_stop, x))

msleep <- function(time) {
  if (!is.numeric(time) || length(time) != 1L || is.na(time) || time < 0)
    stop("msleep: 'time' must be one number of milliseconds, not negative")
  Sys.sleep(time / 1000)
  invisible(NULL)
}

# A task of a profile with `sync = TRUE`: here and now, as a daemon would evaluate it.
.evaluate_here <- function(expr, globals, locals) {
  env <- new.env(parent = globalenv())
  list2env(c(globals, locals), env)
  seed <- globalenv()[[".Random.seed"]]
  on.exit(if (is.null(seed)) rm(list = intersect(".Random.seed", ls(globalenv(), all.names = TRUE)), envir = globalenv())
          else assign(".Random.seed", seed, envir = globalenv()))
  calls <- NULL
  tryCatch(
    withCallingHandlers(eval(expr, env), error = function(e) calls <<- sys.calls()),
    error = function(e) .mirai_error(e, calls),
    interrupt = function(e) .mirai_interrupt()
  )
}
