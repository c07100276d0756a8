# serial_config() and register_serial() through daemons: arguments, results, constants of maps, everywhere().

box <- function(v) structure(list2env(list(v = v), parent = emptyenv()), class = "box")

# Every way there and back doubles the content.
doubling <- function() {
  pack <- function(x) serialize(x$v, NULL)
  unpack <- function(bytes) structure(list2env(list(v = 2 * unserialize(bytes)), parent = emptyenv()), class = "box")
  environment(pack) <- environment(unpack) <- globalenv()
  serial_config("box", pack, unpack)
}

test_that("the functions are used on both sides", {
  pool(1, serial = doubling())
  b <- box(1)
  expect_identical(collect(mirai(b$v, b = b)), 2)
  expect_identical(collect(mirai(b, b = b))$v, 4)
  expect_identical(collect(mirai(l[[1]]$inner$v, l = list(list(inner = b)))), 2)
  expect_identical(mirai_map(list(b), function(x) x$v)[.flat], 2)
  expect_identical(mirai_map(1, function(i, b) b$v, .args = list(b = b))[.flat], 2)
  expect_identical(mirai_map(1, function(i) other$v, other = b)[.flat], 2)
  everywhere(kept <- b, b = b)
  expect_identical(collect(mirai(kept$v)), 2)
  expect_identical(b$v, 1)
})

test_that("other objects and other profiles are left alone", {
  pool(1, serial = doubling())
  daemons(1, .compute = "plain")
  withr::defer(daemons(0, .compute = "plain"))
  expect_identical(collect(mirai(b$v, b = structure(list2env(list(v = 1)), class = "other"))), 1)
  expect_identical(collect(mirai(b$v, b = box(1), .compute = "plain")), 1)
  expect_identical(collect(mirai(b, b = box(1)))$v, 4)
  daemons(1)
  expect_identical(collect(mirai(b$v, b = box(1))), 1)
})

test_that("daemons added later know the functions", {
  pool(1, serial = doubling())
  launch_local(1)
  expect_identical(on_each(2, function() b$v, b = box(1)), list(2, 2))
})

test_that("what a package registered holds for fresh processes too", {
  registry <- setsuna:::.serial
  before <- registry$registered
  withr::defer(registry$registered <- before)
  config <- doubling()
  expect_null(register_serial("box", config[[2]], config[[3]]))
  expect_identical(collect(mirai(b$v, b = box(1))), 2)
  registry$registered <- before
  expect_identical(collect(mirai(b$v, b = box(1))), 1)
})

test_that("errors in these functions are errors at the call, or of the task", {
  no <- function(x) stop("cannot be packed")
  config <- doubling()
  withr::defer(daemons(0))
  daemons(1, serial = serial_config("box", no, config[[3]]))
  expect_error(mirai(b$v, b = box(1)), "cannot be packed")
  daemons(1, serial = serial_config("box", config[[2]], function(x) stop("cannot be unpacked")))
  expect_match(collect(mirai(b$v, b = box(1))), "cannot be unpacked")
  expect_identical(collect(mirai("next")), "next")
  expect_error(daemons(1, serial = list(1)), "`serial` must be a value of serial_config()", fixed = TRUE)
})
