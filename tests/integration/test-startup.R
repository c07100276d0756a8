# Sessions in surroundings that are not as they should be: it works, or the message says what to change.

text_of <- function(result) paste(c(result$value, result$output, paste("status", result$status)), collapse = "\n")

# The plain case: a pool, a large and a small task, a task without daemons; the values say that all of it worked.
plain <- quote({
  first <- mirai(1 + 1)[]
  daemons(2)
  large <- sum(mirai(x * 2, x = as.numeric(1:1e5))[])
  map <- unlist(mirai_map(1:100, function(i) i)[])
  n <- sum(status()$daemons[, "online"])
  daemons(0)
  list(first, large, identical(map, 1:100), n)
})
fine <- list(2, 10000100000, TRUE, 2L)

expect_fine <- function(result) {
  testthat::expect_identical(result$value, fine, label = text_of(result))
  testthat::expect_identical(result$status, 0L, label = text_of(result))
}

# A directory with this .Rprofile, to start R in.
with_profile <- function(...) {
  folder <- tempfile("profile-")
  dir.create(folder)
  writeLines(c(...), file.path(folder, ".Rprofile"))
  folder
}

only_in_daemons <- 'if (nzchar(Sys.getenv("SETSUNA_CHILD")))'

test_that("a .Rprofile that fails is reported with what it said", {
  folder <- with_profile(paste(only_in_daemons, 'stop("the profile is broken")'))
  code <- quote({
    pool <- tryCatch(daemons(2), error = conditionMessage)
    single <- tryCatch(mirai(1)[], error = conditionMessage)
    again <- tryCatch(mirai(1)[], error = conditionMessage)
    list(pool, single, again)
  })
  result <- in_session(code, directory = folder)
  expect_match(result$value[[1L]], "did not start.*the profile is broken")
  for (value in result$value[2:3]) {
    if (is_error_value(value)) expect_identical(as.integer(value), 19L) else expect_match(value, "the profile is broken")
  }
})

test_that("a .Rprofile that is mended can be used at once", {
  folder <- with_profile(paste(only_in_daemons, 'stop("the profile is broken")'))
  result <- in_session(quote({
    failed <- inherits(tryCatch(daemons(2), error = identity), "error")
    writeLines("x <- 1", ".Rprofile")
    daemons(2)
    list(failed, mirai(2)[], mirai(x)[])
  }), directory = folder)
  expect_identical(result$value, list(TRUE, 2, 1), label = text_of(result))
})

test_that("a .Rprofile that ends R is reported", {
  folder <- with_profile(paste(only_in_daemons, 'quit("no", 3L)'))
  result <- in_session(quote(tryCatch(daemons(2), error = conditionMessage)), directory = folder)
  expect_match(result$value, "did not start")
  folder <- with_profile(paste(only_in_daemons, "tools::pskill(Sys.getpid(), 9L)"))
  result <- in_session(quote(tryCatch(daemons(2), error = conditionMessage)), directory = folder)
  expect_match(result$value, "did not start")
})

test_that("daemons() or mirai() in a .Rprofile is no recursion", {
  folder <- with_profile("library(setsuna)", "message <- tryCatch(daemons(2), error = conditionMessage)")
  env <- sprintf("R_LIBS=%s", shQuote(paste(.libPaths(), collapse = ":")))
  result <- in_session(quote({
    list(mirai(2)[], mirai(message)[], length(status()$pids))
  }), directory = folder, env = env)
  expect_identical(result$value[c(1L, 3L)], list(2, 2L), label = text_of(result))
  expect_match(result$value[[2L]], "SETSUNA_CHILD")
  folder <- with_profile("library(setsuna)", "value <- tryCatch(mirai(5)[], error = conditionMessage)")
  result <- in_session(quote(list(value, mirai(2)[], mirai(value)[])), directory = folder, env = env)
  expect_identical(result$value[1:2], list(5, 2), label = text_of(result))
  expect_match(result$value[[3L]], "SETSUNA_CHILD")
})

test_that("a .Rprofile may print, change directory, set options and variables, and attach packages", {
  folder <- with_profile('cat("printed\\n"); message("and said"); print(1:10)', "options(digits = 4, made.up = 'yes')",
                         'Sys.setenv(FROM_PROFILE = "set")', "library(splines)", "in_profile <- function() 7",
                         "rm(list = '.no.such'[0])", "set.seed(1)")
  result <- in_session(quote({
    daemons(1)
    mirai(list(getOption("digits"), getOption("made.up"), Sys.getenv("FROM_PROFILE"), "package:splines" %in% search(),
               in_profile(), basename(getwd())))[]
  }), directory = folder)
  expect_identical(result$value[1:5], list(4L, "yes", "set", TRUE, 7), label = text_of(result))
  expect_identical(result$value[[6L]], basename(folder))
})

test_that("what a .Rprofile has set up is there again after a task that changed it", {
  folder <- with_profile("x <- 1", "options(digits = 4, made.up = 'yes')", "library(splines)", "set.seed(1)")
  result <- in_session(quote({
    look <- quote(list(x, getOption("digits"), getOption("made.up"), "package:splines" %in% search(), ls(globalenv()),
                       basename(getwd())))
    daemons(1)
    before <- mirai(look)[]
    mirai({
      assign("x", 2, globalenv())
      assign("y", 3, globalenv())
      options(digits = 9, made.up = NULL)
      detach("package:splines")
      setwd("/")
    })[]
    after <- mirai(look)[]
    everywhere({
      x <- 5
      options(digits = 10)
    })
    mirai(rm(x, envir = globalenv()))[]
    list(before, after, mirai(list(x, getOption("digits")))[], mirai(typeof(.Random.seed))[], mirai(runif(1))[])
  }), directory = folder)
  expect_identical(result$value[[1L]], list(1, 4L, "yes", TRUE, "x", basename(folder)), label = text_of(result))
  expect_identical(result$value[[2L]], result$value[[1L]])
  expect_identical(result$value[[3L]], list(5, 10L))
  expect_identical(result$value[[4L]], "integer")
  again <- in_session(quote(c(mirai(runif(1))[], mirai(runif(1))[])), directory = folder)
  expect_length(unique(c(result$value[[5L]], again$value)), 3L) # not the profile's seed
})

test_that("R_PROFILE_USER and --no-init-file are followed", {
  file <- tempfile(fileext = ".R")
  writeLines("from_user_profile <- 11", file)
  code <- quote({
    daemons(1)
    mirai(exists("from_user_profile"))[]
  })
  expect_true(in_session(code, env = paste0("R_PROFILE_USER=", file))$value)
  expect_false(in_session(code, env = "R_PROFILE_USER=/nonexistent")$value)
})

test_that("batch limits on memory, file size, processes and descriptors", {
  expect_fine(in_session(plain, before = "ulimit -v 8000000"))
  expect_fine(in_session(plain, before = "ulimit -v 2000000"))
  expect_fine(in_session(plain, before = "ulimit -f 2000000"))
  expect_fine(in_session(plain, before = "ulimit -n 256"))
  expect_fine(in_session(plain, before = "ulimit -c 0; ulimit -s 1024"))
  expect_fine(in_session(plain, before = "ulimit -s unlimited"))
  for (before in c("ulimit -f 100", "ulimit -v 400000")) {
    tight <- in_session(quote(tryCatch({
      daemons(1)
      mirai(2)[]
    }, error = conditionMessage)), before = before)
    expect_true(identical(tight$value, 2) || grepl("ulimit|limit|memory|allocate", text_of(tight)), label = text_of(tight))
  }
  status <- in_session(quote({
    daemons(1)
    status()
  }), before = "ulimit -v 8000000")
  expect_lt(status$value$memory[["segment"]], 8e9)
})

test_that("too few descriptors is an error that says so", {
  result <- in_session(quote({
    message <- tryCatch({
      daemons(200)
      "worked"
    }, error = conditionMessage)
    daemons(0)
    list(message, tryCatch({
      daemons(1)
      mirai(1)[]
    }, error = conditionMessage))
  }), before = "ulimit -n 256")
  expect_match(result$value[[1L]], "worked|descriptor|open files", label = text_of(result))
  expect_true(identical(result$value[[2L]], 1) || grepl("descriptor|open files", result$value[[2L]]), label = text_of(result))
})

test_that("1,100 open descriptors in the host", {
  # Opened by the shell, inherited by R.
  before <- "ulimit -n 4096; for i in $(seq 20 1120); do eval \"exec $i</dev/null\"; done"
  expect_fine(in_session(plain, before = before))
  # And R itself can still use what needs select().
  result <- in_session(quote({
    daemons(2)
    system("sleep 0.1")
    Sys.sleep(0.1)
    m <- mirai(Sys.sleep(0.2))
    m[]
    mirai(system("echo hello", intern = TRUE))[]
  }), before = before)
  expect_identical(result$value, "hello", label = text_of(result))
})

test_that("a limit of exactly the descriptors in use", {
  result <- in_session(quote({
    daemons(4)
    values <- collect_mirai(lapply(1:100, function(i) mirai(i, i = i)))
    for (i in 1:10) {
      pids <- status()$pids
      tools::pskill(pids[pids > 0L][1L], 9L)
      values <- c(values, list(mirai(1L, .retry = 9L)[]))
    }
    all(vapply(values, is.integer, NA))
  }), before = "ulimit -n 256")
  expect_true(result$value, label = text_of(result))
})

test_that("closed standard streams", {
  for (redirect in c("<&-", "<&- >&-", "<&- >&- 2>&-", "2>&-")) {
    result <- in_session(plain, redirect = redirect)
    expect_identical(result$value, fine, label = paste(redirect, text_of(result)))
  }
})

test_that("no HOME, an unwritable HOME, TMPDIR that is not there or not writable", {
  expect_fine(in_session(plain, before = "unset HOME"))
  expect_fine(in_session(plain, env = "HOME=/nonexistent"))
  expect_fine(in_session(plain, env = "TMPDIR=/nonexistent"))
  result <- in_session(quote({
    Sys.setenv(TMPDIR = "/nonexistent")
    daemons(1)
    value <- mirai({
      writeLines("x", tempfile())
      dir.exists(tempdir())
    })[]
    daemons(0)
    Sys.setenv(TMPDIR = "/proc")
    list(value, tryCatch(daemons(1), error = conditionMessage), tryCatch(mirai(1)[], error = conditionMessage))
  }))
  expect_true(result$value[[1L]], label = text_of(result))
  expect_match(result$value[[2L]], "set TMPDIR")
  expect_true(is_error_value(result$value[[3L]]) || grepl("set TMPDIR", result$value[[3L]]))
})

test_that("an odd locale, an odd PATH, an empty environment", {
  expect_fine(in_session(plain, env = c("LC_ALL=C", "LANG=")))
  expect_fine(in_session(plain, env = "LC_ALL=no_SUCH.locale"))
  expect_fine(in_session(plain, env = "PATH=/usr/bin:/bin"))
  expect_fine(in_session(quote({
    Sys.setenv(PATH = "")
    first <- mirai(1 + 1)[]
    daemons(2)
    large <- sum(mirai(x * 2, x = as.numeric(1:1e5))[])
    list(first, large, TRUE, sum(status()$daemons[, "online"]))
  })))
})

test_that("a working directory that is gone", {
  folder <- tempfile("gone-")
  dir.create(folder)
  result <- in_session(quote({
    unlink(getwd(), recursive = TRUE)
    tryCatch({
      daemons(1)
      mirai(2)[]
    }, error = conditionMessage)
  }), directory = folder)
  expect_true(identical(result$value, 2) || grepl("director", result$value), label = text_of(result))
  folder <- tempfile("gone-")
  dir.create(folder)
  result <- in_session(quote({
    daemons(2)
    unlink(getwd(), recursive = TRUE)
    m <- mirai(tools::pskill(Sys.getpid(), 9L))
    list(as.integer(m[]), mirai(2)[])
  }), directory = folder)
  expect_identical(result$value, list(19L, 2), label = text_of(result))
})

# A copy of the installed package whose fork server can be broken.
broken_library <- function(env = parent.frame()) {
  library <- tempfile("library-")
  dir.create(library)
  withr::defer(unlink(library, recursive = TRUE), envir = env)
  file.copy(system.file(package = "setsuna"), library, recursive = TRUE, copy.mode = TRUE)
  library
}

break_it <- quote(function(how) {
  program <- system.file("bin", "setsuna-daemon", package = "setsuna")
  stopifnot(startsWith(program, tempdir_of_test))
  file.rename(program, paste0(program, ".away"))
  if (how == "ends") {
    writeLines(c("#!/bin/sh", "echo it cannot start >&2", "exit 1"), program)
    Sys.chmod(program, "755")
  }
  function() file.rename(paste0(program, ".away"), program)
})

test_that("a fork server that cannot be started again resolves what waits, and says why", {
  for (how in c("is gone", "ends")) {
    library <- broken_library()
    result <- in_session(bquote({
      break_it <- .(break_it)
      daemons(2)
      stat <- readLines(sprintf("/proc/%d/stat", status()$pids[1L]))
      zygote <- as.integer(strsplit(sub("^.*\\) ", "", stat), " ")[[1L]][2L])
      mend <- break_it(how)
      running <- lapply(1:2, function(i) mirai(Sys.sleep(600)))
      while (info()[["executing"]] < 2L) Sys.sleep(0.01)
      queued <- lapply(1:20, function(i) mirai(i))
      tools::pskill(zygote, 9L)
      codes <- vapply(collect_mirai(c(running, queued)), as.integer, 0L)
      later <- tryCatch(as.integer(mirai(1)[]), error = conditionMessage)
      mend()
      daemons(1)
      list(unique(codes), later, mirai(2)[])
    }), how = how, tempdir_of_test = library, env = sprintf("R_LIBS=%s", shQuote(library)), libraries = library)
    expect_identical(result$value[c(1L, 3L)], list(19L, 2), label = text_of(result))
    expect_match(result$value[[2L]], if (how == "ends") "it cannot start" else "cannot be started|No such file")
  }
})

test_that("a fork server that never starts is an error of mirai() without daemons, until it does", {
  library <- broken_library()
  result <- in_session(bquote({
    break_it <- .(break_it)
    mend <- break_it("ends")
    first <- tryCatch(as.integer(mirai(1)[]), error = conditionMessage)
    pool <- tryCatch(daemons(1), error = conditionMessage)
    mend()
    list(first, pool, mirai(2)[])
  }), tempdir_of_test = library, env = sprintf("R_LIBS=%s", shQuote(library)), libraries = library)
  expect_true(identical(result$value[[1L]], 19L) || grepl("it cannot start", result$value[[1L]]), label = text_of(result))
  expect_match(result$value[[2L]], "it cannot start")
  expect_identical(result$value[[3L]], 2)
})
