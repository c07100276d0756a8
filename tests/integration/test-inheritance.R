# What users set before daemons(), or before mirai() without daemons, reaches each daemon: those started now, and those that
# replace them later.

# What a process has, as the daemon sees it.
seen <- quote(list(
  env = Sys.getenv(c("FAULTS_SET", "FAULTS_GONE", "FAULTS_ODD"), NA),
  directory = getwd(),
  libraries = .libPaths(),
  collate = Sys.getlocale("LC_COLLATE"),
  sorted = sort(c("b", "A", "a", "B")),
  zone = Sys.timezone(),
  hour = format(as.POSIXct(0, origin = "1970-01-01"), "%H"),
  umask = format(Sys.umask(NA)),
  cpus = grep("Cpus_allowed_list", readLines("/proc/self/status"), value = TRUE),
  nofile = grep("open files", readLines("/proc/self/limits"), value = TRUE),
  threads = Sys.getenv(c("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), NA)
))

settings <- quote({
  Sys.setenv(FAULTS_SET = "yes", FAULTS_ODD = "two\nlines = \"and\" more", TZ = "Asia/Tokyo", OMP_NUM_THREADS = "3")
  Sys.unsetenv(c("FAULTS_GONE", "OPENBLAS_NUM_THREADS"))
  folder <- file.path(tempdir(), "a folder")
  dir.create(folder)
  setwd(folder)
  dir.create("library")
  .libPaths(c("library", .libPaths()))
  Sys.setlocale("LC_COLLATE", "C")
  Sys.umask("027")
})

different <- function(a, b) names(a)[!mapply(identical, a, b)]

test_that("environment, directory, library paths, locale, time zone, affinity, umask and threads", {
  result <- in_session(bquote({
    mirai(1)[] # a fork server is warm, from before
    daemons(1)
    mirai(1)[]
    daemons(0)
    .(settings)
    host <- .(seen)
    single <- mirai(.(seen))[]
    daemons(2)
    pool <- mirai(.(seen))[]
    pids <- status()$pids
    tools::pskill(pids, 9L)
    while (any(status()$pids %in% c(0L, pids))) Sys.sleep(0.01)
    replaced <- mirai(.(seen))[]
    daemons(0)
    # And once more, back.
    Sys.setenv(FAULTS_SET = "changed", TZ = "UTC")
    Sys.unsetenv("FAULTS_ODD")
    setwd("/")
    host2 <- .(seen)
    single2 <- mirai(.(seen))[]
    daemons(1)
    list(host = host, single = single, pool = pool, replaced = replaced, host2 = host2, single2 = single2,
         pool2 = mirai(.(seen))[])
  }), before = "export FAULTS_GONE=1; taskset -cp 0 $$ > /dev/null; ulimit -n 5000", env = "OPENBLAS_NUM_THREADS=2")
  value <- result$value
  expect_identical(names(value$host), names(value$single), label = paste(result$output, collapse = "\n"))
  expect_identical(different(value$host, value$single), character())
  expect_identical(different(value$host, value$pool), character())
  expect_identical(different(value$host, value$replaced), character())
  expect_identical(different(value$host2, value$single2), character())
  expect_identical(different(value$host2, value$pool2), character())
  expect_identical(unname(value$host$env), c("yes", NA, "two\nlines = \"and\" more"))
  expect_identical(value$host$hour, "09")
  expect_match(value$host$cpus, "0$")
  expect_match(value$host$nofile, "5000")
})

test_that("what is set after daemons() was called does not reach its daemons, nor their replacements", {
  result <- in_session(quote({
    Sys.setenv(FAULTS_SET = "before")
    daemons(1)
    Sys.setenv(FAULTS_SET = "after")
    first <- mirai(Sys.getenv("FAULTS_SET"))[]
    mirai(quit("no"))[]
    c(first, mirai(Sys.getenv("FAULTS_SET"))[])
  }))
  expect_identical(result$value, c("before", "before"))
})

test_that("two profiles have their own surroundings", {
  result <- in_session(quote({
    Sys.setenv(FAULTS_SET = "a")
    daemons(1, .compute = "a")
    Sys.setenv(FAULTS_SET = "b")
    daemons(1, .compute = "b")
    ask <- function(name) mirai(Sys.getenv("FAULTS_SET"), .compute = name)[]
    before <- c(ask("a"), ask("b"))
    for (name in c("a", "b", "a")) mirai(quit("no"), .compute = name)[]
    c(before, ask("a"), ask("b"))
  }))
  expect_identical(result$value, c("a", "b", "a", "b"))
})

test_that("where only a fresh start of R honours a setting, the fork server is replaced, and the old one goes", {
  result <- in_session(quote({
    servers <- function() {
      children <- readLines(sprintf("/proc/self/task/%d/children", Sys.getpid()), warn = FALSE)
      pids <- strsplit(children, " ")[[1L]]
      sum(vapply(pids, function(pid) readLines(file.path("/proc", pid, "comm"))[1L] == "setsuna-daemon", NA))
    }
    attached <- list()
    for (packages in c("methods", "methods,stats", "methods,utils", "methods,splines", "methods,tools")) {
      Sys.setenv(R_DEFAULT_PACKAGES = packages)
      daemons(1)
      attached <- c(attached, list(mirai(sum(grepl("package:(stats|utils|splines|tools)", search())))[]))
      daemons(0)
    }
    deadline <- Sys.time() + 30
    while (servers() > 2L && Sys.time() < deadline) Sys.sleep(0.05)
    list(unlist(attached), servers() <= 2L)
  }))
  expect_identical(result$value, list(c(0L, 1L, 1L, 1L, 1L), TRUE), label = paste(result$output, collapse = "\n"))
})

test_that("options and packages of the host are not the daemons'", {
  result <- in_session(quote({
    options(digits = 3)
    library(splines)
    x <- 5
    daemons(1)
    mirai(list(getOption("digits"), "package:splines" %in% search(), exists("x")))[]
  }))
  expect_identical(result$value, list(7L, FALSE, FALSE))
})

test_that("output = TRUE shows what daemons print, 100 MB of it, and FALSE nothing", {
  code <- quote({
    daemons(2, output = shown)
    m <- lapply(1:2, function(k) mirai({
      for (i in 1:50) cat(strrep("x", 1e6 - 1), "\n", sep = "")
      message("said on stderr")
      system("echo from a child")
      i
    }))
    collect_mirai(m)
  })
  file <- tempfile()
  shown <- in_session(code, shown = TRUE, redirect = paste(">", file))
  expect_identical(shown$value, list(50L, 50L))
  expect_gt(file.size(file), 99e6)
  expect_true(any(grepl("said on stderr", shown$output)))
  expect_identical(as.integer(system2("grep", c("-c", shQuote("from a child"), file), stdout = TRUE)), 2L)
  hidden <- in_session(code, shown = FALSE, redirect = paste(">", file))
  expect_identical(hidden$value, list(50L, 50L))
  expect_lt(file.size(file), 1e3)
  expect_false(any(grepl("said on stderr", hidden$output)))
})

test_that("output to a pipe that nobody reads any more is the task's own error at worst", {
  result <- in_session(quote({
    daemons(1, output = TRUE)
    first <- mirai(for (i in 1:200) cat(strrep("x", 1e5)))[]
    list(is.null(first) || is_error_value(first), mirai(2)[])
  }), redirect = "| head -c 1000 > /dev/null")
  expect_identical(result$value, list(TRUE, 2))
})

test_that("a task that is out of memory under a limit resolves, and so does what comes after it", {
  result <- in_session(quote({
    daemons(2)
    m <- lapply(1:4, function(i) mirai({
      x <- list()
      repeat x[[length(x) + 1L]] <- rep(as.numeric(length(x)), 1e6)
    }))
    codes <- vapply(collect_mirai(m), function(v) is_error_value(v), NA)
    list(all(codes), mirai(sum(x), x = rep(1, 1e5))[], sum(status()$daemons[, "online"]))
  }), before = "ulimit -v 2000000")
  expect_identical(result$value[1:2], list(TRUE, 1e5), label = paste(result$output, collapse = "\n"))
  expect_identical(result$value[[3L]], 2L)
})

test_that("a daemon that the kernel kills for memory says so", {
  group <- sprintf("/sys/fs/cgroup/memory/setsuna-test-%d", Sys.getpid())
  skip_if_not(suppressWarnings(dir.create(group)), "no cgroup of memory can be made here")
  withr::defer(becomes_true(function() system2("rmdir", group, stdout = FALSE, stderr = FALSE) == 0L, 20))
  writeLines("600000000", file.path(group, "memory.limit_in_bytes"))
  result <- in_session(quote({
    daemons(2)
    m <- mirai({
      x <- list()
      repeat x[[length(x) + 1L]] <- rep(as.numeric(length(x)), 1e6)
    })
    value <- m[]
    list(as.integer(value), attr(value, "out_of_memory"), mirai(2)[])
  }), before = sprintf("echo $$ > %s/cgroup.procs", group))
  expect_identical(result$value, list(19L, TRUE, 2), label = paste(result$output, collapse = "\n"))
})
