# Everything at once, drawn by chance: submissions of all kinds, cancels, deaths of daemons and of the fork server, interrupts,
# forks, resets. Each mirai must resolve, to its value or to an error that something in here explains. The seed is printed;
# SETSUNA_SOAK_SEED repeats it, SETSUNA_SOAK_S sets how long (seconds).

soak <- function(seed, seconds, dispatcher) {
  set.seed(seed)
  no_hang(daemons(3, dispatcher = dispatcher))
  on.exit(daemons(0))
  open <- list() # list(mirai, check, allowed error codes)
  held <- list()
  counts <- c(resolved = 0L, failed = 0L)
  size <- function(i) 6e4 + (i %% 7L) * 5e4
  add <- function(m, right, allowed = c(19L, 7L)) open[[length(open) + 1L]] <<- list(m = m, right = right, allowed = allowed)
  serial <- 0
  settle <- function(entry) {
    value <- no_hang(entry$m[], 60)
    counts["resolved"] <<- counts["resolved"] + 1L
    if (!is_error_value(value)) return(if (!isTRUE(entry$right(value))) paste("wrong value:", deparse(value)[1L]))
    counts["failed"] <<- counts["failed"] + 1L
    if (is_mirai_interrupt(value)) return()
    if (is_mirai_error(value)) return(if (!("error" %in% entry$allowed)) paste("unexpected error:", value))
    if (!(as.integer(value) %in% entry$allowed)) paste("unexpected code:", as.integer(value))
  }
  # What is wrong with the first n.
  settle_first <- function(n) {
    if (n == 0L) return()
    first <- open[seq_len(n)]
    open <<- open[seq_along(open) > n]
    unlist(lapply(first, settle))
  }
  actions <- list(
    small = function() for (k in 1:sample(50L, 1L)) local({
      i <- serial <<- serial + 1
      add(mirai(i + 1, i = i, .retry = sample(0:2, 1L)), function(v) v == i + 1)
    }),
    large = function() for (k in 1:sample(4L, 1L)) local({
      i <- serial <<- serial + 1
      add(mirai(x + 1, x = rep(i, size(i)), .retry = sample(0:2, 1L)), function(v) length(v) == size(i) && all(range(v) == i + 1))
    }),
    map = function() local({
      i <- serial <<- serial + 1
      x <- mirai_map(1:30, function(k, y) k + y[1L], .args = list(y = rep(i, sample(c(1, 1e5), 1L))))
      for (k in 1:30) local({
        at <- k
        add(unclass(x)[[at]], function(v) v == at + i)
      })
    }),
    slow = function() add(mirai({
      Sys.sleep(0.05)
      "slow"
    }), function(v) v == "slow"),
    cancel = function() {
      m <- mirai(Sys.sleep(600))
      if (runif(1) < 0.5) Sys.sleep(0.01)
      stop_mirai(m)
      add(m, function(v) FALSE, c(20L, 19L, 7L))
    },
    timeout = function() add(mirai(Sys.sleep(600), .timeout = sample(100L, 1L)), function(v) FALSE, c(5L, 19L, 7L)),
    race = function() {
      if (!length(open)) return()
      victim <- sample(length(open), 1L)
      stop_mirai(open[[victim]]$m)
      open[[victim]]$allowed <<- c(open[[victim]]$allowed, 20L)
    },
    drop = function() if (length(open)) open[[sample(length(open), 1L)]] <<- NULL,
    kill = function() {
      pids <- daemon_pids()
      if (length(pids)) tools::pskill(pids[sample(length(pids), 1L)], 9L)
    },
    interrupt = function() {
      pids <- daemon_pids()
      if (length(pids)) tools::pskill(pids[sample(length(pids), 1L)], tools::SIGINT)
    },
    quit = function() add(mirai(quit("no")), function(v) FALSE),
    error = function() add(mirai(stop("an error")), function(v) FALSE, list("error", 19L, 7L)),
    zygote = function() if (runif(1) < 0.3) {
      all <- processes()
      zygote <- unique(all$parent[all$pid %in% daemon_pids()])
      if (length(zygote) == 1L) tools::pskill(zygote, sample(c(9L, 15L), 1L))
    },
    everywhere = function() if (runif(1) < 0.3) everywhere(setting <- value, value = serial, .min = 0L),
    collect = function() {
      expect_null(settle_first(sample(length(open) + 1L, 1L) - 1L))
    },
    hold = function() {
      i <- serial <<- serial + 1
      m <- mirai(rep(i, size(i)), i = i, size = size, .retry = 20L)
      v <- no_hang(m[], 60)
      if (!is_error_value(v)) held[[length(held) + 1L]] <<- list(v = v, i = i, n = size(i))
    },
    look = function() {
      for (h in held) expect_true(length(h$v) == h$n && all(range(h$v) == h$i))
      if (length(held) > 5L) held <<- held[-(1:3)]
    },
    fork = function() {
      job <- parallel::mcparallel(vapply(held, function(h) all(range(h$v) == h$i), NA))
      answer <- no_hang(suppressWarnings(parallel::mccollect(job)), 60)[[1L]]
      expect_identical(answer, rep(TRUE, length(held)))
    },
    collector = function() gc(),
    reset = function() if (runif(1) < 0.2) no_hang(daemons(sample(2:4, 1L), dispatcher = dispatcher), 60)
  )
  weights <- c(small = 6, large = 4, map = 3, slow = 3, kill = 4, collect = 4, hold = 2, look = 2)
  weight <- rep(1, length(actions))
  names(weight) <- names(actions)
  weight[names(weights)] <- weights
  deadline <- Sys.time() + seconds
  while (Sys.time() < deadline) actions[[sample(names(actions), 1L, prob = weight)]]()
  expect_null(settle_first(length(open)))
  held <- list()
  n <- length(status()$pids)
  expect_true(becomes_true(function() online() == n))
  expect_identical(collect(lapply(1:20, function(i) mirai(i, i = i))), as.list(1:20))
  expect_true(becomes_true(function() {
    gc()
    unresolved(1)
    status()$memory[["used"]] == 0
  }))
  counts
}

for (dispatcher in c(TRUE, FALSE)) local({
  seed <- as.integer(Sys.getenv("SETSUNA_SOAK_SEED", sample(1e6, 1L)))
  test_that(sprintf("a random mixture of everything, %s dispatcher (seed %d)", if (dispatcher) "with" else "without", seed), {
    counts <- soak(seed, as.numeric(Sys.getenv("SETSUNA_SOAK_S", "10")), dispatcher)
    expect_gt(counts[["resolved"]], 50L)
  })
})
