# daemons(sync = TRUE): evaluation in this session.

sync_pool <- function(..., env = parent.frame()) {
  daemons(sync = TRUE, ...)
  withr::defer(daemons(0), envir = env)
}

test_that("tasks are evaluated here, with what a daemon would give them", {
  sync_pool()
  expect_identical(mirai(Sys.getpid())[], Sys.getpid())
  m <- mirai(x + y, x = 1, .args = list(y = 2))
  expect_false(unresolved(m))
  expect_identical(m$data, 3)
  f <- function() exists("only_here") && only_here == 4
  environment(f) <- globalenv()
  expect_true(mirai(f(), f = f, only_here = 4)[])
  expect_false(exists("only_here", globalenv()))
  expect_identical(mirai_map(1:3, function(i) i * 2)[.flat], c(2, 4, 6))
  expect_identical(mirai_map(data.frame(a = 1:2, b = 3:4), function(a, b, c) a + b + c, .args = list(c = 10))[.flat],
                   c(14, 16))
  expect_identical(capture.output(print(status()))[1:2], c("$connections", "[1] 1"))
  expect_identical(info()[["completed"]], 8L)
})

test_that("errors are values, with the user's calls", {
  sync_pool()
  f <- function() stop("bad")
  e <- mirai(f(), f = f)[]
  expect_output(print(e), "'miraiError' chr Error in f(): bad", fixed = TRUE)
  expect_identical(e$stack.trace, list(quote(stop("bad")), quote(f())))
  expect_identical(as.character(mirai(stop("top"))[]), "Error: top")
  expect_output(print(mirai_map(1, function(i) stop("in map"))[[1]][]), "Error in .f(1): in map", fixed = TRUE)
  expect_error(mirai_map(1:2, function(i) stop("in map"))[.stop], "In index: 1")
})

test_that("everywhere() leaves its variables to later tasks and not to this session", {
  sync_pool()
  everywhere(kept <- added + 1, added = 10)
  expect_identical(mirai(kept + added)[], 21)
  expect_identical(mirai_map(1, function(i) i + kept)[.flat], 12)
  expect_false(exists("kept"))
  expect_false(exists("added"))
})

test_that("the session's generator is not touched, and seeds give what daemons give", {
  set.seed(5)
  before <- .Random.seed
  sync_pool(seed = 42)
  here <- mirai_map(1:3, function(i) runif(2))[]
  expect_identical(.Random.seed, before)
  daemons(0)
  elsewhere <- with(daemons(2, seed = 42), mirai_map(1:3, function(i) runif(2))[])
  expect_identical(here, elsewhere)
  rm(.Random.seed, envir = globalenv())
  daemons(sync = TRUE)
  a <- mirai(runif(1))[]
  expect_false(a == mirai(runif(1))[])
  expect_false(exists(".Random.seed", globalenv()))
  expect_identical(RNGkind()[1L], "Mersenne-Twister")
  set.seed(NULL)
})

test_that("promises of values that are there", {
  skip_if_not_installed("promises")
  sync_pool()
  got <- NULL
  promises::then(mirai("v"), function(value) got <<- value)
  for (i in 1:5) later::run_now()
  expect_identical(got, "v")
})

test_that("no daemons can be added", {
  sync_pool()
  expect_error(launch_local(1), "it takes no daemons")
  expect_length(nextstream(), 7L)
})
