# How long one small task takes, there and back: closed loop beside the floor of the kernel, and open loop with percentiles.

add_row("round_trip", 45, function(budget) {
  with_systems(systems_with("trip"), function(systems) {
    sides <- lapply(systems, function(s) {
      for (i in 1:20) s$trip()
      time_side(s$trip, 1e6, least = 3L)
    })
    if (has_native("queue_bench", "futex_ping_pong")) {
      sides[["futex ping-pong"]] <- function(slice) native("queue_bench", "futex_ping_pong", min_time = max(0.01, slice / 3)) / 1e3
    }
    take_turns(sides, budget, function(name, value, turn) {
      emit("round_trip", name, value, "us", "lower", "mirai(x + 1; x = 1)[]; one after the other", sample = turn)
    }, turns = many_turns)
  })
}, fixed = 6)

add_row("round_trip_spin", 8, function(budget) {
  setsuna::daemons(1, spin = 50)
  on.exit(setsuna::daemons(0))
  trip <- peers$setsuna$trip
  for (i in 1:20) trip()
  take_turns(list("setsuna" = time_side(trip, 1e6)), budget, function(name, value, turn) {
    emit("round_trip_spin", name, value, "us", "lower", "daemons(1; spin = 50)", sample = turn)
  }, turns = many_turns)
})

# Open loop: request i is due at start + i / rate, whatever became of the ones before. A closed loop would wait out a slow
# answer and not send what it should have sent meanwhile: those requests, the slow ones, would be missing from the
# percentiles ("coordinated omission"). Here a request that could not leave in time counts from when it was due.
open_loop <- function(trip, rate, count) {
  latency <- numeric(count)
  start <- now() + 0.001
  for (i in seq_len(count)) {
    due <- start + (i - 1) / rate
    while (now() < due) NULL
    trip()
    latency[i] <- now() - due
  }
  pmax(latency, 0) * 1e9
}

add_row("latency", 90, function(budget) {
  with_systems(systems_with("trip"), function(systems) {
    plans <- lapply(systems, function(s) {
      for (i in 1:10) s$trip()
      typical <- stats::quantile(vapply(1:20, function(i) seconds(s$trip()), 0), 0.75, names = FALSE)
      # The same rate for all that can bear it; half of what it can do for the others.
      list(system = s, rate = min(2000, signif(0.5 / typical, 2)))
    })
    histograms <- list()
    turns <- 5L
    slow <- vapply(plans, function(p) p$rate < 500, NA)
    # Where a rate is low many seconds give few percentiles: those get a fifth of the time of the others.
    share <- ifelse(slow, 0.2, 1)
    slice <- budget * 0.9 / turns * share / sum(share)
    for (turn in seq_len(turns)) for (name in names(plans)) {
      if (turn > 1L && now() > recorded$deadline + budget * 0.2) break
      rate <- plans[[name]]$rate
      count <- max(4L, as.integer(rate * slice[[name]]))
      latency <- tryCatch(open_loop(plans[[name]]$system$trip, rate, count), error = function(e) {
        leave_out(name, paste("failed:", conditionMessage(e)))
        NULL
      })
      if (is.null(latency)) next
      histogram <- hdr_record(latency)
      histograms[[name]] <- if (is.null(histograms[[name]])) histogram else hdr_merge(histograms[[name]], histogram)
      for (p in percentiles_for(count)) {
        emit("latency", name, hdr_percentile(histogram, p) / 1e3, "us", "lower", paste("open loop;", rate, "requests/s"), p,
             "percentile", turn)
      }
    }
    # All turns in one histogram reach further out than each.
    for (name in names(histograms)) for (p in percentiles_for(sum(histograms[[name]]$count))) {
      emit("latency_all", name, hdr_percentile(histograms[[name]], p) / 1e3, "us", "lower",
           paste("open loop;", plans[[name]]$rate, "requests/s; all turns together"), p, "percentile", 1L)
    }
  })
}, fixed = 6)

add_row("ephemeral", 5, function(budget) {
  for (i in 1:3) setsuna::mirai(1)[]
  sides <- list("setsuna" = time_side(function() setsuna::mirai(1)[]))
  if (requireNamespace("callr", quietly = TRUE)) sides[["callr"]] <- time_side(function() callr::r(function() 1))
  take_turns(sides, budget, function(name, value, turn) {
    emit("ephemeral", name, value, "ms", "lower", "a task in a process of its own; no daemons set", sample = turn)
  }, turns = many_turns)
})
