# What every row is measured with. A row is a function of its time budget in seconds; it emits samples into a table.
# Sides take turns, A B A B, so that what disturbs the machine for a while disturbs all of them.

now <- function() as.numeric(unclass(Sys.time())) # microseconds, where proc.time() has milliseconds

seconds <- function(expr) {
  start <- now()
  force(expr)
  now() - start
}

cores <- as.integer(system2("nproc", stdout = TRUE)) # those this process may run on: taskset counts

recorded <- new.env()
recorded$samples <- list()
recorded$left_out <- character()
recorded$rows <- list()
recorded$deadline <- Inf
recorded$save <- function() NULL # after each turn, so that a row cut short leaves what it has

emit <- function(metric, system, value, unit, better, workload = metric, param = "", param_unit = "", sample = NULL) {
  # One text for a number, however R would print it.
  if (is.numeric(param)) param <- format(param, scientific = FALSE, trim = TRUE, digits = 15)
  for (i in seq_along(value)) {
    recorded$samples[[length(recorded$samples) + 1L]] <- list(
      metric = metric, workload = gsub(",", ";", workload), system = system, param = param, param_unit = param_unit,
      unit = unit, better = better, sample = if (is.null(sample)) i else sample, value = value[i]
    )
  }
}

leave_out <- function(system, why) {
  note <- paste0(system, " (", why, ")")
  if (!note %in% recorded$left_out) recorded$left_out <- c(recorded$left_out, note)
}

samples_table <- function() {
  columns <- c("metric", "workload", "system", "param", "param_unit", "unit", "better", "sample", "value")
  as.data.frame(stats::setNames(lapply(columns, function(column) {
    vapply(recorded$samples, function(s) as.character(s[[column]]), "")
  }), columns))
}

# `weight` is the row's share of the time that is left when each row has got its `fixed` seconds, which it needs for starting
# what it measures.
add_row <- function(key, weight, run, fixed = 1) {
  recorded$rows[[key]] <- list(key = key, weight = weight, run = run, fixed = fixed)
}

# --alone: without the R packages beside it, whose turns take most of the time.
alone <- nzchar(Sys.getenv("SETSUNA_BENCH_ALONE"))

# How processes fall on the cores differs from turn to turn, and --compare needs samples of that: with fewer than 9 of either
# side it can judge nothing among many metrics. Many turns are for what takes short ones.
usual_turns <- 9L
many_turns <- if (alone) 31L else 11L
shortest_slice_s <- 0.1

# Runs the sides in turn until the budget is used up: a side is a function of the seconds it should take that returns a number
# (or several, named by param). At least one turn. A side that fails is left out by name from then on, with the reason.
take_turns <- function(sides, budget, record, turns = usual_turns) {
  started <- now()
  # Starting the systems took time of the row's too.
  budget <- max(budget / 5, min(budget, recorded$deadline - started))
  count <- max(1L, length(sides))
  # Rather few turns than such as are over before anything but chance is measured.
  turns <- max(1L, min(turns, as.integer(budget / count / shortest_slice_s)))
  slice <- budget / turns / count
  for (turn in seq_len(turns)) {
    for (name in names(sides)) {
      value <- tryCatch(sides[[name]](slice), error = function(e) {
        leave_out(name, paste0("failed: ", conditionMessage(e)))
        NULL
      })
      if (is.null(value)) sides[[name]] <- NULL else record(name, value, turn)
    }
    recorded$save()
    spent <- now() - started
    if (spent * (turn + 1) / turn > budget * 1.2) break # the next turn would not fit
  }
  invisible(sides)
}

# How many repetitions of `once` (a function of a count) fill `slice` seconds: tried with growing counts, the first one for warming.
fill <- function(once, slice, start = 8L, most = 1e6) {
  count <- start
  if (seconds(once(count)) > slice) return(count)
  repeat {
    took <- max(seconds(once(count)), 1e-6)
    if (took > slice / 8 || count >= most) break
    count <- min(most, ceiling(count * min(8, max(2, slice / 4 / took))))
  }
  as.integer(max(1, min(most, count * slice / took)))
}

# A side that gives repetitions a second; with `pids` also the CPU time of those processes in microseconds for each. The count is
# settled in the first turn.
rate_side <- function(once, most = 1e6, start = 8L, pids = NULL) {
  force(once) # or the first turn would be charged with what makes it
  count <- NULL
  function(slice) {
    if (is.null(count)) count <<- fill(once, slice * 0.6, start, most)
    before <- used_cpu_ms(pids)
    took <- seconds(once(count))
    c(count / took, if (length(pids)) (used_cpu_ms(pids) - before) / count * 1e3)
  }
}

nothing <- function() NULL

# A side that gives the median time of one call, in units of `per` a second. Reading the clock by R takes 2 to 4 us, a tenth of
# a round trip: what a call of nothing takes, measured among the others (every fourth), is taken off.
time_side <- function(once, per = 1e3, least = 1L, most = 100000L) {
  force(once)
  function(slice) {
    started <- now()
    samples <- numeric()
    of_nothing <- seconds(nothing())
    while (length(samples) < least || (now() - started < slice && length(samples) < most)) {
      samples[length(samples) + 1L] <- seconds(once())
      if (length(samples) %% 4L == 0L) of_nothing[length(of_nothing) + 1L] <- seconds(nothing())
    }
    max(0, stats::median(samples) - stats::median(of_nothing)) * per
  }
}

# ---- /proc ----------------------------------------------------------------------------------------------------------

# CPU time of all threads of a process: by the scheduler's clock where the kernel keeps it, else in ticks of 10 ms.
cpu_ms <- function(pid) {
  files <- Sys.glob(sprintf("/proc/%d/task/*/schedstat", pid))
  read <- function(path) tryCatch(readLines(path, 1L), error = function(e) "0 0 0", warning = function(w) "0 0 0")
  if (length(files)) return(sum(as.numeric(sub(" .*", "", vapply(files, read, "")))) / 1e6)
  line <- read(sprintf("/proc/%d/stat", pid))
  if (line == "0 0 0") return(0)
  sum(as.numeric(strsplit(sub("^.*\\) ", "", line), " ")[[1L]][12:13])) * 10
}

# Of several processes. This one goes to sleep for a moment: what runs has its latest milliseconds not accounted yet.
used_cpu_ms <- function(pids) {
  if (!length(pids)) return(0)
  Sys.sleep(0.001)
  sum(vapply(pids, cpu_ms, 0))
}

available_bytes <- function() {
  as.numeric(sub("\\D+(\\d+).*", "\\1", grep("^MemAvailable", readLines("/proc/meminfo"), value = TRUE))) * 1024
}

# A session of its own, with nothing else in its heap: the numbers it prints last.
in_session <- function(code, env = character()) {
  file <- tempfile(fileext = ".R")
  on.exit(unlink(file))
  writeLines(code, file)
  output <- suppressWarnings(system2("Rscript", shQuote(file), stdout = TRUE, stderr = FALSE, env = env))
  last <- output[length(output)]
  numbers <- if (length(last)) suppressWarnings(as.numeric(strsplit(last, " ")[[1L]])) else numeric()
  if (!length(numbers) || anyNA(numbers)) stop("the session did not print its figures")
  numbers
}
