# mirai_map() and how its results are collected.

test_that("elements of vectors and lists, with their names", {
  pool(2)
  expect_identical(no_hang(mirai_map(1:3, function(i) i * 2L)[]), list(2L, 4L, 6L))
  expect_identical(mirai_map(c(a = 1, b = 2), function(x) x)[], list(a = 1, b = 2))
  expect_identical(mirai_map(list("u", NULL, 3), function(x) x)[], list("u", NULL, 3))
  expect_identical(mirai_map(letters[1:2], toupper)[.flat], c("A", "B"))
  expect_identical(mirai_map(c(TRUE, NA), function(x) x)[.flat], c(TRUE, NA))
  expect_identical(mirai_map(as.raw(1:2), as.integer)[.flat], 1:2)
  expect_identical(mirai_map(c(1i, 2i), Im)[.flat], c(1, 2))
  expect_identical(mirai_map(factor(c("u", "v")), as.character)[.flat], c("u", "v"))
  expect_identical(mirai_map(as.Date(c("2024-01-01", "2024-02-29")), format)[.flat], c("2024-01-01", "2024-02-29"))
  expect_identical(mirai_map(list(quote(a), quote(f(x))), function(x) deparse(x))[.flat], c("a", "f(x)"))
  expect_identical(mirai_map(NULL, identity)[], list())
  env <- mirai_map(list2env(list(u = 1, v = 2)), function(x) x)[.flat]
  expect_identical(env[c("u", "v")], c(u = 1, v = 2))
  expect_identical(mirai_map(c(d = as.Date("2024-02-29")), format)[.flat], c(d = "2024-02-29"))
  expect_identical(mirai_map(list(), identity)[.progress, .stop], list())
})

test_that("rows of data frames and matrices are arguments", {
  pool(2)
  df <- data.frame(x = 1:2, y = c("u", "v"))
  expect_identical(mirai_map(df, function(y, x) paste(x, y))[.flat], c("1 u", "2 v"))
  expect_identical(mirai_map(mtcars[1:2, 1:2], function(mpg, cyl) mpg * cyl)[.flat],
                   c(`Mazda RX4` = 126, `Mazda RX4 Wag` = 126))
  plain <- matrix(1:4, 2)
  expect_identical(mirai_map(plain, function(a, b) a - b)[.flat], c(-2L, -2L))
  named <- matrix(1:4, 2, dimnames = list(c("r", "s"), c("a", "b")))
  expect_identical(mirai_map(named, function(b, a) a * b)[.flat], c(r = 3L, s = 8L))
  v <- c("egg", "got")
  expect_identical(mirai_map(data.frame(1:2, v), sprintf, .args = list(fmt = "%d_%s"))[.flat], c("1_egg", "2_got"))
  expect_identical(mirai_map(df[0, ], function(x, y) x)[], list())
})

test_that("`.args` are constants of the function, `...` variables that it refers to", {
  pool(2)
  expect_identical(mirai_map(1:2, function(x, y, z) x + y + z, .args = list(z = 100, 10))[.flat], c(111, 112))
  f <- function(x) x + added
  environment(f) <- globalenv()
  expect_identical(mirai_map(1:2, f, added = 10)[.flat], c(11, 12))
  expect_false(mirai(exists("added"))[])
  expect_identical(mirai_map(1, function(x, q) deparse(q), .args = list(q = quote(a + b)))[.flat], "a + b")
  counter <- local({
    n <- 0
    function(i) n <<- n + 1
  })
  expect_identical(mirai_map(1:4, counter)[.flat], rep(1, 4))
})

test_that("it prints how far it is, and elements are mirai", {
  pool(1)
  m <- mirai_map(1:3, function(i) i)
  expect_true(is_mirai_map(m))
  expect_true(is_mirai(m[[1]]))
  expect_identical(collect(m[[3]]), 3L)
  expect_output(print(m), "< mirai map [3/3] >", fixed = TRUE)
  expect_output(str(m), "'mirai_map' of 3", fixed = TRUE)
  expect_identical(m[2:3][], list(2L, 3L))
  expect_true(is_mirai_map(m[2:3]))
})

test_that(".flat wants values of one type", {
  pool(1)
  expect_identical(mirai_map(c(a = 1, b = 2), function(x) x)[.flat], c(a = 1, b = 2))
  expect_identical(mirai_map(1:2, function(i) seq_len(i))[.flat], c(1L, 1L, 2L))
  expect_error(mirai_map(list(1, "a"), identity)[.flat], "one type: there are double, character", fixed = TRUE)
  expect_error(mirai_map(1:2, function(i) if (i == 2) stop("bad") else i)[.flat], "element 2 is an error")
  expect_identical(collect_mirai(mirai_map(1:2, identity), ".flat"), 1:2)
})

test_that(".stop cancels the rest at the first error in time, wherever it is in the list", {
  pool(3)
  f <- function(x) if (x == 0) stop("early") else Sys.sleep(x)
  m <- mirai_map(c(a = 60, b = 60, c = 0, d = 60), f, .args = list())
  expect_error(no_hang(m[.stop], 30), "In index: 3\nWith name: c\nError in .f(0): early", fixed = TRUE)
  expect_false(unresolved(m))
  expect_identical(unclass(m[[1]]$data), 20L)
  expect_identical(unclass(m[[4]]$data), 20L)
  expect_identical(collect(mirai("next")), "next")
  expect_identical(mirai_map(1:3, identity)[.stop, .flat], 1:3)
  expect_error(mirai_map(1, function(i) quit("no"))[.stop], "In index: 1\n19 | Connection reset", fixed = TRUE)
})

test_that("many elements, with and without options", {
  pool(2)
  n <- 40000L
  # the environment of a function travels with it
  f <- evalq(function(i, bad) if (i == bad) stop("here") else i, globalenv())
  m <- mirai_map(seq_len(n), f, .args = list(bad = 0L))
  expect_identical(no_hang(m[.flat, .stop]), seq_len(n))
  failing <- mirai_map(seq_len(n), f, .args = list(bad = n - 5L))
  expect_error(no_hang(failing[.stop]), paste("In index:", n - 5L))
})

test_that(".progress shows a bar, with cli or without", {
  pool(2)
  expect_identical(no_hang(mirai_map(1:20, function(i) i)[.progress, .flat]), 1:20)
  bar <- function() {
    b <- setsuna:::.text_bar(10, 20L)
    b$step(5)
    b$step(5)
    b$step(10)
    b$done()
  }
  text <- capture.output(bar(), type = "message")
  expect_match(paste(text, collapse = ""), "[==========          ] 5/10", fixed = TRUE)
  expect_match(paste(text, collapse = ""), "[====================] 10/10", fixed = TRUE)
})

test_that("a change of mind between the elements: stop_mirai() on a map", {
  pool(1)
  m <- mirai_map(1:5, function(i) Sys.sleep(60))
  expect_identical(stop_mirai(m), rep(TRUE, 5))
  expect_true(all(vapply(m[], is_error_value, NA)))
})

test_that("without daemons each element has a process of its own", {
  pids <- no_hang(mirai_map(1:3, function(i) Sys.getpid())[.flat])
  expect_length(unique(pids), 3L)
})

test_that("bad arguments are named in the error", {
  pool(1)
  expect_error(mirai_map(1:3), "'.f' must be a function, not missing", fixed = TRUE)
  expect_error(mirai_map(1:3, "mean"), "'.f' must be a function, not the text \"mean\"", fixed = TRUE)
  expect_error(mirai_map(sum, identity), "'.x' must be a vector or a list, not a function", fixed = TRUE)
  expect_error(mirai_map(1:3, identity, 5), "all ... arguments must be named", fixed = TRUE)
  expect_error(mirai_map(1:3, identity, .args = 5), "'.args' must be a list")
  expect_error(mirai_map(1:3, identity, .promise = 5), "'.promise' must be a function")
  expect_error(mirai_map(1:3, identity, .compute = "unknown"), "no daemons are set for the compute profile 'unknown'")
  expect_error(mirai_map(1:3, identity)[.flatt], "are .flat, .progress, .stop, not .flatt", fixed = TRUE)
  expect_error(collect_mirai(mirai_map(1:3, identity), "flat"), "'options' must be of")
  expect_error(collect_mirai(mirai(1), ".flat"), "'options' are for lists of mirai")
})
