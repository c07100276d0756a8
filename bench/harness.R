# What the comparison scripts share: rows that measure two sides in turn, their table, their workloads.

suppressMessages(library(setsuna))
suppressMessages(library(parallel))

args <- commandArgs(TRUE)
quick <- "--quick" %in% args
value_of <- function(name, default) {
  found <- sub(paste0("^--", name, "="), "", grep(paste0("^--", name, "="), args, value = TRUE))
  if (length(found)) found[length(found)] else default
}
only <- strsplit(value_of("rows", ""), ",")[[1L]]
root <- normalizePath(file.path(here, "..")) # `here`: the folder of the script that sources this
runs <- if (quick) 3L else 5L
cores <- detectCores()

now <- function() proc.time()[["elapsed"]]
seconds <- function(expr) {
  start <- now()
  force(expr)
  now() - start
}

# ---- rows: each is a function that gives list(name, unit, ours, peer, peer_name, target, better), ours and peer being all samples ----

rows <- list()
add_row <- function(key, f) rows[[key]] <<- f

pairs <- function(ours, peer, n = runs) {
  a <- b <- numeric(n)
  for (i in seq_len(n)) {
    a[i] <- ours()
    b[i] <- peer()
  }
  list(a, b)
}

row <- function(name, unit, samples, peer, target, better) {
  list(name = name, unit = unit, ours = samples[[1L]], peer = samples[[2L]], peer_name = peer, target = target,
       better = better)
}

# Google Benchmark's own number, in nanoseconds or items a second.
native <- function(program, filter, field = "real_time") {
  path <- file.path(root, "build/release/bench", program)
  if (!file.exists(path)) return(NA_real_)
  text <- suppressWarnings(system2(path, c(paste0("--benchmark_filter=", filter), "--benchmark_format=csv",
                                           "--benchmark_min_time=0.3"), stdout = TRUE, stderr = FALSE))
  table <- utils::read.csv(text = text[grep("^name,", text)[1L]:length(text)])
  table[[field]][1L]
}

# ---- workloads that several scripts measure ----

round_trips <- function(n) {
  for (i in 1:200) mirai(x + 1, x = 1)[]
  samples <- numeric(n)
  for (i in seq_len(n)) {
    start <- Sys.time()
    mirai(x + 1, x = 1)[]
    samples[i] <- as.numeric(Sys.time() - start, units = "secs") * 1e6
  }
  median(samples)
}

flood <- function(n) {
  function() {
    tasks <- vector("list", n)
    took <- seconds({
      for (i in seq_len(n)) tasks[[i]] <- mirai(x + 1, x = i)
      values <- collect_mirai(tasks)
    })
    stopifnot(identical(values[[n]], n + 1))
    n / took
  }
}

map_rate <- function(n = 100000L) {
  function() {
    took <- seconds(values <- mirai_map(seq_len(n), function(x) x)[])
    stopifnot(length(values) == n)
    n / took
  }
}

echo_ms <- function(x) {
  function() {
    gc(full = FALSE)
    took <- seconds(y <- mirai(x, x = x)[]) * 1000
    stopifnot(identical(y[c(1, length(x))], x[c(1, length(x))]))
    took
  }
}

cpu_ticks <- function(pid) {
  fields <- strsplit(sub("^.*\\) ", "", readLines(sprintf("/proc/%d/stat", pid))), " ")[[1L]]
  sum(as.numeric(fields[12:13]))
}

# ---- run ----

machine <- function() {
  model <- sub("^model name\\s*:\\s*", "", grep("^model name", readLines("/proc/cpuinfo"), value = TRUE)[1L])
  sprintf("%s, %d cores, Linux %s, %s, %s", model, cores, Sys.info()[["release"]], R.version.string, format(Sys.time(), "%Y-%m-%d"))
}

# Measures the rows, prints their table and writes it.
run_rows <- function(csv) {
  cat(machine(), "\n\n")
  results <- list()
  for (key in names(rows)) {
    if (length(only) && !key %in% only) next
    cat(key, "...\n")
    r <- tryCatch(rows[[key]](), error = function(e) {
      cat("  failed:", conditionMessage(e), "\n")
      NULL
    })
    if (!is.null(r)) {
      results[[key]] <- data.frame(
        key = key, what = r$name, unit = r$unit, ours = median(r$ours), ours_min = min(r$ours), ours_max = max(r$ours),
        peer = r$peer_name, peers = median(r$peer), ratio = median(r$ours) / median(r$peer),
        better = r$better, target = r$target, runs = length(r$ours)
      )
    }
  }
  table <- do.call(rbind, results)
  short <- function(x) formatC(x, format = "fg", digits = 4, big.mark = ",")
  cat("\n", sprintf("%-58s %14s %-12s %26s %14s %9s  %s\n", "what", "setsuna", "unit", "peer", "peer's", "ratio", "target"), sep = "")
  for (i in seq_len(nrow(table))) with(table[i, ], cat(sprintf(
    "%-58s %14s %-12s %26s %14s %9s  %s\n", what, short(ours), substr(unit, 1, 12), peer, short(peers), short(ratio), target
  )))
  utils::write.csv(cbind(table, machine = machine()), csv, row.names = FALSE)
  cat("\nwritten: ", csv, "\n", sep = "")
}
