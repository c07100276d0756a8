# How long one small task takes, there and back: closed loop beside the floor of the kernel, and open loop with percentiles.

# Where the scheduler puts the two processes decides most of what a wake-up costs, so the mark is for both sides pinned alike:
# session and ping on one CPU, daemon and pong on another. How it is without, beside the peers, is the row after it.
ping_pong_side <- function(cpus = NULL) {
  if (!has_native("ping_pong_bench", "futex_ping_pong")) return(NULL)
  env <- if (is.null(cpus)) character() else sprintf("SETSUNA_BENCH_CPUS=%d,%d", cpus[1L], cpus[2L])
  list("futex ping-pong" = function(slice) {
    native("ping_pong_bench", "futex_ping_pong", "p50_ns", min_time = max(0.01, slice / 3), env = env) / 1e3
  })
}

warm_trip <- function(trip, times = 20L) {
  for (i in seq_len(times)) trip()
  trip
}

pinned_trips <- function(metric, workload, budget, beside = ping_pong_side, ...) {
  with_pinned_daemon(function(pinned) {
    sides <- c(list("setsuna" = time_side(warm_trip(peers$setsuna$trip), 1e6, least = 3L)), beside(pinned$cpus))
    take_turns(sides, budget, function(name, value, turn) {
      emit(metric, name, value, "us", "lower", paste0(workload, "; ", pinned$text), sample = turn)
    }, turns = many_turns)
  }, ...)
}

add_row("round_trip", 12, function(budget) {
  pinned_trips("round_trip", "mirai(x + 1; x = 1)[]; one after the other", budget)
})

add_row("round_trip_unpinned", 40, function(budget) {
  with_systems(systems_with("trip"), function(systems) {
    sides <- c(lapply(systems, function(s) time_side(warm_trip(s$trip), 1e6, least = 3L)), ping_pong_side())
    take_turns(sides, budget, function(name, value, turn) {
      emit("round_trip_unpinned", name, value, "us", "lower", "mirai(x + 1; x = 1)[]; one after the other", sample = turn)
    }, turns = many_turns)
  })
}, fixed = 6)

add_row("round_trip_spin", 8, function(budget) {
  pinned_trips("round_trip_spin", "daemons(1; spin = 50)", budget, beside = function(cpus) NULL, spin = 50)
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
    turns <- usual_turns
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
  if (!alone && requireNamespace("callr", quietly = TRUE)) sides[["callr"]] <- time_side(function() callr::r(function() 1))
  take_turns(sides, budget, function(name, value, turn) {
    emit("ephemeral", name, value, "ms", "lower", "a task in a process of its own; no daemons set", sample = turn)
  }, turns = many_turns)
})
