# Daemons that come through nginx as a reverse proxy, of WebSockets and of TLS.

host_port <- function() as.integer(sub("^[a-z+]+://[^:]*:([0-9]+).*", "\\1", status()$url[1L]))

proxied <- function(url, ..., n = 2L)
  launch_remote(rep(url, n), remote_config("sh", c("-c", "."), rscript = real_rscript(), quote = TRUE), ...)

test_that("a WebSocket passes nginx, with and without TLS there", {
  withr::defer(daemons(0))
  daemons(url = "ws://127.0.0.1:0/setsuna")
  proxy <- start_nginx(host_port())
  proxied(sprintf("ws://127.0.0.1:%d/setsuna", proxy$port))
  connected(2)
  expect_identical(mirai_map(1:20, function(i) i)[.flat], 1:20)
  big <- as.double(1:1e6)
  expect_identical(mirai(x, x = big)[], big)
  proxied(sprintf("wss://localhost:%d/setsuna", proxy$tls_port), tls = proxy$certificate)
  connected(4)
  expect_identical(mirai_map(1:20, function(i) i)[.flat], 1:20)
  # With another certificate it is not trusted, with another path not routed.
  strange <- start_nginx(host_port())
  proxied(sprintf("wss://localhost:%d/setsuna", strange$tls_port), tls = proxy$certificate, n = 1L)
  proxied(sprintf("ws://127.0.0.1:%d/other", proxy$port), n = 1L)
  expect_true(becomes_true(function() sum(status()$launches$state == "failed") == 2L))
  expect_identical(info()[["connections"]], 4L)
  daemons(0)
})
