# daemons(trace = ) and setsuna_profile().

stage_times <- c("submitted", "queued", "claimed", "decoded", "evaluated", "encoded", "harvested")

stages <- c("submit", "wait", "decode", "evaluate", "encode", "collect")

# Each time of each row is known, and none is before the one of an earlier stage.
expect_ordered <- function(profile, which = stage_times) {
  times <- as.matrix(as.data.frame(profile)[which])
  expect_false(anyNA(times))
  expect_true(all(times[, -1L] >= times[, -ncol(times)]))
  expect_true(all(times >= 0))
}

read_trace <- function(file) {
  testthat::skip_if_not_installed("jsonlite")
  jsonlite::fromJSON(file, simplifyVector = FALSE)
}

events_named <- function(events, name) Filter(function(e) e$name == name, events)

test_that("each task has a row with its stages in order", {
  pool(2, trace = TRUE)
  values <- collect(lapply(1:200, function(i) mirai(x + 1, x = i)))
  expect_identical(unlist(values), 1:200 + 1)
  profile <- setsuna_profile()
  expect_s3_class(profile, c("setsuna_profile", "data.frame"), exact = TRUE)
  expect_identical(sort(profile$id), as.numeric(1:200))
  expect_ordered(profile)
  expect_identical(unique(profile$kind), "mirai")
  expect_identical(unique(profile$outcome), "value")
  expect_true(all(profile$daemon %in% c("1", "2")))
  expect_true(all(profile$pid %in% daemon_pids()))
  expect_equal(rowSums(as.data.frame(profile)[stages]), profile$harvested - profile$submitted, ignore_attr = TRUE,
               tolerance = 1e-4)
})

test_that("stages are those of the task: what takes long takes long there", {
  pool(1, trace = TRUE)
  no_hang(mirai(Sys.sleep(0.2))[])
  first <- mirai(Sys.sleep(0.2))
  second <- mirai(1)
  no_hang(call_mirai(second))
  profile <- setsuna_profile()
  row <- function(id) as.list(as.data.frame(profile)[profile$id == id, ])
  expect_gte(row(1)$evaluate, 0.2)
  expect_lt(row(3)$evaluate, row(1)$evaluate)
  expect_gte(row(3)$claimed, row(2)$evaluated)
  expect_gte(row(3)$wait, row(3)$decode + row(3)$evaluate + row(3)$encode)
  no_hang(call_mirai(first))
})

test_that("errors, cancelled tasks and those that time out say so", {
  pool(1, trace = TRUE)
  no_hang(mirai(stop("no"))[])
  no_hang(mirai(Sys.sleep(1000), .timeout = 50)[])
  started <- tempfile()
  m <- mirai({
    file.create(started)
    Sys.sleep(1000)
  }, started = started)
  becomes_true(function() file.exists(started))
  stop_mirai(m)
  no_hang(mirai(1)[])
  profile <- setsuna_profile()
  expect_identical(profile$outcome, c("error", "timed out", "cancelled", "value"))
  expect_ordered(profile[profile$outcome %in% c("error", "value"), ])
  cut_short <- profile[3L, ]
  expect_ordered(cut_short, c("submitted", "queued", "claimed", "harvested"))
  expect_true(is.na(cut_short$evaluated))
  expect_identical(cut_short$daemon, "1")
})

test_that("elements of a map have a row each", {
  pool(2, trace = TRUE)
  n <- 5000L
  expect_identical(no_hang(mirai_map(seq_len(n), function(i) i * 2L)[.flat]), seq_len(n) * 2L)
  expect_length(no_hang(mirai_map(as.list(1:3), function(x) stop("no"))[]), 3L)
  everywhere(NULL)[]
  profile <- setsuna_profile()
  expect_identical(nrow(profile), n + 3L + 2L)
  expect_false(anyDuplicated(profile$id) > 0L)
  expect_identical(as.vector(table(profile$kind)[c("map", "everywhere")]), c(n + 3L, 2L))
  expect_ordered(profile)
  expect_identical(profile$outcome[profile$id %in% (n + 1:3)], rep("error", 3L))
})

test_that("elements on one daemon do not overlap", {
  pool(1, trace = TRUE)
  no_hang(mirai_map(1:2000, function(i) i)[])
  profile <- setsuna_profile()
  profile <- profile[order(profile$claimed), ]
  expect_true(all(profile$claimed[-1L] >= profile$encoded[-nrow(profile)] - 1e-6))
})

test_that("the file is JSON with an event for each stage", {
  file <- withr::local_tempfile(fileext = ".json")
  pool(2, trace = file)
  expect_gt(length(read_trace(file)), 0L)  # before any task
  collect(lapply(1:100, function(i) mirai(x, x = i)))
  no_hang(mirai_map(1:50, function(i) i)[])
  profile <- setsuna_profile()
  daemons(0)
  events <- read_trace(file)
  expect_setequal(unique(vapply(events, `[[`, "", "ph")), c("M", "X", "b", "e"))
  for (stage in c("decode", "evaluate", "encode", "harvest")) {
    found <- events_named(events, stage)
    expect_setequal(vapply(found, function(e) e$args$task, 0), as.numeric(1:150))
    expect_true(all(vapply(found, function(e) e$ph == "X" && is.numeric(e$ts) && is.numeric(e$dur) && e$dur >= 0, NA)))
  }
  expect_length(events_named(events, "submit"), 100L)
  expect_length(events_named(events, "queued"), 300L)
  session <- Sys.getpid()
  expect_identical(unique(vapply(events_named(events, "submit"), `[[`, 0L, "pid")), session)
  expect_setequal(vapply(events_named(events, "evaluate"), `[[`, 0L, "pid"), unique(profile$pid))
  named <- vapply(events_named(events, "process_name"), `[[`, 0L, "pid")
  expect_setequal(named, c(session, unique(profile$pid)))
  # The same times as in the data frame.
  evaluate <- events_named(events, "evaluate")
  at <- match(profile$id, vapply(evaluate, function(e) e$args$task, 0))
  expect_equal(vapply(evaluate, function(e) e$ts, 0)[at] / 1e6, profile$decoded)
})

test_that("the file comes by itself, while tasks run too", {
  file <- withr::local_tempfile(fileext = ".json")
  pool(1, trace = file)
  no_hang(mirai(1)[])
  long <- mirai(Sys.sleep(1000))
  # Amid a write what is read need not be whole: it is read again.
  read_now <- function() tryCatch(read_trace(file), error = function(e) list())
  expect_true(becomes_true(function() length(events_named(read_now(), "evaluate")) == 1L))
  stop_mirai(long)
})

test_that("a killed daemon leaves a valid file, in which its task ends with it", {
  file <- withr::local_tempfile(fileext = ".json")
  pool(2, trace = file)
  collect(lapply(1:20, function(i) mirai(x, x = i)))
  value <- no_hang(mirai({
    Sys.sleep(0.05)
    tools::pskill(Sys.getpid(), 9)
    Sys.sleep(1000)
  })[])
  expect_identical(as.integer(value), 19L)
  pid <- attr(value, "pid")
  profile <- setsuna_profile()
  died <- profile[profile$id == 21, ]
  expect_identical(died$outcome, "died")
  expect_identical(died$pid, pid)
  expect_ordered(died, c("submitted", "queued", "claimed", "harvested"))
  expect_gte(died$harvested - died$claimed, 0.05)
  expect_true(is.na(died$evaluated))
  found <- events_named(read_trace(file), "died")
  expect_identical(found[[1L]]$args$task, 21L)
  expect_identical(found[[1L]]$pid, pid)
  expect_identical(nrow(profile), 21L)
  no_hang(mirai(1)[])
  daemons(0)
  expect_length(events_named(read_trace(file), "evaluate"), 21L)
})

test_that("a task that is run again has one row", {
  pool(1, trace = TRUE)
  flag <- withr::local_tempfile()
  expect_identical(no_hang(mirai({
    if (!file.exists(flag)) {
      file.create(flag)
      tools::pskill(Sys.getpid(), 9)
      Sys.sleep(1000)
    }
    Sys.getpid()
  }, flag = flag, .retry = 1L)[]), daemon_pids())
  profile <- setsuna_profile()
  expect_identical(nrow(profile), 1L)
  expect_identical(profile$outcome, "value")
  expect_identical(profile$pid, daemon_pids())
  expect_ordered(profile)
})

test_that("an element whose daemon dies is the one that died", {
  pool(1, trace = TRUE)
  no_hang(mirai_map(1:500, function(i) i)[])
  values <- no_hang(mirai_map(1:200, function(i) if (i == 50L) tools::pskill(Sys.getpid(), 9) else i)[])
  expect_identical(as.integer(values[[50L]]), 19L)
  profile <- setsuna_profile()
  expect_identical(profile$id[profile$outcome == "died"], 550)
  expect_identical(nrow(profile), 700L)
  died <- profile[profile$outcome == "died", ]
  expect_ordered(died, c("submitted", "queued", "claimed", "harvested"))
})

test_that("what a reset closes is in the file", {
  file <- withr::local_tempfile(fileext = ".json")
  pool(1, trace = file)
  started <- withr::local_tempfile()
  m <- mirai({
    file.create(started)
    Sys.sleep(1000)
  }, started = started)
  behind <- mirai(1)
  becomes_true(function() file.exists(started))
  daemons(0)
  expect_identical(as.integer(m[]), 7L)
  expect_identical(as.integer(behind[]), 7L)
  closed <- events_named(read_trace(file), "closed")
  expect_setequal(vapply(closed, function(e) e$args$task, 0L), 1:2)
})

test_that("the session's end writes what is not in the file yet; its sudden end leaves a file", {
  file <- withr::local_tempfile(fileext = ".json")
  run <- function(end) {
    code <- sprintf("library(setsuna); daemons(1, trace = %s); for (i in 1:10) mirai(1)[]; %s", deparse(file), end)
    no_hang(system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), stdout = FALSE, stderr = FALSE))
  }
  run("invisible()")
  expect_length(events_named(read_trace(file), "evaluate"), 10L)
  run(sprintf("%s; mirai(1)[]; tools::pskill(Sys.getpid(), 9)", paste0(
    "while (sum(grepl('evaluate', readLines(", deparse(file), "), fixed = TRUE)) < 10) Sys.sleep(0.05)")))
  expect_true(length(events_named(read_trace(file), "evaluate")) %in% 10:11)
})

test_that("off by default, and then there is nothing", {
  pool(1)
  no_hang(mirai(1)[])
  expect_error(setsuna_profile(), "'default' is not traced: set its daemons with daemons\\(n, trace = TRUE\\)")
  pool(1, trace = FALSE)
  expect_error(setsuna_profile(), "is not traced")
  daemons(0)
  expect_error(setsuna_profile(), "No daemons set")
  daemons(sync = TRUE)
  expect_error(setsuna_profile(), "is not traced")
})

test_that("profiles are traced one by one", {
  pool(1)
  no_hang(daemons(1, trace = TRUE, .compute = "traced"))
  withr::defer(daemons(0, .compute = "traced"))
  no_hang(mirai(1)[])
  no_hang(mirai(1, .compute = "traced")[])
  expect_identical(nrow(setsuna_profile("traced")), 1L)
  expect_error(setsuna_profile(), "not traced")
})

test_that("what trace may be", {
  expect_error(daemons(1, trace = 1), "'trace' must be the name of a file, TRUE \\(in memory only\\) or NULL \\(off\\), not 1")
  expect_error(daemons(1, trace = NA), "'trace' must be")
  expect_error(daemons(1, trace = c("a", "b")), "'trace' must be")
  expect_error(daemons(1, trace = ""), "'trace' must be")
  expect_error(daemons(sync = TRUE, trace = TRUE), "'trace' needs daemons, and with sync = TRUE there are none")
  expect_error(daemons(1, trace = "/nowhere/at/all.json"), "'trace': the file \"/nowhere/at/all.json\" cannot be written")
  expect_error(daemons(1, trace = tempdir()), "it is a directory")
  expect_error(daemons(1, trace = "/proc/self/nothing.json"), "'trace': the file .* cannot be written")
  expect_false(daemons_set())
  file <- withr::local_tempfile()
  no_hang(daemons(1, trace = file, .compute = "other"))
  withr::defer(daemons(0, .compute = "other"))
  expect_error(daemons(1, trace = file), "is that of the compute profile 'other'")
  no_hang(daemons(1, trace = file, .compute = "other"))
  expect_identical(nrow(setsuna_profile("other")), 0L)
})

test_that("a file that takes no more is told, and tasks go on", {
  skip_if_not(file.exists("/dev/full"))
  expect_error(no_hang(daemons(1, trace = "/dev/full")), "'trace': the file '/dev/full' cannot be written: No space left")
  expect_false(daemons_set())
})

test_that("summary() and print() show the shares", {
  pool(2, trace = TRUE)
  no_hang(mirai_map(rep(0.02, 10), Sys.sleep)[])
  profile <- setsuna_profile()
  result <- summary(profile)
  expect_identical(result$stages$stage, stages)
  expect_equal(sum(result$stages$share), 1)
  expect_gte(result$stages$seconds[result$stages$stage == "evaluate"], 0.2)
  expect_identical(sum(result$daemons$tasks), 10L)
  expect_true(all(result$daemons$busy > 0 & result$daemons$busy <= 1))
  expect_identical(as.vector(result$outcomes["value"]), 10L)
  expect_output(print(result), "evaluate")
  expect_output(print(result), "Outcomes: value 10")
  expect_output(print(profile), "10 tasks")
  expect_output(print(profile[1:3]), "daemon")
  expect_output(print(profile[0, ]), "0 tasks")
  expect_identical(sum(summary(profile[0, ])$stages$seconds), 0)
})

test_that("plot() draws each daemon's tasks", {
  pool(2, trace = TRUE)
  expect_error(plot(setsuna_profile()), "nothing to plot")
  no_hang(mirai_map(rep(0.01, 6), Sys.sleep)[])
  no_hang(mirai(tools::pskill(Sys.getpid(), 9))[])
  profile <- setsuna_profile()
  file <- withr::local_tempfile(fileext = ".svg")
  grDevices::pdf(file, compress = FALSE)
  shown <- withVisible(plot(profile, main = "A title of its own"))
  grDevices::dev.off()
  expect_identical(shown$value, profile)
  expect_false(shown$visible)
  drawn <- readLines(file, warn = FALSE)
  expect_gte(sum(grepl(" re$", drawn)), 3 * 6 + 1)
  expect_true(any(grepl("title of its o", paste(drawn, collapse = ""))))
})
