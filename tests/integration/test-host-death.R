# The session is killed: nothing of it is left. And two sessions at once do not meet.

library(setsuna)
source("../../rbridge/setsuna/tests/testthat/helper-faults.R")

mark <- function() paste0("setsuna_mark_", Sys.getpid(), "_", as.integer(runif(1, 1, 1e9)))

# Processes whose environment names this mark.
marked <- function(name) {
  pids <- list.files("/proc", "^[0-9]+$")
  has <- function(pid) {
    bytes <- suppressWarnings(tryCatch(readBin(sprintf("/proc/%s/environ", pid), "raw", 1e6), error = function(e) raw()))
    bytes[bytes == 0] <- as.raw(10)
    grepl(name, rawToChar(bytes), fixed = TRUE)
  }
  as.integer(Filter(has, setdiff(pids, Sys.getpid())))
}

start_session <- function(name, code) {
  file <- tempfile(fileext = ".R")
  ready <- tempfile()
  writeLines(c("suppressMessages(library(setsuna))", code, sprintf("cat(Sys.getpid(), file = '%s')", ready),
               "Sys.sleep(600)"), file)
  system2(file.path(R.home("bin"), "Rscript"), file, wait = FALSE, stdout = FALSE, stderr = FALSE,
          env = paste0(name, "=1"))
  expect_true(becomes_true(function() file.exists(ready) && length(readLines(ready, warn = FALSE)) == 1L))
  as.integer(readLines(ready, warn = FALSE))
}

expect_nothing_left <- function(code) {
  name <- mark()
  host <- start_session(name, code)
  expect_gt(length(marked(name)), 1L)
  tools::pskill(host, 9L)
  expect_true(becomes_true(function() length(marked(name)) == 0L, 10), label = "everything of the session is gone; that")
}

test_that("a killed session leaves no process: idle", {
  expect_nothing_left("invisible(daemons(3)); mirai(1)[]")
})

test_that("a killed session leaves no process: in a flood, with processes that tasks have started", {
  expect_nothing_left(c("invisible(daemons(2))", "x <- mirai(system('sleep 1000 &'))", "x[]",
                        "m <- lapply(1:5000, function(i) mirai(Sys.sleep(0.01)))"))
})

test_that("a killed session leaves no process: in what R cannot interrupt, and without daemons", {
  expect_nothing_left(c("invisible(daemons(1))", "m <- mirai(svd(matrix(rnorm(4e6), 2000)))"))
  expect_nothing_left("m <- lapply(1:3, function(i) mirai(Sys.sleep(600)))")
})

test_that("two sessions do not meet", {
  name <- mark()
  other <- start_session(name, "invisible(daemons(2)); setsuna::everywhere(who <<- 'other')")
  withr::defer(tools::pskill(other, 9L))
  withr::defer(daemons(0))
  daemons(2)
  expect_true(no_hang(mirai(!exists("who"))[]))
  expect_length(intersect(status()$pids, marked(name)), 0L)
  tools::pskill(other, 9L)
  expect_true(becomes_true(function() length(marked(name)) == 0L, 10))
  expect_identical(no_hang(mirai(1 + 1)[]), 2)
})
