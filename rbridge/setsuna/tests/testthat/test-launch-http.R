# Launching by HTTP, with a server of the test's own.

# Serves one request in a mirai: its value is the request's head and body.
serve_once <- function(port, status = "200 OK", body = "{\"job\": 7}", ready) mirai({
  listener <- serverSocket(port)
  file.create(ready)
  connection <- socketAccept(listener, blocking = TRUE, open = "r+b", timeout = 30)
  read <- function(n) rawToChar(readBin(connection, "raw", n))
  head <- ""
  while (!endsWith(head, "\r\n\r\n")) head <- paste0(head, read(1L))
  head <- strsplit(head, "\r\n")[[1L]]
  bytes <- as.integer(sub(".*: *", "", grep("^content-length:", head, TRUE, value = TRUE)))
  got <- if (length(bytes)) read(bytes) else ""
  answer <- paste0("HTTP/1.1 ", status, "\r\nContent-Length: ", nchar(body), "\r\nConnection: close\r\n\r\n", body)
  writeBin(charToRaw(answer), connection)
  close(connection)
  close(listener)
  list(head = head, body = got)
}, port = port, status = status, body = body, ready = ready)

# A server that is ready, at a port that is free.
server <- function(..., frame = parent.frame()) {
  for (attempt in 1:20) {
    ready <- withr::local_tempfile(.local_envir = frame)
    port <- sample(20000:30000, 1L)
    m <- serve_once(port, ..., ready = ready)
    if (becomes_true(function() file.exists(ready) || !unresolved(m)) && file.exists(ready))
      return(list(url = sprintf("http://127.0.0.1:%d/launch", port), request = m))
  }
  stop("no port is free")
}

test_that("a request has the command, escaped as its type needs, and what functions give at the launch", {
  skip_if_not_installed("curl")
  skip_if_not_installed("jsonlite")
  daemons(1)
  withr::defer(daemons(0))
  record <- fake_record("wss://h:1/1", token = "aa", tls = nasty_values[2L])
  command <- unclass(.launch_for(record, 1, remote_config()))[1L]
  it <- server()
  called <- 0
  config <- http_config(function() it$url, headers = c("X-One" = "1"), data = "{\"run\": \"%s\", \"again\": \"%s\"}",
                        cookie = "c=1", token = function() paste0("t", called <<- called + 1))
  expect_identical(called, 0)
  answers <- .launch_for(record, 1, config)
  request <- it$request[]
  expect_identical(jsonlite::fromJSON(request$body), list(run = command, again = command))
  expect_identical(request$head[1L], "POST /launch HTTP/1.1")
  for (header in c("X-One: 1", "Cookie: c=1", "Authorization: Bearer t1", "Content-Type: application/json"))
    expect_true(header %in% request$head, info = header)
  expect_identical(answers[[1L]]$status, 200L)
  expect_identical(answers[[1L]]$body, "{\"job\": 7}")

  it <- server()
  .launch_for(record, 1, http_config(it$url, "PUT", c("content-type" = "text/plain"), data = function() "run %s"))
  request <- it$request[]
  expect_identical(request$body, paste("run", command))
  expect_identical(request$head[1L], "PUT /launch HTTP/1.1")

  it <- server()
  .launch_for(record, 1, http_config(it$url, data = function(command) toupper(command)))
  expect_identical(it$request[]$body, toupper(command))
})

test_that("a refusal and a silence are errors that name the URL", {
  skip_if_not_installed("curl")
  daemons(1)
  withr::defer(daemons(0))
  it <- server("403 Forbidden", "no such user")
  expect_error(.launch_for(fake_record(), 1, http_config(it$url, data = "%s")),
               paste0("'remote': ", it$url, " refused the launch: status 403, no such user"), fixed = TRUE)
  it$request[]
  expect_error(.launch_for(fake_record(), 1, http_config("http://127.0.0.1:1/x")),
               "'remote': no answer from http://127.0.0.1:1/x")
  expect_error(.launch_for(fake_record(), 1, http_config(function() "x")), "'url' is \"x\"")
})
