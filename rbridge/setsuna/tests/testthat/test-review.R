# Corners where the parts meet: memory that is full, hooks that misbehave, tasks that lock what is put back after them.

reference <- function() structure(new.env(), class = "review_reference")

test_that("a value whose decoding failed is decoded again, not read from where it was", {
  mark <- tempfile()
  on.exit(unlink(mark))
  fails_once <- function(x) {
    if (!file.exists(mark)) {
      file.create(mark)
      stop("not now")
    }
    reference()
  }
  daemons(1, serial = serial_config("review_reference", function(x) raw(1), fails_once))
  on.exit(daemons(0), add = TRUE)
  m <- mirai(list(as.double(1:2e6), structure(new.env(), class = "review_reference")))
  call_mirai(m)
  expect_error(m$data, "not now")
  gc()
  expect_identical(m$data[[1L]], as.double(1:2e6))
})

test_that("a hook that calls mirai() while arguments are encoded leaves them alone", {
  sends_more <- function(x) {
    mirai(y, y = runif(1e4))
    raw(1)
  }
  daemons(1, serial = serial_config("review_reference", sends_more, function(x) "read"))
  on.exit(daemons(0))
  x <- as.double(1:1e5)
  expect_identical(mirai(list(sum(a), h, sum(b)), a = x, h = reference(), b = x)[], list(sum(x), "read", sum(x)))
  expect_identical(mirai_map(list(reference(), 1), function(x, h) list(x, h), .args = list(h = reference()))[],
                   list(list("read", "read"), list(1, "read")))
})

test_that("mirai() that waits for memory goes on as soon as one task has ended", {
  daemons(2, memory = 10)
  on.exit(daemons(0))
  endless <- mirai(Sys.sleep(600))
  first <- mirai(length(x), x = runif(1e6))
  second <- mirai(length(x), x = runif(1e6)) # would wait for 600 s
  expect_identical(second[], 1000000L)
  expect_true(unresolved(endless))
})

test_that("forks of the host while it has views use up no descriptors", {
  skip_on_os("windows")
  daemons(1)
  on.exit(daemons(0))
  view <- mirai(as.double(1:2e6))[]
  descriptors <- function() length(list.files("/proc/self/fd"))
  before <- descriptors()
  for (i in 1:50) parallel::mccollect(parallel::mcparallel(sum(view)))
  expect_lt(descriptors(), before + 10L)
})

test_that("a daemon that comes while tasks fill all slots has what everywhere() has set up", {
  daemons(1)
  on.exit(daemons(0))
  everywhere(marker <- 42)
  tasks <- lapply(1:18000, function(i) mirai({
    for (k in 1:1000) k
    exists("marker")
  }))
  launch_local(1)
  expect_true(all(unlist(collect_mirai(tasks))))
})

test_that("an everywhere() that ends its daemon does so a few times and not for ever", {
  daemons(1)
  on.exit(daemons(0))
  everywhere(quit("no"))
  m <- tryCatch(mirai(1), error = identity) # before or after it is given up
  if (is_mirai(m)) expect_identical(as.integer(no_hang(m[])), 19L) else expect_match(conditionMessage(m), "cannot start")
})

test_that("a process that outlives daemon() and its profile is not taken for a daemon of the next one", {
  join <- function(url, then) {
    code <- sprintf("invisible(setsuna::daemon('%s')); %s", url, then)
    system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), wait = FALSE)
  }
  go <- tempfile()
  on.exit(unlink(go))
  url <- local_url()
  daemons(url = url)
  join(url, sprintf("while (!file.exists('%s')) Sys.sleep(0.01)", go))
  mirai(1)[]
  daemons(0)
  gc()
  url <- local_url()
  daemons(url = url)
  on.exit(daemons(0), add = TRUE)
  join(url, "")
  m <- mirai({
    file.create(go)
    Sys.sleep(1)
    "finished"
  }, go = go)
  expect_identical(m[], "finished")
})

test_that("a repeated argument that is found again while a task uses it is kept as long as it is needed", {
  daemons(2)
  on.exit(daemons(0))
  large <- function(i) rep(as.double(i), 5e4)
  use <- function(i, wait = 0) mirai({
    Sys.sleep(wait)
    range(x)
  }, x = large(i), wait = wait)
  use(1)[]
  slow <- use(1, 0.5)
  for (i in 2:12) {
    use(i)[]
    use(i)[]
  }
  again <- list(use(1), use(1))
  expect_identical(collect_mirai(c(list(slow), again)), rep(list(c(1, 1)), 3L))
  sums <- mirai_map(1:6, function(i, x) {
    Sys.sleep(0.1)
    range(x)
  }, .args = list(x = large(99)))
  for (i in 20:40) {
    use(i)[]
    expect_identical(use(i)[], c(i, i) + 0)
  }
  expect_identical(sums[], rep(list(c(99, 99)), 6L))
})

test_that("what a task locks or makes active in the global environment is not met by the next", {
  daemons(1)
  on.exit(daemons(0))
  expect_identical(mirai({
    lockEnvironment(globalenv())
    1
  })[], 1)
  expect_identical(mirai(z, z = 3)[], 3)
  expect_identical(mirai({
    lockEnvironment(globalenv(), bindings = TRUE)
    y
  }, y = 2)[], 2)
  expect_identical(mirai(z, z = 4)[], 4)
  everywhere(v <- 1)[]
  expect_identical(mirai({
    rm(v, envir = globalenv())
    makeActiveBinding("v", function() stop("not to be looked at"), globalenv())
    options(digits = 3)
    5
  })[], 5)
  expect_identical(mirai(c(v, getOption("digits")))[], c(1, 7))
})
