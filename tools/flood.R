# The main job: real fits and a flood of small tasks on local daemons, beside the same job run sequentially.
#   Rscript tools/flood.R [--daemons=N] [--fits=N] [--tasks=N] [--quick] [--help]
# Exit status: 0 every result is identical to the sequential one; 1 one differs or a task failed; 2 bad arguments;
# 130 interrupted.

usage <- "usage: tools/run [options]
  --daemons=N   local daemons (default: one a core that this process may use)
  --fits=N      bootstrap fits of lm(mpg ~ wt + hp, mtcars) (default: 10000)
  --tasks=N     trivial tasks, a mirai() call each (default: 100000)
  --quick       a tenth of everything
  --help        this text"

# ---- the job: what runs in the daemons and in this session alike ----------------------------------------------------

# One bootstrap fit. The seed and the generator are the element's own: neither order nor process matters.
fit <- function(seed) {
  set.seed(seed, "Mersenne-Twister", "Inversion", "Rejection")
  rows <- sample.int(nrow(mtcars), replace = TRUE)
  coef(lm(mpg ~ wt + hp, mtcars[rows, ]))
}

# One trivial task: the energy in joules of an earthquake of `quakes`.
energy <- function(mag) 10^(1.5 * mag + 4.8)

magnitudes <- function(n) rep_len(quakes$mag, n)

# ---- progress, on standard error -------------------------------------------------------------------------------------

count <- function(x) format(x, big.mark = ",", trim = TRUE, scientific = FALSE)

many <- function(n, thing) paste0(count(n), " ", thing, if (n != 1) "s")

now_s <- function() as.numeric(Sys.time())

# A bar that is redrawn in place on a terminal; elsewhere a line when it is full.
progress <- function(label, total) {
  started <- now_s()
  live <- isatty(stderr()) && !identical(Sys.getenv("TERM"), "dumb")
  draw <- function(done) {
    full <- as.integer(30 * done / total)
    bar <- paste0(strrep("#", full), strrep(".", 30L - full))
    cat(sprintf("%s  %-28s [%s] %3d %%  %6.1f s", if (live) "\r" else "", label, bar, as.integer(100 * done / total),
                now_s() - started), file = stderr())
  }
  list(
    to = function(done) if (live) draw(done),
    end = function() {
      draw(total)
      cat("\n", file = stderr())
    }
  )
}

# The indices 1..n in at most 100 consecutive pieces.
pieces <- function(n) {
  ends <- unique(round(seq(0, n, length.out = min(n, 100) + 1)))
  Map(seq, ends[-length(ends)] + 1, ends[-1L])
}

# Runs `step` on each piece; the list of values in order and the seconds it took.
timed <- function(label, n, step, before = NULL) {
  bar <- progress(label, n)
  started <- now_s()
  if (!is.null(before)) before()
  parts <- lapply(pieces(n), function(i) {
    part <- step(i)
    bar$to(i[length(i)])
    part
  })
  seconds <- now_s() - started
  bar$end()
  list(value = unlist(parts, recursive = FALSE, use.names = FALSE), seconds = seconds)
}

# ---- the two ways to run it ------------------------------------------------------------------------------------------

run_sequential <- function(size) {
  mags <- magnitudes(size$tasks)
  list(
    fits = timed("fits, sequential", size$fits, function(i) lapply(i, fit)),
    tasks = timed("tasks, sequential", size$tasks, function(i) lapply(i, function(k) energy(mags[k])))
  )
}

run_on_daemons <- function(size) {
  mags <- magnitudes(size$tasks)
  pending <- NULL
  collect <- function(i) collect_mirai(pending[i])
  map_fits <- function() pending <<- unclass(mirai_map(seq_len(size$fits), fit))
  submit_tasks <- function() {
    pending <<- vector("list", size$tasks)
    for (k in seq_len(size$tasks)) pending[[k]] <<- mirai(10^(1.5 * mag + 4.8), mag = mags[k])
  }
  list(
    fits = timed("fits, daemons", size$fits, collect, map_fits),
    tasks = timed("tasks, daemons", size$tasks, collect, submit_tasks)
  )
}

# Microseconds of single round trips: the session waits for each before it submits the next.
round_trips <- function(n) {
  trip <- function(i) {
    started <- now_s()
    mirai(x + 1, x = 1)[]
    1e6 * (now_s() - started)
  }
  for (i in seq_len(50L)) trip(i)
  timed("round trips", n, function(i) vapply(i, trip, 0))$value
}

# ---- idle CPU --------------------------------------------------------------------------------------------------------

parent_of <- function(pid) {
  stat <- readLines(file.path("/proc", pid, "stat"))
  as.integer(strsplit(sub(".*\\) ", "", stat), " ", fixed = TRUE)[[1L]][2L])
}

# CPU milliseconds that this session and its daemons with their fork server use while nobody asks for anything. A shell
# looks, twice, while this session sleeps: reading /proc from here would be most of what is seen.
idle_cpu <- function(seconds) {
  cat(sprintf("  idling for %d s\n", seconds), file = stderr())
  daemons <- status()$pids
  pids <- c(Sys.getpid(), unique(c(daemons, parent_of(daemons[1L]))))
  look <- sprintf("for p in %s; do for t in /proc/$p/task/*; do echo $p $(cat $t/schedstat); done; done",
                  paste(pids, collapse = " "))
  lines <- system2("sh", c("-c", shQuote(sprintf("%s; echo; sleep %d; %s", look, seconds, look))), stdout = TRUE)
  fields <- strsplit(lines, " ", fixed = TRUE)
  second <- cumsum(!nzchar(lines))
  used_ms <- function(mine) {
    ns <- vapply(fields, function(f) if (length(f) == 4L && mine(as.integer(f[1L]))) as.numeric(f[2L]) else 0, 0)
    sum(ifelse(second == 1L, ns, -ns)) / 1e6
  }
  known <- sum(lengths(fields) == 4L) >= 2L * length(pids)
  list(session_ms = if (known) used_ms(function(pid) pid == pids[1L]) else NA,
       others_ms = if (known) used_ms(function(pid) pid != pids[1L]) else NA, seconds = seconds)
}

# ---- the report, on standard output ----------------------------------------------------------------------------------

failed <- function(values) which(vapply(values, is_error_value, NA))

differing <- function(a, b) if (identical(a, b)) integer() else which(!mapply(identical, a, b))

# Says what is wrong with `got` beside `expected`; how many elements are.
complain <- function(what, got, expected) {
  errors <- failed(got)
  wrong <- setdiff(differing(expected, got), errors)
  if (length(errors))
    cat(sprintf("FAILED: %s of %s %s; the first is number %s: %s\n", count(length(errors)), count(length(got)), what,
                count(errors[1L]), trimws(paste(capture.output(print(got[[errors[1L]]])), collapse = " "))))
  if (length(wrong))
    cat(sprintf("DIFFERENT: %s of %s %s; the first is number %s: %s instead of %s\n", count(length(wrong)),
                count(length(got)), what, count(wrong[1L]), deparse1(unname(got[[wrong[1L]]])),
                deparse1(unname(expected[[wrong[1L]]]))))
  length(errors) + length(wrong)
}

report_bootstrap <- function(fits) {
  coefs <- do.call(rbind, fits)
  point <- coef(lm(mpg ~ wt + hp, mtcars))
  interval <- apply(coefs, 2L, quantile, c(0.025, 0.975), na.rm = TRUE)
  cat(sprintf("\nBootstrap of lm(mpg ~ wt + hp, mtcars)\n  %-14s %12s %12s %12s\n", "", "estimate", "2.5 %", "97.5 %"))
  cat(sprintf("  %-14s %12.4f %12.4f %12.4f\n", names(point), point, interval[1L, ], interval[2L, ]), sep = "")
}

report_rates <- function(alone, pool, n) {
  cat(sprintf("\n%-28s %12s %12s %12s %14s\n", "Throughput", "sequential", many(n, "daemon"), "speed-up", "tasks/s"))
  row <- function(what, a, b) {
    total <- length(b$value)
    cat(sprintf("  %-26s %10.2f s %10.2f s %10.2f x %14s\n", many(total, what), a$seconds, b$seconds,
                a$seconds / b$seconds, count(round(total / b$seconds))))
  }
  row("bootstrap fit", alone$fits, pool$fits)
  row("trivial task", alone$tasks, pool$tasks)
  cat("  (a trivial task is next to no work: what counts there is tasks/s, the cost of sending it)\n")
}

report_latency <- function(us) {
  shares <- c(0.5, 0.9, 0.99, 0.999)
  cat(sprintf("\n%-28s %12s %12s %12s %14s\n", "Latency", "p50", "p90", "p99", "p99.9"))
  at <- quantile(us, shares, type = 1L)
  cat(sprintf("  %-26s %9.0f us %9.0f us %9.0f us %11.0f us\n", many(length(us), "round trip"), at[1L], at[2L],
              at[3L], at[4L]))
}

report_idle <- function(idle) {
  cat(sprintf("\n%-28s %12s %12s\n", "Idle", "session", "daemons"))
  cat(sprintf("  %-26s %9.1f ms %9.1f ms\n", sprintf("CPU time used in %d s", idle$seconds), idle$session_ms,
              idle$others_ms))
}

# ---- command line ----------------------------------------------------------------------------------------------------

refuse <- function(...) {
  cat("tools/run: ", ..., "\n", usage, "\n", sep = "", file = stderr())
  quit("no", 2L)
}

whole <- function(text, option, most) {
  n <- suppressWarnings(as.numeric(text))
  if (length(n) != 1L || is.na(n) || n != trunc(n) || n < 1 || n > most)
    refuse(option, " takes a whole number from 1 to ", count(most), ", not '", text, "'")
  as.integer(n)
}

usable_cores <- function() {
  n <- suppressWarnings(as.integer(system2("nproc", stdout = TRUE)))
  if (length(n) == 1L && !is.na(n)) n else max(1L, parallel::detectCores(), na.rm = TRUE)
}

# Both `--fits=10` and `--fits 10`.
parse <- function(args) {
  size <- list(daemons = NULL, fits = 10000L, tasks = 100000L, trips = 10000L)
  most <- c(daemons = 1024L, fits = 1e7L, tasks = 1e7L)
  given <- list()
  quick <- FALSE
  while (length(args)) {
    parts <- strsplit(args[1L], "=", fixed = TRUE)[[1L]]
    args <- args[-1L]
    option <- sub("^--", "", parts[1L])
    if (identical(parts, "--help")) {
      cat(usage, "\n", sep = "")
      quit("no", 0L)
    }
    if (identical(parts, "--quick")) {
      quick <- TRUE
      next
    }
    if (!startsWith(parts[1L], "--") || !option %in% names(most)) refuse("unknown argument '", parts[1L], "'")
    if (length(parts) == 1L) {
      if (!length(args)) refuse(parts[1L], " takes a number")
      parts[2L] <- args[1L]
      args <- args[-1L]
    }
    given[[option]] <- whole(parts[2L], parts[1L], most[[option]])
  }
  if (quick) size[c("fits", "tasks", "trips")] <- list(1000L, 10000L, 1000L)
  size[names(given)] <- given
  if (is.null(size$daemons)) size$daemons <- usable_cores()
  size
}

# ---- all of it -------------------------------------------------------------------------------------------------------

main <- function(size) {
  cat(sprintf("setsuna %s, %s, %s\n", packageVersion("setsuna"), R.version.string, many(usable_cores(), "core")),
      file = stderr())
  on.exit(daemons(0))
  started <- now_s()
  daemons(size$daemons)
  cat(sprintf("  %s ready in %.2f s\n", many(size$daemons, "daemon"), now_s() - started), file = stderr())
  mirai_map(seq_len(8L * size$daemons), fit)[] # warm up both sides
  lapply(1:8, fit)
  pool <- run_on_daemons(size)
  alone <- run_sequential(size)
  trips <- round_trips(size$trips)
  idle <- idle_cpu(2L)
  bad <- complain("fits", pool$fits$value, alone$fits$value) + complain("tasks", pool$tasks$value, alone$tasks$value)
  if (!length(failed(pool$fits$value))) report_bootstrap(pool$fits$value)
  report_rates(alone, pool, size$daemons)
  report_latency(trips)
  report_idle(idle)
  cat(if (bad) sprintf("\n%s FAILED or different from the sequential run.\n", many(bad, "result"))
      else sprintf("\nAll %s results are identical to the sequential run.\n", count(size$fits + size$tasks)))
  if (bad) 1L else 0L
}

status_code <- tryCatch({
  size <- parse(commandArgs(TRUE))
  library(setsuna)
  main(size)
}, interrupt = function(e) {
  cat("\ninterrupted: the daemons are gone\n", file = stderr())
  130L
})
quit("no", status_code)
