# Forks that user code makes of the host: mclapply() with and without results of ours in use.

mclapply <- function(...) no_hang(suppressWarnings(parallel::mclapply(..., mc.cores = 2L)))

test_that("a child of the host may not submit or wait, and harms nobody by trying", {
  pool(2)
  running <- mirai({
    Sys.sleep(0.2)
    "done"
  })
  errors <- mclapply(1:2, function(i) {
    c(submit = tryCatch(mirai(1)[], error = conditionMessage),
      wait = tryCatch(running[], error = conditionMessage),
      state = tryCatch(status(), error = conditionMessage),
      unresolved = tryCatch(unresolved(running), error = conditionMessage),
      stop = tryCatch(stop_mirai(running), error = conditionMessage),
      map = tryCatch(mirai_map(1:3, identity)[], error = conditionMessage),
      all = tryCatch(everywhere(x <- 1), error = conditionMessage),
      reset = tryCatch(daemons(0), error = conditionMessage),
      open = tryCatch(daemons(1), error = conditionMessage))
  })
  for (messages in errors) {
    expect_type(messages, "character")
    expect_match(messages, "fork")
  }
  expect_identical(no_hang(running[]), "done")
  expect_untouched()
})

test_that("a child that makes its own pool gets an error and not the parent's", {
  daemons(0)
  no_hang(mirai(1)[]) # a fork server is there
  answers <- mclapply(1:2, function(i) tryCatch(mirai(1)[], error = conditionMessage))
  for (answer in answers) expect_match(answer, "fork")
  expect_identical(no_hang(mirai(2)[]), 2)
})

test_that("children read large results, and the parent goes on with them", {
  pool(2)
  x <- no_hang(mirai(as.numeric(seq_len(5e5)))[])
  y <- no_hang(mirai(as.numeric(seq_len(5e5)))[])
  sums <- mclapply(1:4, function(i) sum(x) + sum(y[seq_len(i)]))
  expect_identical(sums, lapply(1:4, function(i) sum(as.numeric(seq_len(5e5))) + sum(seq_len(i))))
  # What a child writes is its own.
  written <- mclapply(1:2, function(i) {
    x[1L] <- -i
    sort(x, decreasing = TRUE)[1L] + x[1L]
  })
  expect_identical(written, list(5e5 - 1, 5e5 - 2))
  expect_identical(x[1:2], c(1, 2))
  rm(x, y)
  gc()
  expect_untouched()
})

test_that("a child that runs the collector, or quits, leaves the pool alone", {
  pool(2)
  held <- no_hang(mirai(as.numeric(seq_len(5e5)))[])
  pending <- lapply(1:20, function(i) mirai(i, i = i))
  mclapply(1:4, function(i) {
    rm(list = c("held", "pending"), envir = parent.env(environment()))
    for (k in 1:3) gc()
    i
  })
  library <- native_faults()
  dyn.load(library)
  expect_gt(no_hang(.Call("fault_fork_and_exit")), 0L)
  result <- in_session(quote({
    daemons(2)
    held <- mirai(as.numeric(seq_len(5e5)))[]
    suppressWarnings(parallel::mccollect(parallel::mcparallel(quit("no"))))
    dir.create(tempdir(), showWarnings = FALSE) # R's quit() removes it, in a child too
    list(sum(held), mirai(2)[], sum(status()$daemons[, "online"]))
  }))
  expect_identical(result$value, list(sum(as.numeric(seq_len(5e5))), 2, 2L), label = paste(result$output, collapse = "\n"))
  expect_identical(collect(pending), as.list(1:20))
  expect_identical(sum(held), sum(as.numeric(seq_len(5e5))))
  expect_untouched()
})

test_that("a child keeps what it reads though the parent lets it go and reuses the memory", {
  pool(2)
  size <- 5e5
  go <- tempfile()
  x <- no_hang(mirai(rep(7, size), size = size)[])
  job <- parallel::mcparallel({
    while (!file.exists(go)) Sys.sleep(0.01)
    c(min(x), max(x), length(x))
  })
  rm(x)
  for (i in 1:3) gc()
  # Blocks of that size are wanted, written, and wanted again.
  for (i in 1:20) {
    m <- lapply(1:4, function(k) mirai(rep(-1, size), size = size))
    for (value in collect(m)) expect_identical(value[c(1, size)], c(-1, -1))
    rm(m, value)
    gc()
    collect(lapply(1:2, function(k) mirai(sum(z), z = rep(-2, size))))
  }
  file.create(go)
  expect_identical(no_hang(parallel::mccollect(job))[[1L]], c(7, 7, size))
  expect_untouched()
  # Its blocks come back once it is gone.
  expect_true(becomes_true(function() {
    gc()
    unresolved(1)
    status()$memory[["used"]] == 0
  }))
})

test_that("a child forked in the middle of a flood, again and again, leaves it whole", {
  pool(2)
  m <- list()
  for (i in 1:20) {
    m <- c(m, lapply(1:200, function(k) mirai(k, k = k)))
    job <- parallel::mcparallel({
      gc()
      i
    })
    expect_identical(unname(no_hang(parallel::mccollect(job))[[1L]]), i)
  }
  expect_identical(collect(m), as.list(rep(1:200, 20)))
  expect_untouched()
})

test_that("a child forked while fork servers come and go is whole", {
  pool(2)
  for (i in 1:25) {
    all <- processes()
    zygote <- setdiff(unique(all$parent[all$pid %in% daemon_pids()]), c(1L, Sys.getpid()))
    tools::pskill(zygote, tools::SIGKILL)
    for (k in 1:6) {
      unresolved(1)
      job <- parallel::mcparallel(k)
      expect_identical(no_hang(suppressWarnings(parallel::mccollect(job)))[[1L]], k)
    }
    expect_identical(no_hang(mirai(1, .retry = 9L)[]), 1)
  }
  expect_untouched()
})

test_that("a child outlives its parent's pool and session state", {
  pool(2)
  x <- no_hang(mirai(rep(3, 5e5))[])
  go <- tempfile()
  job <- parallel::mcparallel({
    while (!file.exists(go)) Sys.sleep(0.01)
    sum(x)
  })
  rm(x)
  daemons(0)
  for (i in 1:3) gc()
  no_hang(daemons(1))
  expect_identical(no_hang(mirai(length(z), z = numeric(5e5))[]), 500000L)
  file.create(go)
  expect_identical(no_hang(parallel::mccollect(job))[[1L]], 1.5e6)
  expect_untouched(1L)
})

test_that("a PSOCK cluster and child processes inherit nothing that is ours", {
  pool(1)
  open <- system("ls -l /proc/self/fd", intern = TRUE)
  expect_false(any(grepl("setsuna|io_uring|eventfd|eventpoll|pidfd", open)))
})
