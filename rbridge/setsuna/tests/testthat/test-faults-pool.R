# Daemons that leave by themselves, fork servers that are killed, resets with tasks in flight.

test_that("maxtasks: a daemon leaves after so many tasks and is not replaced", {
  pool(2, maxtasks = 3)
  values <- collect(lapply(1:6, function(i) mirai(Sys.getpid())))
  expect_identical(as.vector(table(unlist(values))), c(3L, 3L))
  expect_online(0L)
})

test_that("a task that a daemon with maxtasks had not begun is not lost", {
  pool(2, maxtasks = 5)
  m <- lapply(1:10, function(i) mirai(i, i = i))
  expect_identical(collect(m), as.list(1:10))
  expect_online(0L)
  # Nobody is there: it waits, and a reset ends it.
  late <- mirai(1)
  expect_true(unresolved(late))
  daemons(0)
  expect_identical(as.integer(no_hang(late[])), 7L)
})

test_that("idletime and walltime end daemons, and 0 tasks get lost", {
  pool(2, idletime = 300)
  expect_identical(no_hang(mirai(1)[]), 1)
  expect_online(0L)
  daemons(0)
  pool(2, walltime = 300)
  m <- lapply(1:50, function(i) mirai({
    Sys.sleep(0.02)
    i
  }, i = i))
  expect_true(becomes_true(function() online() == 0L))
  state <- vapply(m, unresolved, NA)
  expect_identical(collect(m[!state]), as.list(1:50)[!state])
  daemons(0)
  for (value in collect(m[state])) expect_identical(as.integer(value), 7L)
})

test_that("respawn = FALSE: the dead stay dead, the others go on", {
  pool(2, respawn = FALSE)
  expect_reset(no_hang(mirai(quit("no"))[]))
  expect_online(1L)
  expect_identical(collect(lapply(1:10, function(i) mirai(i, i = i))), as.list(1:10))
  expect_reset(no_hang(mirai(tools::pskill(Sys.getpid(), 9L))[]), signal = 9L)
  expect_online(0L)
})

test_that("every value of autoexit is accepted, and others are refused", {
  for (value in list(TRUE, NA, FALSE, tools::SIGTERM)) {
    no_hang(daemons(1, autoexit = value))
    expect_identical(no_hang(mirai(1)[]), 1)
    pids <- daemon_pids()
    daemons(0)
    # FALSE: it persists until daemons(NULL).
    if (isFALSE(value)) daemons(NULL)
    expect_true(becomes_true(function() !any(vapply(pids, exists_process, NA))), label = paste("autoexit", value))
  }
  expect_error(daemons(1, autoexit = "yes"), "autoexit")
  expect_error(daemons(1, autoexit = c(TRUE, FALSE)), "autoexit")
  daemons(0)
})

test_that("a killed fork server is replaced, its daemons too, and their tasks resolve", {
  pool(2)
  parent <- processes()
  zygote <- unique(parent$parent[parent$pid %in% daemon_pids()])
  expect_length(zygote, 1L)
  expect_identical(parent$parent[parent$pid == zygote], Sys.getpid())
  marks <- c(tempfile(), tempfile())
  running <- lapply(marks, function(mark) mirai({
    cat(Sys.getpid(), file = mark)
    Sys.sleep(600)
  }, mark = mark))
  old <- vapply(marks, pid_in, 0L)
  queued <- lapply(1:100, function(i) mirai(i, i = i))
  tools::pskill(zygote, tools::SIGKILL)
  for (value in collect(running)) expect_identical(as.integer(value), 19L)
  # What had not begun is done by the new ones.
  expect_identical(collect(queued), as.list(1:100))
  expect_untouched()
  expect_false(any(vapply(old, exists_process, NA)))
  expect_false(exists_process(zygote))
})

test_that("a fork server killed while nobody waits is replaced as well", {
  pool(2)
  all <- processes()
  zygote <- unique(all$parent[all$pid %in% daemon_pids()])
  for (i in 1:3) {
    tools::pskill(zygote, tools::SIGKILL)
    expect_true(becomes_true(function() !exists_process(zygote)))
    expect_untouched()
    all <- processes()
    zygote <- unique(all$parent[all$pid %in% daemon_pids()])
  }
  expect_identical(no_hang(mirai_map(1:10, function(x) x)[.flat]), 1:10)
})

test_that("profiles that share a fork server all get over its end, whoever kills it", {
  pool(1)
  no_hang(daemons(2, .compute = "other"))
  withr::defer(daemons(0, .compute = "other"))
  first <- mirai({
    parent <- as.integer(strsplit(sub("^.*\\) ", "", readLines("/proc/self/stat")), " ")[[1L]][2L])
    tools::pskill(parent, tools::SIGKILL)
    Sys.sleep(600)
  })
  expect_identical(as.integer(no_hang(first[])), 19L)
  expect_identical(no_hang(mirai(1)[]), 1)
  expect_identical(no_hang(mirai(2, .compute = "other")[]), 2)
  expect_online(1L)
  expect_online(2L, "other")
})

test_that("a daemon that dies takes the pools of its tasks with it", {
  pool(1)
  mark <- tempfile()
  m <- mirai({
    library(setsuna)
    daemons(2)
    n <- mirai(Sys.sleep(600))
    cat(Sys.getpid(), file = mark)
    n[]
  }, mark = mark)
  pid <- pid_in(mark)
  family <- function(pid) {
    all <- processes()
    below <- all$pid[all$parent %in% pid]
    c(below, all$pid[all$parent %in% below])
  }
  nested <- family(pid)
  expect_gte(length(nested), 3L)
  tools::pskill(pid, tools::SIGKILL)
  expect_reset(no_hang(m[]), signal = 9L)
  expect_true(becomes_true(function() !any(vapply(nested, exists_process, NA))))
  expect_untouched(1L)
})

test_that("a killed fork server of processes without daemons is replaced", {
  daemons(0)
  parent <- function() as.integer(strsplit(sub("^.*\\) ", "", readLines("/proc/self/stat")), " ")[[1L]][2L])
  zygote <- no_hang(mirai(parent(), parent = parent)[])
  tools::pskill(zygote, tools::SIGKILL)
  expect_true(becomes_true(function() !exists_process(zygote)))
  second <- no_hang(mirai(parent(), parent = parent)[])
  expect_false(second == zygote)
  # Killed while its process runs.
  m <- mirai(Sys.sleep(600))
  Sys.sleep(0.1)
  tools::pskill(second, tools::SIGKILL)
  expect_identical(as.integer(no_hang(m[])), 19L)
  expect_identical(no_hang(mirai(1)[]), 1)
})

test_that("SIGTERM to the fork server ends its daemons and is survived", {
  pool(2)
  for (i in 1:10) {
    expect_online(2L)
    all <- processes()
    zygote <- unique(all$parent[all$pid %in% daemon_pids()])
    tools::pskill(zygote, tools::SIGTERM)
    # It may be asked for a fork while it ends.
    if (i %% 2L) expect_true(becomes_true(function() !exists_process(zygote)))
    expect_untouched()
  }
})

test_that("daemons(0) resolves 10,000 tasks in flight to error 7", {
  pool(2)
  m <- lapply(1:10000, function(i) mirai({
    Sys.sleep(0.001)
    i
  }, i = i))
  done <- collect(m[1:5])
  pids <- daemon_pids()
  daemons(0)
  expect_false(unresolved(m))
  values <- collect(m)
  closed <- vapply(values, is_error_value, NA)
  expect_identical(unique(vapply(values[closed], as.integer, 0L)), 7L)
  expect_identical(values[!closed], as.list(1:10000)[!closed])
  expect_false(any(closed[1:5]))
  expect_true(becomes_true(function() !any(vapply(pids, exists_process, NA))))
  expect_identical(status()$daemons, 0L)
})

test_that("results stay readable after daemons(0), large ones too, and are freed in the end", {
  daemons(0)
  # Segments that are mapped, once what the collector finds has been let go by an entry point.
  segments <- function() {
    gc()
    unresolved(1)
    status()
    sum(grepl("memfd:setsuna (deleted)", readLines("/proc/self/maps"), fixed = TRUE))
  }
  before <- segments()
  no_hang(daemons(2))
  large <- lapply(1:20, function(i) mirai(as.numeric(seq_len(2e5)) + i, i = i))
  no_hang(call_mirai(large))
  collected <- collect(large[1:10])
  small <- mirai("small")
  no_hang(call_mirai(small))
  daemons(0)
  gc()
  for (i in 1:10) expect_identical(sum(collected[[i]]), sum(as.numeric(seq_len(2e5)) + i))
  expect_identical(small$data, "small")
  for (i in 11:20) {
    value <- large[[i]][]
    expect_identical(sum(value), sum(as.numeric(seq_len(2e5)) + i))
  }
  collected[[1L]][1L] <- 5 # a write goes to a copy
  expect_identical(collected[[1L]][1:2], c(5, 3))
  expect_gt(segments(), before)
  rm(collected, large, value, small)
  expect_true(becomes_true(function() segments() <= before))
})

test_that("a pool is replaced by the next call of daemons() with tasks in flight", {
  pool(2)
  for (i in 1:5) {
    old <- lapply(1:50, function(i) mirai(Sys.sleep(600)))
    no_hang(daemons(1 + i %% 2))
    for (value in collect(old)) expect_identical(as.integer(value), 7L)
    expect_untouched(1L + i %% 2L)
  }
})

test_that("a pool of many daemons comes and goes", {
  pool(24)
  expect_online(24L)
  pids <- daemon_pids()
  expect_length(unique(pids), 24L)
  tools::pskill(pids, tools::SIGKILL)
  expect_true(becomes_true(function() !any(vapply(pids, exists_process, NA))))
  expect_untouched(24L)
  daemons(0)
  expect_true(becomes_true(function() length(intersect(processes()$pid, pids)) == 0L))
})
