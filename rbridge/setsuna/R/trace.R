# daemons(trace = ): what it may be. list(traced, trace_path).
.trace_options <- function(trace, name, sync) {
  if (is.null(trace) || identical(trace, FALSE)) return(list(traced = FALSE, trace_path = ""))
  path <- if (identical(trace, TRUE)) "" else .trace_path(trace, name)
  if (sync) .abort("'trace' needs daemons, and with sync = TRUE there are none: leave one of the two out")
  list(traced = TRUE, trace_path = path)
}

.trace_path <- function(trace, name) {
  if (!is.character(trace) || length(trace) != 1L || is.na(trace) || !nzchar(trace))
    .abort("'trace' must be the name of a file, TRUE (in memory only) or NULL (off), not ", .describe(trace))
  path <- path.expand(trace)
  why <- .unwritable(path)
  if (!is.null(why)) .abort("'trace': the file \"", trace, "\" cannot be written: ", why)
  path <- normalizePath(path)
  for (other in setdiff(ls(.profiles), name)) {
    if (identical(.profile(other)$trace_path, path))
      .abort("'trace': the file \"", trace, "\" is that of the compute profile '", other, "': give each one of its own")
  }
  path
}

# Why, or NULL.
.unwritable <- function(path) {
  if (!dir.exists(dirname(path))) return(paste0("there is no directory \"", dirname(path), "\""))
  if (dir.exists(path)) return("it is a directory")
  tryCatch({
    close(file(path, "a", raw = TRUE))  # raw: it need not be a regular file
    NULL
  }, warning = function(w) sub("^.*: ", "", conditionMessage(w)), error = conditionMessage)
}

# The file gets its end also where the session ends without daemons(0).
.write_traces_at_exit <- function() {
  if (is.null(.trace_exit$set)) {
    .trace_exit$set <- TRUE
    reg.finalizer(.trace_exit, function(e) .Call(C_traces_write), onexit = TRUE)
  }
}

.trace_exit <- new.env(parent = emptyenv())

#' Where the time goes
#'
#' With `daemons(trace = )` setsuna notes for each task when it came from one stage to the next. `setsuna_profile()` gives that
#' as a data frame, `summary()` each stage's share, `plot()` a timeline of each daemon. With the name of a file, `trace`
#' writes the same to it, in the format that <https://ui.perfetto.dev> and Chrome's `about:tracing` show.
#'
#' @section Stages:
#' * `submit`: from the call of [mirai()] until the task is in the queue: arguments are encoded.
#' * `wait`: in the queue, until a daemon takes it (`claimed`).
#' * `decode`: the daemon decodes the arguments and binds them.
#' * `evaluate`: it evaluates the expression.
#' * `encode`: it encodes the value.
#' * `collect`: the value waits until this session fetches it (`harvested`), which it does when it waits for a mirai or looks
#'   at one.
#'
#' Elements of a [mirai_map()] have a row each. Short ones travel many at a time: such an element is submitted with the others,
#' and waits for the ones before it.
#'
#' Of a task on another machine it is known when it was sent (here: `claimed`), how long its evaluation took there, all that the
#' daemon did with it included, and when its value came. Its way there and back is neither in `evaluate` nor in `collect`.
#'
#' A task whose daemon died has the outcome `"died"` and no stages after `claimed`; that time is missing too if it is not
#' known when, or whether, it began. So has one that was cancelled or timed out. A task that is run again (`.retry`) has one
#' row, with the times of its last run. Tasks that are not resolved yet have none.
#'
#' @section What it costs:
#' When it is off (the default) nothing. When it is on, a few readings of the clock a task, which the rate of a flood does not show
#' (31 turns of each, `tools/bench --rows=flood_traced`), 18 MB of shared memory, and in this session 72 bytes for each
#' of the latest 1,048,576 tasks that have resolved (older ones are only counted) and 32 bytes
#' for each that has not. The file takes about 1 KB a task, without limit. It is written from a second after the tasks on,
#' slowly while others come, and to its end by `daemons(0)`, by `setsuna_profile()` and at the end of the session, which takes
#' some seconds for a million tasks. What a long flood leaves unwritten, beyond half a million tasks, waits as 72 bytes a task
#' in a file without a name in the trace's folder, and is lost if the session is killed before it is written out. The trace is
#' valid JSON between any two writes, whichever daemon was killed; what reads it amid a write may have to read again. A
#' session that is killed leaves what had been written; amid a write, without the closing bracket, which viewers do not miss.
#'
#' @param .compute name of the compute profile; `NULL` for the one in force.
#' @return A data frame of class `setsuna_profile`, with a row for each task in the order in which they resolved:
#'
#' * `id`: its number in the order of submission.
#' * `daemon`: the number of its daemon as in [status()], as text; `"remote 1"` and so on for those on other machines; `NA` if
#'   none took it. `pid`: that process (on its own machine).
#' * `kind`: `"mirai"`, `"map"` or `"everywhere"`.
#' * `outcome`: `"value"`, `"error"`, `"interrupted"`, `"damaged"`, `"cancelled"`, `"timed out"`, `"closed"` or `"died"`.
#' * `submitted`, `queued`, `claimed`, `decoded`, `evaluated`, `encoded`, `harvested`: seconds since the daemons were set at
#'   which it came so far; `NA` if it did not.
#' * `submit`, `wait`, `decode`, `evaluate`, `encode`, `collect`: how many seconds each stage took.
#'
#' Its attribute `dropped` is the number of tasks that are not in memory any more.
#'
#' `summary()`: a list of class `setsuna_profile_summary`: `stages`, a data frame with the total `seconds`, the `share` and
#' the `median` and `p99` in microseconds of each stage; `daemons`, a data frame with the `tasks` of each and the part of the
#' time that it was `busy`; `outcomes`, a table; `dropped`.
#' @examples
#' daemons(2, trace = TRUE)
#' mirai_map(c(0.01, 0.03, 0.02, 0.01), Sys.sleep)[]
#' profile <- setsuna_profile()
#' summary(profile)
#' plot(profile)
#' daemons(0)
#'
#' # for https://ui.perfetto.dev
#' file <- tempfile(fileext = ".json")
#' daemons(1, trace = file)
#' mirai(x + 1, x = 1)[]
#' daemons(0)
#' head(readLines(file), 4)
#' @export
setsuna_profile <- function(.compute = NULL) {
  name <- .profile_name(.compute)
  record <- .set_profile(name)
  raw <- if (is.null(record$sync)) .Call(C_profile_trace, record$id)
  if (is.null(raw))
    .abort("the compute profile '", name, "' is not traced: set its daemons with daemons(n, trace = TRUE), or trace = \"file.json\"")
  if (nzchar(raw[[15L]])) warning(raw[[15L]], call. = FALSE)
  .profile_frame(raw)
}

.trace_kinds <- c("mirai", "map", "everywhere")
.trace_outcomes <- c("value", "error", "interrupted", "damaged", "cancelled", "timed out", "closed", "died")
.trace_stages <- c("submit", "wait", "decode", "evaluate", "encode", "collect")

.profile_frame <- function(raw) {
  columns <- raw[1:12]
  names(columns) <- c("id", "daemon", "pid", "kind", "outcome", "submitted", "queued", "claimed", "decoded", "evaluated",
                      "encoded", "harvested")
  number <- columns$daemon
  columns$daemon <- ifelse(is.na(number), NA_character_,
                           ifelse(number < 0L, paste("remote", -number), as.character(number)))
  columns$kind <- .trace_kinds[columns$kind]
  columns$outcome <- .trace_outcomes[columns$outcome]
  stages <- with(columns, list(
    submit = queued - submitted,
    wait = claimed - queued,
    decode = decoded - claimed,
    evaluate = raw[[13L]],
    encode = encoded - evaluated,
    collect = harvested - encoded
  ))
  structure(c(columns, stages), class = c("setsuna_profile", "data.frame"), row.names = .set_row_names(length(number)),
            dropped = raw[[14L]])
}

.dropped_of <- function(x) {
  dropped <- attr(x, "dropped", exact = TRUE)
  if (is.null(dropped)) 0 else dropped
}

#' @export
print.setsuna_profile <- function(x, ...) {
  if (!all(c("id", .trace_stages) %in% names(x))) return(NextMethod())
  cat(format(nrow(x), big.mark = ","), " tasks", sep = "")
  if (.dropped_of(x) > 0) cat(" (the latest; ", format(.dropped_of(x), big.mark = ","), " before them were dropped)", sep = "")
  cat("\n")
  shown <- utils::head(as.data.frame(x), 6L)
  shown[c("submitted", "queued", "claimed", "decoded", "evaluated", "encoded", "harvested")] <- NULL
  shown[.trace_stages] <- lapply(shown[.trace_stages], function(s) round(s * 1e6, 1))
  names(shown)[match(.trace_stages, names(shown))] <- paste0(.trace_stages, "_us")
  print(shown, row.names = FALSE, ...)
  if (nrow(x) > 6L) cat("... summary() has each stage's share, plot() the timeline\n")
  invisible(x)
}

#' @export
as.data.frame.setsuna_profile <- function(x, ...) {
  class(x) <- "data.frame"
  attr(x, "dropped") <- NULL
  x
}

#' @param object,x a value of `setsuna_profile()`.
#' @param ... for `plot()`: passed on to [graphics::plot.default()]; else not used.
#' @rdname setsuna_profile
#' @export
summary.setsuna_profile <- function(object, ...) {
  stages <- do.call(rbind, lapply(.trace_stages, function(stage) {
    took <- object[[stage]][!is.na(object[[stage]])]
    quantiles <- if (length(took)) stats::quantile(took, c(0.5, 0.99), names = FALSE) * 1e6 else c(NA_real_, NA_real_)
    data.frame(stage = stage, seconds = sum(took), share = NA_real_, median = quantiles[1L], p99 = quantiles[2L])
  }))
  total <- sum(stages$seconds)
  stages$share <- if (total > 0) stages$seconds / total else stages$seconds
  structure(list(stages = stages, daemons = .busy_daemons(object), outcomes = table(object$outcome),
                 dropped = .dropped_of(object)), class = "setsuna_profile_summary")
}

# How much of the time between the first claim of any and the last value each daemon spent with tasks.
.busy_daemons <- function(x) {
  known <- x[!is.na(x$claimed) & !is.na(x$daemon), , drop = FALSE]
  if (!nrow(known)) return(data.frame(daemon = character(), tasks = integer(), busy = numeric()))
  until <- ifelse(is.na(known$encoded), known$harvested, known$encoded)
  worked <- ifelse(is.na(known$encoded) & !is.na(known$evaluate), known$evaluate, until - known$claimed)
  span <- max(until) - min(known$claimed)
  daemons <- .by_daemon(known$daemon)
  data.frame(daemon = levels(daemons), tasks = as.vector(table(daemons)),
             busy = as.vector(tapply(worked, daemons, sum)) / if (span > 0) span else 1)
}

# Local ones first, in their order.
.by_daemon <- function(daemon) {
  names <- unique(daemon)
  remote <- startsWith(names, "remote ")
  factor(daemon, levels = names[order(remote, as.numeric(sub("remote ", "", names, fixed = TRUE)))])
}

#' @export
print.setsuna_profile_summary <- function(x, ...) {
  stages <- x$stages
  print(data.frame(stage = stages$stage, seconds = round(stages$seconds, 4), share = sprintf("%.1f %%", 100 * stages$share),
                   median_us = round(stages$median, 1), p99_us = round(stages$p99, 1)), row.names = FALSE)
  if (nrow(x$daemons)) {
    cat("\n")
    print(data.frame(daemon = x$daemons$daemon, tasks = x$daemons$tasks, busy = sprintf("%.1f %%", 100 * x$daemons$busy)),
          row.names = FALSE)
  }
  cat("\nOutcomes: ", toString(paste(names(x$outcomes), x$outcomes)), "\n", sep = "")
  if (x$dropped > 0) cat(format(x$dropped, big.mark = ","), "earlier tasks are not in it\n")
  invisible(x)
}

.trace_colours <- c(decode = "#4477AA", evaluate = "#228833", encode = "#CCBB44", "not finished" = "#EE6677")

#' @rdname setsuna_profile
#' @export
plot.setsuna_profile <- function(x, ...) {
  known <- x[!is.na(x$claimed) & !is.na(x$daemon), , drop = FALSE]
  if (!nrow(known)) .abort("there is nothing to plot: no daemon has taken a task yet")
  daemons <- .by_daemon(known$daemon)
  lane <- as.integer(daemons)
  bars <- .profile_bars(known)
  arguments <- list(x = range(known$claimed, known$harvested), y = c(0.5, nlevels(daemons) + 0.8), type = "n", yaxt = "n",
                    xlab = "seconds since the daemons were set", ylab = "daemon", main = "Tasks by daemon")
  given <- list(...)
  arguments[names(given)] <- given
  do.call(graphics::plot.default, arguments)
  graphics::axis(2L, seq_len(nlevels(daemons)), levels(daemons), las = 1L)
  for (stage in names(bars)) {
    bar <- bars[[stage]]
    at <- which(!is.na(bar$from) & !is.na(bar$to))
    if (length(at))
      graphics::rect(bar$from[at], lane[at] - 0.35, bar$to[at], lane[at] + 0.35, col = .trace_colours[[stage]],
                     border = .trace_colours[[stage]])
  }
  graphics::legend("top", names(bars), fill = .trace_colours[names(bars)], border = NA, bty = "n", horiz = TRUE, cex = 0.8)
  invisible(x)
}

# What is drawn of each stage: vectors from, to.
.profile_bars <- function(x) {
  remote <- is.na(x$decoded) & !is.na(x$evaluated)
  unfinished <- is.na(x$evaluated)
  list(
    decode = list(from = x$claimed, to = x$decoded),
    evaluate = list(from = ifelse(remote, x$evaluated - x$evaluate, x$decoded), to = x$evaluated),
    encode = list(from = x$evaluated, to = x$encoded),
    "not finished" = list(from = ifelse(unfinished, x$claimed, NA_real_), to = ifelse(unfinished, x$harvested, NA_real_))
  )
}
