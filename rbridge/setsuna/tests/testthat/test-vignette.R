# The examples of the guide that this package implements, local part, one by one: the code as a user types it at top
# level and the output that it must show. In shows(), `#>` is a line of output, `#~` a regular expression for one where
# the output is random. Blank lines of output do not count.

shows <- function(text) {
  lines <- strsplit(text, "\n", fixed = TRUE)[[1L]]
  lines <- lines[nzchar(trimws(lines))]
  output <- grepl("^#[>~]", lines)
  group <- cumsum(!output & c(TRUE, output[-length(output)]))
  for (part in split(seq_along(lines), group)) {
    code <- lines[part[!output[part]]]
    expect_output_lines(printed(code), lines[part[output[part]]], code)
  }
}

# What R prints for `code` at top level.
printed <- function(code) {
  lines <- capture.output(for (call in parse(text = code, keep.source = FALSE)) {
    result <- withVisible(eval(call, globalenv()))
    if (result$visible) print(result$value)
  })
  lines[nzchar(trimws(lines))]
}

expect_output_lines <- function(got, expected, code) {
  body <- substring(expected, 4L)
  matches <- function(kind, body, line) {
    if (kind == "#~") grepl(paste0("^", body, "$"), line) else sub(" +$", "", body) == sub(" +$", "", line)
  }
  same <- length(got) == length(body) && all(unlist(Map(matches, substr(expected, 1L, 2L), body, got)))
  expect(same, paste(c("this code:", code, "must show:", body, "but shows:", got), collapse = "\n"))
}

# At top level means in the global environment: after its test it is as before, and there are no daemons.
local_session <- function(frame = parent.frame()) {
  before <- as.list(globalenv(), all.names = TRUE)
  restore <- function() {
    rm(list = setdiff(ls(globalenv(), all.names = TRUE), names(before)), envir = globalenv())
    list2env(before, globalenv())
    daemons(0)
    gc()
  }
  do.call(on.exit, list(as.call(list(restore)), add = TRUE), envir = frame)
}

# A named pipe: whoever reads it waits, without polling, until somebody has written.
pipe_path <- function() {
  path <- tempfile("pipe")
  stopifnot(system2("mkfifo", path) == 0L)
  path
}

hear <- function(path) {
  pipe <- file(path, "r", raw = TRUE)
  on.exit(close(pipe))
  readLines(pipe)
}

say <- function(path) {
  pipe <- file(path, "w", raw = TRUE)
  on.exit(close(pipe))
  writeLines("go", pipe)
}

set_global <- function(...) list2env(list(...), globalenv())

available_mb <- function() {
  mem <- readLines("/proc/meminfo")
  free <- as.numeric(gsub("[^0-9]", "", grep("^MemAvailable", mem, value = TRUE))) / 1024
  group <- sub("^0::", "", grep("^0::", readLines("/proc/self/cgroup"), value = TRUE))
  limits <- file.path("/sys/fs/cgroup", group, c("memory.max", "memory.current"))
  if (length(group) != 1L || !all(file.exists(limits))) return(free)
  numbers <- suppressWarnings(as.numeric(vapply(limits, readLines, "")))
  if (anyNA(numbers)) free else min(free, (numbers[1L] - numbers[2L]) / 2^20)
}

# ---- Example 1 -------------------------------------------------------------------------------------------------------

test_that("example 1: a compute-intensive operation", {
  local_session()
  # The result is 800 MB; computing it takes about 3 GB in the other process.
  n <- if (available_mb() > 6000) 1e8 else 1e7
  cat(sprintf("example 1 runs with n = %g\n", n))
  example <- "
m <- mirai({
    res <- rnorm(n) + m
    res / rev(res)
  },
  m = runif(1),
  n = 1e8
)
m
#> < mirai | $data >
m$data
#> 'unresolved' logi NA
while (unresolved(m)) Sys.sleep(0.1)
m$data |> str()
#~  num \\[1:100000000\\]( -?[0-9.e+-]+){5} \\.\\.\\.
call_mirai(m)$data |> str()
#~  num \\[1:100000000\\]( -?[0-9.e+-]+){5} \\.\\.\\.
"
  if (n == 1e7) example <- gsub("1e8", "1e7", gsub("100000000", "10000000", example))
  shows(example)
  x <- globalenv()$m$data
  expect_length(x, n)
  # What is wrong with a block that arrived in part, or twice: the i-th times the i-th from behind is 1.
  at <- unique(round(seq(1, n, length.out = 1e5)))
  expect_equal(x[at] * x[n + 1 - at], rep(1, length(at)))
})

test_that("example 1: a language object and a list of arguments are equivalent", {
  local_session()
  n <- if (available_mb() > 6000) 1e8 else 1e7
  example <- "
expr <- quote({
  res <- rnorm(n) + m
  res / rev(res)
})
args <- list(m = runif(1), n = 1e8)
m <- mirai(.expr = expr, .args = args)
call_mirai(m)$data |> str()
#~  num \\[1:100000000\\]( -?[0-9.e+-]+){5} \\.\\.\\.
"
  if (n == 1e7) example <- gsub("1e8", "1e7", gsub("100000000", "10000000", example))
  shows(example)
})

test_that("example 1: the process is clean, and specified pairs are what it sees", {
  local_session()
  set_global(only_here = 1, given = 2)
  shows("
mirai(only_here)[]
#~ 'miraiError' chr Error.*: object 'only_here' not found
mirai(ls(globalenv()))[]
#> character(0)
mirai(given + other, given = given, other = 3)[]
#> [1] 5
")
})

# ---- Example 2 -------------------------------------------------------------------------------------------------------

test_that("example 2: an I/O-bound operation, arguments by name", {
  local_session()
  setup <- "
x <- rnorm(1e6)
file <- tempfile()
m <- mirai(write.csv(x, file = file), .args = list(x, file))
m
#> < mirai | $data >
"
  shows(setup)
  loop <- '
while (unresolved(m)) {
  cat("while unresolved\\n")
  Sys.sleep(0.5)
}
cat("Write complete:", is.null(m$data))
'
  lines <- printed(loop)
  n <- length(lines)
  expect_identical(lines, c(rep("while unresolved", n - 1L), "Write complete: TRUE"))
  expect_gt(n, 1L) # a million numbers are not written before the first look
  written <- utils::read.csv(globalenv()$file, nrows = 1e6)
  expect_equal(written[[2L]], globalenv()$x, tolerance = 1e-14)
  unlink(globalenv()$file)
})

test_that("example 2: `.args` by name combines with name = value pairs", {
  local_session()
  shows("
x <- 1:3
file <- 'a'
mirai(list(x, file, more), more = TRUE, .args = list(x, file))[] |> str()
#> List of 3
#>  $ : int [1:3] 1 2 3
#>  $ : chr \"a\"
#>  $ : logi TRUE
")
})

# ---- Example 3 -------------------------------------------------------------------------------------------------------

example_3 <- '
run_iteration <- function(i) {

  if (runif(1) < 0.1) stop("random error\\n", call. = FALSE) # simulates a stochastic error rate
  sprintf("iteration %d successful\\n", i)

}

for (i in 1:10) {

  m <- mirai(run_iteration(i), .args = list(run_iteration, i))
  while (is_error_value(call_mirai(m)$data)) {
    cat(m$data)
    m <- mirai(run_iteration(i), .args = list(run_iteration, i))
  }
  cat(m$data)

}
'

expect_pipeline <- function(lines) {
  failed <- lines == "Error: random error"
  expect_identical(lines[!failed], sprintf("iteration %d successful", 1:10))
  sum(failed)
}

test_that("example 3: a resilient pipeline, a new process each", {
  local_session()
  expect_pipeline(printed(example_3))
})

test_that("example 3: the same on daemons, often enough to see errors", {
  local_session()
  daemons(2, seed = 42L)
  failed <- 0L
  for (k in 1:10) failed <- failed + expect_pipeline(printed(example_3))
  expect_gt(failed, 0L) # a chance of 0.9^100 that none is seen; the seed makes it always or never
})

# ---- Daemons ---------------------------------------------------------------------------------------------------------

test_that("daemons with dispatcher: the number set, the status, the reset", {
  local_session()
  shows("
daemons(6)
#> [1] 6
status()
#> $connections
#> [1] 1
#> $daemons
#>                                     i online instance assigned complete
#~ abstract://[0-9a-f]{24} 1      1        1        0        0
#~ abstract://[0-9a-f]{24} 2      1        1        0        0
#~ abstract://[0-9a-f]{24} 3      1        1        0        0
#~ abstract://[0-9a-f]{24} 4      1        1        0        0
#~ abstract://[0-9a-f]{24} 5      1        1        0        0
#~ abstract://[0-9a-f]{24} 6      1        1        0        0
daemons(0)
#> [1] 0
")
})

test_that("daemons with dispatcher: the matrix counts what each daemon did", {
  local_session()
  daemons(3)
  expect_identical(mirai_map(1:30, function(i) i)[.flat], 1:30)
  counts <- status()$daemons
  expect_identical(dim(counts), c(3L, 5L))
  expect_equal(sum(counts[, "assigned"]), 30)
  expect_equal(counts[, "complete"], counts[, "assigned"])
  expect_identical(anyDuplicated(rownames(counts)), 0L)
})

test_that("daemons with dispatcher: a task goes to a daemon as soon as one is free", {
  local_session()
  daemons(2)
  started <- pipe_path()
  gate <- pipe_path()
  long <- mirai({
    cat("started\n", file = started)
    readLines(gate)
    Sys.getpid()
  }, .args = list(started, gate))
  expect_identical(hear(started), "started")
  others <- mirai_map(1:20, function(i) Sys.getpid())[.flat] # all while one daemon is busy
  expect_length(unique(others), 1L)
  expect_true(unresolved(long))
  say(gate)
  expect_false(long[] %in% others)
})

test_that("daemons with dispatcher: first in, first out", {
  local_session()
  daemons(1)
  log <- tempfile()
  map <- mirai_map(1:50, function(i, log) cat(i, "\n", file = log, append = TRUE), .args = list(log = log))
  map[]
  expect_identical(scan(log, quiet = TRUE), as.numeric(1:50))
})

test_that("without daemons each mirai is a new process, which ends", {
  local_session()
  pids <- vapply(1:3, function(i) mirai(Sys.getpid())[], 0L)
  expect_identical(anyDuplicated(c(pids, Sys.getpid())), 0L)
  shows("
daemons(2)
#> [1] 2
daemons(0)
#> [1] 0
")
  after <- vapply(1:3, function(i) mirai(Sys.getpid())[], 0L)
  expect_identical(anyDuplicated(c(pids, after)), 0L)
})

test_that("daemons without dispatcher: connections, the URL, everywhere, the reset", {
  local_session()
  shows('
daemons(6, dispatcher = FALSE)
#> [1] 6
status()
#> $connections
#> [1] 6
#> $daemons
#~ \\[1\\] "abstract://[0-9a-f]{24}"
everywhere(library(parallel))
mirai("package:parallel" %in% search())[]
#> [1] TRUE
daemons(0)
#> [1] 0
')
})

test_that("daemons without dispatcher: tasks are sent at once and evenly, even behind a long one", {
  local_session()
  daemons(6, dispatcher = FALSE)
  pids <- mirai_map(1:24, function(i) Sys.getpid())[.flat]
  expect_true(all(table(pids) == 4L))
  expect_length(unique(pids), 6L)
  daemons(2, dispatcher = FALSE)
  started <- pipe_path()
  gate <- pipe_path()
  long <- mirai({
    cat("started\n", file = started)
    readLines(gate)
    Sys.getpid()
  }, .args = list(started, gate))
  expect_identical(hear(started), "started")
  tasks <- lapply(1:4, function(i) mirai(Sys.getpid()))
  free <- collect_mirai(tasks[c(1L, 3L)])
  expect_identical(free[[1L]], free[[2L]])
  expect_true(unresolved(tasks[[2L]]))
  expect_true(unresolved(tasks[[4L]]))
  say(gate)
  expect_identical(unlist(collect_mirai(tasks[c(2L, 4L)])), rep(long[], 2L))
})

for (dispatcher in c(TRUE, FALSE)) local({
  dispatcher <- dispatcher
  test_that(sprintf("everywhere persists whatever `cleanup` says, dispatcher = %s", dispatcher), {
    local_session()
    daemons(2, dispatcher = dispatcher, cleanup = TRUE)
    done <- everywhere({
      library(parallel)
      common <<- list(answer = 42)
      options(setsuna.everywhere = "set")
    })[]
    expect_length(done, 2L)
    look <- function(i) {
      seen <- list("package:parallel" %in% search(), get0("common", globalenv()), getOption("setsuna.everywhere"))
      leftover <- exists("left_by_a_task", globalenv())
      assign("left_by_a_task", i, globalenv())
      options(setsuna.everywhere = "changed by a task")
      list(seen, leftover)
    }
    for (result in mirai_map(1:12, look)[])
      expect_identical(result, list(list(TRUE, list(answer = 42), "set"), FALSE))
  })
})

# ---- Compute profiles ------------------------------------------------------------------------------------------------

test_that("compute profiles are pools of their own", {
  local_session()
  shows('
daemons(3, .compute = "cpu")
#> [1] 3
daemons(1, .compute = "gpu")
#> [1] 1
daemons(2)
#> [1] 2
nrow(status(.compute = "cpu")$daemons)
#> [1] 3
nrow(status(.compute = "gpu")$daemons)
#> [1] 1
nrow(status()$daemons)
#> [1] 2
')
  of <- function(profile) unique(unlist(lapply(1:20, function(i) mirai(Sys.getpid(), .compute = profile)[])))
  gpu <- of("gpu")
  expect_length(gpu, 1L)
  expect_identical(gpu, status(.compute = "gpu")$pids)
  expect_length(intersect(c(of("cpu"), gpu), of(NULL)), 0L)
  expect_true(all(of("cpu") %in% status(.compute = "cpu")$pids))
  shows('
daemons(0, .compute = "gpu")
#> [1] 0
mirai(1 + 1, .compute = "cpu")[]
#> [1] 2
mirai(1 + 2)[]
#> [1] 3
daemons(0, .compute = "cpu")
#> [1] 0
')
})

test_that("the default profile is called 'default'", {
  local_session()
  shows('
daemons(1, .compute = "default")
#> [1] 1
nrow(status()$daemons)
#> [1] 1
mirai(Sys.getpid())[] == mirai(Sys.getpid(), .compute = "default")[]
#> [1] TRUE
daemons(0, .compute = "default")
#> [1] 0
')
})

test_that("launch_local() adds to the profile that it is given", {
  local_session()
  daemons(1, .compute = "cpu")
  launch_local(2, .compute = "cpu")
  expect_null(info())
  expect_identical(nrow(status(.compute = "cpu")$daemons), 3L)
  pids <- mirai_map(1:30, function(i) Sys.getpid(), .compute = "cpu")[.flat]
  expect_true(all(pids %in% status(.compute = "cpu")$pids))
  daemons(0, .compute = "cpu")
})

# ---- Errors, interrupts and timeouts ---------------------------------------------------------------------------------

errors_example <- '
m1 <- mirai(stop("occurred with a custom message", call. = FALSE))
call_mirai(m1)$data
#> \'miraiError\' chr Error: occurred with a custom message
m2 <- mirai(setsuna::mirai())
call_mirai(m2)$data
#> \'miraiError\' chr Error in setsuna::mirai(): missing expression, perhaps wrap in {}?
is_mirai_error(m2$data)
#> [1] TRUE
is_error_value(m2$data)
#> [1] TRUE
is_mirai_interrupt(m2$data)
#> [1] FALSE
m3 <- mirai(setsuna::msleep(1000), .timeout = 500)
call_mirai(m3)$data
#> \'errorValue\' int 5 | Timed out
is_mirai_error(m3$data)
#> [1] FALSE
is_mirai_interrupt(m3$data)
#> [1] FALSE
is_error_value(m3$data)
#> [1] TRUE
'

test_that("errors and timeouts without daemons", {
  local_session()
  shows(errors_example)
})

for (dispatcher in c(TRUE, FALSE)) local({
  dispatcher <- dispatcher
  test_that(sprintf("errors and timeouts on daemons, dispatcher = %s", dispatcher), {
    local_session()
    daemons(2, dispatcher = dispatcher)
    shows(errors_example)
    # The pool is as it was.
    expect_identical(mirai_map(1:10, function(i) i)[.flat], 1:10)
  })
})

test_that("the values behind the printed text", {
  local_session()
  daemons(1)
  error <- mirai(stop("occurred with a custom message", call. = FALSE))[]
  expect_identical(as.vector(error), "Error: occurred with a custom message")
  expect_s3_class(error, c("miraiError", "errorValue"))
  timeout <- mirai(setsuna::msleep(1000), .timeout = 50)[]
  expect_identical(as.integer(timeout), 5L)
  expect_s3_class(timeout, "errorValue")
})

# A task that says its process id when it evaluates and then goes on for ever.
endless <- function(...) {
  started <- pipe_path()
  m <- mirai({
    cat(Sys.getpid(), "\n", file = started)
    repeat NULL
  }, .args = list(started), ...)
  list(mirai = m, pid = as.integer(hear(started)))
}

expect_interrupted <- function(task) {
  expect_true(unresolved(task$mirai))
  tools::pskill(task$pid, tools::SIGINT)
  set_global(m = task$mirai)
  shows('
call_mirai(m)$data
#> \'miraiInterrupt\' chr ""
is_mirai_interrupt(m$data)
#> [1] TRUE
is_error_value(m$data)
#> [1] TRUE
is_mirai_error(m$data)
#> [1] FALSE
')
  value <- task$mirai$data
  expect_identical(as.vector(unclass(value)), "")
  expect_s3_class(value, c("miraiInterrupt", "errorValue"))
}

test_that("a user interrupt sent to a daemon: the mirai says so, the daemon goes on", {
  local_session()
  daemons(1)
  task <- endless()
  expect_identical(task$pid, status()$pids)
  expect_interrupted(task)
  shows("
mirai(1 + 1)[]
#> [1] 2
")
  expect_identical(status()$pids, task$pid)
})

test_that("a user interrupt sent to an idle daemon is ignored", {
  local_session()
  daemons(1)
  pid <- mirai(Sys.getpid())[]
  for (k in 1:5) {
    tools::pskill(pid, tools::SIGINT)
    expect_identical(mirai(Sys.getpid())[], pid)
  }
})

test_that("a user interrupt sent to the process of a mirai without daemons", {
  local_session()
  expect_interrupted(endless())
})
