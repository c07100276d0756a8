# mirai(): what it captures, what the task sees, what the object is.

pool_of_one <- function(env = parent.frame()) pool(1, env = env)

test_that("the expression is not evaluated here", {
  pool_of_one()
  expect_identical(mirai(stop)[], stop)
  m <- mirai({
    Sys.getpid()
  })
  expect_s3_class(m, "mirai")
  expect_false(collect(m) == Sys.getpid())
})

test_that("a symbol that is bound to a language object stands for it", {
  pool_of_one()
  expr <- quote(a + b)
  expect_identical(collect(mirai(expr, a = 1, b = 2)), 3)
  calls <- expression(a <- 5, a + 1)
  expect_identical(collect(mirai(calls)), 6)
  symbol <- quote(pi)
  expect_identical(collect(mirai(symbol)), pi)
  not_language <- 7
  expect_identical(collect(mirai(not_language, not_language = 8)), 8)
  local({
    inner <- quote(2 * 3)
    expect_identical(collect(mirai(inner)), 6)
  })
})

test_that("`...` is seen by functions as globals are, `.args` is not", {
  pool_of_one()
  f <- function() exists("x") && identical(get("x"), 5)
  environment(f) <- globalenv()
  expect_true(collect(mirai(f(), f = f, x = 5)))
  expect_false(collect(mirai(f(), f = f, .args = list(x = 5))))
  expect_identical(collect(mirai(x, .args = list(x = 5))), 5)
  expect_false(collect(mirai(exists("x"))))
  expect_false(collect(mirai(exists("f"))))
})

test_that("environments in `...` and `.args` are unpacked, named ones are passed", {
  pool_of_one()
  env <- list2env(list(a = 1, .hidden = 2))
  expect_identical(collect(mirai(a + .hidden, env)), 3)
  expect_identical(collect(mirai(a + .hidden + b, env, b = 10)), 13)
  expect_identical(collect(mirai(a + .hidden, .args = env)), 3)
  expect_identical(collect(mirai(get("a", e), e = env)), 1)
  x <- 1
  y <- 2
  expect_identical(collect(mirai(x + y, environment())), 3)
})

test_that("`.args` takes names from the call", {
  pool_of_one()
  x <- 1
  file <- "f"
  expect_identical(collect(mirai(paste(x, file), .args = list(x, file))), "1 f")
  expect_identical(collect(mirai(paste(x, file), .args = list(x, file = "g"))), "1 g")
  expect_identical(collect(mirai(paste(x, file), x = 9, .args = list(file))), "9 f")
  expect_error(mirai(1, .args = list(1)), "all items in .args must be named", fixed = TRUE)
  args <- list(x, file)
  expect_error(mirai(1, .args = args), "all items in .args must be named", fixed = TRUE)
})

test_that("values arrive as they are", {
  pool_of_one()
  values <- list(NULL, 1L, NA_character_, list(a = 1, b = list()), quote(f(x)), as.name("x"), mtcars,
                 as.Date("2024-02-29"), factor(c("u", "v")), 1i, raw(3), character(), evalq(y ~ x, globalenv()),
                 evalq(function(x) x + 1, globalenv()))
  for (value in values) expect_identical(collect(mirai(v, v = value)), value, ignore_srcref = TRUE)
  expect_identical(collect(mirai(NULL)), NULL)
  expect_identical(collect(mirai(invisible(3))), 3)
  expect_identical(collect(mirai(return(7))), 7)
})

test_that("the object prints, is looked at and compared without side effects", {
  pool_of_one()
  file <- withr::local_tempfile()
  m <- mirai(while (!file.exists(file)) Sys.sleep(0.01), file = file)
  expect_output(print(m), "^< mirai \\| \\$data >$")
  expect_output(print(list(m)), "[[1]]\n< mirai | $data >\n", fixed = TRUE)
  expect_output(str(m), "'mirai', unresolved", fixed = TRUE)
  expect_output(str(list(m)), "List of 1\n $ : 'mirai'", fixed = TRUE)
  expect_output(print(m$data), "^'unresolved' logi NA$")
  expect_identical(is.na(m$data), TRUE, ignore_attr = TRUE)
  expect_identical(format(m), "< mirai | $data >")
  expect_identical(names(m), "data")
  expect_null(m$other)
  expect_true(all.equal(m, m))
  expect_identical(all.equal(m, 1), "'current' is not a mirai")
  expect_error(m$data <- 1, "read-only")
  expect_error(m[["data"]] <- 1, "read-only")
  expect_s3_class(data.frame(x = m$data)$x, "unresolvedValue")
  file.create(file)
  collect(m)
  expect_output(str(m), "'mirai', resolved", fixed = TRUE)
  expect_identical(data.frame(x = mirai(5)[])$x, 5)
  expect_true(all.equal(call_mirai(mirai(1:3)), call_mirai(mirai(1:3))))
  expect_true(is_mirai(m))
  expect_false(is_mirai(1))
  expect_false(is_mirai_map(m))
})

test_that("a subclass works as a mirai", {
  pool_of_one()
  m <- mirai(5)
  class(m) <- c("special", class(m))
  expect_identical(collect(m), 5)
  expect_identical(m$data, 5)
  expect_true(is_mirai(m))
  expect_false(unresolved(m))
  expect_output(print(m), "< mirai | $data >", fixed = TRUE)
})

test_that("a mirai that was saved and read again is an error when it is used", {
  pool_of_one()
  m <- mirai(Sys.sleep(5))
  file <- withr::local_tempfile()
  saveRDS(m, file)
  old <- readRDS(file)
  expect_output(print(old), "< mirai | $data >", fixed = TRUE)
  expect_output(str(old), "of another session", fixed = TRUE)
  for (use in list(function(x) x$data, function(x) x[], unresolved, call_mirai, collect_mirai, stop_mirai,
                   function(x) collect_mirai(list(x)), function(x) race_mirai(list(x)))) {
    expect_error(use(old), "saved and restored")
  }
  rm(old)
  gc()
  stop_mirai(m)
})

test_that("what a mirai held is freed when it is dropped unread, after others were read too", {
  segments <- function() { # their inodes: those of earlier tests may go at any time
    gc()
    unresolved(1)
    status()
    maps <- grep("memfd:setsuna (deleted)", readLines("/proc/self/maps"), value = TRUE, fixed = TRUE)
    unique(vapply(strsplit(maps, " +"), `[[`, "", 5L))
  }
  before <- segments()
  daemons(1)
  own <- setdiff(segments(), before)
  expect_gt(length(own), 0L)
  expect_identical(lapply(1:3, function(i) collect(mirai(i, i = i))), as.list(1:3))
  m <- lapply(1:3, function(i) mirai(i, i = i))
  call_mirai(m)
  daemons(0)
  expect_identical(m[[2]]$data, 2L)
  expect_true(any(own %in% segments())) # for the other two
  rm(m)
  expect_true(becomes_true(function() !any(own %in% segments())))
})

test_that("an expression is evaluated as at top level: no frames but its own", {
  pool_of_one()
  x <- collect(mirai({
    f <- function() parent.frame()
    on.exit(assign("left", TRUE, globalenv()))
    quote <- function(...) stop("not this one")
    list(identical(f(), environment()), identical(parent.frame(), globalenv()), y)
  }, y = 3))
  expect_identical(x, list(TRUE, TRUE, 3))
  expect_identical(collect(mirai({
    return(exists("left"))
    stop("not reached")
  })), FALSE)
  expect_identical(collect(mirai(quote(a), quote = function(...) "another")), "another")
})

test_that("waiting for lists keeps names and order", {
  pool(2)
  x <- list(a = mirai({
    Sys.sleep(0.1)
    1
  }), b = mirai(2), c = "no mirai")
  expect_true(unresolved(x))
  expect_identical(collect(x), list(a = 1, b = 2, c = "no mirai"))
  expect_false(unresolved(x))
  expect_identical(withVisible(call_mirai(x)), list(value = x, visible = FALSE))
  expect_false(unresolved(5))
  expect_identical(collect_mirai(list()), list())
})

test_that("race_mirai() gives the first that resolves", {
  pool(2)
  slow <- mirai(Sys.sleep(60))
  quick <- mirai(1)
  expect_identical(no_hang(race_mirai(list(slow, quick))), 2L)
  expect_identical(race_mirai(list(quick, slow)), 1L)
  expect_identical(race_mirai(list()), 0L)
  stop_mirai(slow)
  expect_identical(race_mirai(list(slow)), 1L)
})

test_that("stop_mirai() resolves at once, queued or running", {
  pool_of_one()
  running <- mirai(Sys.sleep(60))
  queued <- lapply(1:3, function(i) mirai(1))
  expect_identical(stop_mirai(queued), rep(TRUE, 3))
  expect_identical(unclass(queued[[2]]$data), 20L)
  expect_identical(withVisible(stop_mirai(running)), list(value = TRUE, visible = FALSE))
  expect_output(print(running$data), "^'errorValue' int 20 \\| Operation canceled$")
  expect_false(stop_mirai(running))
  expect_identical(collect(mirai("next")), "next")
})

test_that("a timeout counts from the call", {
  pool_of_one()
  blocker <- mirai(Sys.sleep(60))
  m <- mirai(1, .timeout = 50)
  expect_output(print(collect(m)), "^'errorValue' int 5 \\| Timed out$")
  stop_mirai(blocker)
  expect_identical(collect(mirai("in time", .timeout = 60000)), "in time")
  expect_identical(collect(mirai(1, .timeout = Inf)), 1)
})

test_that("without daemons each task has a process of its own", {
  a <- mirai(Sys.getpid())
  b <- mirai(Sys.getpid())
  expect_length(unique(c(collect(a), collect(b), Sys.getpid())), 3L)
  expect_identical(unclass(collect(mirai(Sys.sleep(60), .timeout = 50))), 5L)
  expect_identical(collect(mirai(1, .compute = "default")), 1)
})

test_that("a change of the session reaches the next process and leaves those under way alone", {
  withr::local_envvar(SETSUNA_TEST_VALUE = "before")
  slow <- mirai({
    Sys.sleep(0.5)
    Sys.getenv("SETSUNA_TEST_VALUE")
  })
  Sys.setenv(SETSUNA_TEST_VALUE = "after")
  expect_identical(collect(mirai(Sys.getenv("SETSUNA_TEST_VALUE"))), "after")
  expect_identical(collect(slow), "before")
})

test_that("a user interrupt ends the wait and not the task", {
  pool_of_one()
  file <- withr::local_tempfile()
  m <- mirai({
    while (!file.exists(file)) Sys.sleep(0.01)
    "done"
  }, file = file)
  system(sprintf("(sleep 0.3; kill -INT %d) &", Sys.getpid()))
  ended <- tryCatch(call_mirai(m), interrupt = function(e) "interrupted")
  expect_identical(ended, "interrupted")
  expect_true(unresolved(m))
  file.create(file)
  expect_identical(collect(m), "done")
})

test_that("the memory for arguments is a limit: try_mirai() gives NULL, mirai() waits", {
  pool(1, memory = 1)
  file <- withr::local_tempfile()
  big <- function() rnorm(1e5)
  first <- try_mirai({
    while (!file.exists(file)) Sys.sleep(0.01)
    length(x)
  }, x = big(), .args = list(file))
  expect_true(is_mirai(first))
  expect_null(try_mirai(length(x), x = big()))
  expect_gt(status()$memory[["used"]], 8e5)
  system(sprintf("(sleep 0.3; touch %s) &", shQuote(file)))
  second <- no_hang(mirai(length(x), x = big()))
  expect_false(unresolved(first))
  expect_identical(collect(second), 100000L)
  expect_true(is_mirai(no_hang(mirai(length(x), x = rnorm(1e6)))))
})

test_that("bad arguments are named in the error", {
  pool_of_one()
  expect_error(mirai(), "missing expression, perhaps wrap in {}?", fixed = TRUE)
  expect_error(mirai(1, 2), "all ... arguments must be named", fixed = TRUE)
  expect_error(mirai(1, sum), "all ... arguments must be named", fixed = TRUE)
  expect_error(mirai(1, x = 2, ), "'...' is empty", fixed = TRUE)
  expect_error(mirai(1, .timeout = -1), "'.timeout' must be one number of at least 0, or NULL, not -1", fixed = TRUE)
  expect_error(mirai(1, .timeout = sum), "'.timeout' .* not a function")
  expect_error(mirai(1, .timeout = c(1, 2)), "'.timeout' .* not double of length 2")
  expect_error(mirai(1, .timeout = "5"), "'.timeout' .* not 5")
  expect_error(mirai(1, .retry = 1.5), "'.retry' must be one whole number")
  expect_error(mirai(1, .args = sum), "'.args' must be a list or an environment, not a function", fixed = TRUE)
  expect_error(mirai(1, .args = 1:3), "'.args' .* not integer of length 3")
  expect_error(mirai(1, .compute = sum), "'.compute' must be the name of a compute profile")
  expect_error(mirai(1, .compute = "unknown"), "no daemons are set for the compute profile 'unknown'", fixed = TRUE)
  expect_error(call_mirai(1), "'x' must be a mirai or a list of mirai, not 1", fixed = TRUE)
  expect_error(collect_mirai(sum), "not a function")
  expect_error(stop_mirai("a"), "'x' must be a mirai")
  expect_error(race_mirai(1), "'x' must be a list of mirai, not 1", fixed = TRUE)
  expect_error(msleep(-1), "'time' must be one number of milliseconds")
  expect_error(msleep("a"), "not the text \"a\"", fixed = TRUE)
  expect_identical(collect(mirai("still well")), "still well")
})

test_that("a flood that nobody holds any more does not keep the pool's memory when the pool has gone", {
  segments <- function() {
    maps <- strsplit(grep("memfd:", readLines("/proc/self/maps"), value = TRUE, fixed = TRUE), " +")
    unique(vapply(maps, `[[`, "", 5L)) # their inodes
  }
  before <- segments()
  pool_of_one()
  gate <- mirai(Sys.sleep(600))
  tasks <- lapply(1:1500, function(i) mirai(i, i = i))
  own <- setdiff(segments(), before)
  expect_gt(length(own), 0L)
  rm(gate, tasks)
  gc()
  daemons(0)
  expect_true(becomes_true(function() {
    unresolved(1)
    !any(own %in% segments())
  }))
})

test_that("a mirai that a finalizer still uses gives its own value, and its place to no task before that is let go", {
  pool_of_one()
  seen <- new.env()
  found <- function(name) becomes_true(function() {
    gc()
    exists(name, seen)
  })
  local({
    held <- new.env()
    held$m <- call_mirai(mirai("its own"))
    reg.finalizer(held, function(held) { # made after the mirai, so R runs it first
      seen$value <- held$m[]
      seen$next_one <- mirai("next")
    })
  })
  expect_true(found("next_one"))
  expect_identical(seen$value, "its own")
  expect_identical(collect(lapply(1:3, function(i) mirai(i, i = i))), as.list(1:3))
  expect_true(becomes_true(function() !unresolved(seen$next_one)))
  expect_identical(seen$next_one$data, "next")

  gate <- mirai(Sys.sleep(600))
  local({
    held <- new.env()
    reg.finalizer(held, function(held) { # made before the mirai: that has been found dead already
      seen$stopped <- stop_mirai(held$m)
      seen$kept <- held$m
    })
    held$m <- mirai("never")
  })
  expect_true(found("kept"))
  expect_true(seen$stopped)
  others <- lapply(1:3, function(i) mirai(i, i = i))
  expect_error(seen$kept$data, "only a finalizer has kept it")
  expect_error(stop_mirai(seen$kept), "only a finalizer has kept it")
  stop_mirai(gate)
  expect_identical(collect(others), as.list(1:3))
})

test_that("a finalizer that collects the mirai that is being collected finds its value, and frees nothing under it", {
  # Decoding runs R code here, in which R runs finalizers.
  unpack <- function(bytes) {
    gc()
    for (i in 1:5000) length(bytes)
    structure(list2env(list(v = unserialize(bytes))), class = "thing")
  }
  pool(1, serial = serial_config("thing", function(x) serialize(x$v, NULL), unpack))
  whole <- function(x) if (is.list(x)) list(x[[1L]], x[[2L]]$v) else x$v
  values <- list(quote(structure(list2env(list(v = 5)), class = "thing")),
                 quote(list(as.numeric(1:1e6), structure(list2env(list(v = 5)), class = "thing")))) # a view
  ways <- list(function(m) m[], function(m) m$data, function(m) collect(list(m, m))[[2L]])
  for (value in values) for (way in ways) {
    m <- do.call(mirai, list(value))
    expect_true(becomes_true(function() !unresolved(m)))
    seen <- new.env()
    local({
      doomed <- new.env()
      reg.finalizer(doomed, function(doomed) {
        seen$amid <- !exists("got", seen)
        seen$value <- m$data
      })
    })
    seen$got <- way(m)
    gc()
    expect_true(seen$amid)
    expect_identical(seen$got, seen$value)
    expect_identical(whole(seen$got), whole(eval(value)))
  }
  expect_identical(collect(lapply(1:3, function(i) mirai(i, i = i))), as.list(1:3))
})
