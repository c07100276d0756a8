source("helper-bench.R")
source(file.path(bench_root, "bench/r/compare_results.R"))

base <- c(100, 101, 102, 103, 104, 105, 106)

test_that("a change is a regression only if it is for the worse, large and significant", {
  verdict <- function(new, better = "higher", old = base) {
    compare_samples(fake_samples(old, better = better), fake_samples(new, better = better))$verdict
  }
  expect_identical(verdict(base * 0.8), "REGRESSION")
  expect_identical(verdict(base * 1.2), "better")
  expect_identical(verdict(base * 1.2, "lower"), "REGRESSION")
  expect_identical(verdict(base * 0.8, "lower"), "better")
  expect_identical(verdict(base - 4.99), "") # too small a change
  expect_identical(verdict(c(50, 150, 60, 140, 70, 90, 130)), "") # scattered
  expect_identical(verdict(base[1:3] * 0.5, old = base[1:3]), "too few samples: not judged")
  expect_identical(verdict(50, old = 100), "one sample: not judged")
  expect_identical(verdict(c(5, 5, 5, 5, 5), "lower", c(0, 0, 0, 0, 0)), "REGRESSION") # from nothing to something
})

# A run with `count` metrics, each around 100 with `n` samples.
many <- function(count, n = 11L, sd = 8) {
  do.call(rbind, lapply(seq_len(count), function(i) fake_samples(100 + sd * stats::rnorm(n), metric = paste0("m", i))))
}

test_that("the same code is called worse as rarely as the level says, however many metrics there are", {
  set.seed(21)
  alarms <- replicate(100, any(compare_samples(many(40), many(40))$verdict == "REGRESSION"))
  expect_lte(sum(alarms), 4) # at most 1 in 100 in the long run; one by one it would be 18
})

test_that("one real regression among many metrics is found, and only that", {
  set.seed(22)
  found <- replicate(20, {
    new <- many(60)
    slow <- new$metric == "m7"
    new$value[slow] <- new$value[slow] * 0.75
    table <- compare_samples(many(60), new)
    identical(table$metric[table$verdict == "REGRESSION"], "m7")
  })
  expect_gte(sum(found), 18)
})

test_that("metrics with few samples do not cost the others their verdict, and are said not to be judged", {
  set.seed(23)
  old <- rbind(many(100, n = 3L), fake_samples(base), fake_samples(5, metric = "once"))
  new <- old
  new$value[new$metric %in% c("flood", "once")] <- new$value[new$metric %in% c("flood", "once")] / 2
  run <- tools_bench("--compare", fake_file(old), fake_file(new))
  expect_identical(run[1L], 1L)
  expect_match(printed(run), "102 metrics in both files, 1 judged")
  expect_match(printed(run), "flood .* 7/7 .* REGRESSION")
  expect_match(printed(run), "once .* 1/1 .* one sample: not judged")
  expect_match(printed(run), "m1 .* 3/3 .* too few samples: not judged")
  expect_match(printed(run), "101 could not be judged")
  expect_match(printed(run), "1 regression")
})

test_that("the exit status tells a regression from none", {
  old <- fake_file(fake_samples(base))
  worse <- fake_file(fake_samples(base * 0.8))
  run <- tools_bench("--compare", old, worse)
  expect_identical(run[1L], 1L)
  expect_match(printed(run), "REGRESSION")
  expect_match(printed(run), "1 regression")
  expect_identical(tools_bench("--compare", old, worse, "--threshold=30")[1L], 0L)
  expect_identical(tools_bench("--compare", worse, old)[1L], 0L)
  same <- tools_bench("--compare", old, old)
  expect_identical(same[1L], 0L)
  expect_match(printed(same), "no regression")
})

test_that("a peer that got slower is no regression, but is told of", {
  both <- function(factor) fake_file(rbind(fake_samples(base), fake_samples(base * factor, "PSOCK")), parent.frame())
  run <- tools_bench("--compare", both(1), both(0.5))
  expect_identical(run[1L], 0L)
  expect_match(printed(run), "the machine was not the same")
})

test_that("what the other systems lost as well is not held against setsuna", {
  run <- function(ours, others) {
    side <- function(f, g) fake_file(rbind(fake_samples(base * f), fake_samples(base * g, "PSOCK")), parent.frame(2))
    tools_bench("--compare", side(1, 1), side(ours, others))
  }
  busy <- run(0.8, 0.8)
  expect_identical(busy[1L], 0L)
  expect_match(printed(busy), "got worse by 20.0 % at the median: the machine was not the same")
  expect_match(printed(busy), "so did the others")
  expect_identical(run(0.6, 0.8)[1L], 1L)
  expect_identical(run(0.8, 1.2)[1L], 1L)
})

test_that("only others in the same row excuse, with samples enough, by more than the threshold, and not the untraced side", {
  verdict <- function(others, factor = 0.8, ...) {
    old <- rbind(fake_samples(base), others)
    new <- rbind(fake_samples(base * factor), transform(others, value = value * 0.8))
    compare_samples(old, new, ...)$verdict[1L]
  }
  expect_identical(verdict(fake_samples(base, "PSOCK")), "so did the others")
  expect_identical(verdict(fake_samples(base, "PSOCK"), excuse = FALSE), "REGRESSION")
  expect_identical(verdict(fake_samples(base, "PSOCK", metric = "map")), "REGRESSION")
  expect_identical(verdict(fake_samples(base, "PSOCK", param = "8")), "REGRESSION")
  expect_identical(verdict(fake_samples(base[1:4], "PSOCK")), "REGRESSION")
  expect_identical(verdict(fake_samples(base, "untraced")), "REGRESSION")
  expect_identical(verdict(fake_samples(base, "PSOCK"), threshold = 22), "")
  # Times that doubled are no excuse for a rate that fell to a tenth.
  slow <- fake_samples(base, "PSOCK", better = "lower")
  expect_identical(compare_samples(rbind(fake_samples(base), slow), rbind(fake_samples(base / 10), transform(slow, value = value * 2)))$verdict[1L],
                   "REGRESSION")
})

test_that("bad input ends with status 2 and says which and what", {
  good <- fake_file(fake_samples(base))
  newer <- withr_tempfile(environment())
  writeLines(sub("schema 1", "schema 9", readLines(good)), newer)
  short <- withr_tempfile(environment())
  writeLines(head(readLines(good), -2L), short)
  other <- fake_file(fake_samples(base, metric = "something else"))
  refused <- function(why, ...) {
    run <- tools_bench("--compare", ...)
    expect_identical(run[1L], 2L)
    expect_match(printed(run), why)
  }
  refused("no such file", good, "/nowhere.csv")
  refused("schema 9, newer", newer, good)
  refused("damaged", good, short)
  refused("no metric of setsuna in common", good, other)
  refused("needs two result files, OLD and NEW; given: 1", good)
  refused("--threshold must be a number from 0 to 1000, not 'much'", good, good, "--threshold=much")
  refused("unknown argument '--treshold=3'", good, good, "--treshold=3")
})
