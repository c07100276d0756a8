source("helper-bench.R")

test_that("what is written is what is read", {
  samples <- rbind(fake_samples(), fake_samples(c(1.5, 2.25), "PSOCK", param = "8", param_unit = "bytes"))
  path <- withr_tempfile(environment())
  write_results(path, samples, fake_machine, left_out = "mirai (not installed)", failed = "echo: too bad")
  back <- read_results(path)
  expect_equal(back$samples, samples, ignore_attr = TRUE)
  expect_identical(back$machine, fake_machine)
  expect_identical(c(back$left_out, back$failed), c("mirai (not installed)", "echo: too bad"))
  expect_identical(readLines(path, 1L), "# setsuna-bench schema 1")
})

test_that("a bad file is refused with its name and what is wrong", {
  path <- fake_file(fake_samples())
  lines <- readLines(path)
  refused <- function(lines, why) {
    bad <- withr_tempfile(parent.frame())
    writeLines(lines, bad)
    message <- tryCatch(read_results(bad), bad_input = conditionMessage)
    expect_match(message, why)
    expect_match(message, bad, fixed = TRUE)
  }
  refused(sub("schema 1", "schema 2", lines), "schema 2, newer than")
  refused(lines[-1L], "not a result file")
  refused(character(), "not a result file")
  refused(head(lines, -1L), "cut short")
  refused(lines[-(length(lines) - 1L)], "should hold 6 samples and holds 5")
  refused(sub(",15$", ",fast", lines), "'fast', which is no number")
  refused(sub(",15$", ",15,3", lines), "10 fields, not 9")
  refused(sub("^metric,", "metrics,", lines), "the columns must be")
  refused(gsub("higher", "bigger", lines), "lower or higher, not 'bigger'")
  expect_error(read_results("/nowhere/at/all.csv"), "there is no such file")
  expect_error(read_results(tempdir()), "is a folder")
})

test_that("medians carry the ratio to setsuna in the same metric, workload and parameter", {
  medians <- medians_of(rbind(fake_samples(c(10, 20, 30)), fake_samples(c(4, 5, 6), "PSOCK"), fake_samples(7, "PSOCK", param = "2")))
  expect_identical(medians$median, c(20, 5, 7))
  expect_identical(medians$setsuna_ratio, c(1, 4, NA))
})
