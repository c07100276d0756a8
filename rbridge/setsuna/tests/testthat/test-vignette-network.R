# The text's section on distributed computing, with a free port where it has 5555.

shown <- function(x) gsub(Sys.info()[["nodename"]], "hostname", utils::capture.output(print(x)), fixed = TRUE)

free_run <- function() {
  repeat {
    port <- sample(20000:30000, 1L)
    free <- tryCatch({ daemons(n = 4, url = host_url(port = port)); TRUE }, error = function(e) FALSE)
    if (free) return(port)
  }
}

test_that("n and one URL listen at n URLs", {
  withr::defer(daemons(0))
  port <- free_run()
  expect_identical(shown(daemons(n = 4, url = host_url(port = port))), "[1] 4")
  expected <- matrix(c(1:4, integer(16)), 4L, 5L, dimnames = list(
    sprintf("tcp://%s:%d", Sys.info()[["nodename"]], port + 0:3), c("i", "online", "instance", "assigned", "complete")))
  expect_identical(unclass(status())[c("connections", "daemons")], list(connections = 1L, daemons = expected))
  expect_identical(shown(daemons(0)), "[1] 0")
})

test_that("without dispatcher the value is the URL with the port that was taken", {
  withr::defer(daemons(0))
  value <- daemons(url = host_url(), dispatcher = FALSE)
  expect_match(shown(value), "^\\[1\\] \"tcp://hostname:[1-9][0-9]*\"$")
  expect_identical(unclass(status())[c("connections", "daemons")], list(connections = 0L, daemons = status()$url))
})

test_that("several WebSocket URLs are given as they are, or made from one by paths", {
  withr::defer(daemons(0))
  expect_identical(shown(daemons(url = c("ws://127.0.0.1:0/a", "ws://127.0.0.1:0/b", "ws://127.0.0.1:0/c"))), "[1] 3")
  ports <- sub("/[abc]$", "", rownames(status()$daemons))
  expect_length(unique(ports), 1L)
  expect_identical(shown(daemons(n = 4, url = host_url(ws = TRUE, tls = TRUE))), "[1] 4")
  expect_match(rownames(status()$daemons), "^wss://[^/]+/[1-4]$")
})

test_that("the commands for manual deployment are shown as in the text", {
  withr::defer(daemons(0))
  expect_identical(shown(daemons(n = 2, url = host_url())), "[1] 2")
  lines <- shown(launch_remote(1:2))
  expect_identical(lines[c(1, 3, 4, 6)], c("[1]", "", "[2]", ""))
  expect_match(lines[c(2, 5)], "^Rscript -e \"setsuna::daemon\\('tcp://hostname:[0-9]+',.*\\)\"$")
})

test_that("a single-use certificate stands in the command, its key does not", {
  withr::defer(daemons(0))
  daemons(n = 1, url = host_url(ws = TRUE, tls = TRUE))
  command <- as.vector(launch_remote(1))
  expect_match(command, "-----BEGIN CERTIFICATE-----\n", fixed = TRUE)
  expect_no_match(command, "PRIVATE KEY", fixed = TRUE)
})

test_that("bad arguments of the network are named", {
  withr::defer(daemons(0))
  expect_error(daemons(url = "tcp://127.0.0.1:0", tls = "x"), "'tls' is for a 'url' that begins with tls+tcp:// or wss://", fixed = TRUE)
  expect_error(daemons(url = "tls+tcp://127.0.0.1:0", pass = "x"), "'pass'", fixed = TRUE)
  expect_error(daemons(url = "tls+tcp://127.0.0.1:0", tls = 5), "'tls' must be", fixed = TRUE)
  expect_error(daemons(url = "tls+tcp://127.0.0.1:0", tls = "/no/such/file"), "/no/such/file", fixed = TRUE)
  expect_error(daemons(url = "tcp://no.such.host.invalid:1"), "tcp://no.such.host.invalid:1", fixed = TRUE)
  expect_error(daemons(url = "udp://127.0.0.1:1"), "udp", fixed = TRUE)
  expect_error(daemons(2, remote = ssh_config("ssh://host")), "'remote' needs a 'url'", fixed = TRUE)
  expect_error(daemons(url = "tcp://127.0.0.1:0", auth = NA), "'auth'", fixed = TRUE)
})
