# daemons(config = ): where knobs come from, what is refused, and what each of them does.

with_config <- function(config, code, n = 1L, ...) {
  daemons(n, config = config, ..., .compute = "config")
  on.exit(daemons(0, .compute = "config"))
  force(code)
}
in_force <- function() status("config")$config

config_file <- function(text) {
  path <- tempfile(fileext = ".json")
  writeLines(text, path)
  path
}

test_that("defaults are in force where nothing is said", {
  with_config(NULL, {
    expect_identical(in_force(), .knobs_with_session(.knobs_in_force(list())))
    expect_identical(in_force()$slots, 16384)
    expect_identical(in_force()$codec, "native")
  })
})

test_that("a list, a file and the environment variable are taken, and explicit arguments go before them", {
  with_config(list(slots = 1024, spin = 7), expect_identical(in_force()[c("spin", "slots")], list(spin = 7, slots = 1024)))
  path <- config_file("{\"setsuna_config\": 1, \"comment\": {\"goal\": \"latency\"}, \"knobs\": {\"spin\": 30, \"codec\": \"serialize\"}}")
  with_config(path, expect_identical(in_force()[c("spin", "codec")], list(spin = 30, codec = "serialize")))
  with_config(path, expect_identical(in_force()$spin, 0), spin = 0)
  Sys.setenv(SETSUNA_CONFIG = path)
  on.exit(Sys.unsetenv("SETSUNA_CONFIG"))
  with_config(NULL, expect_identical(in_force()$spin, 30))
  with_config(list(), expect_identical(in_force()$spin, 0))
  with_config(NULL, expect_identical(in_force()$spin, 12), spin = 12)
  expect_identical(mirai(1 + 1)[], 2) # without daemons as well
})

test_that("what was written is read", {
  path <- tempfile()
  knobs <- list(spin = 12.5, slots = 64, codec = "serialize")
  .config_write(path, knobs, list(machine = "a \"quoted\" \\ name\nof two lines: \u00e9", goal = "power"))
  expect_identical(.config_read(path), knobs)
  expect_identical(.json_read(paste(readLines(path, encoding = "UTF-8"), collapse = "\n"))$comment$machine,
                   "a \"quoted\" \\ name\nof two lines: \u00e9")
  .config_write(path, list(), list(goal = "power"))
  expect_identical(.config_read(path), list())
})

test_that("unknown knobs and values out of range are errors that say what is allowed", {
  refuse <- function(config, ...) expect_error(daemons(1, config = config), ..., fixed = TRUE)
  refuse(list(slot = 5), "there is no knob 'slot' (in 'config'): there are spin, wake_batch, slots")
  refuse(list(slots = 32), "'slots' in 'config' must be a power of two from 64 to 32768 (tasks), not 32")
  refuse(list(slots = 1000), "must be a power of two from 64 to 32768 (tasks), not 1000")
  refuse(list(inline_bytes = 449), "'inline_bytes' in 'config' must be a whole number from 0 to 448 (bytes), not 449")
  refuse(list(wake_batch = 1.5), "'wake_batch' in 'config' must be a whole number from 1 to 65536 (tasks), not 1.5")
  refuse(list(prefetch = -1), "'prefetch' in 'config' must be a whole number from 0 to 63 (tasks), not -1")
  refuse(list(spin = "fast"), "must be a number from 0 to 1000000 (us), not the text \"fast\"")
  refuse(list(codec = "xml"), "'codec' in 'config' must be one of \"native\", \"serialize\", not the text \"xml\"")
  refuse(list(growth = NA_real_), "not NA")
  refuse(list(1), "must be a list with names")
  refuse(list(spin = 1, spin = 2), "'spin' is twice")
  refuse(3, "'config' must be the name of a file that tune() wrote, a list of knobs, or NULL, not 3")
  expect_error(daemons(1, spin = -1), "'spin' must be one number of microseconds from 0 to 1e+06, not -1", fixed = TRUE)
  expect_false(daemons_set())
})

test_that("bad files are named, with what is wrong in them", {
  refuse <- function(text, ...) {
    path <- config_file(text)
    expect_error(daemons(1, config = path), paste0("the file '", path, "' ", ...), fixed = TRUE)
  }
  refuse("spin = 3", "is not a configuration (JSON): what is this? spin = 3")
  refuse("{\"setsuna_config\": 1,\n // why\n}", "is not a configuration (JSON): what is this? // why")
  refuse("{\"setsuna_config\": 1, \"knobs\": {\"spin\": 3}", "is not a configuration (JSON): \",\" or \"}\" is missing before the end")
  refuse("{\"setsuna_config\": 1} 2", "is not a configuration (JSON): there is more behind the end")
  refuse("{}", "is not a configuration of setsuna")
  refuse("[1]", "is not a configuration of setsuna")
  refuse("{\"setsuna_config\": 2}", "is of version 2, and this setsuna reads versions up to 1")
  refuse("{\"setsuna_config\": \"new\"}", "is of no version that exists")
  refuse("{\"setsuna_config\": 1, \"knob\": {}}", "has an unknown entry \"knob\"")
  path <- tempfile()
  writeBin(as.raw(c(0x7f, 0xff, 0xfe)), path)
  expect_error(daemons(1, config = path), "it is not text in UTF-8", fixed = TRUE)
  path <- config_file("{\"setsuna_config\": 1, \"knobs\": {\"slots\": 7}}")
  expect_error(daemons(1, config = path), paste0("'slots' in the file '", path, "' must be"), fixed = TRUE)
  expect_error(daemons(1, config = "/no/such/file"), "the file '/no/such/file' does not exist", fixed = TRUE)
  Sys.setenv(SETSUNA_CONFIG = "/no/such/file")
  on.exit(Sys.unsetenv("SETSUNA_CONFIG"))
  expect_error(daemons(1), "the file of SETSUNA_CONFIG, '/no/such/file' does not exist", fixed = TRUE)
  expect_error(mirai(1), "SETSUNA_CONFIG", fixed = TRUE)
})

# ---- each knob does what it says ----

# Tasks that wait in the queue, behind one that lasts.
behind_a_long_one <- function(code) {
  long <- mirai(Sys.sleep(60), .compute = "config")
  on.exit(stop_mirai(long))
  while (status("config")$mirai[["executing"]] < 1L) msleep(5)
  force(code)
}
used <- function() status("config")$memory[["used"]]
resident <- function() status("config")$memory[["resident"]]

test_that("slots: more tasks than slots are done all the same", {
  with_config(list(slots = 64), {
    expect_identical(mirai_map(1:500, function(i) i, .compute = "config")[.flat], 1:500)
    tasks <- lapply(1:500, function(i) mirai(i, i = i, .compute = "config"))
    expect_identical(collect_mirai(tasks), as.list(1:500))
  })
})

test_that("inline_bytes: small arguments and results lie in the arena", {
  x <- as.raw(rep(1:10, 10L))
  echo <- function() identical(mirai(x, x = x, .compute = "config")[], x)
  with_config(NULL, behind_a_long_one({
    waiting <- mirai(x, x = x, .compute = "config")
    expect_identical(resident(), 0)
  }))
  with_config(list(inline_bytes = 0), behind_a_long_one({
    waiting <- mirai(x, x = x, .compute = "config")
    expect_gt(resident(), 0)
  }))
  for (limit in c(0, 1, 50, 300)) with_config(list(inline_bytes = limit), {
    for (i in 1:200) expect_true(echo())
    expect_identical(mirai_map(1:100, function(i) i, .compute = "config")[.flat], 1:100)
    expect_s3_class(mirai(stop("no"), .compute = "config")[], "miraiError")
    everywhere(kept <- 1, .compute = "config")[]
    expect_identical(mirai(kept, .compute = "config")[], 1)
  })
})

test_that("codec: R's serialize gives the same values in other bytes", {
  values <- list(mtcars, 1:10, letters, function(x) x + 1, list(a = NULL, b = NA), as.name("x"), quote(f(x)), 1e5 * seq_len(5000))
  sizes <- function(config) with_config(config, {
    for (value in values) expect_equal(mirai(x, x = value, .compute = "config")[], value, ignore_function_env = TRUE)
    expect_identical(mirai_map(1:50, function(i) i * 2, .compute = "config")[.flat], 2 * 1:50)
    expect_identical(mirai_map(list(mtcars, iris), function(d) d, .compute = "config")[], list(mtcars, iris))
    everywhere(kept <- mtcars, .compute = "config")[]
    expect_identical(mirai(kept, .compute = "config")[], mtcars)
    behind_a_long_one({
      before <- used()
      waiting <- mirai(x, x = values[[1L]], .compute = "config")
      used() - before
    })
  })
  native <- sizes(NULL)
  expect_gt(sizes(list(codec = "serialize")), native)
})

test_that("arena: its size is the segment's", {
  with_config(list(arena = 64), expect_identical(status("config")$memory[["segment"]], 64 * 2^20))
  with_config(list(arena = 1), expect_identical(status("config")$memory[["segment"]], 8 * 2^20)) # the least
  expect_error(with_config(list(arena = 8), mirai(length(x), x = raw(16e6), .compute = "config")[]), "do not fit")
})

test_that("growth: memory for small blocks comes in steps of so many extents", {
  grown <- function(growth) with_config(list(growth = growth, arena = 1024), behind_a_long_one({
    waiting <- lapply(1:40, function(i) mirai(x, x = as.raw(rep_len(i:255, 5e5)), .compute = "config"))
    resident() / 2^21
  }))
  one <- grown(1)
  expect_gte(one, 10)
  expect_gt(grown(64), one)
})

test_that("wake_batch: results come whatever it is", {
  for (batch in c(1, 3, 65536)) with_config(list(wake_batch = batch), {
    tasks <- lapply(1:300, function(i) mirai(i, i = i, .compute = "config"))
    expect_identical(collect_mirai(tasks), as.list(1:300))
  })
})

# In a session of its own: what is said of the reactor is settled when it starts.
fresh <- function(code, env = character()) {
  file <- tempfile(fileext = ".R")
  writeLines(c("library(setsuna)", code), file)
  paste(suppressWarnings(system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", file), stdout = TRUE, stderr = TRUE,
                                 env = c(paste0("R_LIBS=", paste(.libPaths(), collapse = ":")), env))), collapse = "\n")
}

test_that("reactor, ring and send_zc are those of the session", {
  backend <- function(config, env = "SETSUNA_REACTOR=")
    fresh(paste0("invisible(daemons(1, config = ", config, ")); cat(status()$backend, status()$config$reactor, mirai(1 + 1)[])"), env)
  expect_match(backend("list(reactor = 'epoll')"), "^epoll \\(asked for by the configuration\\) epoll 2$")
  expect_match(backend("list(reactor = 'epoll')", "SETSUNA_REACTOR=auto"), "SETSUNA_REACTOR")
  uring <- backend("list()")
  skip_if_not(startsWith(uring, "io_uring"), "io_uring works here")
  expect_match(backend("list(ring = 'plain')"), "^io_uring \\(plain ring\\)")
  expect_match(backend("list(ring = 'cooperative', send_zc = 4096)"), "cooperative task work; sends from 4096 bytes on without a copy")
  expect_match(backend("list(reactor = 'epoll')", "SETSUNA_REACTOR=io_uring"), "^io_uring .* io_uring 2$")
  expect_match(fresh(c("invisible(daemons(1))", "daemons(1, config = list(reactor = 'epoll'))"), "SETSUNA_REACTOR="),
               "'reactor' is auto in this session and cannot become epoll")
  expect_match(fresh("cat(mirai(setsuna::status()$daemons)[], setsuna:::.session_knobs()$reactor)",
                     c("SETSUNA_REACTOR=", paste0("SETSUNA_CONFIG=", config_file(
                       "{\"setsuna_config\": 1, \"knobs\": {\"reactor\": \"epoll\"}}")))), "epoll$")
})

test_that("prefetch: so many short tasks lie ahead with a daemon on another machine", {
  ahead <- function(prefetch) {
    on.exit(.reset(.tune_profile))
    .tune_open("remote", list(prefetch = prefetch), 1L)
    collect_mirai(lapply(1:300, function(i) mirai(i, i = i, .compute = .tune_profile))) # short ones, so that it is used
    long <- mirai(Sys.sleep(60), .compute = .tune_profile)
    waiting <- lapply(1:200, function(i) mirai(i, i = i, .compute = .tune_profile))
    row <- function() status(.tune_profile)$daemons[1L, ]
    while (row()[["assigned"]] - row()[["complete"]] < 1L + prefetch) msleep(5)
    msleep(50)
    row()[["assigned"]] - row()[["complete"]]
  }
  expect_equal(ahead(0), 1)
  expect_equal(ahead(5), 6)
})
