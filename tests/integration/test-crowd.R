# A host with idle daemons that one program plays (tests/embed/idle_daemons_main.cpp), a thousand of them or a few.

# Connects them to the profile in force. Gives the file of what the program prints.
start_idle <- function(n, frame = parent.frame()) {
  build <- Sys.getenv("SETSUNA_BUILD", file.path("..", "..", "build"))
  program <- file.path(build, "release", "tests", "embed", "idle_daemons_main")
  if (!file.exists(program)) skip(paste0("needs ", program, " (tools/setup builds it)"))
  token <- sub(".*token='([0-9a-f]+)'.*", "\\1", launch_remote(status()$url[1L]))
  answer <- withr::local_tempfile(.local_envir = frame)
  system(sprintf("echo %s | %s %s %d > %s", token, shQuote(program), status()$url[1L], n, shQuote(answer)), wait = FALSE)
  expect_true(becomes_true(function() file.exists(answer) && length(readLines(answer)) == 1L))
  expect_identical(readLines(answer), "connected")
  expect_true(becomes_true(function() info()[["connections"]] == n))
  answer
}

test_that("a thousand connected daemons that do nothing are shown, do not disturb and leave nothing", {
  limit <- system("ulimit -Hn", intern = TRUE)
  if (limit != "unlimited" && as.numeric(limit) < 3000) skip("the hard limit of open files (ulimit -Hn) is too low for 1,000 sockets")
  daemons(url = "tcp://127.0.0.1:0", dispatcher = FALSE)
  withr::defer(daemons(0))
  open_files <- function() length(list.files("/proc/self/fd"))
  before <- open_files()
  start_idle(1000L)
  expect_identical(status()$connections, 1000L)
  expect_length(status()$pids, 1000L)
  daemons(0)
  expect_true(becomes_true(function() open_files() <= before))
})

# A daemon acts on the first word: one that is told to stop, and only then that it is for good, waits for the next host.
test_that("daemons(NULL) tells each at once that there will be no other host, daemons(0) tells none so", {
  said <- function(n) {
    daemons(url = "tcp://127.0.0.1:0")
    withr::defer(daemons(0))
    answer <- start_idle(5L)
    daemons(n)
    expect_true(becomes_true(function() length(readLines(answer)) == 2L))
    readLines(answer)[2L]
  }
  expect_identical(said(NULL), "5 told to stop, 5 for good")
  expect_identical(said(0), "5 told to stop, 0 for good")
})
