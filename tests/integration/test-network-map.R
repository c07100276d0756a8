# Maps over remote daemons: short elements travel many at a time, and each is still a mirai of its own.

with_remotes <- function(n = 2L, frame = parent.frame(), ...) {
  daemons(url = "tcp://127.0.0.1:0", ...)
  withr::defer(daemons(0), frame)
  for (command in launch_remote(n)) system(paste("exec", command), wait = FALSE, ignore.stdout = TRUE)
  connected(n)
}

test_that("values, errors and large values of a map come back in their places", {
  with_remotes()
  for (round in 1:2) {
    got <- mirai_map(1:3000, function(x) {
      if (x %% 7 == 0) stop("no ", x)
      if (x %% 11 == 0) seq_len(x) + 0 else x * 2
    })[]
    right <- vapply(1:3000, function(i) {
      if (i %% 7 == 0) is_mirai_error(got[[i]]) && grepl(paste0("no ", i, "$"), trimws(got[[i]]))
      else identical(got[[i]], if (i %% 11 == 0) seq_len(i) + 0 else i * 2)
    }, NA)
    expect_true(all(right))
  }
  expect_identical(sum(status()$daemons[, "complete"]), sum(status()$daemons[, "assigned"]))
})

test_that("elements do not wait behind one that runs on, and that one can be cancelled", {
  with_remotes()
  mirai_map(1:2000, identity)[]  # now they are known to be short
  gate <- tempfile()
  map <- mirai_map(1:400, function(x, gate) {
    if (x == 5L) while (!file.exists(gate)) Sys.sleep(0.01)
    x
  }, .args = list(gate = gate))
  expect_identical(unlist(lapply(map[-5L], function(m) m[])), (1:400)[-5L])
  expect_true(unresolved(map[[5L]]))
  expect_true(stop_mirai(map[[5L]]))
  expect_identical(as.integer(map[[5L]]$data), 20L)
  expect_identical(unlist(mirai_map(1:100, identity)[]), 1:100)  # both still serve
  connected(2L)
})

test_that("a daemon that is killed takes with it only what it had begun", {
  with_remotes()
  mirai_map(1:2000, identity)[]
  got <- mirai_map(1:20000, function(x) {
    if (x == 9000L) tools::pskill(Sys.getpid(), 9L)
    x
  })[]
  lost <- vapply(got, is_error_value, NA)
  expect_true(lost[[9000L]])
  expect_lte(sum(lost), 256L)
  expect_true(all(vapply(got[lost], as.integer, 0L) == 19L))
  expect_identical(unlist(got[!lost]), (1:20000)[!lost])
})

test_that("random numbers are those of local daemons", {
  with_remotes(seed = 42L)
  remote <- mirai_map(1:500, function(x) stats::runif(1))[]
  daemons(0)
  daemons(2, seed = 42L)
  expect_identical(remote, mirai_map(1:500, function(x) stats::runif(1))[])
})

test_that("a reset in the middle of a map resolves all of it", {
  with_remotes()
  mirai_map(1:2000, identity)[]
  map <- mirai_map(1:50000, identity)
  daemons(0)
  got <- lapply(map, function(m) m[])
  closed <- vapply(got, is_error_value, NA)
  expect_true(all(vapply(got[closed], as.integer, 0L) == 7L))
  expect_identical(unlist(got[!closed]), which(!closed))
})

test_that("local and remote daemons share a map", {
  with_remotes(1L)
  launch_local(1L)
  connected(2L)
  for (round in 1:2) expect_identical(unlist(mirai_map(1:20000, function(x) x + 1L)[]), 2:20001)
})
