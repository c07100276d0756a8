# The benchmarks' own code, and result files made by hand.

bench_root <- normalizePath(test_path("..", ".."))
for (file in c("stats.R", "r/results.R")) source(file.path(bench_root, "bench", file), local = FALSE)

fake_samples <- function(values = c(10, 11, 12, 13, 14, 15), system = "setsuna", metric = "flood", unit = "tasks/s", better = "higher",
                         param = "", param_unit = "", workload = "trivial tasks") {
  data.frame(metric, workload, system, param, param_unit, unit, better, sample = seq_along(values), value = values)
}

fake_machine <- c(date = "2026-11-28 12:00 UTC", processor = "a processor", cores = "2 usable of 0-1 online", commit = "abc")

fake_file <- function(samples, envir = parent.frame()) {
  path <- withr_tempfile(envir)
  write_results(path, samples, fake_machine)
  path
}

withr_tempfile <- function(envir) {
  path <- tempfile(fileext = ".csv")
  do.call(on.exit, list(bquote(unlink(.(path))), add = TRUE), envir = envir)
  path
}

# tools/bench as a user calls it: its exit status, with what it printed as an attribute.
tools_bench <- function(...) {
  output <- suppressWarnings(system2(file.path(bench_root, "tools/bench"), shQuote(c(...)), stdout = TRUE, stderr = TRUE))
  status <- attr(output, "status")
  structure(if (is.null(status)) 0L else as.integer(status), output = paste(output, collapse = "\n"))
}
printed <- function(run) attr(run, "output")
