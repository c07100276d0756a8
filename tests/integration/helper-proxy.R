# A proxy between a host and its daemons that does what networks do (tests/net/fault_proxy_main.cpp).

port_of <- function(url) as.integer(sub(".*:([0-9]+)(/.*)?$", "\\1", url))

# Before the first URL of the profile, until the test ends: list(url = what daemons dial instead, tell(line)), where `line` is
# what the program understands; its answer is returned.
start_proxy <- function(frame = parent.frame()) {
  build <- Sys.getenv("SETSUNA_BUILD", file.path("..", "..", "build"))
  program <- file.path(build, "release", "tests", "net", "fault_proxy_main")
  if (!file.exists(program)) testthat::skip(paste0("needs ", program, " (tools/setup builds it)"))
  answers <- withr::local_tempfile(.local_envir = frame)
  input <- pipe(paste("exec", shQuote(normalizePath(program)), port_of(status()$url[1L]), ">", shQuote(answers)), "w")
  withr::defer({
    writeLines("end", input) # the daemons that are started later have inherited the pipe
    close(input)
  }, envir = frame)
  said <- function() if (file.exists(answers)) readLines(answers, warn = FALSE) else character()
  seen <- 0L
  next_answer <- function() {
    if (!becomes_true(function() length(said()) > seen, 20)) stop("the proxy does not answer")
    seen <<- seen + 1L
    said()[seen]
  }
  list(
    url = sub(":[0-9]+", paste0(":", next_answer()), status()$url[1L]),
    tell = function(...) {
      writeLines(paste(...), input)
      flush(input)
      answer <- next_answer()
      if (startsWith(answer, "not")) stop("the proxy has ", answer)
      answer
    }
  )
}

# Starts what launch_remote() says, for daemons at `url`.
start_daemons <- function(url, n = 1L, ..., inside = NULL) {
  libraries <- shQuote(paste(.libPaths(), collapse = ":"))
  for (line in launch_remote(rep(url, n), ...))
    system(paste0("R_LIBS=", libraries, " exec ", paste(inside, collapse = " "), " ", line, " > /dev/null 2>&1"), wait = FALSE)
}

has_event <- function(pattern) becomes_true(function() any(grepl(pattern, status()$events)))
