# Runs one test file in this process and appends a line for each test to a results file:
#   Rscript tools/testthat.R FILE RESULTS        line: passed|failed|skipped <tab> file: test <tab> first message
args <- commandArgs(TRUE)
suppressPackageStartupMessages({
  library(testthat)
  library(setsuna)
})
Sys.setenv(NOT_CRAN = "true")

one_line <- function(x) substr(gsub("[[:space:]]+", " ", paste(x, collapse = " ")), 1L, 200L)

outcome <- function(test) {
  kinds <- vapply(test$results, function(r) class(r)[1L], "")
  bad <- kinds %in% c("expectation_failure", "expectation_error")
  skip <- kinds == "expectation_skip"
  status <- if (any(bad)) "failed" else if (any(skip)) "skipped" else "passed"
  why <- test$results[if (any(bad)) bad else skip]
  paste(status, paste0(basename(args[1L]), ": ", one_line(test$test)), if (length(why)) one_line(why[[1L]]$message) else "",
        sep = "\t")
}

results <- test_file(args[1L], reporter = "check", package = "setsuna", load_package = "installed",
                     stop_on_failure = FALSE)
writeLines(vapply(results, outcome, ""), con <- file(args[2L], "a"))
close(con)
