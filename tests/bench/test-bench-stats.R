source("helper-bench.R")

test_that("the spread of known numbers", {
  s <- spread(c(5, 1, 3, 2, 4))
  expect_identical(unname(s[c("min", "q25", "median", "q75", "max", "n")]), c(1, 2, 3, 4, 5, 5))
  expect_equal(s[["mad"]], 1.4826)
})

test_that("the interval of a ratio holds the true ratio about as often as it says, and leaves the random numbers alone", {
  set.seed(7)
  hits <- mean(replicate(200, {
    r <- ratio_interval(rexp(25) + 2, 2 * (rexp(25) + 2), times = 300L)
    r[["low"]] <= 0.5 && 0.5 <= r[["high"]]
  }))
  expect_gt(hits, 0.88)
  expect_identical(unname(ratio_interval(6, 3)), c(2, 2, 2))
  set.seed(1)
  expected <- runif(3)
  set.seed(1)
  ratio_interval(1:5, 2:6)
  expect_identical(runif(3), expected)
})

test_that("the rank test agrees with R's own", {
  set.seed(3)
  for (i in 1:20) {
    a <- rnorm(sample(3:12, 1))
    b <- rnorm(sample(3:12, 1), sample(0:2, 1))
    expect_equal(mann_whitney(a, b), stats::wilcox.test(a, b, exact = TRUE)$p.value)
  }
  a <- round(rnorm(40, 5, 3))
  b <- round(rnorm(40, 6, 3))
  expect_equal(mann_whitney(a, b), suppressWarnings(stats::wilcox.test(a, b, exact = FALSE)$p.value))
  expect_identical(mann_whitney(rep(1, 5), rep(1, 5)), 1)
  expect_equal(mann_whitney(1:5, 6:10), smallest_p(5, 5))
  expect_equal(smallest_p(3, 3), 0.1)
})

test_that("with ties the rank test counts the arrangements, too", {
  expect_equal(mann_whitney(rep(0, 5), rep(1, 5)), 2 / choose(10, 5))
  expect_equal(mann_whitney(c(1, 1, 2:8), c(9:17)), 2 / choose(18, 9)) # a tie on one side only changes nothing
  set.seed(12)
  for (i in 1:20) {
    a <- round(rnorm(4, 0, 1.5))
    b <- round(rnorm(5, 1, 1.5))
    ranks <- rank(c(a, b))
    sums <- utils::combn(9, 4, function(at) sum(ranks[at]))
    expect_equal(mann_whitney(a, b), min(1, 2 * min(mean(sums <= sum(ranks[1:4])), mean(sums >= sum(ranks[1:4])))))
  }
})

test_that("the rank test is wrong as rarely as it says when nothing differs", {
  set.seed(11)
  p <- replicate(2000, mann_whitney(rlnorm(8), rlnorm(8)))
  expect_lt(mean(p < 0.05), 0.065)
  expect_gt(mean(p < 0.05), 0.025)
})

test_that("tests that can never reach the level are not counted, the others are", {
  expect_identical(able_tests(c(0.1, 0.0006, 1), 0.01), c(FALSE, TRUE, FALSE))
  expect_identical(sum(able_tests(rep(smallest_p(9, 9), 150), 0.01)), 150L)
  expect_identical(sum(able_tests(rep(smallest_p(5, 5), 2), 0.01)), 0L) # two of them: each would need 0.005
  expect_identical(able_tests(numeric(), 0.01), logical())
})

test_that("Holm's correction agrees with R's own", {
  p <- c(0.01, 0.04, NA, 0.03, 0.005, 0.5)
  expect_equal(holm(p), stats::p.adjust(p, "holm"))
})

test_that("the histogram's buckets follow each other without a gap and hold what they say", {
  b <- 0:3000
  low <- hdr_lowest(b)
  expect_true(all(diff(low) > 0))
  expect_identical(hdr_bucket(low), as.numeric(b))
  expect_identical(hdr_bucket(hdr_lowest(b + 1) - 1), as.numeric(b))
  expect_identical(hdr_bucket(2^(7:43)), (0:36) * 128 + 128)
})

test_that("percentiles are within 0.4 % of the true ones, over six decades, merged or not", {
  set.seed(5)
  x <- floor(10^runif(50000, 1, 8))
  whole <- hdr_record(x)
  parts <- hdr_merge(hdr_record(x[1:20000]), hdr_record(x[20001:50000]))
  at <- c(1, 50, 90, 99, 99.9, 99.99)
  true <- sort(x)[ceiling(at / 100 * length(x))]
  expect_true(all(abs(hdr_percentile(whole, at) / true - 1) < 0.004))
  expect_identical(hdr_percentile(parts, at), hdr_percentile(whole, at))
  expect_identical(hdr_percentile(whole, c(0, 100)), range(x))
})

test_that("a percentile is only given when a value lies beyond it", {
  expect_identical(percentiles_for(100), c(50, 90, 99))
  expect_identical(percentiles_for(10000), c(50, 90, 99, 99.9, 99.99))
  expect_identical(percentiles_for(9), 50)
})

test_that("schedules and crossings", {
  expect_identical(makespan_fifo(c(3, 1, 1, 1), 2), 3)
  expect_identical(makespan_round_robin(c(3, 1, 1, 1), 2), 4)
  expect_identical(makespan_bound(c(3, 1, 1, 1), 2), 3)
  expect_equal(crossing(c(10, 1000), c(0.5, 1.5), 1), 100)
  expect_identical(crossing(c(10, 100), c(2, 3), 1), -Inf)
  expect_identical(crossing(c(10, 100), c(0.1, 0.3), 1), NA_real_)
})
