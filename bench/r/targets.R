# The marks that setsuna sets itself, each as a ratio to something measured in the same run, or as an absolute.
# at most (lower is better) or at least (higher is better) factor * the sum of `against`, or `absolute`.

side <- function(metric, system = "setsuna", param = "") list(metric = metric, system = system, param = param)

targets <- list(
  list(what = "round trip of mirai(x + 1, x = 1)[]", of = side("round_trip"), factor = 1.5,
       against = list(side("round_trip", "futex ping-pong")), beside = "futex ping-pong"),
  list(what = "the same with spin = 50", of = side("round_trip_spin"), absolute = 10),
  list(what = "mirai() calls, collected", of = side("flood"), factor = 12, against = list(side("flood", "PSOCK")),
       beside = "PSOCK, load-balanced"),
  list(what = "mirai() calls with daemons(trace = file)", of = side("flood_traced"), factor = 0.97,
       against = list(side("flood_traced", "untraced")), beside = "untraced"),
  list(what = "mirai() calls with setsuna top attached", of = side("watched"), factor = 0.85,
       against = list(side("watched", "setsuna without top")), beside = "without"),
  list(what = "mirai_map(), trivial function", of = side("map", param = "0"), factor = 2, against = list(side("map", "mclapply", "0")),
       beside = "mclapply"),
  list(what = "echo of an 80 MB double vector, warm", of = side("echo", param = "80000000"), factor = 2.5,
       against = list(side("echo", "memcpy", "80000000")), beside = "memcpy of the same bytes"),
  list(what = "64 daemons ready, fork server warm", of = side("startup", param = "64"), absolute = 100),
  list(what = "first daemon of a session", of = side("first_daemon"), factor = 1.3, against = list(side("first_daemon", "Rscript -e 1")),
       beside = "Rscript -e 1"),
  list(what = "mirai() with no daemons set, fork server warm", of = side("ephemeral"), absolute = 5),
  list(what = "no-op dispatch without R, window 256", of = side("noop"), absolute = 5e6),
  list(what = "idle CPU of session and daemons", of = side("idle"), absolute = 0),
  list(what = "memory of a queued mirai(1)", of = side("memory"), absolute = 214),
  list(what = "submit rate with 1 M tasks queued", of = side("queue_depth", param = "1000000"), factor = 0.9,
       against = list(side("queue_depth", param = "100000")), beside = "with 100,000 queued"),
  list(what = "round trip over tcp", of = side("remote_round_trip", param = "tcp"), factor = 1.5,
       against = list(side("remote_round_trip", "raw TCP", "tcp"), side("remote_round_trip", param = "shared memory")),
       beside = "raw ping-pong + local trip"),
  list(what = "mirai() calls over tcp, collected", of = side("remote_flood", param = "tcp"), absolute = 50000),
  list(what = "mirai_map() over tcp, trivial function", of = side("remote_map", param = "tcp"), absolute = 300000),
  list(what = "echo of 80 MB over tcp", of = side("remote_echo", param = "tcp"), factor = 2,
       against = list(side("remote_echo", "raw TCP", "tcp")), beside = "raw send and recv"),
  list(what = "echo of 80 MB over tls+tcp", of = side("remote_echo", param = "tls+tcp"), factor = 1 / 0.6,
       against = list(side("remote_echo", param = "tcp")), beside = "over tcp"),
  list(what = "echo of 80 MB over ws", of = side("remote_echo", param = "ws"), factor = 1 / 0.83,
       against = list(side("remote_echo", param = "tcp")), beside = "over tcp"),
  list(what = "memory of a connected idle daemon", of = side("crowd_memory"), absolute = 32000),
  list(what = "CPU with 1,000 of them", of = side("crowd_cpu"), absolute = 0),
  list(what = "status() with 1,000 of them", of = side("crowd_status"), absolute = 5),
  list(what = "round trip over ws", of = side("remote_round_trip", param = "ws"), factor = 1.2,
       against = list(side("remote_round_trip", param = "tcp")), beside = "over tcp")
)

find_side <- function(medians, s) {
  hit <- medians[medians$metric == s$metric & medians$system == s$system & medians$param == s$param, ]
  if (nrow(hit)) hit[1L, ] else NULL
}

# One line for each mark that this run has the figures for.
judge_targets <- function(medians) {
  rows <- lapply(targets, function(t) {
    ours <- find_side(medians, t$of)
    others <- lapply(t$against, function(s) find_side(medians, s))
    if (is.null(ours) || any(vapply(others, is.null, NA))) return(NULL)
    beside <- if (is.null(t$absolute)) sum(vapply(others, `[[`, 0, "median")) else t$absolute
    factor <- if (is.null(t$absolute)) t$factor else 1
    lower <- ours$better == "lower"
    data.frame(what = t$what, metric = t$of$metric, ours = pretty_value(ours$median, ours$unit),
               beside = if (is.null(t$absolute)) paste0(t$beside, ": ", pretty_value(beside, ours$unit)) else "an absolute mark",
               mark = paste(if (lower) "at most" else "at least",
                            if (is.null(t$absolute)) format_number(t$factor) else pretty_value(t$absolute, ours$unit)),
               measured = if (is.null(t$absolute)) format_number(ours$median / beside) else pretty_value(ours$median, ours$unit),
               met = if (lower) ours$median <= factor * beside else ours$median >= factor * beside)
  })
  do.call(rbind, rows)
}

print_targets <- function(medians) {
  judged <- judge_targets(medians)
  if (is.null(judged)) return(invisible())
  cat(sprintf("\n%-46s %13s  %-42s %-16s %12s\n", "what", "setsuna", "beside", "mark", "measured"))
  cat(sprintf("%-46s %13s  %-42s %-16s %12s%s\n", judged$what, judged$ours, judged$beside, judged$mark, judged$measured,
              ifelse(judged$met, "", "  missed")), sep = "")
}

# Where another system is better, and surely so: at least three turns, and the interval of the ratio does not hold 1. Floors that do
# none of the work (a memcpy, a futex) and schedules that are only computed are no rivals.
no_rivals <- c("setsuna", "futex ping-pong", "memcpy", "malloc", "raw TCP", "Rscript -e 1", "ideal FIFO", "ideal round robin",
               "plain Vyukov queue", "setsuna round robin", "untraced", "setsuna without top", "libnng", "libzmq")
defeats <- function(medians) {
  rivals <- medians[!medians$system %in% no_rivals & medians$metric != "native" & medians$n >= 3 & is.finite(medians$setsuna_ratio), ]
  # The speed-up and the efficiency say the same as the rate.
  rivals <- rivals[!rivals$metric %in% c("map_speedup", "map_efficiency", "latency"), ]
  lost <- if (nrow(rivals)) {
    lower <- rivals$better == "lower"
    ifelse(lower, rivals$ratio_low > 1, rivals$ratio_high < 1)
  } else logical()
  lost <- rivals[lost, ]
  lost$times <- ifelse(lost$better == "lower", lost$setsuna_ratio, 1 / lost$setsuna_ratio)
  lost[order(-lost$times), ]
}
