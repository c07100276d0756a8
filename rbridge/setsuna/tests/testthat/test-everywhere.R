# everywhere(): on each daemon, now and later.

test_that("what it leaves behind stays, and comes before tasks submitted after it", {
  pool(2)
  m <- everywhere({
    base <- base + 1
    options(setsuna.test = 5)
    library(splines)
  }, base = 10)
  expect_true(is_mirai_map(m))
  expect_length(m, 2L)
  values <- lapply(1:3, function(i) on_each(2, function() {
    found <- c(base, getOption("setsuna.test"), "package:splines" %in% search())
    base <<- 0
    options(setsuna.test = 0)
    detach("package:splines")
    found
  }))
  for (value in unlist(values, FALSE)) expect_identical(value, c(11, 5, 1))
  expect_false(any(vapply(no_hang(m[]), is_error_value, NA)))
  expect_false("package:splines" %in% search())
})

test_that("it returns invisibly, and errors are values", {
  pool(1)
  expect_false(withVisible(everywhere(1))$visible)
  expect_identical(as.character(collect(everywhere(stop("no")))[[1L]]), "Error: no")
  expect_identical(collect(mirai("next")), "next")
})

test_that("daemons that come later catch up, those that replace a dead one too", {
  pool(1)
  everywhere(x <- 1)
  everywhere(x <- x + 1)
  expect_identical(collect(mirai(x)), 2)
  collect(mirai(quit("no")))
  expect_identical(collect(mirai(x)), 2)
  launch_local(1)
  expect_identical(on_each(2, function() x), list(2, 2))
})

test_that("a symbol bound to a language object, environments and lists are taken as by mirai()", {
  pool(1)
  expr <- quote(y <- x * 2)
  everywhere(expr, x = 4)
  expect_identical(collect(mirai(y)), 8)
  everywhere({}, list2env(list(z = 3)))
  expect_identical(collect(mirai(z)), 3)
  expect_error(everywhere(), "missing expression, perhaps wrap in {}?", fixed = TRUE)
  expect_error(everywhere(1, 2), "all ... arguments must be named", fixed = TRUE)
})

test_that("`.min` waits until so many daemons are there", {
  pool(2)
  expect_length(no_hang(everywhere(1, .min = 2)), 2L)
  expect_error(everywhere(1, .min = -1), "'.min' is -1", fixed = TRUE)
  expect_error(everywhere(1, .min = "a"), "'.min' must be one whole number", fixed = TRUE)
  expect_error(everywhere(1, .min = 5000), "'.min' is 5000", fixed = TRUE)
  url <- local_url()
  daemons(url = url)
  daemon <- sprintf("sleep 0.3; exec %s -e %s", shQuote(file.path(R.home("bin"), "Rscript")),
                    shQuote(sprintf("setsuna::daemon('%s')", url)))
  withr::local_envvar(R_LIBS = paste(.libPaths(), collapse = ":"))
  system(daemon, wait = FALSE)
  expect_length(no_hang(everywhere(1, .min = 1)), 1L)
})

test_that("it draws from the stream of the daemon, whatever the seed", {
  draw <- function(seed) {
    daemons(2, seed = seed)
    withr::defer(daemons(0))
    m <- everywhere(drawn <- runif(1))
    list(unlist(collect(m)), mirai_map(1:2, function(i) runif(1))[.flat])
  }
  a <- draw(3)
  b <- draw(3)
  expect_identical(a, b)
  expect_false(a[[1L]][1L] == a[[1L]][2L])
})
