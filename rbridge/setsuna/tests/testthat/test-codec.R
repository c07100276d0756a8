encode <- function(x, hooks = NULL) .Call(C_codec_encode, x, hooks)
decode <- function(bytes, views = FALSE, hooks = NULL) .Call(C_codec_decode, bytes, views, hooks)
round_trip <- function(x, ...) decode(encode(x), ...)

# As strict as identical() gets, but for byte code (not sent) and source references (stripped).
same <- function(x, y) {
  identical(x, y, num.eq = FALSE, single.NA = FALSE, attrib.as.set = FALSE, ignore.bytecode = TRUE,
            ignore.environment = FALSE, ignore.srcref = TRUE)
}
expect_round_trip <- function(x) {
  expect_true(same(x, round_trip(x)), label = paste("round trip of", deparse(substitute(x), nlines = 1L)))
  expect_true(same(x, round_trip(x, views = TRUE)))
  expect_true(same(list(1, x, "a"), round_trip(list(1, x, "a"))))
}

test_that("atomic vectors of every type and length arrive bit by bit", {
  expect_round_trip(NULL)
  for (n in c(0L, 1L, 2L, 253L, 254L, 1023L, 1024L, 5000L, 70000L)) {
    expect_round_trip(rep_len(c(TRUE, FALSE, NA), n))
    expect_round_trip(rep_len(c(1:3, NA, -5L), n))
    expect_round_trip(rep_len(c(pi, NaN, NA, Inf, -Inf, -0, 5e-324), n))
    expect_round_trip(rep_len(c(1i, NA, complex(real = NaN, imaginary = -0)), n))
    expect_round_trip(rep_len(as.raw(0:255), n))
    expect_round_trip(rep_len(c("a", "", NA, "longer than eight"), n))
    expect_round_trip(rep_len(list(1, NULL, "b"), n))
  }
})

test_that("a scalar is a tag and its bytes", {
  expect_length(encode(1.5), 9L)
  expect_length(encode(1L), 5L)
  expect_length(encode(NA), 1L)
  expect_length(encode(NULL), 1L)
})

test_that("payloads of NaN are kept", {
  nans <- readBin(as.raw(c(1:6, 0xf8, 0x7f, 8:13, 0xf0, 0xff, 0xa2, 7, 0, 0, 0, 0, 0xf0, 0x7f)), "double", 3L)
  expect_identical(writeBin(round_trip(nans), raw()), writeBin(nans, raw()))
  for (nan in nans) expect_identical(writeBin(round_trip(nan), raw()), writeBin(nan, raw()))
})

test_that("compact sequences stay compact", {
  expect_length(encode(1:1000000000), 18L)
  expect_length(encode(as.double(1:1000000000)), 18L)
  expect_round_trip(1:10)
  expect_round_trip(10:1)
  expect_identical(sum(round_trip(1:1000000000)), sum(1:1000000000))
  expect_identical(length(round_trip(seq_len(2^33))), 2^33)
  expect_identical(round_trip(seq_len(2^33))[2^32 + 1], 2^32 + 1)
  x <- round_trip(1:5)
  x[2L] <- 9L
  expect_identical(x, c(1L, 9L, 3:5))
  expect_identical(round_trip(1:5), 1:5)
})

test_that("strings keep their encoding", {
  utf8 <- "\u00e9\u4e2d\U1f600"
  latin1 <- "fa\xE7ile"
  Encoding(latin1) <- "latin1"
  bytes <- "a\xff\xfe"
  Encoding(bytes) <- "bytes"
  native <- rawToChar(as.raw(c(0x61, 0xc3, 0xa9)))
  all <- c("ascii", utf8, latin1, bytes, native, NA, "", strrep("x", 300), strrep("\u00e9", 300))
  expect_round_trip(all)
  expect_identical(Encoding(round_trip(all)), Encoding(all))
  expect_identical(lapply(round_trip(all), charToRaw), lapply(all, charToRaw))
  for (x in all) expect_identical(Encoding(round_trip(x)), Encoding(x))
  many <- rep(all, 50)
  expect_round_trip(many)
  expect_identical(Encoding(round_trip(many)), Encoding(many))
  expect_round_trip(as.character(1:100000)) # deferred strings
  expect_round_trip(as.name(utf8))
  expect_round_trip(setNames(1:2, c(utf8, latin1)))
})

test_that("strings that repeat are sent once", {
  x <- rep(c(strrep("y", 100), NA, "z"), 1000)
  expect_lt(length(encode(x)), 16000)
  expect_round_trip(x)
  expect_round_trip(sample(c(letters, strrep(LETTERS, 10)), 10000, TRUE))
})

test_that("attributes, classes and the usual structures arrive", {
  expect_round_trip(c(a = 1, b = 2))
  expect_round_trip(matrix(1:6, 2L, dimnames = list(NULL, letters[1:3])))
  expect_round_trip(array(rnorm(24), 2:4, list(a = NULL, b = letters[1:3], c = NULL)))
  expect_round_trip(matrix(list(1, "a", NULL, 2), 2L))
  expect_round_trip(array(1:3, 3L, list(letters[1:3])))
  expect_round_trip(matrix(numeric(), 0L, 3L))
  expect_round_trip(factor(c("a", "b", NA)))
  expect_round_trip(factor(c("x", "y"), ordered = TRUE))
  expect_round_trip(Sys.Date())
  expect_round_trip(as.POSIXct("2024-02-29 12:00:00", tz = "UTC"))
  expect_round_trip(as.POSIXlt("2024-02-29 12:00:00", tz = "UTC"))
  expect_round_trip(as.difftime(5, units = "mins"))
  expect_round_trip(ts(1:10, start = 2000, frequency = 4))
  expect_round_trip(structure(list(), class = c("a", "b")))
  expect_round_trip(structure(1:3, names = letters[1:3], other = list(structure(2, deep = TRUE))))
  expect_round_trip(structure(1.5, comment = "hi", class = "odd"))
  expect_round_trip(structure(TRUE, a = 1))
  expect_round_trip(structure("s", a = 1))
  expect_round_trip(numeric_version("1.2.3"))
  expect_round_trip(as.table(matrix(1:4, 2L)))
  for (data in list(mtcars, iris, airquality, Titanic, women, esoph, data.frame(), data.frame(row.names = letters))) {
    expect_round_trip(data)
  }
  expect_identical(.row_names_info(round_trip(data.frame(a = 1:3))), -3L)
})

test_that("language arrives", {
  expect_round_trip(quote(x))
  expect_round_trip(quote(x + 1))
  expect_round_trip(quote(f(a = 1, , b = , ...)))
  expect_round_trip(quote(`odd name`(`another one` = 2)))
  expect_round_trip(str2lang("{ for (i in 1:10) print(i); function(a, b = 2, ...) a + b }"))
  expect_round_trip(eval(quote(y ~ x + log(z)), globalenv()))
  expect_round_trip(expression(a + b, 3, "c"))
  expect_round_trip(as.pairlist(list(a = 1, 2, b = "x")))
  expect_round_trip(structure(as.pairlist(list(a = 1, 2)), note = 5))
  expect_round_trip(alist(a = , b = 3))
  expect_round_trip(list(quote(expr = ), 1))
  expect_round_trip(structure(quote(f(x)), class = "odd", note = 1:3))
  expect_round_trip(do.call(call, list("f", mtcars, sum, globalenv())))
  expect_round_trip(as.name(strrep("n", 300)))
  deep <- quote(a)
  for (i in 1:2000) deep <- call("+", deep, i)
  expect_identical(deparse(round_trip(deep)[[3L]]), "2000L")
  expect_round_trip(as.call(c(as.name("f"), as.list(1:10000))))
})

test_that("functions arrive, without source references and byte code", {
  f <- eval(quote(function(x, y = 2, ...) {
    z <- x + y
    z * 2
  }), globalenv())
  expect_round_trip(f)
  expect_lt(length(encode(f)), 300L)
  for (primitive in list(sum, `if`, `[`, `function`, c, `+`)) expect_round_trip(primitive)
  expect_round_trip(stats::sd)
  expect_round_trip(lapply)
  expect_round_trip(structure(f, class = "fn", note = 1))
  compiled <- compiler::cmpfun(f)
  expect_identical(typeof(body(round_trip(compiled))), "language")
  expect_identical(deparse(body(round_trip(compiled))), deparse(body(f)))
  expect_identical(round_trip(compiled)(1), 6)
  expect_round_trip(eval(quote(function() NULL), globalenv()))
  expect_identical(round_trip(Vectorize(function(a, b) a + b))(1:3, 2), c(3, 4, 5))

  with_source <- eval(parse(text = "function(x) {\n  # a comment\n  g <- function(y) y\n  g(x)\n}", keep.source = TRUE)[[1L]],
                      globalenv())
  expect_false(is.null(attr(with_source, "srcref")))
  arrived <- round_trip(with_source)
  expect_null(attr(arrived, "srcref"))
  expect_named(attributes(body(arrived)), NULL)
  expect_null(body(arrived)[[2L]][[3L]][[4L]])
  expect_identical(arrived(5), 5)
  expect_lt(length(encode(with_source)), 200L)
  expect_false(is.null(attr(with_source, "srcref"))) # the original is as it was
  expect_false(is.null(attr(body(with_source), "srcref")))
  expect_false(is.null(body(with_source)[[2L]][[3L]][[4L]]))
  parsed <- parse(text = "a + b", keep.source = TRUE) # data, not a function: keeps its source
  expect_s3_class(attr(round_trip(parsed), "srcref")[[1L]], "srcref")
})

test_that("environments arrive with what is in them", {
  for (env in list(globalenv(), baseenv(), emptyenv(), .BaseNamespaceEnv, asNamespace("stats"),
                   as.environment("package:stats"))) {
    expect_round_trip(env)
  }
  env <- new.env(parent = globalenv())
  for (name in c(letters, "...odd", "\u00e9")) assign(name, paste("value of", name), env)
  arrived <- round_trip(env)
  expect_identical(mget(ls(env, all.names = TRUE), arrived), mget(ls(env, all.names = TRUE), env))
  expect_identical(ls(arrived, sorted = FALSE), ls(env, sorted = FALSE))
  expect_identical(parent.env(arrived), parent.env(env))
  assign("new", 1, arrived)
  for (i in 1:1000) assign(paste0("v", i), i, arrived)
  expect_identical(arrived$v777, 777L)
  rm("new", envir = arrived)
  expect_false(exists("new", arrived, inherits = FALSE))
  expect_length(ls(round_trip(new.env(size = 1e5L)), all.names = TRUE), 0L)
  expect_lt(length(encode(new.env(size = 1e6L, parent = globalenv()))), 100L)
  big <- list2env(setNames(as.list(1:5000), paste0("n", 1:5000)))
  expect_identical(as.list(round_trip(big)), as.list(big))
  plain <- new.env(hash = FALSE)
  plain$a <- 1
  plain$b <- 2
  expect_identical(as.list(round_trip(plain)), as.list(plain))
})

test_that("bindings keep their nature", {
  env <- new.env()
  env$fixed <- 1
  lockBinding("fixed", env)
  makeActiveBinding("active", local({
    n <- 0
    function() n <<- n + 1
  }), env)
  delayedAssign("lazy", stop("must not be forced"), assign.env = env)
  delayedAssign("also", fixed + 41, eval.env = env, assign.env = env)
  lockEnvironment(env)
  arrived <- round_trip(env)
  expect_true(bindingIsLocked("fixed", arrived))
  expect_true(bindingIsActive("active", arrived))
  expect_identical(arrived$active, 1)
  expect_identical(arrived$active, 2)
  expect_identical(arrived$also, 42)
  expect_error(arrived$lazy, "must not be forced")
  expect_error(assign("other", 1, arrived), "locked")
  expect_identical(environment(activeBindingFunction("active", env))$n, 0)
})

test_that("frames of running functions can be sent", {
  counter <- function(start) {
    step <- 0.5 # byte code keeps such numbers unboxed
    for (i in 1:3) start <- start + step
    round_trip(function() c(start, step, i))
  }
  counter <- compiler::cmpfun(counter)
  expect_identical(counter(1)(), c(2.5, 0.5, 3))
  outer <- function(x, ...) function() list(x, ...)
  expect_identical(round_trip(outer(1, 2, k = 3))(), list(1, 2, k = 3))
  absent <- function(x, y) environment()
  expect_true(eval(quote(missing(y)), round_trip(absent(1))))
  expect_false(eval(quote(missing(x)), round_trip(absent(1))))
  lazy <- function(x) function() substitute(x)
  expect_identical(round_trip(lazy)(a + b)(), lazy(a + b)())
})

test_that("identity within a value is kept", {
  env <- new.env()
  env$self <- env
  env$f <- function() env
  environment(env$f) <- env
  arrived <- round_trip(list(env, env, f = function() env$self))
  expect_identical(arrived[[1L]], arrived[[2L]])
  expect_identical(arrived[[1L]]$self, arrived[[1L]])
  expect_identical(environment(arrived[[1L]]$f), arrived[[1L]])
  inner <- new.env(parent = env)
  arrived <- round_trip(inner)
  expect_true(identical(parent.env(arrived)$self, parent.env(arrived)))
  many <- replicate(100, new.env())
  arrived <- round_trip(c(many, rev(many)))
  expect_true(all(mapply(identical, arrived[1:100], rev(arrived[101:200]))))
  expect_false(identical(arrived[[1L]], arrived[[2L]]))
})

test_that("identity is kept across parts that R serialises", {
  env <- new.env()
  other <- new.env(parent = env)
  env$back <- other
  code <- compiler::compile(quote(x + 1)) # byte code by itself has no encoding of its own
  expect_identical(eval(round_trip(code), list(x = 1)), 2)
  with_env <- function(e) {
    code <- compiler::compile(as.call(list(as.name("identity"), e)))
    expect_identical(typeof(code), "bytecode")
    code
  }
  arrived <- round_trip(list(env, with_env(env), with_env(other), other))
  expect_identical(eval(arrived[[2L]]), arrived[[1L]])
  expect_identical(eval(arrived[[3L]]), arrived[[4L]])
  expect_identical(arrived[[1L]]$back, arrived[[4L]])
  arrived <- round_trip(list(with_env(other), env))
  expect_identical(parent.env(eval(arrived[[1L]])), arrived[[2L]])
  env$code <- with_env(env)
  arrived <- round_trip(env)
  expect_identical(eval(arrived$code), arrived)
})

test_that("S4 objects, reference classes and external pointers arrive", {
  on.exit({
    removeClass("CodecPoint")
    removeClass("CodecNumbers")
    removeClass("CodecAccount")
  })
  where <- globalenv()
  setClass("CodecPoint", representation(x = "numeric", names = "list", dim = "character"), where = where)
  point <- new("CodecPoint", x = 1:3 + 0.5, names = list(1, "a"), dim = "none")
  expect_round_trip(point)
  expect_true(isVirtualClass("VIRTUAL") || isS4(round_trip(point)))
  setClass("CodecNumbers", contains = "numeric", representation(unit = "character"), where = where)
  expect_round_trip(new("CodecNumbers", c(1, 2), unit = "m"))
  expect_round_trip(asS4(1))
  expect_round_trip(getClass("numeric")@className)
  expect_identical(round_trip(getGeneric("show"))@generic, getGeneric("show")@generic)
  account <- setRefClass("CodecAccount", fields = list(balance = "numeric"),
                         methods = list(add = function(x) balance <<- balance + x), where = where)$new(balance = 5)
  arrived <- round_trip(account)
  arrived$add(2)
  expect_identical(arrived$balance, 7)
  expect_identical(account$balance, 5)
  pointer <- structure(getFromNamespace("C_Cdqrls", "stats")$address, note = 1)
  arrived <- round_trip(list(pointer, pointer))
  expect_identical(typeof(arrived[[1L]]), "externalptr")
  expect_identical(arrived[[1L]], arrived[[2L]])
  expect_identical(attr(arrived[[1L]], "note"), 1)
  expect_identical(class(arrived[[1L]]), class(pointer))
})

test_that("models and other tangled objects work after the trip", {
  fit <- round_trip(lm(mpg ~ wt + hp, mtcars))
  expect_equal(predict(fit, mtcars[1:3, ]), predict(lm(mpg ~ wt + hp, mtcars), mtcars[1:3, ]))
  spline <- round_trip(splinefun(1:10, (1:10)^2))
  expect_equal(spline(2.5), 6.25, tolerance = 0.1)
  expect_equal(round_trip(ecdf(1:10))(5), 0.5)
  expect_equal(round_trip(stats::approxfun(1:2, 3:4))(1.5), 3.5)
})

test_that("deep values arrive or are an error", {
  nest <- function(n) {
    x <- 1
    for (i in seq_len(n)) x <- list(x)
    x
  }
  expect_length(encode(nest(10000)), 20009L)
  x <- round_trip(nest(10000))
  for (i in 1:10000) x <- x[[1L]]
  expect_identical(x, 1)
  expect_error(encode(nest(100000)), "nested too deeply|C stack")
  long <- as.pairlist(as.list(1:100000))
  expect_identical(length(round_trip(long)), 100000L)
})

test_that("vectors of more than 2^31 elements arrive", {
  free <- grep("^MemAvailable", readLines("/proc/meminfo"), value = TRUE)
  skip_if(as.numeric(gsub("[^0-9]", "", free)) < 12e6, "less than 12 GB of memory are free")
  x <- raw(2^31 + 10)
  x[2^31 + 5] <- as.raw(7)
  bytes <- encode(list(x, 1))
  expect_identical(length(bytes), 2^31 + 74)
  y <- decode(bytes, views = TRUE)
  expect_true(identical(y[[1L]], x))
  rm(y, x)
  y <- decode(bytes)[[1L]]
  expect_identical(length(y), 2^31 + 10)
  expect_identical(y[2^31 + 5], as.raw(7))
  rm(y, bytes)
  gc()
})

test_that("strings of a locale that is not UTF-8 travel as UTF-8", {
  skip_if(!nzchar(Sys.which("localedef")), "no localedef")
  where <- tempfile("locale")
  dir.create(where)
  on.exit(unlink(where, recursive = TRUE))
  made <- suppressWarnings(system2("localedef", c("-i", "en_US", "-f", "ISO-8859-1", file.path(where, "en_US.ISO-8859-1")),
                                   stdout = FALSE, stderr = FALSE))
  skip_if(made != 0L || !dir.exists(file.path(where, "en_US.ISO-8859-1")), "the source of an ISO-8859-1 locale is not installed")
  script <- tempfile(fileext = ".R")
  on.exit(unlink(script), add = TRUE)
  writeLines(c(paste0(".libPaths(", deparse1(.libPaths()), ")"), "library(setsuna)",
    "trip <- function(x) .Call(setsuna:::C_codec_decode, .Call(setsuna:::C_codec_encode, x, NULL), FALSE, NULL)",
    "x <- rawToChar(as.raw(c(0x66, 0xe9)))",
    "env <- new.env()",
    "assign(x, 5, env)",
    "stopifnot(l10n_info()[['Latin-1']], identical(trip(x), x), identical(trip(as.name(x)), as.name(x)))",
    "stopifnot(identical(trip(c(x, 'a')), c(x, 'a')), get(x, trip(env)) == 5)",
    "stopifnot(identical(charToRaw(trip(x)), as.raw(c(0x66, 0xc3, 0xa9))))"), script)
  status <- system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", shQuote(script)), stdout = FALSE, stderr = FALSE,
                    env = c(paste0("LOCPATH=", where), "LC_ALL=en_US.ISO-8859-1"))
  expect_identical(status, 0L)
})

test_that("the hash is that of the bytes", {
  hash <- function(x) .Call(C_codec_hash, x)
  x <- rnorm(1e5)
  expect_identical(hash(list(x, "a")), hash(list(x + 0, "a")))
  expect_false(hash(x) == hash(c(x[-1L], 0)))
  expect_false(hash(list(x, 1)) == hash(list(x, 2)))
  expect_match(hash(NULL), "^[0-9a-f]{32}$")
})

# ---- views ----

is_view <- function(x) .Call(C_codec_is_view, x)
live_blocks <- function() {
  gc()
  .Call(C_codec_live_blocks)
}
view_of <- function(x) decode(encode(x), TRUE)

test_that("large vectors become views that behave as the vectors do", {
  gc()
  vectors <- list(rnorm(1e4), 1:1e4 + 0L, rep_len(c(TRUE, NA, FALSE), 1e4), as.raw(1:1e5 %% 256L), 1:1e4 + 1i)
  for (x in vectors) {
    v <- view_of(x)
    expect_true(is_view(v))
    expect_identical(v, x)
    expect_identical(length(v), length(x))
    expect_identical(v[c(1, 5, length(x))], x[c(1, 5, length(x))])
    expect_identical(v[[7L]], x[[7L]])
    expect_identical(rev(v), rev(x))
    expect_identical(head(v), head(x))
    expect_identical(unserialize(serialize(v, NULL)), x)
    expect_identical(round_trip(v), x)
    expect_output(.Internal(inspect(v)), "setsuna view .*attached")
    y <- v
    y[2L] <- y[1L]
    expect_identical(v, x)
    expect_true(is.na(is_view(y)))
  }
  x <- rnorm(1e4)
  v <- view_of(x)
  expect_identical(list(sum(v), mean(v), range(v), sort(v), order(v), median(v), v + 1, v[v > 0], as.integer(v), anyNA(v)),
                   list(sum(x), mean(x), range(x), sort(x), order(x), median(x), x + 1, x[x > 0], as.integer(x), anyNA(x)))
  file <- tempfile()
  on.exit(unlink(file))
  saveRDS(v, file)
  expect_identical(readRDS(file), x)
  expect_true(is.na(is_view(readRDS(file))))
})

test_that("small vectors and attributes are copied", {
  expect_true(is.na(is_view(view_of(rnorm(100)))))
  expect_true(is.na(is_view(view_of(rnorm(1000)))))
  x <- view_of(structure(1, large = rnorm(1e5)))
  expect_true(is.na(is_view(attr(x, "large"))))
  v <- view_of(structure(rnorm(1e5), names = as.character(1:1e5), class = "odd", dim = NULL))
  expect_true(is_view(v))
  expect_s3_class(v, "odd")
  m <- view_of(matrix(rnorm(1e4), 100L))
  expect_identical(dim(m %*% m), c(100L, 100L))
  d <- view_of(data.frame(a = rnorm(1e4), b = 1:1e4 + 0L))
  expect_true(is_view(d$a))
  expect_identical(dim(d[d$a > 0, ])[2L], 2L)
})

test_that("a block lives as long as its last view", {
  gc()
  before <- live_blocks()
  a <- view_of(list(rnorm(1e4), rnorm(1e4)))
  expect_identical(live_blocks(), before + 1L)
  b <- a[[2L]]
  rm(a)
  expect_identical(live_blocks(), before + 1L)
  expect_length(unique(b), 1e4)
  rm(b)
  expect_identical(live_blocks(), before)
  view_of(1:3)
  expect_identical(live_blocks(), before) # without views nothing is kept
})

test_that("a writable pointer is noticed", {
  v <- view_of(rnorm(1e4))
  sum(v)
  mean(v)
  expect_identical(.Call(C_codec_block_state), c(1L, 0L))
  stats::fft(v)
  crossprod(v)
  v[[3L]]
  sort(v)
  expect_identical(.Call(C_codec_block_state)[1L], 1L)
  .Call(C_codec_touch, v)
  expect_identical(.Call(C_codec_block_state), c(1L, 1L))
})

test_that("unreferenced views are detached, others stay", {
  x <- list(rnorm(1e4), rnorm(1e4), list(rnorm(1e4)))
  a <- view_of(x)
  kept <- a[[2L]]
  expect_identical(.Call(C_codec_detach), 3L) # all are in the list
  .Call(C_codec_drop, a)
  expect_identical(a, list(NULL, NULL, NULL))
  expect_identical(.Call(C_codec_detach), 1L)
  expect_true(identical(kept, x[[2L]])) # expect_identical() would keep a reference
  rm(kept)
  expect_identical(.Call(C_codec_detach), 0L)
})

test_that("a list that something else refers to as well is not emptied", {
  a <- view_of(list(list(rnorm(1e4)), list(rnorm(1e4))))
  inner <- a[[1L]]
  .Call(C_codec_drop, a)
  expect_identical(.Call(C_codec_detach), 1L)
  expect_length(inner[[1L]], 1e4)
})

test_that("a detached view is an error, not a crash", {
  v <- view_of(rnorm(1e4))
  .Call(C_codec_detach_all)
  gone <- "was a view of an argument that has been released"
  expect_false(is_view(v))
  expect_length(v, 1e4)
  expect_error(v[1L], gone)
  expect_error(v[[1L]], gone)
  expect_error(sum(v), gone)
  expect_error(v + 1, gone)
  expect_error(serialize(v, NULL), gone)
  expect_error(encode(v), gone)
  expect_error({
    w <- v
    w[1L] <- 0
  }, gone)
  expect_output(.Internal(inspect(v)), "detached")
  gc()
  expect_gt(length(encode(rnorm(1e4))), 8e4) # the collector works as before
})

# ---- hooks ----

test_that("serial_config() checks its arguments", {
  f <- function(x) x
  expect_error(serial_config(1, f, f), "`class` must be a character vector")
  expect_error(serial_config(character(), f, f), "`class`")
  expect_error(serial_config(c("a", "a"), list(f, f), list(f, f)), "\"a\" twice")
  expect_error(serial_config("a", "f", f), "`sfunc` must be a function")
  expect_error(serial_config("a", f, list(f, 1)), "`ufunc` must be a function")
  expect_error(serial_config(c("a", "b"), f, list(f, f)), "`sfunc` must have one function for each class: 1 for 2")
  expect_identical(serial_config("a", f, list(f)), list("a", list(f), list(f)))
})

test_that("hooks are used wherever a reference object of the class occurs", {
  config <- serial_config(
    c("box", "other"),
    list(function(x) serialize(x$content, NULL), function(x) stop("not this one")),
    list(function(x) structure(list2env(list(content = unserialize(x), made = TRUE)), class = "box"),
         function(x) stop("not this one")))
  box <- function(x) structure(list2env(list(content = x)), class = c("special", "box"))
  hooked <- function(x) decode(encode(x, config), FALSE, config)
  expect_true(hooked(box(1:3))$made)
  expect_identical(hooked(box(1:3))$content, 1:3)
  b <- box("b")
  value <- list(b, list(inner = b), function() b, e = list2env(list(b = b)))
  environment(value[[3L]]) <- list2env(list(b = b), parent = globalenv())
  arrived <- hooked(value)
  expect_true(arrived[[1L]]$made)
  expect_identical(arrived[[1L]], arrived[[2L]]$inner)
  expect_identical(arrived[[1L]], arrived[[3L]]())
  expect_identical(arrived[[1L]], arrived$e$b)
  code <- compiler::compile(as.call(list(as.name("identity"), b))) # inside what R serialises
  arrived <- hooked(list(code, b))
  expect_true(eval(arrived[[1L]])$made)
  expect_identical(eval(arrived[[1L]]), arrived[[2L]])
  expect_null(hooked(list(structure(list(1), class = "box")))[[1L]]$made) # not a reference object
  expect_error(decode(encode(box(1), config)), "class \"box\" arrived, which this side has no serial_config\\(\\) for")
  expect_error(encode(box(1), serial_config("box", function(x) "text", identity)), "must return a raw vector, not type 'char")
  expect_error(encode(box(1), serial_config("box", function(x) stop("my own"), identity)), "my own")
  expect_error(decode(encode(box(1), config), FALSE, serial_config("box", identity, function(x) stop("on arrival"))),
               "on arrival")
  expect_error(encode(box(1), list(1)), "`serial` must be a value of serial_config")
})

test_that("registered configurations are merged, the first of a class counts", {
  old <- .serial$registered
  on.exit(assign("registered", old, .serial))
  .serial$registered <- NULL
  expect_null(.serial_resolve())
  f <- function(x) 1
  g <- function(x) 2
  register_serial("a", f, f)
  register_serial(c("b", "a"), list(g, g), list(g, g))
  expect_identical(.serial_resolve(), list(c("b", "a"), list(g, g), list(g, g)))
  expect_identical(.serial_resolve(serial_config("a", f, f)), list(c("a", "b"), list(f, g), list(f, g)))
  expect_error(.serial_resolve("a"), "`serial` must be a value of serial_config")
})
