# Elements of a map travel several at a time: each is still a mirai of its own.

trivial <- function(i) i
environment(trivial) <- globalenv()
# What daemons have learnt of the elements' time lets several travel together.
f_in_global <- function(f) {
  environment(f) <- globalenv()
  f
}

test_that("values of all kinds come back in their places", {
  pool(2)
  x <- seq(0.5, 5000, by = 0.5)
  expect_identical(no_hang(mirai_map(x, trivial)[.flat]), x)
  words <- paste("word", 1:3000)
  expect_identical(no_hang(mirai_map(words, f_in_global(function(w) list(w, nchar(w))))[]), lapply(words, function(w) list(w, nchar(w))))
  rows <- data.frame(a = 1:2000, b = 2000:1)
  expect_identical(no_hang(mirai_map(rows, f_in_global(function(a, b) a - b))[.flat]), rows$a - rows$b)
  named <- stats::setNames(1:1000, paste0("n", 1:1000))
  expect_identical(no_hang(mirai_map(named, trivial)[.flat]), named)
  lists <- lapply(1:2000, function(i) list(i, "x"))
  expect_identical(no_hang(mirai_map(lists, trivial)[]), lists)
})

test_that("errors in the middle are their own elements'", {
  pool(2)
  m <- mirai_map(1:3000, f_in_global(function(i) if (i %% 100 == 7) stop("no ", i) else i))
  values <- no_hang(m[])
  bad <- vapply(values, is_mirai_error, NA)
  expect_identical(which(bad), which(1:3000 %% 100 == 7))
  expect_identical(unlist(values[!bad]), (1:3000)[!bad])
  expect_match(as.character(values[[7]]), "no 7", fixed = TRUE)
})

test_that("a daemon that dies takes the element with it that it ran, and no other", {
  pool(2)
  dir <- withr::local_tempdir()
  m <- mirai_map(1:4000, f_in_global(function(i, dir) {
    if (i %% 1000 == 500) {
      cat("x", file = file.path(dir, i), append = TRUE)
      tools::pskill(Sys.getpid(), 9L)
      Sys.sleep(60)
    }
    i
  }), .args = list(dir = dir))
  values <- no_hang(m[], 120)
  dead <- vapply(values, function(v) is_error_value(v) && identical(as.integer(unclass(v)), 19L), NA)
  expect_identical(which(dead), c(500L, 1500L, 2500L, 3500L))
  expect_identical(unlist(values[!dead]), (1:4000)[!dead])
  expect_identical(vapply(file.path(dir, c(500, 1500, 2500, 3500)), file.size, 0, USE.NAMES = FALSE), rep(1, 4))
})

test_that("an element that is stopped while it runs, among others that go on", {
  pool(1)
  m <- mirai_map(1:2000, f_in_global(function(i) if (i == 1000L) Sys.sleep(60) else i))
  expect_identical(no_hang(collect_mirai(m[[999]])), 999L)
  expect_true(unresolved(m[[1000]]))
  expect_true(stop_mirai(m[[1000]]))
  expect_true(stop_mirai(m[[2000]]) || !unresolved(m[[2000]]))
  values <- no_hang(m[])
  expect_identical(unclass(values[[1000]]), 20L)
  expect_identical(unlist(values[1:999]), 1:999)
  expect_identical(unlist(values[1001:1999]), 1001:1999)
})

test_that("long elements go to whoever is free", {
  pool(4)
  m <- mirai_map(1:300, f_in_global(function(i) {
    if (i > 290) Sys.sleep(0.2)
    Sys.getpid()
  }))
  pids <- no_hang(m[.flat])
  expect_gt(length(unique(pids[291:300])), 1L)
})

test_that("outcomes that have no room in a slot", {
  pool(2)
  f <- f_in_global(function(i) if (i %% 50 == 0) as.numeric(seq_len(1e4) + i) else i)
  expect_identical(no_hang(mirai_map(1:1000, f)[]), lapply(1:1000, f))
  g <- f_in_global(function(i) rep(as.numeric(i), 200))
  expect_identical(no_hang(mirai_map(1:500, g)[]), lapply(1:500, g))
  h <- f_in_global(function(i) rep(as.numeric(i), 1e5))
  expect_identical(no_hang(mirai_map(1:64, h)[]), lapply(1:64, h))
})

test_that("what an element leaves behind is not there for the next", {
  pool(1)
  f <- f_in_global(function(i) {
    seen <- exists("left_behind") || identical(getOption("left.option"), 1)
    left_behind <<- TRUE
    options(left.option = 1)
    seen
  })
  expect_identical(no_hang(mirai_map(1:500, f)[.flat]), rep(FALSE, 500))
  home <- getwd()
  away <- no_hang(mirai_map(1:200, f_in_global(function(i) {
    before <- getwd()
    setwd(tempdir())
    before
  }))[.flat])
  expect_length(unique(away), 1L)
  counter <- local({
    n <- 0
    box <- new.env()
    box$n <- 0
    function(i) {
      n <<- n + 1
      box$n <- box$n + 1
      n + box$n
    }
  })
  expect_identical(no_hang(mirai_map(1:300, counter)[.flat]), rep(2, 300))
})

test_that("each element has its own stream, whoever runs it", {
  draw <- function(n) {
    daemons(n, seed = 42L, .compute = "seeded")
    on.exit(daemons(0, .compute = "seeded"))
    no_hang(mirai_map(1:500, f_in_global(function(i) stats::runif(1)), .compute = "seeded")[.flat])
  }
  one <- draw(1L)
  expect_identical(draw(3L), one)
  expect_length(unique(one), 500L)
})

test_that("everywhere() comes between elements, and maxtasks counts them", {
  pool(2)
  m <- mirai_map(1:20000, trivial)
  everywhere(from_everywhere <- 7)
  expect_identical(no_hang(mirai_map(1:500, f_in_global(function(i) from_everywhere))[.flat]), rep(7, 500))
  expect_identical(no_hang(m[.flat]), 1:20000)
  daemons(0)
  daemons(2, maxtasks = 50L)
  expect_identical(no_hang(mirai_map(1:90, trivial)[.flat]), 1:90)
})

test_that("race, subsets, progress and reset", {
  pool(2)
  m <- mirai_map(1:5000, trivial)
  expect_true(race_mirai(m) >= 1L)
  expect_identical(collect_mirai(m[c(4000, 3)]), list(4000L, 3L))
  expect_identical(collect_mirai(m[5000:1]), as.list(5000:1))
  slow <- mirai_map(1:2000, f_in_global(function(i) if (i > 1500) Sys.sleep(60) else i))
  no_hang(collect_mirai(slow[[1000]]))
  daemons(0)
  codes <- vapply(slow[1501:2000][], function(v) as.integer(unclass(v)), 0L)
  expect_true(all(codes == 7L))
})
