# What a task may do to its daemon: its own mirai resolves, the next task notices nothing, the pool gets back to n.

test_that("a task that quits resolves to error 19 with the status", {
  pool(2)
  expect_reset(no_hang(mirai(quit("no"))[]), status = 0L)
  expect_reset(no_hang(mirai(q("no", status = 3L))[]), status = 3L)
  expect_reset(no_hang(mirai(tools::pskill(Sys.getpid(), tools::SIGTERM))[]))
  expect_untouched()
})

test_that("a task that crashes or is killed resolves to error 19 with the signal", {
  pool(2)
  expect_reset(no_hang(mirai(tools::pskill(Sys.getpid(), 11L))[]), signal = 11L)
  expect_reset(no_hang(mirai(tools::pskill(Sys.getpid(), tools::SIGKILL))[]), signal = 9L)
  expect_online(2L)
  mark <- tempfile()
  m <- mirai({
    cat(Sys.getpid(), file = mark)
    Sys.sleep(600)
  }, mark = mark)
  busy <- pid_in(mark)
  expect_true(busy %in% daemon_pids())
  tools::pskill(busy, tools::SIGKILL)
  expect_reset(no_hang(m[]), signal = 9L, pid = busy)
  expect_untouched()
})

test_that("a real segmentation fault is one", {
  library <- native_faults()
  pool(2)
  segv <- mirai({
    dyn.load(library)
    .Call("fault_segv")
  }, library = library)
  # R's own handler of SIGSEGV ends the process by status or by signal.
  expect_reset(no_hang(segv[]))
  expect_untouched()
})

test_that("idle daemons that are killed come back", {
  pool(2)
  before <- daemon_pids()
  tools::pskill(before, tools::SIGKILL)
  expect_true(becomes_true(function() !any(before %in% daemon_pids())))
  expect_untouched()
})

test_that("a task that returns at top level gives its value", {
  pool(2)
  expect_identical(no_hang(mirai(return(5))[]), 5)
  expect_identical(no_hang(mirai({
    if (TRUE) return("early")
    "late"
  })[]), "early")
  expect_identical(no_hang(mirai_map(1:3, function(x) return(x))[.flat]), 1:3)
  expect_untouched()
})

test_that("break, next and invokeRestart at top level are errors of the task or its value", {
  pool(1)
  expect_s3_class(no_hang(mirai(break)[]), "errorValue")
  expect_s3_class(no_hang(mirai(next)[]), "errorValue")
  expect_s3_class(no_hang(mirai(invokeRestart("abort"))[]), "errorValue")
  expect_untouched(1L)
})

test_that("a task that recurses for ever is an error", {
  pool(2)
  deep <- no_hang(mirai({
    f <- function(n) f(n + 1)
    f(1)
  })[])
  expect_s3_class(deep, "miraiError")
  expect_match(deep, "infinite recursion|C stack usage|node stack overflow")
  stack <- no_hang(mirai({
    options(expressions = 500000)
    f <- function(n) f(n + 1)
    f(1)
  })[])
  expect_s3_class(stack, "miraiError")
  expect_match(stack, "C stack usage|stack overflow|infinite recursion")
  expect_identical(no_hang(mirai(getOption("expressions"))[]), 5000L)
  expect_untouched()
})

test_that("a task that reads standard input finds its end", {
  pool(1)
  expect_identical(no_hang(mirai(readLines(file("stdin")))[]), character())
  expect_identical(no_hang(mirai(readline("name? "))[]), "")
  expect_identical(no_hang(mirai(readLines(stdin()))[]), character())
  expect_identical(no_hang(mirai(scan(quiet = TRUE))[]), numeric())
  expect_identical(no_hang(mirai(system("cat", intern = TRUE))[]), character())
  expect_untouched(1L)
})

test_that("a task may print 100 MB", {
  pool(1)
  expect_identical(no_hang(mirai({
    for (i in 1:100) cat(strrep("x", 1e6))
    for (i in 1:20) message(strrep("y", 1e5))
    print(1:1000)
    system("echo from a child")
    "printed"
  })[]), "printed")
  expect_untouched(1L)
})

test_that("a task may fork with mclapply, and its children may die or quit", {
  pool(2)
  expect_identical(no_hang(mirai(parallel::mclapply(1:4, function(i) i * 2, mc.cores = 2L))[]), list(2, 4, 6, 8))
  values <- no_hang(mirai(suppressWarnings(parallel::mclapply(1:4, function(i) if (i == 2L) quit("no") else i,
                                                              mc.cores = 4L, mc.preschedule = FALSE)))[])
  expect_identical(values[c(1L, 3L, 4L)], list(1L, 3L, 4L))
  killed <- no_hang(mirai(suppressWarnings(parallel::mclapply(1:4, function(i) {
    if (i == 2L) tools::pskill(Sys.getpid(), tools::SIGKILL)
    i
  }, mc.cores = 4L, mc.preschedule = FALSE)))[])
  expect_identical(killed[c(1L, 3L, 4L)], list(1L, 3L, 4L))
  expect_untouched()
})

test_that("a child of a task can read a large argument, and outlive the task", {
  pool(2)
  x <- as.numeric(seq_len(2e5))
  sums <- no_hang(mirai(parallel::mclapply(1:4, function(i) sum(x), mc.cores = 2L), x = x)[])
  expect_identical(sums, rep(list(sum(x)), 4L))
  library <- native_faults()
  no_hang(mirai({
    dyn.load(library)
    .Call("fault_fork_and_exit")
  }, library = library)[])
  late <- tempfile()
  no_hang(mirai({
    job <- parallel::mcparallel({
      Sys.sleep(0.3)
      saveRDS(sum(x), paste0(late, ".part"))
      file.rename(paste0(late, ".part"), late)
    }, detached = TRUE)
    NULL
  }, x = x, late = late)[])
  for (i in 1:10) no_hang(mirai(sum(y), y = x * 0)[])
  expect_true(becomes_true(function() file.exists(late)))
  expect_untouched()
})

test_that("a task may close every connection and every descriptor, ours too", {
  library <- native_faults()
  pool(2)
  expect_identical(no_hang(mirai({
    closeAllConnections()
    3
  })[]), 3)
  for (lowest in c(3L, 0L)) {
    before <- daemon_pids()
    values <- collect(lapply(1:2, function(i) mirai({
      dyn.load(library)
      .Call("fault_close_all", lowest)
      Sys.getpid()
    }, library = library, lowest = lowest)))
    expect_true(all(unlist(values) %in% before))
    expect_true(becomes_true(function() !any(vapply(unlist(values), exists_process, NA))))
    expect_untouched()
    # With its doorbell gone a daemon would never wake the host for a promise, and its output would go to any file.
    file <- tempfile()
    collect(lapply(1:4, function(i) mirai({
      con <- file(file, "w")
      print("not in the file")
      cat(letters, file = con)
      close(con)
      readLines(file)
    }, file = paste0(file, i))))
    for (i in 1:4) expect_identical(readLines(paste0(file, i), warn = FALSE), paste(letters, collapse = " "))
    large <- collect(lapply(1:4, function(i) mirai(x + i, x = numeric(1e5), i = i)))
    expect_identical(large, lapply(1:4, function(i) numeric(1e5) + i))
  }
})

test_that("a task that closes every descriptor in no time ends its daemon as well", {
  library <- native_faults()
  pool(1)
  pid <- collect(mirai({
    dyn.load(library)
    Sys.getpid()
  }, library = library))
  no_hang(mirai(.Call("fault_close_at_once"))[])
  expect_true(becomes_true(function() !exists_process(pid)))
  expect_untouched(1L)
})

test_that("what a task leaves behind is not seen by the next", {
  pool(1)
  before <- no_hang(mirai(list(getwd(), options(), search(), ls(globalenv(), all.names = TRUE)))[])
  no_hang(mirai({
    setwd("/")
    options(digits = 3, made.up.option = "x", warn = 2)
    library(tools)
    library(splines)
    attach(list(y = 1), name = "left behind")
    assign("left", 1, envir = globalenv())
    lockBinding("left", globalenv())
    assign("T", FALSE, envir = globalenv())
    rm(list = ls(globalenv()))
    .GlobalEnv$.hidden <- 2
    NULL
  })[])
  after <- no_hang(mirai(list(getwd(), options(), search(), ls(globalenv(), all.names = TRUE)))[])
  expect_identical(after[[1L]], before[[1L]])
  expect_identical(after[[2L]], before[[2L]])
  expect_identical(after[[3L]], before[[3L]])
  expect_identical(after[[4L]], before[[4L]])
  expect_identical(no_hang(mirai(c(T, 0))[]), c(1, 0))
  # The same for a task that fails half-way.
  expect_s3_class(no_hang(mirai({
    setwd("/")
    options(digits = 3)
    stop("half-way")
  })[]), "miraiError")
  expect_identical(no_hang(mirai(getOption("digits"))[]), getOption("digits"))
  expect_identical(no_hang(mirai(getwd())[]), before[[1L]])
  expect_untouched(1L)
})

test_that("a directory that a task removes is no harm", {
  pool(1)
  expect_identical(no_hang(mirai({
    d <- tempfile()
    dir.create(d)
    setwd(d)
    unlink(d, recursive = TRUE)
    1
  })[]), 1)
  expect_untouched(1L)
  home <- getwd()
  expect_identical(no_hang(mirai(getwd())[]), home)
})

test_that("a session directory that a task, or a child of it that quits, removes is there again", {
  pool(1)
  before <- no_hang(mirai(tempdir())[])
  no_hang(mirai(unlink(tempdir(), recursive = TRUE))[])
  expect_identical(no_hang(mirai({
    file <- tempfile()
    writeLines("here", file)
    c(dirname(file), readLines(file))
  })[]), c(before, "here"))
  no_hang(mirai({
    suppressWarnings(parallel::mccollect(parallel::mcparallel(quit("no"))))
    NULL
  })[])
  expect_identical(no_hang(mirai({
    file <- tempfile()
    writeLines("here", file)
    c(dirname(file), readLines(file))
  })[]), c(before, "here"))
  pids <- daemon_pids()
  daemons(0)
  expect_true(becomes_true(function() !any(vapply(pids, exists_process, NA)) && !dir.exists(before)))
})

test_that("handlers, sinks, devices and time limits of one task are not those of the next", {
  pool(1)
  no_hang(mirai({
    sink(tempfile())
    sink(textConnection("out", "w"), type = "message")
    grDevices::pdf(NULL)
    setTimeLimit(elapsed = 0.3)
    globalCallingHandlers(warning = function(w) stop("caught by the last task"))
    1
  })[])
  expect_identical(no_hang(mirai({
    warning("mine")
    Sys.sleep(0.6)
    c(sink.number(), sink.number(type = "message"))
  })[]), c(0L, 2L))
  expect_untouched(1L)
})

test_that("an unraised interrupt does not hit the next task", {
  library <- native_faults()
  pool(1)
  left <- no_hang(mirai({
    dyn.load(library)
    .Call("fault_leave_interrupt")
  }, library = library)[])
  expect_true(is.null(left) || is_mirai_interrupt(left))
  expect_identical(no_hang(mirai({
    Sys.sleep(0.01)
    1
  })[]), 1)
  expect_untouched(1L)
})

test_that("a task that is out of memory is an error, or error 19", {
  library <- native_faults()
  pool(2)
  refused <- no_hang(mirai({
    dyn.load(library)
    pages <- scan("/proc/self/statm", quiet = TRUE)[1L]
    .Call("fault_limit_memory", pages * 4096 + 1e9)
    x <- numeric(1e9)
    sum(x)
  }, library = library)[])
  expect_s3_class(refused, "miraiError")
  expect_match(refused, "cannot allocate")
  # The daemon lives with its limit, which leaves no room for a large result, or it dies: either way the task resolves.
  values <- collect(lapply(1:4, function(i) mirai(numeric(1e6) + i, i = i)))
  for (value in values) expect_true(is_error_value(value) || length(value) == 1e6)
  expect_untouched()
})

test_that("a result that cannot be serialised, or fails while it is, is an error of the task", {
  pool(1)
  expect_untouched(1L)
  bad <- no_hang(mirai({
    delayedAssign("x", stop("no value"), assign.env = e <- new.env())
    e
  })[])
  expect_true(is.environment(bad) || is_mirai_error(bad))
  expect_untouched(1L)
})

test_that("broken conditions are reported", {
  pool(1)
  expect_s3_class(no_hang(mirai(stop(structure(list(message = 1:3, call = "no call"), class = c("odd", "error", "condition"))))[]),
                  "miraiError")
  expect_s3_class(no_hang(mirai({
    conditionMessage.odd <- function(c) stop("again")
    registerS3method("conditionMessage", "odd", function(c) stop("again"), envir = baseenv())
    stop(structure(class = c("odd", "error", "condition"), list(message = "m", call = NULL)))
  })[]), "miraiError")
  expect_untouched(1L)
})
