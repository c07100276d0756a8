# daemon(): processes that were not started by the host join it.

# An R process that calls daemon(url, <arguments>); its value is written to the file that is returned.
dial <- function(url, arguments = "") {
  file <- tempfile("dial-")
  code <- sprintf("value <- setsuna::daemon('%s'%s); writeLines(as.character(value), '%s')", url, arguments, file)
  system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), wait = FALSE, stdout = FALSE, stderr = FALSE,
          env = paste0("R_LIBS=", paste(.libPaths(), collapse = ":")))
  file
}

listen <- function(env = parent.frame()) {
  url <- local_url()
  daemons(url = url)
  withr::defer(daemons(NULL), envir = env)
  url
}

arrive <- function(n = 1) no_hang(everywhere({}, .min = n))

written <- function(file) {
  expect_true(becomes_true(function() file.exists(file) && length(readLines(file, warn = FALSE)) == 1L),
              label = "daemon() returns; that it has")
  as.integer(readLines(file))
}

test_that("it shares the queue and the memory with daemons of the host, and ends with it", {
  url <- listen()
  launch_local(1)
  file <- dial(url)
  arrive(2)
  expect_length(unique(unlist(on_each(2, function() Sys.getpid()))), 2L)
  x <- runif(1e6)
  expect_identical(on_each(2, function() sum(x), x = x), rep(list(sum(x)), 2))
  expect_identical(rownames(status()$daemons), c(url, url))
  tools::pskill(status()$pids[2L], tools::SIGKILL)
  expect_true(becomes_true(function() nrow(status()$daemons) == 1L))
  other <- dial(url)
  arrive(2)
  daemons(0)
  expect_identical(written(other), 0L)
})

test_that("it ends with its host", {
  url <- listen()
  file <- dial(url)
  arrive()
  daemons(0)
  expect_identical(written(file), 0L)
})

test_that("its value says why it has ended", {
  url <- listen()
  file <- dial(url, ", maxtasks = 2")
  expect_identical(collect(mirai_map(1:2, identity)), list(1L, 2L))
  expect_identical(written(file), 3L)
  expect_identical(written(dial(url, ", idletime = 100")), 1L)
  expect_identical(written(dial(url, ", walltime = 100")), 2L)
})

test_that("with autoexit = FALSE it waits for the next host", {
  url <- listen()
  file <- dial(url, ", autoexit = FALSE")
  arrive()
  pid <- collect(mirai(Sys.getpid()))
  for (i in 1:3) {
    daemons(0)
    daemons(url = url)
    arrive()
    expect_identical(collect(mirai(Sys.getpid())), pid)
    # the same constants and views, in another memory
    expect_identical(mirai_map(1:3, function(i, v) sum(v) + i, .args = list(v = rep(1, 1e5)))[.flat], 1e5 + 1:3)
    expect_identical(collect(mirai(sum(x), x = rep(2, 1e5))), 2e5)
  }
  expect_false(file.exists(file))
  daemons(NULL)
  expect_identical(written(file), 0L)
})

test_that("with asyncdial = TRUE it comes before its host", {
  url <- local_url()
  file <- dial(url, ", asyncdial = TRUE")
  Sys.sleep(0.5)
  daemons(url = url)
  withr::defer(daemons(0))
  arrive()
  expect_identical(collect(mirai(5)), 5)
})

test_that("a process can be a daemon again", {
  url <- listen()
  file <- tempfile()
  code <- sprintf("for (i in 1:2) setsuna::daemon('%s', maxtasks = 1); writeLines('0', '%s')", url, file)
  system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), wait = FALSE, stdout = FALSE,
          env = paste0("R_LIBS=", paste(.libPaths(), collapse = ":")))
  pids <- collect(mirai_map(1:2, function(i) Sys.getpid()))
  expect_length(unique(pids), 1L)
  expect_identical(written(file), 0L)
})

test_that("bad arguments are named in the error", {
  expect_error(daemon(), "'url' must be one string", fixed = TRUE)
  expect_error(daemon(5), "'url' must be one string", fixed = TRUE)
  expect_error(daemon("abstract://x", idle = 5), "no argument 'idle'", fixed = TRUE)
  expect_error(daemon("abstract://x", cleanup = "no"), "'cleanup' must be TRUE or FALSE")
  expect_error(daemon(local_url()), "nobody listens there")
  expect_error(daemon("http://x"), "daemon(): ", fixed = TRUE)
})

# A host that welcomes at once, `n` times, and whose connections last `lived` seconds each.
short_lived <- function(n, lived, ...) {
  now <- 0
  joins <- 0
  slept <- numeric()
  status <- .serve(
    list(dial = function() list("joined"), longest_pause = 5000), TRUE,
    function(joined) {
      joins <<- joins + 1
      now <<- now + lived[joins]
      list(status = joins, again = joins < n)
    },
    pauses = .pauses(5000, sleep = function(ms) slept <<- c(slept, ms), ...), now_s = function() now
  )
  expect_identical(status, n)
  slept
}

test_that("a host that ends each connection at once is dialled ever more seldom", {
  expect_identical(short_lived(12, rep(0, 12), chance = function() 0), c(10 * 2^(0:8), 5000, 5000))
  expect_identical(short_lived(3, rep(0, 3), chance = function() 1), c(5, 10))
  # After a connection that lived, at once; and from the beginning.
  expect_identical(short_lived(6, c(0, 0, 60, 0, 4.9, 0), chance = function() 0), c(10, 20, 10, 20))
})

test_that("pauses are shortened by chance, and leave R's random numbers alone", {
  set.seed(1)
  before <- .Random.seed
  slept <- short_lived(20, rep(0, 20))
  expect_identical(.Random.seed, before)
  most <- pmin(10 * 2^(0:18), 5000)
  expect_true(all(slept <= most & slept >= most / 2))
})
