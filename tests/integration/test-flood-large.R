# Daemons killed every 50 ms while large payloads are on their way, without a dispatcher, and while maps run. The small tasks
# are in the package's test-flood-kills.R.

# A shell kills one of this session's daemons every 50 ms until the function that is returned is called, which gives the number
# of kills; with FALSE it only looks how many there were so far. It leaves those alone that are younger: where daemons die before they are there, the session gives up, as it should.
start_killer <- function() {
  all <- processes()
  zygote <- unique(all$parent[all$pid %in% daemon_pids()])
  stopifnot(length(zygote) == 1L)
  alive <- tempfile("killer-")
  count <- tempfile("kills-")
  file.create(alive)
  script <- sprintf('n=0; while [ -e %1$s ]; do set -- $(cat /proc/%3$d/task/%3$d/children);
    sleep 0.05; if [ $# -gt 0 ]; then shift $((n %% $#)); kill -9 $1 && n=$((n + 1)) && echo $n > %2$s; fi; done
    echo $n > %2$s.part; mv %2$s.part %2$s.all', shQuote(alive), shQuote(count), zygote)
  system2("bash", c("-c", shQuote(script)), wait = FALSE, stdout = FALSE, stderr = FALSE)
  function(stop = TRUE) {
    if (!stop) return(if (file.exists(count)) sum(scan(count, 0L, quiet = TRUE)) else 0L)
    unlink(alive)
    pid_in(paste0(count, ".all"))
  }
}

# Every value is right or error 19, and the pool is as before.
expect_whole <- function(values, right, n, lost_max = Inf) {
  lost <- vapply(values, is_error_value, NA)
  testthat::expect_true(all(vapply(values[lost], function(v) identical(as.integer(v), 19L), NA)))
  testthat::expect_true(all(mapply(right, values[!lost], which(!lost))))
  testthat::expect_lte(sum(lost), lost_max)
  expect_online(n)
}

expect_memory_back <- function() {
  testthat::expect_true(becomes_true(function() {
    gc()
    unresolved(1)
    status()$memory[["used"]] == 0
  }), label = sprintf("the memory of arguments is free again (in use: %g); that", status()$memory[["used"]]))
}

size_of <- function(i) 1e5 + (i %% 5L) * 1.3e5 # doubles: 0.8 to 5 MB
large_task <- function(i, ...) mirai(x * 2, x = rep(as.numeric(i), size_of(i)), size_of = size_of, ...)
large_right <- function(value, i) length(value) == size_of(i) && all(range(value) == 2 * i)

test_that("large arguments and results: no byte is wrong, no block is lost", {
  pool(3)
  stop_killer <- start_killer()
  round <- -1L
  while (round < 3L || stop_killer(FALSE) <= 20L) {
    round <- round + 1L
    index <- round * 100L + 1:100
    values <- collect(lapply(index, large_task))
    expect_true(all(mapply(function(v, i) is_error_value(v) || large_right(v, i), values, index)))
    expect_true(all(vapply(Filter(is_error_value, values), as.integer, 0L) == 19L))
    rm(values)
    gc()
  }
  expect_gt(stop_killer(), 20L)
  expect_untouched(3L)
  expect_memory_back()
  # What was given back can be used: as much as before, over again, does not make the segment grow much.
  resident <- status()$memory[["resident"]]
  for (round in 1:3) {
    values <- collect(lapply(1:100, large_task))
    expect_whole(values, large_right, 3L, 0)
    rm(values)
    gc()
  }
  expect_lt(status()$memory[["resident"]], 1.5 * resident + 2e8)
})

test_that("large ones with retries", {
  pool(2)
  stop_killer <- start_killer()
  values <- collect(lapply(1:200, large_task, .retry = 10L))
  expect_gt(stop_killer(), 5L)
  expect_whole(values, large_right, 2L, 5)
  rm(values)
  expect_memory_back()
})

test_that("without a dispatcher, small and large", {
  pool(3, dispatcher = FALSE)
  stop_killer <- start_killer()
  small <- lapply(1:10000, function(i) mirai({
    if (i %% 20L == 0L) Sys.sleep(0.001)
    i
  }, i = i))
  large <- lapply(1:100, large_task)
  small <- collect(small)
  large <- collect(large)
  expect_gt(stop_killer(), 5L)
  # Those that waited in the mailbox of the dead are lost with it.
  expect_whole(small, function(value, i) identical(value, i), 3L)
  expect_whole(large, large_right, 3L)
  rm(large)
  expect_memory_back()
  expect_true(all(vapply(collect(lapply(1:20, function(i) mirai(i, i = i))), is.integer, NA)))
})

test_that("while maps run, small elements and large constants", {
  pool(3)
  stop_killer <- start_killer()
  round <- 0L
  while (round < 3L || stop_killer(FALSE) <= 20L) {
    round <- round + 1L
    constant <- rep(as.numeric(round), 3e5)
    x <- mirai_map(1:5000, function(i, y) i + y[1L] + length(y), .args = list(y = constant))
    values <- no_hang(x[])
    expect_whole(values, function(value, i) identical(value, i + round + 3e5), 3L)
  }
  large <- no_hang(mirai_map(1:100, function(i) rep(i, 2e5))[])
  expect_whole(large, function(value, i) identical(value, rep(i, 2e5)), 3L)
  expect_gt(stop_killer(), 20L)
  rm(large, x, values)
  expect_memory_back()
  expect_untouched(3L)
})

test_that("everywhere() is with every daemon whatever its age", {
  pool(2)
  no_hang(everywhere(setting <- 42)[])
  stop_killer <- start_killer()
  values <- collect(lapply(1:3000, function(i) mirai({
    if (i %% 10L == 0L) Sys.sleep(0.01) # long enough for many kills
    setting + i
  }, i = i)))
  expect_gt(stop_killer(), 5L)
  expect_whole(values, function(value, i) identical(value, 42 + i), 2L)
})

test_that("while tasks are cancelled and time out", {
  pool(3)
  stop_killer <- start_killer()
  codes <- integer()
  for (round in 1:20) {
    m <- lapply(1:100, function(i) mirai({
      Sys.sleep(0.002)
      i
    }, i = i, .timeout = if (i %% 3L == 0L) 30))
    for (victim in m[c(TRUE, FALSE, FALSE, FALSE)]) stop_mirai(victim)
    values <- collect(m)
    bad <- vapply(values, is_error_value, NA)
    expect_identical(values[!bad], as.list(1:100)[!bad])
    codes <- c(codes, vapply(values[bad], as.integer, 0L))
  }
  expect_gt(stop_killer(), 5L)
  expect_true(all(codes %in% c(5L, 19L, 20L)))
  expect_untouched(3L)
  expect_memory_back()
})
