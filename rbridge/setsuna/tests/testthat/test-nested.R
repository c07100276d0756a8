# A task may be a host itself; what it starts ends with it.

descendants <- function(pid) {
  all <- suppressWarnings(as.integer(list.files("/proc", "^[0-9]+$")))
  parent <- vapply(all, function(p) {
    line <- tryCatch(readLines(file.path("/proc", p, "stat"), warn = FALSE), error = function(e) character(),
                     warning = function(w) character())
    if (length(line)) as.integer(strsplit(sub("^.*\\) ", "", line), " ")[[1L]][2L]) else NA_integer_
  }, 0L)
  found <- all[parent %in% pid]
  if (length(found)) c(found, descendants(found)) else integer()
}

test_that("mirai() and daemons() inside a task work and leave nothing behind", {
  pool(1)
  daemon <- collect(mirai(Sys.getpid()))
  expect_identical(collect(mirai({
    setsuna::daemons(2)
    sum(unlist(setsuna::collect_mirai(setsuna::mirai_map(1:4, function(i) i * 2))))
  })), 20)
  expect_identical(collect(mirai(setsuna::mirai(1 + 1)[])), 2)
  expect_identical(collect(mirai({
    setsuna::daemons(1, .compute = "inner")
    setsuna::mirai("in", .compute = "inner")[]
  })), "in")
  expect_identical(collect(mirai(c(setsuna::daemons_set(), setsuna::daemons_set("inner")))), c(FALSE, FALSE))
  expect_identical(collect(mirai(Sys.getpid())), daemon)
  expect_true(becomes_true(function() length(descendants(daemon)) == 0L))
})

test_that("a default profile or evaluation in place does not reach the next task either", {
  pool(1)
  collect(mirai({
    setsuna::daemons(sync = TRUE, .compute = "inner")
    setsuna::local_daemons("inner", globalenv())
  }))
  expect_identical(collect(mirai({
    library(setsuna)
    c(daemons_set("inner"), mirai(setsuna::on_daemon())[])
  })), c(FALSE, TRUE))
})

test_that("a mirai that comes back from a task is of another session", {
  pool(1)
  m <- collect(mirai(setsuna::mirai(1)))
  expect_true(is_mirai(m))
  expect_error(m[], "saved and restored")
})

test_that("what everywhere() starts stays", {
  pool(1)
  everywhere(setsuna::daemons(1))
  expect_identical(collect(mirai(setsuna::info()[["connections"]])), 1L)
  expect_identical(collect(mirai(setsuna::mirai(3)[])), 3)
  expect_true(collect(mirai(setsuna::daemons_set())))
})

test_that("a task that dies takes its daemons with it", {
  pool(1)
  file <- withr::local_tempfile()
  m <- mirai({
    setsuna::daemons(1)
    writeLines(as.character(setsuna::mirai(Sys.getpid())[]), file)
    Sys.sleep(60)
  }, file = file)
  inner <- pid_in(file)
  tools::pskill(daemon_pids(), tools::SIGKILL)
  expect_identical(unclass(collect(m)), 19L, ignore_attr = TRUE)
  expect_true(becomes_true(function() !file.exists(file.path("/proc", inner))))
})
