# mirai as promises, on the event loop of package later.

skip_if_not_installed("promises")
skip_if_not_installed("later")

run_until <- function(check, seconds = 30) {
  deadline <- Sys.time() + seconds
  while (!check() && Sys.time() < deadline) later::run_now(0.2)
  expect_true(check(), label = "what the promise should do; that it has done it")
}

test_that("a promise gets the value, or the error", {
  pool(2)
  got <- new.env()
  promises::then(mirai({
    Sys.sleep(0.1)
    "value"
  }), function(v) got$value <- v)
  promises::then(mirai(stop("no")), onRejected = function(e) got$error <- e)
  promises::then(mirai(Sys.sleep(60), .timeout = 50), onRejected = function(e) got$timeout <- conditionMessage(e))
  run_until(function() length(got) == 3L)
  expect_identical(got$value, "value")
  expect_identical(conditionMessage(got$error), "Error: no")
  expect_true(is_mirai_error(got$error$value))
  expect_identical(got$timeout, "5 | Timed out")
})

test_that("a value that is there already, and one that is asked for twice", {
  pool(1)
  m <- call_mirai(mirai(5))
  got <- NULL
  promises::then(m, function(v) got <<- c(got, v))
  slow <- mirai({
    Sys.sleep(0.1)
    6
  })
  promises::then(slow, function(v) got <<- c(got, v))
  promises::then(slow, function(v) got <<- c(got, v))
  run_until(function() length(got) == 3L)
  expect_identical(got, c(5, 6, 6))
})

test_that("it comes although this session waits for something else, or has collected the value itself", {
  pool(2)
  got <- new.env()
  m <- mirai(1)
  promises::then(m, function(v) got$meanwhile <- v)
  collect(mirai(Sys.sleep(0.2)))
  n <- mirai({
    Sys.sleep(0.1)
    2
  })
  promises::then(n, function(v) got$collected <- v)
  expect_identical(collect(n), 2)
  run_until(function() length(got) == 2L)
  expect_identical(mget(c("meanwhile", "collected"), got), list(meanwhile = 1, collected = 2))
})

test_that("cancelling and resetting reject", {
  daemons(1)
  withr::defer(daemons(0))
  got <- new.env()
  m <- mirai(Sys.sleep(60))
  n <- mirai(Sys.sleep(60))
  promises::then(m, onRejected = function(e) got$cancelled <- conditionMessage(e))
  promises::then(n, onRejected = function(e) got$reset <- conditionMessage(e))
  stop_mirai(m)
  run_until(function() length(got) == 1L)
  daemons(0)
  run_until(function() length(got) == 2L)
  expect_identical(got$cancelled, "20 | Operation canceled")
  expect_identical(got$reset, "7 | Object closed")
})

test_that("many at once, each once", {
  pool(2)
  seen <- integer()
  for (i in 1:500) promises::then(mirai(i, i = i), function(v) seen <<- c(seen, v))
  run_until(function() length(seen) >= 500L)
  later::run_now()
  expect_identical(sort(seen), 1:500)
  expect_length(ls(setsuna:::.waiting), 0L)
})

test_that("a map is a promise of all its values", {
  pool(2)
  got <- new.env()
  promises::then(promises::as.promise(mirai_map(c(a = 1, b = 2), function(x) x * 10)), function(v) got$all <- v)
  promises::then(promises::as.promise(mirai_map(1:2, function(i) if (i == 2) stop("second") else i)),
                 onRejected = function(e) got$error <- conditionMessage(e))
  run_until(function() length(got) == 2L)
  expect_identical(got$all, list(a = 10, b = 20))
  expect_identical(got$error, "Error in .f(2L): second")
})

test_that("mirai_map(.promise = )", {
  pool(2)
  got <- NULL
  wrong <- NULL
  m <- mirai_map(1:4, function(i) if (i == 3) stop("third") else i,
                 .promise = list(function(v) got <<- c(got, v), function(e) wrong <<- conditionMessage(e)))
  mirai_map(5, function(i) i, .promise = function(v) got <<- c(got, v))
  run_until(function() length(got) == 4L && !is.null(wrong))
  expect_setequal(got, c(1, 2, 4, 5))
  expect_match(wrong, "third")
  expect_identical(unlist(m[c(1, 2, 4)][]), c(1L, 2L, 4L))
})

test_that("without daemons", {
  got <- NULL
  promises::then(mirai("fresh"), function(v) got <<- v)
  run_until(function() !is.null(got))
  expect_identical(got, "fresh")
})

test_that("a loop of one's own", {
  pool(1)
  got <- NULL
  later::with_temp_loop({
    promises::then(mirai({
      Sys.sleep(0.1)
      "there"
    }), function(v) got <<- v)
    deadline <- Sys.time() + 30
    while (is.null(got) && Sys.time() < deadline) later::run_now(0.2)
  })
  expect_identical(got, "there")
})

test_that("is.promising() knows mirai where it is generic", {
  skip_if(!any(grepl("UseMethod", deparse(promises::is.promising))), "is.promising() of this version is not generic")
  expect_true(promises::is.promising(mirai(1)))
  expect_true(promises::is.promising(mirai_map(1, identity)))
})

test_that("the methods are there whichever package is loaded first", {
  code <- paste("library(promises); library(setsuna);",
                "stopifnot(is.function(getS3method('as.promise', 'mirai', envir = asNamespace('promises'))))")
  expect_identical(system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)),
                           env = paste0("R_LIBS=", paste(.libPaths(), collapse = ":"))), 0L)
})
