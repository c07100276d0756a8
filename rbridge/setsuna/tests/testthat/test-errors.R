# What went wrong with a task is its value.

test_that("an error of the expression is a miraiError", {
  pool(1)
  e <- collect(mirai(stop("occurred with a custom message", call. = FALSE)))
  expect_output(print(e), "^'miraiError' chr Error: occurred with a custom message$")
  expect_s3_class(e, c("miraiError", "errorValue", "try-error"), exact = TRUE)
  expect_true(is_error_value(e))
  expect_true(is_mirai_error(e))
  expect_false(is_mirai_interrupt(e))
  expect_output(print(collect(mirai(setsuna::mirai()))),
                "'miraiError' chr Error in setsuna::mirai(): missing expression, perhaps wrap in {}?", fixed = TRUE)
  expect_identical(as.character(collect(mirai(stop("keeps\n", call. = FALSE)))), "Error: keeps\n")
})

test_that("it says where: the user's calls, innermost first", {
  pool(1)
  f <- function(x) if (x > 0) stop("positive")
  e <- collect(mirai({
    f(-1)
    f(1)
  }, f = f))
  expect_identical(as.character(e), "Error in f(1): positive")
  expect_identical(e$stack.trace, list(quote(stop("positive")), quote(f(1))))
  expect_identical(conditionCall(e), quote(f(1)))
  expect_identical(conditionMessage(e), "positive")
  expect_identical(e$condition.class, c("simpleError", "error", "condition"))
  expect_identical(collect(mirai(log("a")))$stack.trace, list()) # no R function
  rethrown <- collect(mirai(tryCatch(stop("first"), error = function(e) stop("second"))))
  expect_identical(rethrown$stack.trace[[1L]], quote(stop("second")))
  expect_identical(collect(mirai(stop("top")))$stack.trace, list(quote(stop("top"))))
})

test_that("fields of the condition are kept", {
  pool(1)
  raise <- function() {
    stop(structure(class = c("special", "error", "condition"),
                   list(message = "with fields", call = quote(g()), data = 1:3, dim = "odd", names = "n")))
  }
  e <- collect(mirai(raise(), raise = raise))
  expect_identical(as.character(e), "Error in g(): with fields")
  expect_identical(e$data, 1:3)
  expect_identical(e$condition.class, c("special", "error", "condition"))
  expect_true("data" %in% utils:::.DollarNames(e, ""))
  strange <- function() stop(structure(class = c("error", "condition"), list(message = c("a", "b"), call = NULL)))
  expect_identical(as.character(collect(mirai(strange(), strange = strange))), "Error: a\nb")
})

test_that("an interrupt from outside is a miraiInterrupt", {
  pool(1)
  file <- withr::local_tempfile()
  m <- mirai({
    writeLines(as.character(Sys.getpid()), file)
    Sys.sleep(60)
  }, file = file)
  tools::pskill(pid_in(file), tools::SIGINT)
  e <- collect(m)
  expect_true(is_mirai_interrupt(e))
  expect_true(is_error_value(e))
  expect_false(is_mirai_error(e))
  expect_identical(as.character(e), "")
  expect_output(print(e), "^'miraiInterrupt' chr \"\"$")
})

test_that("the death of a process is an errorValue that says what is known", {
  pool(1)
  e <- collect(mirai(quit(status = 3)))
  expect_output(print(e), "^'errorValue' int 19 \\| Connection reset$")
  expect_identical(attr(e, "status"), 3L)
  expect_gt(attr(e, "pid"), 0L)
  e <- collect(mirai(tools::pskill(Sys.getpid(), tools::SIGKILL)))
  expect_identical(attr(e, "signal"), as.integer(tools::SIGKILL))
})

test_that("a reset resolves what is unfinished", {
  daemons(1)
  m <- mirai(Sys.sleep(60))
  daemons(0)
  expect_output(print(collect(m)), "^'errorValue' int 7 \\| Object closed$")
})

test_that("warnings and messages are no errors", {
  pool(1)
  expect_identical(collect(mirai({
    warning("w")
    message("m")
    1
  })), 1)
})

test_that("nextcode() has words for numbers", {
  expect_identical(nextcode(0), "0 | Daemon connection terminated")
  expect_identical(nextcode(c(5L, 19L)), c("5 | Timed out", "19 | Connection reset"))
  expect_identical(nextcode(99), "99 | Unknown code")
  expect_error(nextcode("a"), "'x' must be whole numbers")
})

test_that("error values fit into data frames and lists", {
  pool(1)
  e <- collect(mirai(stop("x")))
  expect_identical(nrow(data.frame(e = e)), 1L)
  expect_output(print(list(e)), "[[1]]\n'miraiError' chr Error: x\n", fixed = TRUE)
})
