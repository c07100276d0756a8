# Programs of others at a host's port: openssl s_client and curl. They are answered, refused and logged, and harm nobody.

listening <- function(url, frame = parent.frame()) {
  daemons(url = url)
  withr::defer(daemons(0), envir = frame)
  port_of(status()$url[1L])
}

has_new_event <- function(pattern) {
  before <- sum(grepl(pattern, status()$events))
  function() expect_true(becomes_true(function() sum(grepl(pattern, status()$events)) > before, 30), label = pattern)
}

# What it says; the session's input is `input`, which then stays open for a while.
s_client <- function(port, ..., input = "") {
  command <- sprintf("(printf '%%s' %s; sleep 2) | timeout 20 %s s_client -connect 127.0.0.1:%d %s 2>&1", shQuote(input),
                     shQuote(program_of("openssl", "openssl")), port, paste(..., collapse = " "))
  paste(suppressWarnings(system(command, intern = TRUE)), collapse = "\n")
}

# The status of the answer, or "000".
http_status <- function(url, ...) {
  words <- c("-s -k -o /dev/null -w '%{http_code}'", ..., shQuote(url))
  command <- paste(c(shQuote(program_of("curl", "curl")), words), collapse = " ")
  suppressWarnings(as.vector(system(command, intern = TRUE)))
}

upgrade <- function(key = "dGhlIHNhbXBsZSBub25jZQ==", version = 13, protocol = "setsuna")
  c("--http1.1", "-H 'Connection: Upgrade'", "-H 'Upgrade: websocket'", sprintf("-H 'Sec-WebSocket-Version: %d'", version),
    sprintf("-H 'Sec-WebSocket-Key: %s'", key), sprintf("-H 'Sec-WebSocket-Protocol: %s'", protocol))

for (scheme in c("tls+tcp", "wss")) test_that(paste("openssl s_client at", scheme), {
  port <- listening(paste0(scheme, "://127.0.0.1:0"))
  expect_match(s_client(port, "-tls1_3"), "TLSv1.3, Cipher is TLS_")
  expect_match(s_client(port, "-tls1_2"), "TLSv1.2, Cipher is ECDHE-")
  refused <- has_new_event("refused a connection from 127.0.0.1:")
  expect_match(s_client(port, "-tls1_1", "-cipher DEFAULT@SECLEVEL=0"), "alert protocol version|Cipher is \\(NONE\\)")
  refused()
  strange <- has_new_event(if (scheme == "wss") "HTTP|WebSocket" else "not setsuna's protocol")
  s_client(port, "-quiet", input = "these are no words of a daemon, however long one listens to them\r\n\r\n")
  strange()
})

for (scheme in c("ws", "wss")) test_that(paste("curl at", scheme), {
  port <- listening(paste0(scheme, "://127.0.0.1:0/setsuna"))
  base <- sprintf("%s://127.0.0.1:%d", if (scheme == "ws") "http" else "https", port)
  refused <- has_new_event("does not ask for a WebSocket")
  expect_identical(http_status(paste0(base, "/setsuna"), "--http1.1"), "426")
  refused()
  expect_identical(http_status(paste0(base, "/elsewhere"), upgrade()), "404")
  refused <- has_new_event("Sec-WebSocket-Key is missing or malformed")
  expect_identical(http_status(paste0(base, "/setsuna"), upgrade(key = "short")), "400")
  refused()
  refused <- has_new_event("does not offer the subprotocol")
  expect_identical(http_status(paste0(base, "/setsuna"), upgrade(protocol = "chat")), "400")
  refused()
  expect_match(http_status(paste0(base, "/setsuna"), upgrade(version = 8)), "^4")
  # A right one opens a WebSocket, and then says nothing that proves who it is.
  expect_identical(http_status(paste0(base, "/setsuna"), upgrade(), "--max-time 1"), "101")
})

test_that("curl at tcp, beside a daemon", {
  port <- listening("tcp://127.0.0.1:0")
  start_daemons(status()$url)
  connected(1)
  refused <- has_new_event("not setsuna's protocol")
  expect_identical(http_status(sprintf("http://127.0.0.1:%d/", port)), "000")
  refused()
  expect_identical(http_status(sprintf("https://127.0.0.1:%d/", port)), "000")
  expect_identical(no_hang(mirai(1)[]), 1)
})
