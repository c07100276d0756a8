# tune(): what it concludes from samples, and the whole of it with a tiny budget.

# Without chance: costs around `middle`, spread evenly.
around <- function(middle, spread = 0.02, n = 8L) middle * (1 + spread * seq(-1, 1, length.out = n))

test_that("a clear gain is chosen, and the largest of several", {
  found <- .tune_decide(list("0" = around(100), "20" = around(80), "50" = around(60)), "0")
  expect_identical(found$chosen, "50")
  row <- found$table[found$table$value == "50", ]
  expect_equal(row$gain, 0.4, tolerance = 0.01)
  expect_lt(row$low, 0.4)
  expect_gt(row$high, 0.4)
  expect_lt(row$p, 0.01)
  expect_match(found$why, "better than the default")
})

test_that("of values that are as good as each other the preferred one is chosen", {
  costs <- list("0" = around(100, 0.1), "20" = around(61, 0.1), "200" = around(60, 0.1), "500" = around(80, 0.1))
  expect_identical(.tune_decide(costs, "0")$chosen, "20")
  expect_identical(.tune_decide(costs[c(1, 3, 2, 4)], "0")$chosen, "200")
})

test_that("without a gain, with noise, or with too little the default stays", {
  expect_identical(.tune_decide(list(a = around(100), b = around(130)), "a")$chosen, "a")
  expect_match(.tune_decide(list(a = around(100), b = around(130)), "a")$why, "nothing is better")
  noisy <- .tune_decide(list(a = around(100, 0.5), b = around(95, 0.5)), "a")
  expect_identical(noisy$chosen, "a")
  expect_match(noisy$why, "may be chance")
  small <- .tune_decide(list(a = around(100, 0.001), b = around(99, 0.001)), "a")
  expect_identical(small$chosen, "a")
  expect_match(small$why, "too little")
  same <- .tune_decide(list(a = rep(5, 8), b = rep(5, 8)), "a")
  expect_identical(same$chosen, "a")
})

test_that("few samples decide nothing", {
  expect_identical(.tune_decide(list(a = around(100, n = 3L), b = around(50, n = 3L)), "a")$chosen, "a")
  expect_match(.tune_decide(list(a = 1, b = 0.5), "a")$why, "too few samples")
  expect_identical(.tune_decide(list(a = around(100, n = .tune_fewest_rounds), b = around(50, n = .tune_fewest_rounds)), "a")$chosen, "b")
})

test_that("many values are no lottery: the level holds for all of them together", {
  a <- c(10, 11, 12, 13, 14, 15)
  b <- c(9, 9.5, 10.5, 11.5, 12.5, 9.8)
  alone <- .tune_decide(list(a = a, b = b), "a")
  others <- stats::setNames(rep(list(a), 6L), letters[3:8])
  many <- .tune_decide(c(list(a = a, b = b), others), "a")
  expect_gt(many$table$p[2L], alone$table$p[2L])
})

test_that("what saves memory is no choice where it is much slower", {
  costs <- list(a = around(100), b = around(50), c = around(80))
  times <- list(a = around(10), b = around(30), c = around(10.5))
  expect_identical(.tune_decide(costs, "a", times)$chosen, "c")
  expect_identical(.tune_decide(costs[1:2], "a", times[1:2])$chosen, "a")
  expect_match(.tune_decide(costs[1:2], "a", times[1:2])$why, "more than 25 % slower")
})

test_that("costs of nothing at all are compared as well", {
  found <- .tune_decide(list(a = around(100), b = rep(0, 8L)), "a")
  expect_identical(found$chosen, "b")
  expect_equal(found$table$gain[2L], 1)
})

test_that("values take turns in changing order", {
  orders <- lapply(0:3, .tune_order, names = c("a", "b", "c"))
  for (order in orders) expect_setequal(order, c("a", "b", "c"))
  expect_gt(length(unique(orders)), 2L)
})

test_that("arguments are checked", {
  expect_error(tune("speed"), "'goal' must be one of \"latency\", \"throughput\", \"memory\", \"power\", not the text \"speed\"")
  expect_error(tune(knobs = "slot"), "there is no knob 'slot': there are spin")
  expect_error(tune(knobs = 3), "'knobs' must be names of knobs")
  expect_error(tune(quick = NA), "'quick' must be TRUE or FALSE")
  expect_error(tune(out = "/no/such/folder/x.json"), "no file can be made in the directory '/no/such/folder'")
  expect_error(tune(plot = "x.pdf"), "ends in .svg or .png")
})

test_that("every knob can be tuned, for goals and work that exist", {
  table <- .knob_table()
  expect_setequal(names(.tune_plan), table$name)
  expect_true(all(unlist(.tune_goals) %in% table$name))
  expect_true(all(vapply(.tune_plan, `[[`, "", "work") %in% names(.tune_works)))
  for (name in names(.tune_plan)) for (value in .tune_plan[[name]]$values)
    expect_identical(.knob_check(name, value, table, "the plan"), value)
  expect_setequal(names(.tune_units), names(.tune_goals))
})

tiny <- list(rounds = 1L, scale = 0.002, seconds = 20)

test_that("each goal is measured, and the session's random numbers and profiles are left alone", {
  set.seed(1)
  before <- .Random.seed
  for (goal in names(.tune_goals)) {
    sample <- .tune_sample(goal, "letter", list(inline_bytes = 128), 0.002, n = 1L)
    expect_named(sample, c("cost", "time"))
    expect_gte(sample[["cost"]], 0)
    expect_gt(sample[["time"]], 0)
  }
  expect_identical(.Random.seed, before)
  expect_false(daemons_set(.tune_profile))
})

test_that("a whole run writes a configuration that daemons() takes, and plots", {
  result <- .tune_run("latency", c("inline_bytes", "codec"), tiny, progress = FALSE)
  expect_s3_class(result, "setsunaTuning")
  expect_named(result$knobs, c("inline_bytes", "codec"))
  expect_identical(result$config, list()) # one sample each decides nothing
  expect_output(print(result), "Goal: latency.*inline_bytes.*codec: native.*Configuration: the defaults")
  result$config <- list(inline_bytes = 128)
  path <- tempfile()
  .config_write(path, result$config, .tune_comment(result))
  daemons(1, config = path, .compute = "tuned")
  expect_identical(status("tuned")$config$inline_bytes, 128)
  daemons(0, .compute = "tuned")
  svg <- tempfile(fileext = ".svg")
  .tune_plot_file(result, svg)
  expect_match(paste(readLines(svg), collapse = ""), "^<svg .*inline_bytes.*</svg>$")
  skip_if_not(capabilities("png"), "this R writes PNG")
  png <- tempfile(fileext = ".png")
  .tune_plot_file(result, png)
  expect_identical(readBin(png, "raw", 4L), as.raw(c(0x89, 0x50, 0x4e, 0x47)))
})

test_that("knobs of the session are measured in sessions of their own", {
  sample <- .tune_sample_apart("latency", "small", list(reactor = "epoll"), 0.002)
  expect_gt(sample[["cost"]], 0)
  expect_error(.tune_sample_apart("latency", "small", list(reactor = "kqueue"), 0.002), "'reactor'")
})

test_that("setsuna tune does the same from the command line", {
  setsuna <- file.path(dirname(.daemon_program()), "setsuna")
  said <- suppressWarnings(system2(setsuna, c("tune", "--goal=speed"), stdout = TRUE, stderr = TRUE))
  expect_match(said, "setsuna tune: 'goal' must be one of", all = FALSE)
  expect_identical(attr(said, "status"), 1L)
  said <- suppressWarnings(system2(setsuna, c("tune", "--speed=1"), stdout = TRUE, stderr = TRUE))
  expect_match(said, "setsuna tune: .*'--speed'.*\\(see setsuna tune --help\\)", all = FALSE)
  expect_identical(attr(said, "status"), 64L)
  help <- system2(setsuna, c("tune", "--help"), stdout = TRUE)
  expect_match(help, "^setsuna tune \\[OPTION", all = FALSE)
})
