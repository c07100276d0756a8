#!/usr/bin/env Rscript
# setsuna beside its peers on this machine, in one run: each row's two sides are measured in turn (A B A B ...), and what
# counts is the ratio of their medians.
#
#   Rscript bench/compare.R [--quick] [--csv=FILE] [--rows=a,b]      needs the installed package and build/release/bench
#
# Peers that are not installed are left out by name. Times are wall times of this R process; CPU is from /proc.

here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)))
source(file.path(here, "harness.R"))

add_row("round_trip", function() {
  daemons(1)
  on.exit(daemons(0))
  n <- if (quick) 2000L else 5000L
  row("round trip of mirai(x + 1, x = 1)[], no spin", "us",
      pairs(function() round_trips(n), function() native("queue_bench", "futex_ping_pong") / 1000),
      "futex ping-pong", "<= 1.5", "lower")
})

add_row("round_trip_spin", function() {
  daemons(1, spin = 50)
  on.exit(daemons(0))
  n <- if (quick) 2000L else 5000L
  row("round trip, spin = 50", "us p50",
      pairs(function() round_trips(n), function() native("queue_bench", "futex_ping_pong") / 1000),
      "futex ping-pong", "<= 10 us", "lower")
})

add_row("flood", function() {
  daemons(cores)
  cluster <- makePSOCKcluster(cores)
  on.exit({
    daemons(0)
    stopCluster(cluster)
  })
  n <- if (quick) 30000L else 100000L
  m <- if (quick) 3000L else 10000L
  row("flood of mirai() calls, collected", "tasks/s",
      pairs(flood(n), function() m / seconds(clusterApplyLB(cluster, seq_len(m), function(x) x + 1))),
      "PSOCK clusterApplyLB", ">= 12", "higher")
})

add_row("map", function() {
  daemons(cores)
  on.exit(daemons(0))
  n <- 100000L
  row("mirai_map() over 100,000 elements, trivial function", "elements/s",
      pairs(map_rate(n), function() n / seconds(mclapply(seq_len(n), function(x) x, mc.cores = cores))),
      "mclapply", ">= 2", "higher")
})

add_row("echo", function() {
  daemons(1)
  on.exit(daemons(0))
  x <- rnorm(1e7)
  echo <- echo_ms(x)
  for (i in 1:6) echo()
  row("echo of an 80 MB double vector, warm", "ms",
      pairs(echo, function() native("copy_bench", "memcpy_80MB") / 1e6, 2L * runs), "memcpy of the same bytes", "<= 2.5",
      "lower")
})

add_row("echo_psock", function() {
  daemons(1)
  cluster <- makePSOCKcluster(1L)
  on.exit({
    daemons(0)
    stopCluster(cluster)
  })
  x <- rnorm(1e7)
  for (i in 1:4) mirai(x, x = x)[]
  row("echo of an 80 MB double vector", "ms",
      pairs(function() seconds(mirai(x, x = x)[]) * 1000, function() seconds(clusterCall(cluster, identity, x)) * 1000),
      "PSOCK", "", "lower")
})

add_row("daemons_64", function() {
  daemons(1)
  on.exit(daemons(0))
  row("64 daemons ready, fork server warm", "ms", pairs(function() {
    took <- seconds(daemons(64)) * 1000
    daemons(0)
    took
  }, function() 100), "the target", "<= 100 ms", "lower")
})

add_row("first_daemon", function() {
  script <- "suppressMessages(library(setsuna)); t <- proc.time()[[3]]; invisible(daemons(1)); cat((proc.time()[[3]] - t) * 1000)"
  row("first daemon of a session", "ms",
      pairs(function() as.numeric(system2("Rscript", c("-e", shQuote(script)), stdout = TRUE)),
            function() seconds(system2("Rscript", c("-e", "1"), stdout = FALSE)) * 1000),
      "Rscript -e 1", "<= 1.3", "lower")
})

add_row("ephemeral", function() {
  daemons(0)
  for (i in 1:5) mirai(1)[]
  row("mirai() with no daemons set, fork server warm", "ms",
      pairs(function() seconds(mirai(1)[]) * 1000, function() 5, 4L * runs), "the target", "<= 5 ms", "lower")
})

add_row("noop", function() {
  row("no-op dispatch without R, window 256", "tasks/s",
      pairs(function() native("queue_bench", "noop_dispatch", "items_per_second"), function() 5e6), "the target",
      ">= 5 M/s", "higher")
})

add_row("queue_pair", function() {
  row("publish, claim, complete, harvest on one thread", "ns",
      pairs(function() native("queue_bench", "ring_pair"), function() native("queue_bench", "plain_pair")),
      "plain Vyukov push and pop", "", "lower")
})

add_row("idle", function() {
  daemons(cores)
  on.exit(daemons(0))
  mirai(1)[]
  pids <- c(Sys.getpid(), status()$pids)
  before <- vapply(pids, cpu_ticks, 0)
  Sys.sleep(if (quick) 3 else 10)
  used <- sum(vapply(pids, cpu_ticks, 0) - before)
  row("idle CPU of host and daemons", "ticks of 10 ms", list(used, 0), "none", "0", "lower")
})

# In a session of its own, whose heap holds nothing else. A worker is kept busy, so that all tasks stay queued.
queued_tasks <- function(n) {
  script <- sprintf('
    suppressMessages(library(setsuna))
    rss <- function() as.numeric(sub("\\\\D+(\\\\d+).*", "\\\\1", grep("^VmRSS", readLines("/proc/self/status"), value = TRUE))) * 1024
    invisible(daemons(1))
    gate <- mirai(Sys.sleep(600))
    n <- %d
    tasks <- vector("list", n)
    for (i in 1:20000) tasks[[i]] <- mirai(1)
    invisible(gc()); before <- rss(); cells <- gc()[, 1]
    rate <- function(from, to) {
      start <- proc.time()[[3]]
      for (i in from:to) tasks[[i]] <<- mirai(1)
      (to - from + 1) / (proc.time()[[3]] - start)
    }
    early <- rate(20001, 120000)
    if (n > 240000) invisible(rate(120001, n - 100000))
    late <- rate(n - 99999, n)
    heap <- sum((gc()[, 1] - cells) * c(56, 8))
    cat((rss() - before) / (n - 20000), heap / (n - 20000), early, late)
    invisible(stop_mirai(tasks))', n)
  file <- tempfile(fileext = ".R")
  writeLines(script, file)
  on.exit(unlink(file))
  as.numeric(strsplit(system2("Rscript", file, stdout = TRUE), " ")[[1L]])
}

add_row("memory", function() {
  found <- queued_tasks(if (quick) 300000L else 1000000L)
  cat(sprintf("  of it, live R objects: %.0f bytes; submitted at %.0f/s early, %.0f/s late\n", found[2L], found[3L], found[4L]))
  row("memory of a queued trivial task, 14 bytes of payload included", "bytes", list(found[1L], 214), "the target",
      "<= 200 + payload", "lower")
})

add_row("queue_depth", function() {
  found <- queued_tasks(if (quick) 300000L else 1000000L)
  row("submit rate with a million tasks queued", "tasks/s", list(found[4L], found[3L]), "the first 100,000", "same", "higher")
})

peer_row <- function(package, key, name, measure) {
  if (!requireNamespace(package, quietly = TRUE)) {
    cat("left out: ", package, " is not installed\n", sep = "")
    return()
  }
  add_row(key, function() {
    daemons(cores)
    on.exit(daemons(0))
    n <- if (quick) 20000L else 50000L
    row("flood of trivial tasks", "tasks/s", pairs(flood(n), measure), name, "", "higher")
  })
}

peer_row("future", "future", "future multisession", function() {
  future::plan(future::multisession, workers = cores)
  m <- if (quick) 50L else 200L
  rate <- m / seconds(for (f in lapply(seq_len(m), function(i) future::future(i + 1))) future::value(f))
  future::plan(future::sequential)
  rate
})
peer_row("callr", "callr", "callr::r_session", function() {
  session <- callr::r_session$new()
  m <- if (quick) 200L else 1000L
  rate <- m / seconds(for (i in seq_len(m)) session$run(function(x) x + 1, list(i)))
  session$close()
  rate
})
peer_row("foreach", "foreach", "foreach + doParallel", function() {
  cluster <- makePSOCKcluster(cores)
  doParallel::registerDoParallel(cluster)
  `%dopar%` <- foreach::`%dopar%`
  m <- if (quick) 1000L else 5000L
  i <- NULL
  rate <- m / seconds(foreach::foreach(i = seq_len(m)) %dopar% (i + 1))
  stopCluster(cluster)
  rate
})
peer_row("mirai", "mirai", "mirai", function() {
  mirai::daemons(cores)
  m <- if (quick) 2000L else 10000L
  rate <- m / seconds(lapply(lapply(seq_len(m), function(i) mirai::mirai(x + 1, x = i)), function(t) t[]))
  mirai::daemons(0)
  rate
})

run_rows(value_of("csv", file.path(root, "bench/compare.csv")))
