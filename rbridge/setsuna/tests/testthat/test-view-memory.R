# R vectors view large results where they lie; R sees only the small view objects.

test_that("large results that nobody refers to any more do not pile up, and those in use stay", {
  daemons(1)
  withr::defer(daemons(0))
  size <- 5e6 # doubles: 40 MB
  kept <- mirai(as.double(seq_len(size)), size = size)[]
  most <- 0
  for (i in 1:50) { # 2 GB
    last <- mirai(rep(i, size), i = as.double(i), size = size)[]
    most <- max(most, status()$memory[["resident"]])
  }
  expect_lt(most, 1.2e9)
  expect_identical(range(last), c(50, 50))
  expect_identical(kept[c(1, 2, size)], c(1, 2, size))
})
