test_that("local URLs are names of their own", {
  expect_match(local_url(), "^abstract://[0-9a-f]{24}$")
  expect_false(local_url() == local_url())
  expect_identical(local_url(tcp = TRUE), "tcp://127.0.0.1:0")
  expect_identical(local_url(tcp = TRUE, port = 5555), "tcp://127.0.0.1:5555")
})

test_that("URLs for others carry the host name, or an address", {
  host <- Sys.info()[["nodename"]]
  expect_identical(host_url(), paste0("tcp://", host, ":0"))
  expect_identical(host_url(port = 5555), paste0("tcp://", host, ":5555"))
  expect_identical(host_url(tls = TRUE), paste0("tls+tcp://", host, ":0"))
  expect_identical(host_url(ws = TRUE, port = "80"), paste0("ws://", host, ":80"))
  expect_identical(host_url(ws = TRUE, tls = TRUE), paste0("wss://", host, ":0"))
  expect_identical(host_url(interface = "lo"), "tcp://127.0.0.1:0")
})

test_that("bad arguments are named in the error", {
  expect_error(local_url(port = -1), "'port' is -1", fixed = TRUE)
  expect_error(host_url(port = 70000), "'port' is 70000: it must be at most 65535", fixed = TRUE)
  expect_error(host_url(port = "http"), "'port' must be one whole number", fixed = TRUE)
  expect_error(host_url(tls = "yes"), "'tls' must be TRUE or FALSE", fixed = TRUE)
  expect_error(host_url(interface = "none0"), "'interface' is \"none0\", which this machine does not have", fixed = TRUE)
  expect_error(host_url(interface = 5), "'interface' must be one string", fixed = TRUE)
})
