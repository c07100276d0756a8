# What the pool itself costs: to start, to hold a million queued tasks, to stand idle; and how much memory it takes at most.

timed_stop <- function(s, n) {
  took <- seconds(s$start(n)) * 1e3
  s$stop()
  took
}

add_row("startup", 60, function(budget) {
  counts <- c(1L, 2L, 4L, 8L, 16L, 32L, 64L)
  chosen <- systems_with(c("start", "stop"), c("setsuna", "mirai", "PSOCK", "future multisession", "crew"))
  chosen$setsuna$start <- function(n) setsuna::daemons(n) # returns when they are online
  timed_stop(chosen$setsuna, 1L) # the fork server is warm after the first
  left <- budget
  for (n in counts) {
    systems <- chosen
    started <- now()
    took <- list()
    take_turns(lapply(systems, function(s) function(slice) timed_stop(s, n)), left / (length(counts) - match(n, counts) + 1),
               function(name, value, turn) {
      took[[name]] <<- value
      emit("startup", name, value, "ms", "lower", "until all daemons are ready; fork server warm", n, "daemons", turn)
    })
    left <- left - (now() - started)
    slow <- names(took)[vapply(took, function(ms) 2 * ms / 1000 > left / (2 * length(chosen)), NA)]
    for (name in setdiff(slow, "setsuna")) {
      leave_out(sprintf("%s with more than %d daemons (startup)", name, n), "starting them takes longer than the row has")
      chosen[[name]] <- NULL
    }
  }
}, fixed = 4)

add_row("first_daemon", 12, function(budget) {
  script <- paste("suppressMessages(library(setsuna)); t <- Sys.time(); invisible(daemons(1));",
                  "cat('\\n', as.numeric(Sys.time() - t, units = 'secs') * 1000, sep = '')")
  take_turns(list(
    "setsuna" = function(slice) in_session(script),
    "Rscript -e 1" = function(slice) seconds(system2("Rscript", c("-e", "1"), stdout = FALSE)) * 1e3
  ), budget, function(name, value, turn) emit("first_daemon", name, value, "ms", "lower", "first daemon of a session", sample = turn))
})

# In a session of its own whose only daemon is busy, so that every task stays queued. Prints for each depth the rate of the
# last submissions before it was reached, then bytes a task, then the R objects among them.
depth_script <- function(package, depths) {
  sprintf('
    suppressMessages(library(%s))
    rss <- function() as.numeric(sub("\\\\D+(\\\\d+).*", "\\\\1", grep("^VmRSS", readLines("/proc/self/status"), value = TRUE))) * 1024
    invisible(daemons(1))
    gate <- mirai(Sys.sleep(3600))
    depths <- c(%s)
    tasks <- vector("list", max(depths))
    invisible(gc())
    warm <- min(10000, max(depths) / 2)
    before <- NA
    rates <- numeric()
    from <- 0
    for (depth in depths) {
      timed_from <- max(from + 1, depth - min(100000, depth - from) + 1)
      submit <- function(a, b) { if (a <= b) for (i in a:b) tasks[[i]] <<- mirai(1) }
      submit(from + 1, timed_from - 1)
      start <- as.numeric(unclass(Sys.time()))
      submit(timed_from, depth)
      rates <- c(rates, (depth - timed_from + 1) / (as.numeric(unclass(Sys.time())) - start))
      from <- depth
      if (is.na(before) && depth >= warm) { invisible(gc()); before <- rss(); at <- depth; cells <- gc()[, 1] }
    }
    heap <- sum((gc()[, 1] - cells) * c(56, 8))
    cat("\\n", paste(c(rates, (rss() - before) / max(1, from - at), heap / max(1, from - at)), collapse = " "), sep = "")
    invisible(stop_mirai(tasks)); invisible(daemons(0))', package, paste(format(depths, scientific = FALSE, trim = TRUE), collapse = ", "))
}

add_row("queue_depth", 45, function(budget) {
  depths <- c(1, 10, 100, 1000, 10000, 100000, 1e6)
  if (budget < 6) depths <- depths[depths <= 1e5]
  if (budget < 2) depths <- depths[depths <= 1e4]
  chosen <- names(systems_with("start", c("setsuna", "mirai")))
  sides <- stats::setNames(lapply(chosen, function(name) function(slice) in_session(depth_script(name, depths))), chosen)
  take_turns(sides, budget, function(name, value, turn) {
    for (i in seq_along(depths)) {
      emit("queue_depth", name, value[i], "tasks/s", "higher", "mirai(1) while so many wait", depths[i], "queued tasks", turn)
    }
    if (max(depths) >= 1e5) {
      emit("memory", name, value[length(depths) + 1L], "bytes", "lower", "of a queued mirai(1); payload included", sample = turn)
    }
  })
}, fixed = 3)

# In a session of its own: the memory of an idle daemon, then the most that session and daemon ever had after some echoes.
high_water_script <- function(name, bytes) {
  sprintf('
    system <- peers[["%s"]]
    mb <- function(field, path) as.numeric(sub("\\\\D+(\\\\d+).*", "\\\\1", grep(field, readLines(path), value = TRUE))) / 1024
    system$start(1)
    pid <- system$pid()
    x <- runif(%g / 8)
    idle <- mb("^Pss:", sprintf("/proc/%%d/smaps_rollup", pid))
    for (i in 1:3) y <- system$echo(x)
    most <- c(mb("^VmHWM", "/proc/self/status"), mb("^VmHWM", sprintf("/proc/%%d/status", pid)))
    cat("\\n", paste(c(idle, most), collapse = " "), sep = "")
    invisible(system$stop())', name, bytes)
}

add_row("high_water", 25, function(budget) {
  bytes <- if (budget < 3) 8e6 else 8e7
  chosen <- names(systems_with(c("echo", "pid")))
  workload <- sprintf("three echoes of %g MB", bytes / 1e6)
  sides <- stats::setNames(lapply(chosen, function(name) {
    function(slice) in_session(c(sources_peers(), high_water_script(name, bytes)))
  }), chosen)
  take_turns(sides, budget, function(name, value, turn) {
    emit("high_water", name, value[2L], "MB", "lower", workload, "session", "process", turn)
    emit("high_water", name, value[3L], "MB", "lower", workload, "daemon", "process", turn)
    emit("idle_memory", name, value[1L], "MB", "lower", "proportional set size of an idle daemon", sample = turn)
  })
}, fixed = 3)

# A process and all that descend from it.
process_tree <- function(root_pid) {
  pids <- as.integer(sub("/.*", "", sub("^/proc/", "", Sys.glob("/proc/[0-9]*/stat"))))
  parent <- function(pid) {
    line <- tryCatch(readLines(sprintf("/proc/%d/stat", pid)), error = function(e) ") ? -1", warning = function(w) ") ? -1")
    as.integer(strsplit(sub("^.*\\) ", "", line), " ")[[1L]][2L])
  }
  parents <- vapply(pids, parent, 0L)
  known <- root_pid
  repeat {
    more <- pids[parents %in% known & !pids %in% known]
    if (!length(more)) return(known)
    known <- c(known, more)
  }
}

# A session of its own that has workers and nothing to do; this one looks at its clocks from outside.
idle_cpu <- function(name, wait_s) {
  ready <- tempfile()
  script <- tempfile(fileext = ".R")
  on.exit(unlink(c(ready, script)))
  writeLines(c(sources_peers(), sprintf("system <- peers[['%s']]; system$start(cores); system$trip()", name),
               sprintf("writeLines(as.character(Sys.getpid()), '%s.new')", ready), sprintf("file.rename('%s.new', '%s')", ready, ready),
               "Sys.sleep(600)"), script)
  system2("Rscript", shQuote(script), wait = FALSE, stdout = FALSE, stderr = FALSE)
  started <- now()
  while (!file.exists(ready)) {
    if (now() - started > 60) stop("was not ready within a minute")
    Sys.sleep(0.05)
  }
  pid <- as.integer(readLines(ready))
  on.exit(tools::pskill(pid), add = TRUE)
  Sys.sleep(1) # what the trip left to do is not idleness
  pids <- process_tree(pid)
  used <- function() sum(vapply(pids, cpu_ms, 0))
  before <- used()
  Sys.sleep(wait_s)
  (used() - before) / wait_s
}

add_row("idle", 25, function(budget) {
  chosen <- names(systems_with("trip", c("setsuna", "mirai", "PSOCK", "callr")))
  wait_s <- max(1, min(10, budget / (length(chosen) * 4) - 1.5))
  sides <- stats::setNames(lapply(chosen, function(name) function(slice) idle_cpu(name, wait_s)), chosen)
  take_turns(sides, budget, function(name, value, turn) {
    emit("idle", name, round(value, 2), "ms of CPU a second", "lower", "session and daemons; nothing to do", sample = turn)
  })
}, fixed = 3)
