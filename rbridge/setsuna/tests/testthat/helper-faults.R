# What the fault tests (test-faults*.R here, tests/integration) share.

# Evaluates `code`; one that hangs is interrupted after `seconds` and fails. A wait of setsuna sleeps in the kernel, so
# that only a signal from outside can tell a hang from a long wait.
no_hang <- function(code, seconds = 120) {
  alive <- tempfile("watchdog-")
  sleeper <- paste0(alive, ".pid")
  file.create(alive)
  script <- sprintf("sleep %d & echo $! > %s; wait $!; [ -e %s ] && kill -INT %d", seconds, shQuote(sleeper),
                    shQuote(alive), Sys.getpid())
  system2("sh", c("-c", shQuote(script)), wait = FALSE, stdout = FALSE, stderr = FALSE)
  on.exit({
    unlink(alive)
    pid <- if (file.exists(sleeper)) scan(sleeper, 0L, quiet = TRUE)
    if (length(pid)) tools::pskill(pid, tools::SIGKILL)
    unlink(sleeper)
  })
  tryCatch(force(code), interrupt = function(e) stop("it hangs: nothing after ", seconds, " seconds", call. = FALSE))
}

# Looks until `check()` is TRUE; FALSE after `seconds`.
becomes_true <- function(check, seconds = 60) {
  deadline <- Sys.time() + seconds
  repeat {
    if (isTRUE(check())) return(TRUE)
    if (Sys.time() > deadline) return(FALSE)
    Sys.sleep(0.01)
  }
}

online <- function(.compute = NULL) {
  daemons <- status(.compute)$daemons
  if (is.matrix(daemons)) sum(daemons[, "online"]) else status(.compute)$connections
}

expect_online <- function(n, .compute = NULL) {
  testthat::expect_true(becomes_true(function() online(.compute) == n),
                        label = sprintf("the pool gets back to %d daemons (it has %d); that", n, online(.compute)))
}

# A pool for one test; ends with it.
pool <- function(n, ..., env = parent.frame()) {
  no_hang(daemons(n, ...))
  withr::defer(daemons(0), envir = env)
}

daemon_pids <- function(.compute = NULL) {
  pids <- status(.compute)$pids
  pids[pids > 0L]
}

# The values of a list of mirai.
collect <- function(x, seconds = 120) no_hang(collect_mirai(x), seconds)

# The number that a task writes into `file`, once it is there.
pid_in <- function(file) {
  read <- function() if (file.exists(file)) as.integer(readLines(file, warn = FALSE))
  testthat::expect_true(becomes_true(function() length(read()) == 1L), label = "a task that has started; that")
  read()
}

# Each task after `m` is as if `m` had not been.
expect_untouched <- function(n = 2L) {
  expect_online(n)
  values <- collect(lapply(1:4, function(i) mirai(i + 1, i = i)))
  testthat::expect_identical(values, lapply(1:4, function(i) i + 1))
}

# errorValue 19 and why
expect_reset <- function(value, ...) {
  testthat::expect_s3_class(value, "errorValue")
  testthat::expect_identical(as.integer(value), 19L)
  wanted <- list(...)
  for (name in names(wanted)) testthat::expect_identical(attr(value, name), wanted[[name]], label = name)
  testthat::expect_true(is.integer(attr(value, "pid")) && attr(value, "pid") > 1L)
}

# Not turning its warnings into conditions that leave: readLines() would lose its connection.
process_stat <- function(pid) {
  line <- suppressWarnings(tryCatch(readLines(sprintf("/proc/%d/stat", pid), warn = FALSE), error = function(e) NULL))
  if (length(line) == 1L) line
}

exists_process <- function(pid) {
  stat <- process_stat(pid)
  !is.null(stat) && !grepl("^[0-9]+ \\(.*\\) [ZX]", stat)
}

# pid, parent, command name of every process
processes <- function() {
  pids <- as.integer(list.files("/proc", "^[0-9]+$"))
  stat <- lapply(pids, function(pid) {
    line <- process_stat(pid)
    if (is.null(line)) return(NULL)
    rest <- strsplit(sub("^.*\\) ", "", line), " ")[[1L]]
    data.frame(pid = pid, state = rest[1L], parent = as.integer(rest[2L]), session = as.integer(rest[4L]),
               command = sub("^[0-9]+ \\((.*)\\) .*$", "\\1", line))
  })
  do.call(rbind, stat)
}

# Compiles faults.c next to this file, once; its path, or the test is skipped.
native_faults <- local({
  path <- NULL
  function() {
    if (!is.null(path)) return(path)
    folder <- tempfile("native-")
    dir.create(folder)
    source <- Find(file.exists, c(testthat::test_path("faults.c"),
                                  testthat::test_path("../../rbridge/setsuna/tests/testthat/faults.c")))
    file.copy(source, folder)
    status <- suppressWarnings(system2(file.path(R.home("bin"), "R"), c("CMD", "SHLIB", shQuote(file.path(folder, "faults.c"))),
                                       stdout = FALSE, stderr = FALSE))
    if (status != 0L) testthat::skip("no C compiler")
    path <<- file.path(folder, "faults.so")
    path
  }
})

# A session of its own: `code` (an expression) in a fresh Rscript, its value; what it printed as attribute "output", its exit
# status as attribute "status". `before`: shell commands; `env`: NAME=VALUE.
in_session <- function(code, ..., before = ":", env = character(), arguments = character(), seconds = 120, redirect = "",
                       directory = getwd(), libraries = character()) {
  folder <- tempfile("session-")
  dir.create(folder)
  script <- file.path(folder, "script.R")
  result <- file.path(folder, "result.rds")
  data <- file.path(folder, "data.rds")
  saveRDS(list(...), data)
  writeLines(c(
    sprintf("for (i in 1L) { data <- readRDS(%s); list2env(data, globalenv()); rm(data) }", deparse(data)),
    sprintf(".libPaths(%s)", paste(deparse(c(libraries, .libPaths())), collapse = "")),
    "library(setsuna)",
    paste0("result <- (function() {", paste(deparse(code), collapse = "\n"), "})()"),
    sprintf("saveRDS(result, %s)", deparse(result))
  ), script)
  rscript <- file.path(R.home("bin"), "Rscript")
  command <- sprintf("cd %s; %s; %s exec timeout -k 5 %d %s %s %s %s", shQuote(directory), before,
                     paste(env, collapse = " "), seconds, shQuote(rscript), paste(arguments, collapse = " "),
                     shQuote(script), redirect)
  output <- suppressWarnings(system2("bash", c("-c", shQuote(command)), stdout = TRUE, stderr = TRUE))
  value <- if (file.exists(result)) readRDS(result) else structure(list(), class = "no_result")
  unlink(folder, recursive = TRUE)
  structure(list(value = value, output = as.character(output), status = attr(output, "status") %||% 0L), class = "session")
}

`%||%` <- function(x, y) if (is.null(x)) y else x
