# What is read out of Google Benchmark's programs, by programs that print what it prints.
source("helper-bench.R")
assign("root", bench_root, globalenv())
source(file.path(bench_root, "bench/r/measure.R"))
source(file.path(bench_root, "bench/r/native.R"))

with_programs <- function(programs, code) {
  folder <- tempfile("programs")
  bench <- file.path(folder, "release", "bench")
  dir.create(bench, recursive = TRUE)
  for (name in names(programs)) {
    path <- file.path(bench, name)
    writeLines(c("#!/bin/sh", programs[[name]]), path)
    Sys.chmod(path, "755")
  }
  old <- Sys.getenv("SETSUNA_BUILD", NA)
  Sys.setenv(SETSUNA_BUILD = folder)
  on.exit({
    if (is.na(old)) Sys.unsetenv("SETSUNA_BUILD") else Sys.setenv(SETSUNA_BUILD = old)
    unlink(folder, recursive = TRUE)
  })
  force(code)
}

prints <- function(...) sprintf("echo '{\"benchmarks\": [%s]}'", paste(c(...), collapse = ", "))
one <- function(name, time, unit = "ns", more = "") {
  sprintf('{"name": "%s", "run_type": "iteration", "real_time": %s, "time_unit": "%s"%s}', name, time, unit, more)
}

test_that("each benchmark has its own time, in nanoseconds, of an item where it counts items", {
  plain <- prints(one("encode/a", 3), one("r_serialize/a", 5, "us"))
  items <- prints(one("pair", 7, "ms", ', "items_per_second": 2e6'), one("alone", 9, more = ', "bytes": 4'))
  tables <- with_programs(list(plain_bench = plain, items_bench = items), native_rounds(c("plain_bench", "items_bench"), 2L, 0.01, now() + 60))
  expect_identical(tables$plain_bench$name, rep(c("encode/a", "r_serialize/a"), 2))
  expect_equal(tables$plain_bench$time, rep(c(3, 5000), 2))
  expect_equal(tables$items_bench$time, rep(c(500, 9), 2))
})

test_that("a program that fails, hangs or has nothing is left out by name, the others are measured", {
  programs <- list(bad_bench = "exit 3", slow_bench = "exec sleep 100", empty_bench = "echo '{\"benchmarks\": []}'", good_bench = prints(one("x", 1)))
  recorded$left_out <- character()
  tables <- with_programs(programs, native_rounds(names(programs), 1L, 0.01, now()))
  expect_identical(names(tables), "good_bench")
  said <- paste(unlist(recorded$left_out), collapse = "\n")
  expect_match(said, "bad_bench ended with status 3", fixed = TRUE)
  expect_match(said, "slow_bench did not end in the 5 s that were left for it", fixed = TRUE)
  expect_match(said, "empty_bench printed no results", fixed = TRUE)
})
