# Two libraries in turn.
source("helper-bench.R")
assign("root", bench_root, globalenv())
source(file.path(bench_root, "bench/r/measure.R"))
source(file.path(bench_root, "bench/r/against.R"))

test_that("both sides run in turn, each first as often, and a process is a sample", {
  order <- character()
  run <- function(key, budget, library) {
    order <<- c(order, library)
    list(samples = fake_samples(c(1, 2, 30) * if (library == "a") 1 else 10, metric = key), left_out = "the peers", failed = NULL)
  }
  both <- run_in_turn(plan_turns("flood", 0, c(flood = 1)), list(old = "a", new = "b"), run, say = function(...) NULL)
  expect_length(order, 2L * fewest_rounds)
  expect_identical(order[1:4], c("a", "b", "b", "a"))
  expect_identical(both$old$value, rep(2, fewest_rounds))
  expect_identical(both$new$value, rep(20, fewest_rounds))
  expect_identical(as.integer(both$new$sample), seq_len(fewest_rounds))
  expect_identical(both$left_out, "the peers")
})

test_that("what a row needs beside its measuring is part of the plan", {
  plan <- plan_turns(c("a", "b"), 20, c(b = 8, a = 0))
  expect_identical(plan$rounds, c(31L, 25L))
  expect_equal(2 * plan$rounds * (plan$budget + plan$beside), c(600, 600), ignore_attr = TRUE)
  expect_identical(plan_turns("a", 0.1, c(a = 0))$rounds, fewest_rounds)
})

test_that("a row that fails with one of the two is told with its side", {
  run <- function(key, budget, library) {
    list(samples = if (library == "a") fake_samples(), left_out = character(), failed = if (library == "b") "no such function")
  }
  both <- run_in_turn(plan_turns("flood", 0, c(flood = 1)), list(old = "a", new = "b"), run, say = function(...) NULL)
  expect_identical(both$failed, "flood (new): no such function")
  expect_null(both$new)
})

test_that("the library must hold setsuna", {
  expect_error(other_library("/no/such/folder"), "there is no folder /no/such/folder")
  expect_error(other_library(tempdir()), "there is no setsuna in")
  expect_error(other_library(file.path(bench_root, "rbridge")), "there is no setsuna in") # sources, not an installed package
  run <- tools_bench("--rows=native", paste0("--against=", dirname(find.package("setsuna"))))
  expect_identical(run[1L], 2L)
  expect_match(printed(run), "leave it out of --rows")
  run <- tools_bench("--against=/no/such/folder")
  expect_identical(run[1L], 2L)
  expect_match(printed(run), "tools/bench: --against: there is no folder /no/such/folder")
})

test_that("the installed package against itself: a whole run, with the verdict of --compare on its files", {
  out <- tempfile("bench")
  on.exit(unlink(out, recursive = TRUE))
  run <- tools_bench("--minutes=0.1", "--rows=ephemeral", paste0("--against=", dirname(find.package("setsuna"))), paste0("--out=", out))
  # By chance, or by what else the machine does, it may be one; what it says of the files it wrote is what --compare says.
  expect_match(printed(run), "1 metrics in both files, 1 judged")
  expect_identical(tools_bench("--compare", file.path(out, "old.csv"), file.path(out, "results.csv"))[1L], run[1L])
})
