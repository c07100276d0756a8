# How many tasks a second: a flood of trivial ones, maps whose elements cost something, more daemons than cores, and how well
# long and short tasks share the daemons.

add_row("flood", 60, function(budget) {
  with_systems(systems_with("flood"), function(systems) {
    pids <- c(Sys.getpid(), unique(unlist(setsuna::everywhere(Sys.getpid(), .min = cores)[])))
    sides <- lapply(systems, function(s) rate_side(s$flood, 200000L, pids = if (s$name == "setsuna") pids))
    take_turns(sides, budget, function(name, value, turn) {
      emit("flood", name, value[1L], "tasks/s", "higher", "trivial tasks; each of its own; all collected", sample = turn)
      emit("flood_cpu", name, value[-1L], "us", "lower", "CPU time of session and daemons for a task of the flood", sample = turn)
    }, turns = many_turns)
  })
}, fixed = 6)

# What daemons(trace = ) costs the shortest tasks: two sets of daemons side by side, of which one is traced into a file. That gets
# most of its events when the tasks are over: it is written between the turns, or the other side would pay for it.
write_traces <- function() .Call(utils::getFromNamespace("C_traces_write", "setsuna"))
add_row("flood_traced", 20, function(budget) {
  file <- tempfile(fileext = ".json")
  names <- c(setsuna = "traced", untraced = "untraced")
  daemons(cores, trace = file, .compute = "traced")
  daemons(cores, .compute = "untraced")
  on.exit({
    for (name in names) daemons(0, .compute = name)
    unlink(file)
  })
  flood <- function(name) function(m) with_daemons(name, peers$setsuna$flood(m))
  sides <- lapply(names, function(name) {
    side <- rate_side(flood(name), 200000L)
    function(slice) {
      on.exit(write_traces())
      side(slice)
    }
  })
  take_turns(sides, budget, function(name, value, turn) {
    emit("flood_traced", name, value, "tasks/s", "higher", "trivial tasks; daemons(trace = file) or not", sample = turn)
  }, turns = 31L) # the rate of a flood goes to and fro with how the processes fall on the cores
})

# `setsuna top` on this session, in a terminal of its own, while `measure` runs.
watched <- function(measure) {
  tmux <- function(...) system2("tmux", c("-L", paste0("setsuna-bench-", Sys.getpid()), ...), stdout = FALSE, stderr = FALSE)
  top <- paste(shQuote(system.file("bin", "setsuna", package = "setsuna")), "top", Sys.getpid())
  function(slice) {
    tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shQuote(top))
    on.exit(tmux("kill-server"))
    Sys.sleep(0.5)
    value <- measure(slice)
    if (tmux("list-sessions") != 0L) stop("setsuna top has ended") # kept by nothing else
    value
  }
}

add_row("watched", 20, function(budget) {
  if (!nzchar(Sys.which("tmux"))) return(leave_out("setsuna top", "tmux is not installed"))
  with_systems(systems_with("flood", "setsuna"), function(systems) {
    side <- rate_side(systems$setsuna$flood, 200000L)
    side(budget / 10) # the count is the same for both
    take_turns(list("setsuna" = watched(side), "setsuna without top" = side), budget, function(name, value, turn) {
      emit("watched", name, value, "tasks/s", "higher", "the flood with setsuna top attached", sample = turn)
    }, turns = many_turns)
  })
})

# Works `k` rounds of a loop that allocates nothing: CPU time, not a sleep, so that what the sender itself uses of the cores
# is missing to the workers, as in real life.
spin_element <- compiler::cmpfun(function(k) {
  for (i in seq_len(k)) NULL
  k
})

rounds_per_second <- function() {
  k <- 1e5
  while ((took <- seconds(spin_element(k))) < 0.02) k <- k * 2
  k / stats::median(c(took, replicate(4, seconds(spin_element(k)))))
}

map_costs_us <- c(0, 10, 100, 1000, 100000)

# All get the same elements, so that what a map costs once (a fork, sending the function) is shared by as many. A system that
# takes much longer than the others gets fewer: it is tried with eight times as many elements until that is known.
map_side <- function(once, elements, patience) {
  count <- NULL
  function(slice) {
    if (is.null(count)) {
      tried <- min(elements, 4L * cores)
      repeat {
        took <- seconds(once(tried))
        if (took > patience / 4) took <- min(took, seconds(once(tried))) # the first may only have been cold
        if (tried >= elements || took > patience / 4) break
        tried <- min(elements, tried * 8L)
      }
      count <<- tried
    }
    count / seconds(once(count))
  }
}

# The same elements in a plain lapply() are a side of their own: what a core really does in that turn is the measure.
map_at <- function(cost_us, budget, systems, rounds) {
  k <- round(rounds * cost_us / 1e6)
  work <- spin_element
  environment(work) <- globalenv()
  patience <- budget / 5 / (length(systems) + 1) # the time of one map
  elements <- as.integer(max(4L * cores, min(100000, patience * cores / max(cost_us / 1e6, 2e-6))))
  patience <- max(patience, 0.3) # a fork must not look like slowness
  sequential <- NA_real_
  sides <- c(list("sequential lapply" = map_side(function(m) lapply(rep(k, m), work), max(4L, elements %/% cores), patience)),
             lapply(systems, function(s) map_side(function(m) s$map(rep(k, m), work), elements, patience)))
  take_turns(sides, budget, function(name, value, turn) {
    emit("map", name, value, "elements/s", "higher", "map over elements of a given cost", cost_us, "us per element", turn)
    if (name == "sequential lapply") {
      sequential <<- 1 / value
    } else {
      emit("map_speedup", name, value * sequential, "times sequential", "higher", "map over elements of a given cost", cost_us,
           "us per element", turn)
      if (cost_us > 0) {
        emit("map_efficiency", name, 100 * value * sequential / cores, "% of ideal", "higher",
             "map over elements of a given cost", cost_us, "us per element", turn)
      }
    }
  })
}

add_row("map", 75, function(budget) {
  rounds <- rounds_per_second()
  with_systems(systems_with("map"), function(systems) {
    # Four elements of 100 ms a core take their time whatever the budget: cheap costs give up some of theirs.
    weights <- c(1, 1, 1, 1, 2)
    for (i in seq_along(map_costs_us)) {
      if (map_costs_us[i] * 4e-6 * (length(systems) + 1) > budget) {
        leave_out(sprintf("map with elements of %g ms", map_costs_us[i] / 1000), "the time given is too short for it")
        next
      }
      map_at(map_costs_us[i], budget * weights[i] / sum(weights), systems, rounds)
    }
  })
}, fixed = 4)

add_row("daemons", 45, function(budget) {
  counts <- c(1L, 2L, 4L, 8L, 16L, 32L, 64L)
  if (budget < 5) counts <- c(1L, 4L)
  chosen <- systems_with(c("flood", "start"), c("setsuna", "mirai", "PSOCK"))
  for (n in counts) {
    # Starting 64 R processes takes a PSOCK cluster longer than all else: it stops at 16 where time is short.
    some <- if (n > 16L && budget < 30) chosen["setsuna"] else chosen
    with_systems(some, n = n, function(systems) {
      take_turns(lapply(systems, function(s) rate_side(s$flood, 100000L)), budget / length(counts) * 0.6, function(name, value, turn) {
        emit("daemons", name, value, "tasks/s", "higher", "trivial tasks; by the number of daemons", n, "daemons", turn)
      })
    })
  }
}, fixed = 6)

# Ten percent long tasks among short ones, in an order drawn once. Tasks sleep, so that only the order they are handed out in
# counts. The optimum is the bound that no schedule can beat.
mixed_durations <- function(count, long_ms, short_ms) {
  state <- 12345 # a generator of its own: the same order everywhere
  vapply(seq_len(count), function(i) {
    state <<- (state * 16807) %% 2147483647
    if (state / 2147483647 < 0.1) long_ms else short_ms
  }, 0) / 1000
}

add_row("mixed", 40, function(budget) {
  turns <- usual_turns
  workers <- max(2L, cores)
  per_side <- budget / (turns * 4)
  fits <- per_side * workers / 0.0118
  counts <- c(20L, 50L, 100L, 200L, 500L, 1000L) # few different ones, so that two runs can be compared
  count <- max(counts[counts <= max(20, fits)])
  durations <- mixed_durations(count, 100, 2)
  bound <- makespan_bound(durations, workers)
  percent <- function(took) 100 * took / bound
  nap <- function(s) Sys.sleep(s)
  submit <- function(profile) function(slice) percent(seconds({
    tasks <- lapply(durations, function(d) setsuna::mirai(Sys.sleep(d), d = d, .compute = profile))
    setsuna::collect_mirai(tasks)
  }))
  setsuna::daemons(workers, .compute = "fifo")
  setsuna::daemons(workers, dispatcher = FALSE, .compute = "turn")
  cluster <- parallel::makePSOCKcluster(workers)
  on.exit({
    setsuna::daemons(0, .compute = "fifo")
    setsuna::daemons(0, .compute = "turn")
    parallel::stopCluster(cluster)
  })
  sides <- list(
    "setsuna" = submit("fifo"),
    "setsuna round robin" = submit("turn"),
    "PSOCK" = function(slice) percent(seconds(parallel::clusterApplyLB(cluster, durations, nap))),
    "mclapply" = function(slice) percent(seconds(parallel::mclapply(durations, nap, mc.cores = workers)))
  )
  workload <- sprintf("%d tasks; a tenth of 100 ms and the rest of 2 ms; %d daemons", count, workers)
  take_turns(sides, budget, function(name, value, turn) {
    emit("mixed", name, value, "% of optimum", "lower", workload, sample = turn)
  }, turns = turns)
  emit("mixed", "ideal FIFO", percent(makespan_fifo(durations, workers)), "% of optimum", "lower", workload)
  emit("mixed", "ideal round robin", percent(makespan_round_robin(durations, workers)), "% of optimum", "lower", workload)
}, fixed = 2)
