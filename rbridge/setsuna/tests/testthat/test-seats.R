# A URL for each daemon: a place for one at a time.

dial_seat <- function(url) {
  code <- sprintf("setsuna::daemon('%s')", url)
  file <- tempfile("dial-")
  system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), wait = FALSE, stdout = file, stderr = file,
          env = paste0("R_LIBS=", paste(.libPaths(), collapse = ":")))
  file
}

says <- function(file, text) {
  becomes_true(function() file.exists(file) && any(grepl(text, readLines(file, warn = FALSE), fixed = TRUE)))
}

matrix_of <- function() unname(status()$daemons[, c("online", "instance")])

test_that("n URLs are made from one", {
  expect_identical(.expand_urls(2L, "tcp://h:5555"), c("tcp://h:5555", "tcp://h:5556"))
  expect_identical(.expand_urls(2L, "tls+tcp://[::1]:0"), rep("tls+tcp://[::1]:0", 2))
  expect_identical(.expand_urls(2L, "ws://h:5555"), c("ws://h:5555/1", "ws://h:5555/2"))
  expect_identical(.expand_urls(2L, "wss://h:5555/path/"), c("wss://h:5555/path/1", "wss://h:5555/path/2"))
  expect_identical(.expand_urls(2L, "abstract://a"), c("abstract://a-1", "abstract://a-2"))
  expect_identical(.expand_urls(1L, "tcp://h:5555"), "tcp://h:5555")
  expect_identical(.expand_urls(NULL, c("tcp://h:1", "ws://h:2")), c("tcp://h:1", "ws://h:2"))
  expect_error(.expand_urls(3L, c("tcp://h:1", "tcp://h:2")), "'n' is 3 and 'url' has 2 URLs", fixed = TRUE)
  expect_error(.expand_urls(NULL, c("tcp://h:1", "tcp://h:1")), "twice", fixed = TRUE)
  expect_error(.expand_urls(3L, "tcp://h:65534"), "not 3 ports", fixed = TRUE)
  expect_error(.expand_urls(3L, "tcp://h"), "must end with a port", fixed = TRUE)
  expect_error(daemons(2, url = ""), "'url' must be text", fixed = TRUE)
  expect_error(daemons(url = c("abstract://a", NA)), "'url' must be text", fixed = TRUE)
})

test_that("each URL takes one daemon, local ones among them", {
  withr::defer(daemons(0))
  url <- local_url()
  expect_output(print(daemons(n = 3, url = url)), "[1] 3", fixed = TRUE)
  expect_identical(rownames(status()$daemons), paste0(url, "-", 1:3))
  expect_identical(matrix_of(), matrix(0L, 3L, 2L))
  dial_seat(paste0(url, "-2"))
  no_hang(everywhere({}, .min = 1))
  expect_identical(matrix_of(), rbind(c(0L, 0L), c(1L, 1L), c(0L, 0L)))
  second <- dial_seat(paste0(url, "-2"))
  expect_true(says(second, "another daemon has this URL"))
  launch_local(1)
  expect_identical(matrix_of(), rbind(c(1L, 1L), c(1L, 1L), c(0L, 0L)))
  expect_length(unique(unlist(on_each(2, function() Sys.getpid()))), 2L)
  # The place of one that has gone is free.
  tools::pskill(status()$pids[2L], tools::SIGKILL)
  expect_true(becomes_true(function() status()$daemons[2L, "online"] == 0L))
  expect_identical(status()$daemons[2L, "instance"], 1L)
  dial_seat(paste0(url, "-2"))
  expect_true(becomes_true(function() identical(matrix_of()[2L, ], c(1L, 2L))))
})

test_that("saisei() moves a place to another URL", {
  withr::defer(daemons(0))
  urls <- c(local_url(), paste0("ipc://", tempfile("seat-")))
  daemons(url = urls)
  expect_identical(nextget("urls"), urls)
  moved <- c(saisei(1), saisei(2))
  expect_false(any(moved %in% urls))
  expect_identical(rownames(status()$daemons), moved)
  expect_true(becomes_true(function() !file.exists(sub("ipc://", "", urls[2L], fixed = TRUE))))
  refused <- dial_seat(urls[1L])
  expect_true(says(refused, "nobody listens"))
  for (url in moved) dial_seat(url)
  no_hang(everywhere({}, .min = 2))
  expect_null(saisei(1))
  expect_false(saisei(1, force = TRUE) == moved[1L])
  expect_true(becomes_true(function() info()[["connections"]] == 1L))
})

test_that("without dispatcher the value is the URLs", {
  withr::defer(daemons(0))
  urls <- c(local_url(), local_url())
  expect_identical(unclass(daemons(url = urls, dispatcher = FALSE))[1:2], urls)
  expect_identical(status()$daemons, urls)
})
