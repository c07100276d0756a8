source("helper-bench.R")
assign("root", bench_root, globalenv())
source(file.path(bench_root, "bench/r/measure.R"))
source(file.path(bench_root, "bench/r/peers.R"))
source(file.path(bench_root, "bench/r/native.R"))
source(file.path(bench_root, "bench/r/rows_latency.R"))

test_that("sides take turns, A B A B, and each value is told with its turn", {
  order <- character()
  side <- function(name) function(slice) {
    order <<- c(order, name)
    length(order)
  }
  told <- list()
  take_turns(list(a = side("a"), b = side("b")), 60, function(name, value, turn) told[[length(told) + 1L]] <<- c(name, value, turn), turns = 3L)
  expect_identical(order, rep(c("a", "b"), 3))
  expect_identical(told[[4L]], c("b", "4", "2"))
})

test_that("without time there is one turn; with a budget no turn is begun that would not fit", {
  count <- 0
  take_turns(list(a = function(slice) count <<- count + 1), 0, function(...) NULL)
  expect_identical(count, 1)
  slept <- 0
  take_turns(list(a = function(slice) {
    slept <<- slept + 1
    Sys.sleep(0.5)
    1
  }), 0.9, function(...) NULL, turns = 5L)
  expect_lt(slept, 3)
})

test_that("a side tells its rate, and the CPU time of processes where that is asked for", {
  busy <- function(m) for (i in seq_len(m)) while (seconds(sqrt(1)) < 0) NULL
  expect_length(rate_side(busy)(0.02), 1L)
  both <- rate_side(busy, pids = Sys.getpid())(0.05)
  expect_length(both, 2L)
  expect_gt(both[2L], 0)
  asleep <- rate_side(function(m) Sys.sleep(0.5), pids = Sys.getpid(), start = 1L)(0.2)
  expect_lt(asleep[2L], 0.4e6) # of the 500 ms it sleeps, in microseconds
})

test_that("a side is made before its first turn, which is not charged with it", {
  made <- 0
  make <- function(once) {
    made <<- made + 1
    once
  }
  side <- time_side(make(function() 1))
  expect_identical(made, 1)
  side <- rate_side(make(function(m) 1))
  expect_identical(made, 2)
})

test_that("without the peers setsuna is there alone", {
  old <- alone
  alone <<- TRUE
  on.exit(alone <<- old)
  expect_identical(names(systems_with("trip")), "setsuna")
})

test_that("there are rather few turns than such as are too short", {
  slices <- numeric()
  take_turns(list(a = function(slice) slices[length(slices) + 1L] <<- slice), 0.35, function(...) NULL, turns = 31L)
  expect_length(slices, 3L)
  expect_true(all(slices >= shortest_slice_s))
})

test_that("a side that fails is left out by name, and the others go on", {
  recorded$left_out <- character()
  told <- character()
  take_turns(list(bad = function(slice) stop("no luck"), good = function(slice) 1), 60, function(name, value, turn) told <<- c(told, name), turns = 2L)
  expect_identical(told, c("good", "good"))
  expect_identical(recorded$left_out, "bad (failed: no luck)")
})

test_that("a peer that is not installed is left out by name, not an error", {
  recorded$left_out <- character()
  add_peer("ghost", c("parallel", "no.such.package"), trip = function() 1)
  expect_false("ghost" %in% names(systems_with("trip")))
  expect_true("ghost (the R package no.such.package is not installed)" %in% recorded$left_out)
  peers$ghost <<- NULL
})

test_that("the open loop charges a stall to all the requests that were due meanwhile", {
  calls <- 0
  stall <- function() {
    calls <<- calls + 1
    if (calls == 10) Sys.sleep(0.2)
  }
  late <- open_loop(stall, 1000, 200) / 1e6 # ms
  # A closed loop would see one slow request; here the 11th waited nearly as long, and so on down.
  expect_gt(late[11L], 150)
  expect_gt(sum(late > 50), 100)
})

test_that("samples come out as a table with the file's columns", {
  recorded$samples <- list()
  emit("m", "s", c(1, 2), "us", "lower", "a, b", 8e7, "bytes")
  table <- samples_table()
  expect_identical(names(table), result_columns)
  expect_identical(table$param, rep("80000000", 2L))
  expect_identical(table$workload, rep("a; b", 2L)) # no comma in a field
  expect_identical(table$sample, c("1", "2"))
})
