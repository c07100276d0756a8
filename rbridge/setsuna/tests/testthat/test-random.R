# Random numbers: a stream for each daemon, with a seed one for each task.

# What base R's own streams give to task 1, 2, ...
streams <- function(seed, n, draw = function() runif(2)) {
  had <- globalenv()[[".Random.seed"]]
  kinds <- RNGkind()
  withr::defer({
    RNGkind(kinds[1L], kinds[2L], kinds[3L])
    if (!is.null(had)) assign(".Random.seed", had, envir = globalenv())
  })
  RNGkind("L'Ecuyer-CMRG", "Inversion", "Rejection")
  set.seed(seed)
  stream <- globalenv()[[".Random.seed"]]
  lapply(seq_len(n), function(i) {
    stream <<- parallel::nextRNGStream(stream)
    assign(".Random.seed", stream, envir = globalenv())
    draw()
  })
}

test_that("with a seed results are those of nextRNGStream(), for any number of daemons", {
  expected <- streams(123, 20)
  for (n in 1:3) {
    got <- no_hang(with(daemons(n, seed = 123), mirai_map(1:20, function(i) runif(2))[]))
    expect_identical(got, expected)
  }
  expect_identical(no_hang(with(daemons(2, seed = 123, dispatcher = FALSE), mirai_map(1:20, function(i) runif(2))[])),
                   expected)
  expect_identical(with(daemons(2, seed = 123), collect(lapply(1:3, function(i) mirai(runif(2))))), expected[1:3])
  expect_identical(with(daemons(1, seed = -5), mirai(rnorm(3))[]), streams(-5, 1, function() rnorm(3))[[1L]])
})

test_that("elements that change daemons keep their streams", {
  expected <- streams(123, 400, function() runif(1))
  for (i in 1:5) {
    pool(3, seed = 123)
    # A slow element holds the range up that it is in: what is behind it goes to others.
    got <- no_hang(mirai_map(1:400, function(i) {
      if (i %% 41 == 0) Sys.sleep(0.012)
      runif(1)
    })[])
    expect_identical(got, expected)
    daemons(0)
  }
})

test_that("without a seed no two daemons and no two sessions draw the same", {
  pool(2)
  pairs <- unlist(lapply(1:5, function(i) on_each(2, function() runif(1))))
  expect_identical(anyDuplicated(pairs), 0L)
  daemons(2)
  expect_length(intersect(pairs, mirai_map(1:20, function(i) runif(1))[.flat]), 0L)
})

test_that("a task may choose its own generator, and the next does not notice", {
  pool(1)
  expect_identical(collect(mirai(RNGkind()[1L])), "L'Ecuyer-CMRG")
  expect_identical(collect(mirai({
    set.seed(1, kind = "Mersenne-Twister", normal.kind = "Inversion", sample.kind = "Rejection")
    sample(100, 3)
  })), c(68L, 39L, 1L))
})

test_that("this session's generator is not touched", {
  set.seed(1)
  before <- .Random.seed
  pool(2, seed = 1)
  mirai_map(1:3, function(i) runif(1))[]
  everywhere(runif(1))
  collect(mirai(runif(1)))
  launch_local(1)
  local_url()
  daemons(0)
  collect(mirai(runif(1)))
  expect_identical(.Random.seed, before)
})
