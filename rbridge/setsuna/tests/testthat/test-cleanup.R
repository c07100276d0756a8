# What a task leaves behind is undone before the next.

test_that("global variables, options, working directory", {
  pool(1)
  where <- collect(mirai(getwd()))
  collect(mirai({
    x <<- 1
    assign(".hidden", 2, globalenv())
    options(digits = 3, setsuna.new = TRUE)
    setwd(tempdir())
  }))
  found <- collect(mirai(list(ls(globalenv(), all.names = TRUE), getOption("digits"), getOption("setsuna.new"), getwd())))
  expect_identical(setdiff(found[[1L]], ".Random.seed"), character())
  expect_identical(found[2:4], list(7L, NULL, where))
})

test_that("options that were changed or removed", {
  pool(1)
  before <- collect(mirai(options()[c("digits", "warn", "OutDec", "scipen", "prompt")]))
  collect(mirai(options(digits = NULL, OutDec = ",", scipen = 100, prompt = "? ")))
  expect_identical(collect(mirai(options()[c("digits", "warn", "OutDec", "scipen", "prompt")])), before)
})

test_that("attached packages, also those that were there and were detached", {
  pool(1)
  before <- collect(mirai(search()))
  collect(mirai({
    library(splines)
    attach(list(q = 1), name = "mine")
    detach("package:stats")
    detach("package:utils")
  }))
  expect_identical(collect(mirai(search())), before)
  expect_identical(collect(mirai(exists("q", mode = "numeric"))), FALSE)
  expect_length(collect(mirai(head(rnorm(3), 2))), 2L)
  for (i in 1:3) collect(mirai(detach("package:stats")))
  expect_identical(collect(mirai(search())), before)
})

test_that("locked and active bindings", {
  pool(1)
  collect(mirai({
    assign("locked", 1, globalenv())
    lockBinding("locked", globalenv())
    makeActiveBinding("active", function() stop("looked at"), globalenv())
    lockBinding("given", globalenv())
  }, given = 5))
  expect_identical(collect(mirai(setdiff(ls(globalenv(), all.names = TRUE), ".Random.seed"))), character())
  expect_identical(collect(mirai(given, given = 6)), 6)
})

test_that("what everywhere() set is put back, not taken away", {
  pool(1)
  everywhere({
    base <- 1
    other <- "kept"
    options(setsuna.set = "by everywhere")
  })
  collect(mirai({
    base <<- 2
    rm(other, envir = globalenv())
    options(setsuna.set = NULL)
    makeActiveBinding("third", function() 3, globalenv())
  }))
  expect_identical(collect(mirai(list(base, other, getOption("setsuna.set"), exists("third")))),
                   list(1, "kept", "by everywhere", FALSE))
})

test_that("a task that fails or is cancelled leaves no more than one that does not", {
  pool(1)
  collect(mirai({
    x <<- 1
    options(digits = 3)
    stop("no")
  }))
  expect_identical(collect(mirai(list(exists("x"), getOption("digits")))), list(FALSE, 7L))
  file <- withr::local_tempfile()
  m <- mirai({
    x <<- 1
    options(digits = 3)
    file.create(file)
    Sys.sleep(60)
  }, file = file)
  expect_true(becomes_true(function() file.exists(file)))
  stop_mirai(m)
  expect_identical(collect(mirai(list(exists("x"), getOption("digits")))), list(FALSE, 7L))
})

test_that("where it cannot be undone a fresh process takes over", {
  pool(1)
  before <- collect(mirai(Sys.getpid()))
  expect_identical(collect(mirai({
    x <<- 1
    lockEnvironment(globalenv(), bindings = TRUE)
    "done"
  })), "done")
  expect_true(becomes_true(function() length(daemon_pids()) == 1L && daemon_pids() != before))
  expect_identical(collect(mirai({
    y <<- 2
    exists("x")
  })), FALSE)
})

test_that("with cleanup = FALSE everything stays but the task's own variables", {
  pool(1, cleanup = FALSE)
  collect(mirai({
    x <<- a
    options(digits = 3)
  }, a = 5))
  expect_identical(collect(mirai(list(x, getOption("digits"), exists("a")))), list(5, 3L, FALSE))
})

test_that("a time limit, a diversion of output and another generator end with the task that set them", {
  on.exit(daemons(0))
  daemons(1)
  pid <- mirai(Sys.getpid())[]
  mirai(setTimeLimit(elapsed = 0.05, transient = FALSE))[]
  expect_identical(no_hang(mirai({ Sys.sleep(0.2); 1 })[]), 1)
  mirai(sink(tempfile()))[]
  expect_identical(no_hang(mirai(sink.number())[]), 0L)
  mirai(set.seed(1, kind = "Wichmann-Hill"))[]
  expect_identical(no_hang(mirai(RNGkind()[1L])[]), "L'Ecuyer-CMRG")
  expect_identical(no_hang(mirai(Sys.getpid())[]), pid)
})
