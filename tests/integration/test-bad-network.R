# Daemons behind a network that delays, holds back, damages, loses and cuts.

# A profile that listens and a proxy before it, with `n` daemons behind that and `beside` that come straight.
bad_network <- function(n = 1L, beside = 0L, ..., frame = parent.frame()) {
  daemons(url = "tcp://127.0.0.1:0")
  withr::defer(daemons(0), envir = frame)
  proxy <- start_proxy(frame)
  if (n > 0L) start_daemons(proxy$url, n, ...)
  if (beside > 0L) start_daemons(status()$url, beside)
  no_hang(everywhere({}, .min = n + beside)[])
  proxy
}

expect_lost <- function(m) {
  value <- no_hang(m[])
  expect_true(is_error_value(value))
  expect_identical(as.integer(value), 19L)
}

# A task that says when it has begun; the second one with the same file is not held up.
slow_once <- function(file, seconds, ...) mirai({
  if (file.exists(file)) "again" else {
    file.create(file)
    Sys.sleep(seconds)
  }
}, file = file, seconds = seconds, ...)
has_begun <- function(file) expect_true(becomes_true(function() file.exists(file)))

test_that("far away everything arrives, in its order", {
  proxy <- bad_network(1)
  proxy$tell("delay 200")
  took <- system.time(expect_identical(no_hang(mirai(1)[]), 1))[["elapsed"]]
  expect_gt(took, 0.4) # it is far away
  log <- withr::local_tempfile()
  tasks <- lapply(1:10, function(i) mirai({ cat(i, "\n", file = log, append = TRUE); i }, i = i, log = log))
  expect_identical(collect(tasks), as.list(1:10))
  expect_identical(scan(log, 0L, quiet = TRUE), 1:10)
  expect_identical(collect(mirai_map(1:10, function(i, x) i * length(x), .args = list(x = numeric(1e5)))), as.list(1:10 * 100000L))
  expect_s3_class(no_hang(mirai(stop("no"))[]), "miraiError")
  file <- withr::local_tempfile()
  m <- slow_once(file, 1000)
  has_begun(file)
  expect_true(stop_mirai(m))
  expect_identical(as.integer(no_hang(m[])), 20L)
  expect_identical(no_hang(mirai(2)[]), 2)
})

test_that("a line that is stuck holds up nobody else, and a thin one carries all of it", {
  proxy <- bad_network(1, beside = 1)
  x <- runif(1e6) # 8 MB
  proxy$tell("limit 0")
  big <- mirai_map(1:2, function(i, x) { Sys.sleep(0.2); sum(x) }, .args = list(x = x)) # one for each
  small <- lapply(1:50, function(i) mirai({ Sys.sleep(0.02); i }, i = i)) # not so short that they are sent in advance
  expect_identical(collect(small), as.list(1:50))
  expect_true(unresolved(big))
  proxy$tell("limit 20000000")
  expect_identical(collect(big), list(sum(x), sum(x)))
  back <- collect(lapply(1:4, function(i) mirai({ Sys.sleep(0.1); x }, x = x)))
  expect_identical(back, list(x, x, x, x))
})

test_that("damaged bytes end the connection with a reason, a daemon that stays dials again, tasks run again if they may", {
  proxy <- bad_network(1, autoexit = FALSE)
  pid <- no_hang(mirai(Sys.getpid())[])
  for (damage in c("flip up 100000 1", "drop up 5000 1", "flip down 300000 2", "drop down 70000 3")) {
    x <- runif(1e5) # another one each time: what is known there does not travel
    proxy$tell(damage)
    expect_lost(mirai(x, x = x))
    expect_identical(no_hang(mirai(list(Sys.getpid(), x), x = x)[]), list(pid, x)) # the same one: it has dialled again
    x <- runif(1e5)
    proxy$tell(damage)
    expect_identical(no_hang(mirai(x, x = x, .retry = 1)[]), x)
  }
  events <- status()$events
  expect_gte(sum(grepl("127.0.0.1:[0-9]+.*(damaged|not setsuna's protocol)", events)), 8L)
  daemons(NULL)
  expect_true(becomes_true(function() !exists_process(pid)))
})

test_that("a connection that is reset loses its task or runs it again, and its daemon comes back", {
  proxy <- bad_network(1, autoexit = FALSE)
  pid <- no_hang(mirai(Sys.getpid())[])
  for (retry in 0:1) {
    file <- withr::local_tempfile()
    m <- slow_once(file, 3, .retry = retry) # which the daemon ends before it dials again
    waiting <- lapply(1:5, function(i) mirai(i, i = i, .retry = 1)) # some may have been sent in advance
    has_begun(file)
    proxy$tell("cut")
    if (retry) expect_identical(no_hang(m[]), "again") else expect_lost(m)
    expect_identical(collect(waiting), as.list(1:5))
    expect_identical(no_hang(mirai(Sys.getpid())[]), pid)
  }
  daemons(NULL)
  expect_true(becomes_true(function() !exists_process(pid)))
})

test_that("a pulled cable is noticed in time: its task is lost, or runs on another daemon", {
  proxy <- bad_network(2)
  files <- c(withr::local_tempfile(), withr::local_tempfile())
  lost <- slow_once(files[1L], 1000)
  again <- slow_once(files[2L], 1000, .retry = 1)
  has_begun(files[1L])
  has_begun(files[2L])
  proxy$tell("freeze")
  start_daemons(status()$url)
  took <- system.time(expect_identical(no_hang(again[], 60), "again"))[["elapsed"]]
  expect_lost(lost)
  expect_lt(took, 45) # 35 s are promised
  expect_true(has_event("nothing was heard from the other side for [0-9]+ s"))
  expect_identical(info()[["connections"]], 1L)
})

test_that("who speaks too slowly to say who it is is refused, and the others do not notice", {
  proxy <- bad_network(0, beside = 1)
  proxy$tell("limit 5")
  start_daemons(proxy$url)
  silent <- lapply(1:20, function(i) socketConnection("127.0.0.1", port_of(status()$url), open = "r+b", timeout = 30))
  withr::defer(for (con in silent) close(con))
  tasks <- mirai_map(1:100, function(i) { Sys.sleep(0.001); i })
  expect_identical(collect(tasks), as.list(1:100))
  expect_true(becomes_true(function() sum(grepl("did not introduce itself in time", status()$events)) >= 10L))
  expect_identical(info()[["connections"]], 1L)
  expect_identical(no_hang(mirai(1)[]), 1)
})
