# Compute profiles: names, with_daemons(), local_daemons(), with().

test_that("profiles are apart", {
  pool(1)
  daemons(2, .compute = "other")
  withr::defer(daemons(0, .compute = "other"))
  expect_identical(nrow(status()$daemons), 1L)
  expect_identical(nrow(status("other")$daemons), 2L)
  expect_true(collect(mirai(Sys.getpid(), .compute = "other")) %in% status("other")$pids)
  expect_true(collect(mirai(Sys.getpid(), .compute = "default")) %in% status()$pids)
  daemons(0, .compute = "other")
  expect_identical(status("other")$connections, 0L)
  expect_identical(nrow(status()$daemons), 1L)
})

test_that("after a reset a known profile falls back to fresh processes", {
  daemons(1, .compute = "other")
  daemons(0, .compute = "other")
  expect_identical(collect(mirai(5, .compute = "other")), 5)
})

test_that("with() resets afterwards, also after an error", {
  expect_identical(no_hang(with(daemons(2), {
    n <- nrow(status()$daemons)
    c(n, mirai(5)[])
  })), c(2, 5))
  expect_identical(n, 2L)
  expect_false(daemons_set())
  expect_error(with(daemons(1), stop("in between")), "in between")
  expect_false(daemons_set())
  value <- with(daemons(1, .compute = "other"), c(collect(mirai(Sys.getpid())), status()$pids))
  expect_identical(value[1L], value[2L])
  expect_false(daemons_set("other"))
})

test_that("with_daemons() and local_daemons() say which profile is meant", {
  daemons(1, .compute = "a")
  daemons(1, .compute = "b")
  withr::defer({
    daemons(0, .compute = "a")
    daemons(0, .compute = "b")
  })
  pid <- function() collect(mirai(Sys.getpid()))
  expect_identical(with_daemons("a", pid()), status("a")$pids)
  expect_identical(with_daemons("a", with_daemons("b", pid())), status("b")$pids)
  f <- function() {
    local_daemons("b")
    expect_identical(nextget("pids"), status("b")$pids)
    pid()
  }
  expect_identical(with_daemons("a", c(f(), pid())), c(status("b")$pids, status("a")$pids))
  expect_error(with_daemons("a", stop("no")), "no")
  expect_false(daemons_set())
  expect_error(with_daemons("unknown", 1), "No daemons set for the 'unknown' compute profile", fixed = TRUE)
  expect_error(local_daemons(5), "'.compute' must be one string, not 5", fixed = TRUE)
})

test_that("require_daemons() says what to do, on behalf of its caller", {
  expect_error(require_daemons(), "No daemons set. Use e.g. setsuna::daemons(6) to set 6 local daemons.", fixed = TRUE)
  f <- function() require_daemons(call = environment())
  e <- tryCatch(f(), error = identity)
  expect_identical(conditionCall(e), quote(f()))
  expect_error(require_daemons("gpu"), "daemons(6, .compute = \"gpu\")", fixed = TRUE)
  pool(1)
  expect_identical(withVisible(require_daemons()), list(value = TRUE, visible = FALSE))
  expect_true(daemons_set())
  expect_false(daemons_set("gpu"))
})

test_that("on_daemon() tells where it is", {
  pool(1)
  expect_false(on_daemon())
  expect_true(collect(mirai(setsuna::on_daemon())))
})
