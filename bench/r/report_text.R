# What the report says about each plot: what was measured, how, and what the figures mean here. `say` gets the medians.

value_at <- function(medians, metric, system = "setsuna", param = "") {
  found <- find_side(medians, side(metric, system, param))
  if (is.null(found)) NA_real_ else found$median
}

# "setsuna is 3.4 times as fast as PSOCK", or the other way round; for what is no speed, who takes more.
times_better <- function(medians, metric, other, param = "") {
  ours <- find_side(medians, side(metric, "setsuna", param))
  theirs <- find_side(medians, side(metric, other, param))
  if (is.null(ours) || is.null(theirs) || theirs$median <= 0 || ours$median <= 0) return(NULL)
  ratio <- if (ours$better == "lower") theirs$median / ours$median else ours$median / theirs$median
  names <- c("setsuna", other)
  if (ratio < 1) names <- rev(names)
  factor <- format_number(max(ratio, 1 / ratio))
  if (ours$unit %in% c("ns", "us", "ms", "s") || grepl("/s$", ours$unit)) {
    sprintf("%s is %s times as fast as %s", names[1L], factor, names[2L])
  } else {
    sprintf("%s takes %s times as much as %s", names[2L], factor, names[1L])
  }
}

sentence <- function(...) {
  parts <- c(...)
  if (length(parts)) paste0(toupper(substr(parts[1L], 1, 1)), substr(paste(parts, collapse = "; "), 2, 10000), ".") else ""
}

best_rival <- function(medians, metric, param = "") {
  rivals <- medians[medians$metric == metric & medians$param == param & !medians$system %in% no_rivals, ]
  if (!nrow(rivals)) return(NULL)
  rivals$system[if (rivals$better[1L] == "lower") which.min(rivals$median) else which.max(rivals$median)]
}
against_best <- function(medians, metric, param = "") {
  rival <- best_rival(medians, metric, param)
  if (is.null(rival)) NULL else times_better(medians, metric, rival, param)
}

break_even <- function(medians) {
  m <- medians[medians$metric == "map_speedup", ]
  vapply(split(m, factor(m$system, unique(m$system))), function(s) {
    at <- crossing(as.numeric(s$param), s$median, 1)
    if (is.na(at)) sprintf("%s: never faster than one core here", s$system[1L])
    else if (at == -Inf) sprintf("%s: faster than one core from the start", s$system[1L])
    else sprintf("%s: from about %s of work an element", s$system[1L], pretty_value(at, "us"))
  }, "")
}

sections <- list(
  list(metric = "latency_all", kind = "curves", title = "Latency, to the last percentile",
    how = "Requests fall due at a fixed rate (2,000 a second; systems that cannot bear that get half of what they can, so their
      curve is for an easier life). Each latency counts from the moment the request was due, not from when it could be sent:
      a system that stalls for a moment is charged for all the requests that should have been sent meanwhile. Tools that
      wait for each answer before they ask again miss exactly those (\u201ccoordinated omission\u201d). Latencies go into a
      log-linear histogram (within 0.4 % of the true value); a percentile is shown only if at least one request lies beyond
      it.",
    say = function(m) {
      seen <- m[m$metric == "latency_all" & m$system == "setsuna", ]
      each <- sprintf("p%s is %s", seen$param, vapply(seen$median, pretty_value, "", "us"))
      sentence(paste("setsuna's", paste(each, collapse = ", ")))
    }),
  list(metric = "round_trip", kind = "systems", title = "One task there and back",
    how = "A trivial task, waited for before the next: the median of each turn. The futex ping-pong is two processes that only wake
      each other: the floor that the kernel sets for anything that sleeps while it waits. Where there are two CPUs, both are
      pinned alike, to those named below: the session\u2019s R thread and the ping to one, the daemon and the pong to the other. The session\u2019s
      other threads, which have no part in it, are not pinned.",
    say = function(m) sentence(times_better(m, "round_trip", "futex ping-pong"))),
  list(metric = "round_trip_unpinned", kind = "systems", title = "One task there and back, beside the peers",
    how = "The same where the scheduler puts the processes as it likes, which decides much of the time of the fastest: two on one
      CPU wake each other several times as fast as two on different ones. Workers on every core.",
    say = function(m) {
      sentence(times_better(m, "round_trip_unpinned", "futex ping-pong"), against_best(m, "round_trip_unpinned"))
    }),
  list(metric = "round_trip_spin", kind = "systems", title = "One task there and back, with spin",
    how = "With <code>daemons(1, spin = 50)</code> both sides look for 50 microseconds before they sleep. Pinned as above.",
    say = function(m) ""),
  list(metric = "flood", kind = "systems", title = "A flood of small tasks",
    how = "As many trivial tasks as fill the time, each submitted on its own, all collected; workers on every core.",
    say = function(m) sentence(against_best(m, "flood"))),
  list(metric = "flood_cpu", kind = "systems", title = "What a small task costs",
    how = "CPU time of session and daemons together for a task of that flood, by the scheduler\u2019s clock: less than the rate it
      depends on what else the machine does.",
    say = function(m) ""),
  list(metric = "flood_traced", kind = "systems", title = "The price of a trace",
    how = "The flood on two sets of daemons in turn: \u201csetsuna\u201d is traced into a file by <code>daemons(trace = )</code>,
      the other is not. What waits to be written to the file when a turn is over is written before the next turn, outside of both.",
    say = function(m) ""),
  list(metric = "watched", kind = "systems", title = "The flood while somebody looks",
    how = "<code>setsuna top</code> reads the session\u2019s shared memory four times a second, in a terminal of its own.",
    say = function(m) ""),
  list(metric = "map_speedup", kind = "curves", title = "Map: when is it worth it?",
    reference = list(level = 1, label = "one core, plain lapply()"),
    how = "A map over elements that each do a given amount of work (a loop that allocates nothing), against a plain lapply() of
      the same elements in the same turn. Above the dotted line the map is faster than one core: where a curve crosses it is
      that system's break-even. mclapply and PSOCK\u2019s parLapply() send one chunk to each worker; in setsuna each element
      remains a task that can be waited for, cancelled and retried.",
    say = function(m) paste0("Break-even: ", paste(break_even(m), collapse = "; "), ".")),
  list(metric = "map_efficiency", kind = "curves", title = "Map: how much of the cores is used",
    reference = list(level = 100, label = "ideal: every core, no overhead"), linear = TRUE,
    how = "The same run: the speed-up as a share of what all cores could give if sending cost nothing.",
    say = function(m) {
      at <- m[m$metric == "map_efficiency" & m$system == "setsuna", ]
      each <- sprintf("%s %% at %s", vapply(at$median, format_number, ""), vapply(at$param, param_label, "", "us per element"))
      sentence(paste("setsuna reaches", paste(each, collapse = ", ")))
    }),
  list(metric = "mixed", kind = "systems", title = "Long and short tasks together",
    how = "A tenth of the tasks takes fifty times as long as the rest, in an order drawn once. 100 % is the bound that no
      schedule can beat. \u201cIdeal\u201d schedules are computed: first come first served to the first free worker, and in
      turn. setsuna\u2019s default is the first; <code>daemons(dispatcher = FALSE)</code> the second.",
    say = function(m) sentence(times_better(m, "mixed", "ideal FIFO"), against_best(m, "mixed"))),
  list(metric = "daemons", kind = "curves", title = "More daemons than cores",
    how = "The flood again with 1 to 64 daemons, far more than the machine has cores.",
    say = function(m) sentence(against_best(m, "daemons", "64"))),
  list(metric = "echo", kind = "curves", title = "Large vectors, there and back",
    how = "A double vector of 8 B to 800 MB goes to a daemon and comes back, after a few for warming. memcpy copies the same
      bytes once.",
    say = function(m) sentence(times_better(m, "echo", "memcpy", "80000000"), against_best(m, "echo", "80000000"))),
  list(metric = "payload_there", kind = "curves", title = "Large vectors, only there",
    how = "The vector is an argument; the result is its length.",
    say = function(m) sentence(against_best(m, "payload_there", "80000000"))),
  list(metric = "payload_back", kind = "curves", title = "Large vectors, only back",
    how = "The vector is made by the task (<code>numeric(n)</code>, whose time is included) and comes back as its result.",
    say = function(m) sentence(against_best(m, "payload_back", "80000000"))),
  list(metric = "repeated_argument", kind = "systems", title = "The same large argument, again and again",
    how = "Many calls that each take the same vector and use one element. The time of one call.",
    say = function(m) sentence(against_best(m, "repeated_argument", unique(m$param[m$metric == "repeated_argument"])[1L]))),
  list(metric = "startup", kind = "curves", title = "Until the daemons are ready",
    how = "From the call until the last worker is there. For setsuna the fork server is warm (it is started by a session\u2019s
      first daemon, below); nothing else has such a thing. A system whose next step would take longer than the time given
      stops early.",
    say = function(m) sentence(against_best(m, "startup", "8"))),
  list(metric = "first_daemon", kind = "systems", title = "The first daemon of a session",
    how = "Everything from nothing, beside the start of a plain R process.",
    say = function(m) sentence(times_better(m, "first_daemon", "Rscript -e 1"))),
  list(metric = "ephemeral", kind = "systems", title = "A task in a process of its own",
    how = "<code>mirai()</code> without daemons forks a fresh process from the warm fork server; callr starts a new R.",
    say = function(m) sentence(against_best(m, "ephemeral"))),
  list(metric = "queue_depth", kind = "curves", title = "A long queue",
    how = "The rate of submitting while so many tasks wait already, in a session of its own. A flat curve means that a long queue
      costs nothing but memory.",
    say = function(m) {
      deep <- pretty_value(value_at(m, "queue_depth", param = "100000"), "tasks/s")
      sentence(paste("with 100,000 tasks queued setsuna submits", deep))
    }),
  list(metric = "memory", kind = "systems", title = "Memory of a queued task",
    how = "Growth of the session\u2019s resident memory per queued task, R objects included.",
    say = function(m) ""),
  list(metric = "high_water", kind = "processes", title = "Memory at its highest",
    how = "VmHWM after three echoes of a large vector (shared pages count in each process that maps them).",
    say = function(m) sentence(times_better(m, "high_water", "PSOCK", "session"))),
  list(metric = "idle_memory", kind = "systems", title = "Memory of an idle daemon",
    how = "Proportional set size: pages shared by several processes count in parts.",
    say = function(m) sentence(against_best(m, "idle_memory"))),
  list(metric = "idle", kind = "systems", title = "CPU while idle",
    how = "Time used by the session and its workers while there is nothing to do (by the scheduler\u2019s clock).",
    say = function(m) ""),
  list(metric = "remote_round_trip", kind = "transports", title = "Over the network: one task there and back",
    how = "Daemons in processes of their own that connect over the loopback, beside daemons on shared memory; raw TCP, nng and
      ZeroMQ send 64 bytes there and back without any R.",
    say = function(m) {
      at <- function(transport) pretty_value(value_at(m, "remote_round_trip", param = transport), "us")
      sentence(sprintf("tcp takes %s, TLS %s", at("tcp"), at("tls+tcp")))
    }),
  list(metric = "remote_flood", kind = "transports", title = "Over the network: a flood",
    how = "The flood by transport.",
    say = function(m) ""),
  list(metric = "remote_map", kind = "transports", title = "Over the network: a map",
    how = "A map of a trivial function by transport.",
    say = function(m) ""),
  list(metric = "remote_echo", kind = "transports", title = "Over the network: a large vector",
    how = "There and back by transport; raw TCP sends and receives the same bytes.",
    say = function(m) ""),
  list(metric = "crowd_memory", kind = "systems", title = "A thousand connected daemons: memory of each",
    how = "Memory of the session alone, by daemon that is connected over tcp and does nothing. One program plays all of them.",
    say = function(m) ""),
  list(metric = "crowd_cpu", kind = "systems", title = "A thousand connected daemons: CPU of the session",
    how = "While none of them has anything to do (by the scheduler\u2019s clock).",
    say = function(m) ""),
  list(metric = "crowd_status", kind = "systems", title = "A thousand connected daemons: status()",
    how = "The median time of a call.",
    say = function(m) ""),
  list(metric = "reactors", kind = "transports", title = "io_uring or epoll",
    how = "The round trip over tcp with either reactor on both sides; a session each.",
    say = function(m) "")
)
