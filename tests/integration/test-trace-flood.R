# A trace of more tasks than its session keeps unwritten while they come: those wait on the disk, and none is missing.

test_that("each of 600,000 tasks is in the file once", {
  folder <- withr::local_tempdir()
  file <- file.path(folder, "trace.json")
  pool(2, trace = file)
  n <- 600000L
  for (part in 1:2) no_hang(mirai_map(seq_len(n / 2L), identity)[])
  open <- suppressWarnings(Sys.readlink(list.files("/proc/self/fd", full.names = TRUE)))
  expect_true(any(startsWith(open, file.path(normalizePath(folder), "")) & endsWith(open, " (deleted)")))
  daemons(0)
  expect_identical(list.files(folder, all.files = TRUE, no.. = TRUE), "trace.json")
  ids <- system2("sed", c("-n", shQuote('s/.*"name":"evaluate".*"task":\\([0-9]*\\).*/\\1/p'), shQuote(file)), stdout = TRUE)
  expect_identical(sort(as.integer(ids)), seq_len(n))
  last <- system2("tail", c("-n", 1L, shQuote(file)), stdout = TRUE)
  expect_identical(last, "]")
})
