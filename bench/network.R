#!/usr/bin/env Rscript
# Daemons over the loopback beside what the loopback itself costs and beside other transports, in one run.
#
#   Rscript bench/network.R [--quick] [--csv=FILE] [--rows=a,b]      needs the installed package and build/release/bench

here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)))
source(file.path(here, "harness.R"))

# A profile that listens at `url`, with `n` daemons of their own processes.
remote_profile <- function(url, n, name = NULL) {
  daemons(url = url, .compute = name)
  lines <- launch_remote(n, .compute = name)
  for (i in seq_len(n)) system(paste("exec", lines[min(i, length(lines))]), wait = FALSE, ignore.stdout = TRUE)
  invisible(everywhere({}, .min = n, .compute = name)[])
}

local_ms <- function(f) {
  daemons(1, .compute = "local")
  on.exit(daemons(0, .compute = "local"))
  with_daemons("local", f())
}

add_row("tcp_round_trip", function() {
  remote_profile("tcp://127.0.0.1:0", 1)
  on.exit(daemons(0))
  n <- if (quick) 1000L else 3000L
  floor <- function() native("tcp_bench", "tcp_ping_pong") / 1000 + local_ms(function() round_trips(n))
  row("round trip of mirai(x + 1, x = 1)[] over tcp", "us", pairs(function() round_trips(n), floor),
      "raw ping-pong + local trip", "<= 1.5", "lower")
})

add_row("tcp_round_trip_nng", function() {
  remote_profile("tcp://127.0.0.1:0", 1)
  on.exit(daemons(0))
  n <- if (quick) 1000L else 3000L
  row("round trip of mirai(x + 1, x = 1)[] over tcp", "us",
      pairs(function() round_trips(n), function() native("tcp_bench", "nng_ping_pong") / 1000), "nng REQ/REP, 64 bytes", "", "lower")
})

add_row("tcp_flood", function() {
  remote_profile("tcp://127.0.0.1:0", cores)
  on.exit(daemons(0))
  n <- if (quick) 20000L else 100000L
  row("flood of mirai() calls over tcp, collected", "tasks/s", pairs(flood(n), function() 5e4), "the target", ">= 50 k/s",
      "higher")
})

add_row("tcp_map", function() {
  remote_profile("tcp://127.0.0.1:0", cores)
  on.exit(daemons(0))
  row("mirai_map() over 100,000 elements, over tcp", "elements/s", pairs(map_rate(), function() 3e5), "the target",
      ">= 300 k/s", "higher")
})

add_row("tcp_echo", function() {
  remote_profile("tcp://127.0.0.1:0", 1)
  on.exit(daemons(0))
  echo <- echo_ms(rnorm(1e7))
  for (i in 1:3) echo()
  row("echo of an 80 MB double vector over tcp", "ms",
      pairs(echo, function() native("tcp_bench", "tcp_echo_80MB") / 1e6), "raw send and recv", "<= 2", "lower")
})

# Two profiles side by side.
beside <- function(key, name, unit, url, against, peer, measure, target, better) {
  add_row(key, function() {
    remote_profile(url, 1, "one")
    remote_profile(against, 1, "other")
    on.exit({
      daemons(0, .compute = "one")
      daemons(0, .compute = "other")
    })
    row(name, unit, pairs(function() with_daemons("one", measure()), function() with_daemons("other", measure())), peer,
        target, better)
  })
}

big <- rnorm(1e7)
bulk <- function() 160 / (echo_ms(big)() / 1000)
trips <- function() round_trips(if (quick) 1000L else 3000L)

beside("tls_bulk", "80 MB there and back over tls+tcp", "MB/s", "tls+tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp", bulk,
       ">= 0.6", "higher")
beside("ws_bulk", "80 MB there and back over ws", "MB/s", "ws://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp", bulk, ">= 0.83",
       "higher")
beside("ws_round_trip", "round trip over ws", "us", "ws://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp", trips, "<= 1.2", "lower")
beside("tls_round_trip", "round trip over tls+tcp", "us", "tls+tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp", trips, "",
       "lower")

# The reactor is chosen once a process: a session each.
with_reactor <- function(reactor, code) {
  file <- tempfile(fileext = ".R")
  on.exit(unlink(file))
  writeLines(c(sprintf("here <- %s", deparse(here)), 'source(file.path(here, "harness.R"))', code), file)
  as.numeric(system2("Rscript", file, stdout = TRUE, env = paste0("SETSUNA_REACTOR=", reactor)))
}

add_row("reactors", function() {
  code <- c(paste("remote_profile <-", paste(deparse(remote_profile), collapse = "\n")),
            'remote_profile("tcp://127.0.0.1:0", 1)', "cat(round_trips(2000L))", "invisible(daemons(0))")
  row("round trip over tcp, io_uring on both sides", "us",
      pairs(function() with_reactor("io_uring", code), function() with_reactor("epoll", code)), "epoll", "", "lower")
})

run_rows(value_of("csv", file.path(root, "bench/network.csv")))
