# A host that lives long: nothing piles up with tasks, pools, daemons or fork servers.

resident_mb <- function() {
  line <- grep("^VmRSS", readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}
descriptors <- function() length(list.files("/proc/self/fd"))
threads <- function() length(list.files("/proc/self/task"))
mappings <- function() length(readLines("/proc/self/maps"))

test_that("200,000 tasks, collected or dropped uncollected", {
  pool(2)
  flood <- function(n) {
    for (round in seq_len(n / 10000)) {
      m <- lapply(1:10000, function(i) mirai(i, i = i))
      if (round %% 2L) collect(m) else no_hang(call_mirai(m[[10000L]]))
      rm(m)
    }
    for (i in 1:3) gc()
    unresolved(1)
  }
  flood(40000)
  before <- resident_mb()
  flood(160000)
  expect_lt(resident_mb() - before, 60)
  expect_untouched()
})

test_that("results of 20 KB that nobody collects, and unfinished tasks that nobody holds", {
  pool(2)
  flood <- function(n) {
    for (i in seq_len(n)) mirai(numeric(2500) + i, i = i)
    no_hang(mirai(1)[])
    for (i in 1:3) gc()
    unresolved(1)
  }
  flood(5000)
  before <- resident_mb()
  used <- status()$memory[["resident"]]
  for (i in 1:4) flood(5000)
  expect_lt(resident_mb() - before, 150)
  expect_lt(status()$memory[["resident"]] - used, 150e6)
  expect_untouched()
})

test_that("maps, cancelled tasks, timeouts and errors", {
  pool(2)
  round <- function() {
    x <- mirai_map(1:5000, function(i, y) i, .args = list(y = runif(1e4)))
    no_hang(x[])
    m <- lapply(1:500, function(i) mirai(Sys.sleep(0.001), .timeout = 60000))
    for (v in m) stop_mirai(v)
    collect(lapply(1:500, function(i) mirai(stop("an error"))))
    rm(x, m)
    for (i in 1:2) gc()
    unresolved(1)
  }
  for (i in 1:2) round()
  before <- resident_mb()
  for (i in 1:8) round()
  expect_lt(resident_mb() - before, 60)
  expect_untouched()
})

test_that("pools, profiles and fresh processes leave no descriptor, thread or mapping", {
  round <- function(i) {
    no_hang(daemons(2, dispatcher = i %% 2L == 0L))
    held <- no_hang(mirai(numeric(1e5))[])
    tools::pskill(daemon_pids()[1L], 9L)
    no_hang(mirai(1, .retry = 3L)[])
    no_hang(daemons(1, .compute = paste0("profile", i %% 3L)))
    no_hang(mirai(1, .compute = paste0("profile", i %% 3L))[])
    daemons(0, .compute = paste0("profile", i %% 3L))
    daemons(0)
    no_hang(mirai(i, i = i)[])
    rm(held)
    gc()
    unresolved(1)
  }
  for (i in 1:5) round(i)
  settle <- function(f) {
    gc()
    unresolved(1)
    f()
  }
  before <- c(descriptors(), threads(), mappings())
  for (i in 1:20) round(i)
  expect_true(becomes_true(function() settle(descriptors) <= before[1L] + 2L), label = sprintf("descriptors: %d then %d",
                                                                                           before[1L], descriptors()))
  expect_true(becomes_true(function() settle(threads) <= before[2L]))
  expect_true(becomes_true(function() settle(mappings) <= before[3L] + 10L), label = sprintf("mappings: %d then %d", before[3L],
                                                                                          mappings()))
})

test_that("fork servers and daemons that die leave no descriptor and no zombie", {
  pool(2)
  round <- function() {
    all <- processes()
    zygote <- unique(all$parent[all$pid %in% daemon_pids()])
    tools::pskill(zygote, 9L)
    no_hang(mirai(1, .retry = 5L)[])
    expect_online(2L)
    for (i in 1:5) no_hang(mirai(quit("no"))[])
    expect_online(2L)
  }
  for (i in 1:2) round()
  before <- descriptors()
  for (i in 1:8) round()
  expect_true(becomes_true(function() descriptors() <= before))
  zombies <- function() {
    all <- processes()
    sum(all$state == "Z" & (all$parent == Sys.getpid() | all$command == "setsuna-daemon"))
  }
  expect_true(becomes_true(function() zombies() == 0L))
})

test_that("a daemon does not grow with its tasks", {
  pool(1)
  pid <- daemon_pids()
  resident <- function() {
    line <- grep("^RssAnon", readLines(sprintf("/proc/%d/status", pid)), value = TRUE)
    as.numeric(gsub("[^0-9]", "", line)) / 1024
  }
  round <- function() {
    collect(lapply(1:5000, function(i) mirai({
      helper <- function(x) x + 1
      assign("left", runif(100), envir = globalenv())
      options(made.up = i)
      helper(i)
    }, i = i)))
    collect(lapply(1:100, function(i) mirai(x * 2, x = runif(1e5))))
    collect(lapply(1:500, function(i) mirai(stop("an error"))))
    no_hang(mirai_map(1:2000, function(i) i)[])
    gc()
  }
  for (i in 1:2) round()
  before <- resident()
  for (i in 1:5) round()
  no_hang(mirai(gc())[])
  expect_lt(resident() - before, 60)
  expect_identical(daemon_pids(), pid)
})
