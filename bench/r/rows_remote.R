# Daemons that come over the network: on the loopback, by processes of their own as on another machine, beside the same
# daemons on shared memory, what the loopback itself costs, and other libraries on it.

transports <- c(tcp = "tcp://127.0.0.1:0", "tls+tcp" = "tls+tcp://127.0.0.1:0", ws = "ws://127.0.0.1:0", wss = "wss://127.0.0.1:0")

remote_profile <- function(url, n, name) {
  setsuna::daemons(url = url, .compute = name)
  lines <- setsuna::launch_remote(n, .compute = name)
  for (i in seq_len(n)) system(paste("exec", lines[min(i, length(lines))]), wait = FALSE, ignore.stdout = TRUE)
  invisible(setsuna::everywhere({}, .min = n, .compute = name)[])
}

# A profile for each transport and one on shared memory, all there at once, so that they take turns.
with_transports <- function(n, code, among = names(transports)) {
  started <- character()
  on.exit(for (name in started) setsuna::daemons(0, .compute = name))
  for (name in among) {
    started <- c(started, name)
    ok <- tryCatch({
      remote_profile(transports[[name]], n, name)
      TRUE
    }, error = function(e) {
      leave_out(paste("setsuna over", name), paste("did not start:", conditionMessage(e)))
      FALSE
    })
    if (!ok) among <- setdiff(among, name)
  }
  started <- c(started, "shared memory")
  setsuna::daemons(n, .compute = "shared memory")
  code(c("shared memory", among))
}

# The transport is the sample's param; setsuna is its system.
emit_transport <- function(metric, unit, better, workload) function(name, value, turn) {
  known <- name %in% c(names(transports), "shared memory")
  emit(metric, if (known) "setsuna" else name, value, unit, better, workload, if (known) name else "tcp", "transport", turn)
}

add_row("remote_round_trip", 30, function(budget) {
  with_transports(1L, function(names) {
    sides <- lapply(stats::setNames(names, names), function(name) {
      trip <- function() setsuna::mirai(x + 1, x = 1, .compute = name)[]
      for (i in 1:20) trip()
      time_side(trip, 1e6, least = 3L)
    })
    floors <- c("raw TCP" = "tcp_ping_pong", libnng = "nng_ping_pong", libzmq = "zmq_ping_pong")
    for (floor in names(floors)) if (has_native("tcp_bench", floors[[floor]])) sides[[floor]] <- local({
      benchmark <- floors[[floor]]
      function(slice) native("tcp_bench", benchmark, min_time = max(0.01, slice / 3)) / 1e3
    })
    take_turns(sides, budget, emit_transport("remote_round_trip", "us", "lower", "mirai(x + 1; x = 1)[]; 64 bytes for the libraries"))
  })
}, fixed = 4)

add_row("remote_flood", 25, function(budget) {
  with_transports(cores, function(names) {
    flood <- function(name) function(m) {
      tasks <- vector("list", m)
      for (i in seq_len(m)) tasks[[i]] <- setsuna::mirai(x + 1, x = i, .compute = name)
      values <- setsuna::collect_mirai(tasks)
      stopifnot(identical(values[[m]], m + 1))
    }
    take_turns(lapply(stats::setNames(names, names), function(name) rate_side(flood(name), 200000L)), budget,
               emit_transport("remote_flood", "tasks/s", "higher", "trivial tasks; each of its own; all collected"))
  })
}, fixed = 5)

add_row("remote_map", 15, function(budget) {
  with_transports(cores, function(names) {
    map <- function(name) function(m) {
      stopifnot(length(setsuna::mirai_map(seq_len(m), function(x) x, .compute = name)[]) == m)
    }
    take_turns(lapply(stats::setNames(names, names), function(name) rate_side(map(name), 200000L)), budget,
               emit_transport("remote_map", "elements/s", "higher", "map of a trivial function"))
  })
}, fixed = 4)

add_row("remote_echo", 30, function(budget) {
  bytes <- if (budget < 3) 8e6 else 8e7
  x <- stats::runif(bytes / 8)
  with_transports(1L, function(names) {
    sides <- lapply(stats::setNames(names, names), function(name) {
      time_side(function() setsuna::mirai(x, x = x, .compute = name)[], 1e3)
    })
    if (bytes == 8e7 && has_native("tcp_bench", "tcp_echo_80MB")) {
      sides[["raw TCP"]] <- function(slice) native("tcp_bench", "tcp_echo_80MB", min_time = max(0.02, slice / 3)) / 1e6
    }
    take_turns(sides, budget, emit_transport("remote_echo", "ms", "lower", sprintf("%g MB there and back", bytes / 1e6)))
  })
}, fixed = 4)

# The reactor is chosen once a process: a session each.
add_row("reactors", 14, function(budget) {
  script <- c(
    "now <- function() as.numeric(unclass(Sys.time()))", "suppressMessages(library(setsuna))",
    "invisible(daemons(url = 'tcp://127.0.0.1:0'))",
    "system(paste('exec', launch_remote(1)[1L]), wait = FALSE, ignore.stdout = TRUE)",
    "invisible(everywhere({}, .min = 1)[])", "for (i in 1:50) mirai(x + 1, x = 1)[]",
    sprintf("took <- vapply(1:%d, function(i) { start <- now(); mirai(x + 1, x = 1)[]; now() - start }, 0)",
            if (budget < 1.5) 100L else 2000L),
    "invisible(daemons(0))", "cat('\\n', median(took) * 1e6, sep = '')"
  )
  sides <- lapply(c(io_uring = "io_uring", epoll = "epoll"), function(reactor) {
    function(slice) in_session(script, paste0("SETSUNA_REACTOR=", reactor))
  })
  take_turns(sides, budget, function(name, value, turn) {
    emit("reactors", "setsuna", value, "us", "lower", "round trip over tcp; both sides", name, "reactor", turn)
  })
}, fixed = 2)
