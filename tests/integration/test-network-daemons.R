# daemon() on the network, with a session as its host and each daemon an Rscript of its own.

# Starts what launch_remote() says; the daemon's output goes to `output`.
start_remote <- function(..., output = "/dev/null") {
  command <- launch_remote(1L, ...)[1L]
  system(paste0("R_LIBS=", shQuote(paste(.libPaths(), collapse = ":")), " ", command, " > ", output, " 2>&1 &"))
  command
}

gone <- function(pid) becomes_true(function() !exists_process(pid))

for (scheme in c("tcp", "tls+tcp", "ws", "wss")) test_that(paste("tasks of every kind over", scheme), {
  daemons(url = paste0(scheme, "://127.0.0.1:0"))
  on.exit(daemons(0))
  start_remote()
  x <- runif(5e5)
  expect_identical(no_hang(mirai(x, x = x)[]), x)
  expect_identical(no_hang(mirai_map(1:20, function(i, by) i * length(by), .args = list(by = x))[.flat]), 1:20 * length(x))
  expect_s3_class(no_hang(mirai(stop("no"))[]), "miraiError")
  everywhere(here <<- 5)
  expect_identical(no_hang(mirai(here)[]), 5)
  expect_identical(no_hang(mirai(unlist(parallel::mclapply(1:3, function(i) i)))[]), 1:3)
  m <- mirai(Sys.sleep(1000))
  expect_true(stop_mirai(m))
  expect_identical(no_hang(mirai(1 + 1)[]), 2)
})

test_that("custom serialization is the host's, random streams are the host's", {
  box <- structure(new.env(), class = "box")
  box$content <- 1:3
  serial <- serial_config("box", function(x) serialize(x$content, NULL),
                          function(x) structure(list2env(list(content = unserialize(x))), class = "box"))
  draw <- function() {
    daemons(url = "tcp://127.0.0.1:0", serial = serial, seed = 42)
    on.exit(daemons(0))
    start_remote()
    list(no_hang(mirai(list(class(box), box$content), box = box)[]), no_hang(mirai(rnorm(2))[]))
  }
  first <- draw()
  expect_identical(first[[1L]], list("box", 1:3))
  expect_identical(draw(), first)
})

test_that("results are encoded as the host says", {
  # What was encoded natively is a view of shared memory; what R's serialize made is not.
  is_view <- function(codec) {
    daemons(url = "tcp://127.0.0.1:0", config = list(codec = codec))
    on.exit(daemons(0))
    start_remote()
    .Call(setsuna:::C_codec_is_view, no_hang(mirai(runif(1e6))[]))
  }
  expect_true(is_view("native"))
  expect_identical(is_view("serialize"), NA)
})

test_that("limits end a daemon, and a killed one is an error", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote(maxtasks = 2)
  pids <- c(no_hang(mirai(Sys.getpid())[]), no_hang(mirai(Sys.getpid())[]))
  expect_identical(pids[1L], pids[2L])
  expect_true(gone(pids[1L]))
  m <- mirai(Sys.getpid()) # waits for the next daemon
  start_remote()
  pid <- no_hang(m[])
  expect_false(pid == pids[1L])
  m <- mirai(tools::pskill(Sys.getpid(), 9))
  expect_equal(unclass(no_hang(m[])), 19L, ignore_attr = TRUE)
})

test_that("a task that cannot be interrupted ends with its process", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote()
  pid <- no_hang(mirai(Sys.getpid())[])
  file <- tempfile()
  m <- mirai({
    file.create(file)
    repeat tryCatch(Sys.sleep(1000), interrupt = identity)
  }, file = file)
  expect_true(becomes_true(function() file.exists(file)))
  stop_mirai(m)
  expect_true(gone(pid))
})

test_that("a persistent daemon joins the next host at its URL, until it is told not to", {
  daemons(url = "tcp://127.0.0.1:0", auth = FALSE)
  start_remote(autoexit = FALSE)
  pid <- no_hang(mirai(Sys.getpid())[])
  url <- rownames(status()$daemons)
  daemons(0)
  daemons(url = url, auth = FALSE)
  expect_identical(no_hang(mirai(Sys.getpid())[]), pid)
  daemons(NULL)
  expect_true(gone(pid))
})

test_that("the token is not in the command line of a daemon that runs", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  command <- start_remote()
  token <- sub(".*token='([^']*)'.*", "\\1", command)
  expect_match(token, "^[0-9a-f]{16,}$")
  pid <- no_hang(mirai(Sys.getpid())[])
  line <- rawToChar(Filter(function(byte) byte != as.raw(0), readBin(sprintf("/proc/%d/cmdline", pid), "raw", 1e4)))
  expect_match(line, "daemon(", fixed = TRUE)
  expect_false(grepl(token, line, fixed = TRUE))
})

test_that("setsuna daemon URL, with the token from standard input", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  command <- launch_remote(1L)[1L]
  token <- sub(".*token='([^']*)'.*", "\\1", command)
  url <- sub(".*daemon\\('([^']*)'.*", "\\1", command)
  program <- system.file("bin", "setsuna", package = "setsuna", mustWork = TRUE)
  system(paste("echo", token, "|", shQuote(program), "daemon", url, "--token-stdin >/dev/null 2>&1 &"))
  expect_identical(no_hang(mirai(1 + 1)[]), 2)
})

test_that("a host that is killed leaves no daemon behind", {
  session <- start_session(quote({
    daemons(url = "tcp://127.0.0.1:0")
    system(paste0("R_LIBS=", shQuote(paste(.libPaths(), collapse = ":")), " ", launch_remote(1L)[1L], " >/dev/null 2>&1 &"))
    report(mirai(Sys.getpid())[])
    mirai(Sys.sleep(1000))
    Sys.sleep(1000)
  }))
  pid <- session$report()[[1L]]
  expect_true(exists_process(pid))
  session$kill()
  expect_true(gone(pid))
})
