# Damaged streams: an R error or some other valid value, never a crash and never an absurd allocation. All of it runs in a child
# process, so that a crash is a failure that names the stream.

damage_script <- function(body) c(
  paste0(".libPaths(", deparse1(.libPaths()), ")"),
  "library(setsuna)",
  "encode <- function(x) .Call(setsuna:::C_codec_encode, x, NULL)",
  "decode <- function(bytes, views) .Call(setsuna:::C_codec_decode, bytes, views, NULL)",
  "# What decodes in spite of the damage must be a sound value: use all of it.",
  "refused <- accepted <- 0",
  "try_decode <- function(bytes, views = FALSE) {",
  "  x <- tryCatch(suppressMessages(suppressWarnings(list(decode(bytes, views)))), error = identity)",
  "  if (inherits(x, 'error')) {",
  "    if (grepl('cannot allocate|memory exhausted', conditionMessage(x))) stop('absurd allocation: ', conditionMessage(x))",
  "    refused <<- refused + 1",
  "  } else {",
  "    accepted <<- accepted + 1",
  "    tryCatch(encode(x), error = identity)",
  "  }",
  "}",
  "values <- local({",
  "  env <- new.env(parent = globalenv())",
  "  env$self <- env",
  "  env$f <- function(x, ...) x + 1",
  "  environment(env$f) <- env",
  "  makeActiveBinding('active', function() 1, env)",
  "  lockBinding('f', env)",
  "  plain <- (function(x, ..., y) environment())(1, 2, k = 3)",
  "  setClass('DamagePoint', representation(x = 'numeric', names = 'list'), where = globalenv())",
  "  list(NULL, TRUE, 5L, 1.5, 'text', NA_character_, c(TRUE, NA), 1:3 + 0L, 1:1000, 10:1 + 0, c(1.5, NA), 1i, as.raw(1:9),",
  "       c('a', '\\u00e9', NA, strrep('x', 300)), rep(letters[1:3], 20), list(1, 'a', list(NULL)), setNames(1:3 + 0L, letters[1:3]),",
  "       matrix(1:4 + 0L, 2, dimnames = list(NULL, c('p', 'q'))), factor(c('u', 'v')), data.frame(a = c(1, 2), b = c('x', 'y')),",
  "       ts(c(1, 2, 3), start = 2000), quote(f(x, y = 2, g(z))), as.pairlist(list(a = 1, 2)), expression(a, 2), eval(quote(y ~ x), globalenv()),",
  "       eval(quote(function(x, y = 2) x + y), globalenv()), sum, globalenv(), asNamespace('stats'), as.environment('package:stats'),",
  "       env, list(env, env), plain, new('DamagePoint', x = 1, names = list(2)), asS4(1), stats:::C_Cdqrls$address,",
  "       compiler::compile(quote(x + 1)), list(globalenv(), compiler::compile(as.call(list(as.name('identity'), env))), env),",
  "       list(rnorm(600), 'between', 1:3000 + 0L), structure(list(1), class = 'odd', note = 'n'), .POSIXct(0), numeric_version('1.2'))",
  "})",
  body,
  "cat(refused, accepted, 'done')"
)

run_damage <- function(body) {
  script <- tempfile(fileext = ".R")
  on.exit(unlink(script))
  writeLines(damage_script(body), script)
  # limited address space: what asks for gigabytes fails
  command <- paste("ulimit -v 4000000; exec", shQuote(file.path(R.home("bin"), "Rscript")), "--vanilla", shQuote(script), "2>&1")
  suppressWarnings(system2("sh", c("-c", shQuote(command)), stdout = TRUE, timeout = 600))
}

expect_survived <- function(output) {
  expect_null(attr(output, "status"), label = paste("status of", paste(tail(output, 3L), collapse = " | ")))
  expect_match(output[length(output)], "done$")
}

test_that("a stream cut short anywhere is an error", {
  expect_survived(run_damage("
    for (x in values) {
      bytes <- encode(x)
      for (n in seq_along(bytes) - 1L) {
        if (n > 2000L && n %% 97L != 0L) next
        before <- accepted
        try_decode(bytes[seq_len(n)], views = n %% 2L == 0L)
        if (accepted != before) stop('accepted ', n, ' of ', length(bytes), ' bytes of ', typeof(x))
      }
    }"))
})

test_that("no flipped bit does harm", {
  expect_survived(run_damage("
    for (k in seq_along(values)) {
      cat('value', k, '\\n')
      bytes <- encode(values[[k]])
      for (i in seq_along(bytes)) {
        if (i > 600L && i %% 101L != 0L) next
        for (bit in 0:7) {
          damaged <- bytes
          damaged[i] <- xor(damaged[i], as.raw(bitwShiftL(1L, bit)))
          try_decode(damaged, views = bit == 3L)
        }
      }
    }"))
})

test_that("random bytes and spliced streams do no harm", {
  expect_survived(run_damage("
    set.seed(20240229)
    streams <- lapply(values, encode)
    for (i in 1:20000) {
      try_decode(as.raw(sample.int(256L, sample.int(60L, 1L), TRUE) - 1L))
      # tags only, so that most of them are valid
      try_decode(as.raw(sample.int(48L, sample.int(40L, 1L), TRUE) - 1L + 128L * rbinom(1L, 1L, 0.1)))
      a <- sample(streams, 1L)[[1L]]
      b <- sample(streams, 1L)[[1L]]
      if (length(a) < 2000L && length(b) < 2000L)
        try_decode(c(a[seq_len(sample.int(length(a), 1L))], b[sample.int(length(b), 1L):length(b)]))
    }"))
})

test_that("lengths far beyond the data are refused before anything is allocated", {
  expect_survived(run_damage("
    huge <- as.raw(c(255, rep(255, 6), 15))
    for (tag in 0:60) for (flags in c(0, 128)) {
      bytes <- c(as.raw(tag + flags), huge, raw(64))
      try_decode(bytes)
      try_decode(c(as.raw(tag + flags), as.raw(c(254, 255, 255, 255, 127)), raw(64)))
    }
    accepted <- 0 # tags without a length
    # lists within lists that all claim the rest of the data
    nested <- rep(as.raw(c(13, 254, 96, 234, 0, 0)), 10000)
    try_decode(nested)
    # the same bulk data announced again and again
    bytes <- encode(list(rnorm(1e6)))
    try_decode(c(as.raw(c(13, 200)), rep(bytes[3:19], 200), bytes[-(1:19)]))
    if (accepted) stop('accepted ', accepted)"))
})

test_that("sequences and environments that would keep R busy for ever are refused", {
  expect_survived(run_damage("
    env <- new.env(parent = globalenv())
    bytes <- encode(env)
    circular <- c(bytes[1:2], as.raw(c(37, 0)), bytes[-(1:3)]) # enclosed by itself
    x <- tryCatch(decode(circular, FALSE), error = conditionMessage)
    if (!identical(grepl('enclose each other', x), TRUE)) stop('circular: ', x)"))
})
