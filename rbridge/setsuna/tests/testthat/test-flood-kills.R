# A flood of 50,000 tasks while a daemon is killed every 20 ms: long enough for dozens of deaths.

# Kills one daemon of this session every 20 ms, from a process of its own, until `flag` is gone.
start_killer <- function(flag, log) {
  script <- sprintf('
    parent_of <- function(pid) {
      line <- suppressWarnings(tryCatch(readLines(sprintf("/proc/%%s/stat", pid), warn = FALSE), error = function(e) ""))
      fields <- strsplit(sub("^.*\\\\) ", "", line), " ")[[1L]]
      if (length(fields) > 2L) fields[2L] else "0"
    }
    children <- function(of) {
      all <- list.files("/proc", "^[0-9]+$")
      all[vapply(all, parent_of, "") == of]
    }
    named <- function(pid) suppressWarnings(tryCatch(readLines(sprintf("/proc/%%s/comm", pid)), error = function(e) ""))
    zygotes <- Filter(function(pid) named(pid) == "setsuna-daemon", children("%d"))
    kills <- 0L
    file.create("%s")
    while (file.exists("%s")) {
      daemons <- unlist(lapply(zygotes, children))
      if (length(daemons)) kills <- kills + tools::pskill(as.integer(sample(daemons, 1L)), 9L)
      Sys.sleep(0.02)
    }
    writeLines(as.character(kills), "%s")', Sys.getpid(), paste0(flag, ".ready"), flag, log)
  file <- tempfile(fileext = ".R")
  writeLines(script, file)
  file.create(flag)
  system2(file.path(R.home("bin"), "Rscript"), file, wait = FALSE, stdout = FALSE, stderr = FALSE)
  expect_true(becomes_true(function() file.exists(paste0(flag, ".ready"))), label = "the killer has started; that")
}

stop_killer <- function(flag, log) {
  unlink(flag)
  expect_true(becomes_true(function() file.exists(log) && length(readLines(log)) == 1L), label = "the killer's count; that")
  as.integer(readLines(log))
}

flood_under_fire <- function(..., .retry) {
  pool(2, ..., env = parent.frame())
  directory <- tempfile("ran-")
  dir.create(directory)
  flag <- tempfile()
  log <- tempfile()
  start_killer(flag, log)
  n <- 50000L
  tasks <- vector("list", n)
  for (i in seq_len(n)) {
    tasks[[i]] <- mirai({
      cat(i, "\n", file = file.path(directory, Sys.getpid()), append = TRUE)
      if (i %% 10L == 0L) Sys.sleep(0.001)
      i
    }, i = i, directory = directory, .retry = .retry)
  }
  values <- collect(tasks, 400)
  kills <- stop_killer(flag, log)
  lost <- vapply(values, is_error_value, NA)
  ran <- unlist(lapply(list.files(directory, full.names = TRUE), function(f) scan(f, 0L, quiet = TRUE)))
  unlink(directory, recursive = TRUE)
  list(values = values, lost = lost, kills = kills, ran = ran, n = n)
}

expect_flood <- function(flood) {
  expect_gt(flood$kills, 5L)
  expect_identical(unlist(flood$values[!flood$lost]), which(!flood$lost))
  expect_true(all(vapply(flood$values[flood$lost], function(x) as.integer(x) == 19L, NA)))
  # A kill costs at most the task that its daemon had in hand.
  expect_lte(sum(flood$lost), flood$kills)
  expect_online(2)
  expect_identical(status()$memory[["used"]], 0)
}

test_that("every mirai resolves and no task runs twice", {
  flood <- flood_under_fire(.retry = 0L)
  expect_flood(flood)
  expect_identical(anyDuplicated(flood$ran), 0L)
})

test_that("with retries a task whose daemon died runs again", {
  flood <- flood_under_fire(.retry = 5L)
  expect_flood(flood)
  expect_lte(sum(flood$lost), 1L)
})

test_that("without dispatcher, with retries", {
  flood <- flood_under_fire(dispatcher = FALSE, .retry = 20L)
  expect_gt(flood$kills, 5L)
  expect_identical(unlist(flood$values[!flood$lost]), which(!flood$lost))
  expect_online(2)
})
