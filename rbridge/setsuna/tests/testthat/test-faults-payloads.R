# Arguments and results that cannot be sent, that are too large, or that lie.

test_that("what cannot be serialised is an error at the call", {
  pool(1)
  expect_error(mirai(1, x = structure(list(), class = "a"), .args = list(2)), "named")
  # A class whose hook fails.
  no_hang(daemons(1, serial = serial_config("faulty", function(x) stop("cannot serialise this"), unserialize)))
  bad <- structure(list(1), class = "faulty")
  e <- new.env()
  attr(e, "class") <- "faulty"
  failed <- tryCatch(mirai(x, x = e), error = conditionMessage)
  expect_match(failed, "cannot serialise this")
  expect_untouched(1L)
  back <- no_hang(mirai({
    e <- new.env()
    class(e) <- "faulty"
    e
  })[])
  expect_s3_class(back, "miraiError")
  expect_match(back, "cannot serialise this")
  expect_untouched(1L)
})

test_that("a value that fails while it is decoded is an error of the task, or here", {
  skip_if_not(exists("serial_config", asNamespace("setsuna")))
  no_hang(daemons(1, serial = serial_config("thorny", function(x) raw(8L), function(x) stop("cannot unserialise this"))))
  withr::defer(daemons(0))
  e <- structure(new.env(), class = "thorny")
  there <- no_hang(mirai(x, x = e)[])
  expect_s3_class(there, "miraiError")
  expect_match(there, "cannot unserialise this")
  expect_untouched(1L)
  m <- mirai(structure(new.env(), class = "thorny"))
  no_hang(call_mirai(m))
  expect_error(m$data, "cannot unserialise this")
  expect_error(m[], "cannot unserialise this")
  expect_untouched(1L)
})

test_that("one payload larger than the budget is admitted to an empty queue, the next waits or is refused", {
  pool(1, memory = 1)
  expect_identical(no_hang(mirai(length(x), x = numeric(1e6))[]), 1000000L)
  gate <- tempfile()
  busy <- mirai({
    while (!file.exists(gate)) Sys.sleep(0.01)
    length(x)
  }, x = rep(1, 1e6), gate = gate)
  expect_null(try_mirai(length(x), x = rep(2, 1e5)))
  # mirai() waits: the gate opens from outside.
  system2("sh", c("-c", shQuote(sprintf("sleep 0.5; touch %s", gate))), wait = FALSE)
  late <- no_hang(mirai(length(x), x = rep(3, 1e6)))
  expect_true(file.exists(gate))
  expect_identical(collect(list(busy, late)), list(1000000L, 1000000L))
  expect_untouched(1L)
})

test_that("the elements and constants of an unfinished map count, and not what is only kept for a repetition", {
  pool(1, memory = 1)
  gate <- tempfile()
  map <- mirai_map(as.list(1:3), function(i, gate, x) {
    while (!file.exists(gate)) Sys.sleep(0.01)
    length(x)
  }, .args = list(gate = gate, x = rep(1, 1e6)))
  expect_gt(status()$memory[["used"]], 8e6)
  expect_null(try_mirai(length(x), x = rep(2, 1e5)))
  file.create(gate)
  expect_identical(no_hang(map[.flat]), rep(1000000L, 3L))
  x <- rep(3, 1e6)
  for (i in 1:3) expect_identical(no_hang(mirai(length(x), x = x)[]), 1000000L)
  expect_lt(status()$memory[["used"]], 1e5)
  expect_true(is_mirai(try_mirai(length(x), x = rep(2, 1e4))))
  expect_untouched(1L)
})

test_that("Ctrl-C ends a wait for memory", {
  pool(1, memory = 1)
  busy <- mirai({
    Sys.sleep(600)
    x
  }, x = rep(4, 1e6))
  system2("sh", c("-c", shQuote(sprintf("sleep 0.5; kill -INT %d", Sys.getpid()))), wait = FALSE)
  outcome <- tryCatch({
    mirai(x, x = rep(5, 1e6)) # of its own: what repeats is sent once and costs nothing
    "admitted"
  }, interrupt = function(e) "interrupted")
  expect_identical(outcome, "interrupted")
  expect_true(unresolved(busy))
  stop_mirai(busy)
  expect_untouched(1L)
})

test_that("payloads larger than the budget pass one by one", {
  pool(1, memory = 1)
  for (i in 1:5) {
    m <- mirai(x, x = rep(5 + i, 1e6))
    expect_identical(length(no_hang(m[])), 1000000L)
  }
  expect_untouched(1L)
})

test_that("a payload that the memory can never hold is an error at the call", {
  result <- in_session(quote({
    daemons(1)
    total <- status()$memory[["segment"]]
    size <- total / 8 * 1.5
    x <- 1:size # compact: takes no memory here, and all of it when it is sent as a vector of doubles
    c(message = tryCatch({
      mirai(length(y), y = raw(total * 1.2))
      "no error"
    }, error = conditionMessage), after = mirai(1 + 1)[])
  }), before = "ulimit -v 6000000")
  expect_identical(result$status, 0L, label = paste(result$output, collapse = "\n"))
  expect_match(result$value[["message"]], "do not fit|cannot allocate")
  expect_identical(result$value[["after"]], "2")
})

test_that("large arguments and results by the hundred come back whole, and their memory too", {
  pool(2)
  for (round in 1:3) {
    m <- lapply(1:60, function(i) mirai(x * 2, x = rep(as.numeric(i), 2e5)))
    values <- collect(m)
    for (i in 1:60) expect_identical(range(values[[i]]), c(2, 2) * i)
    rm(m, values)
    gc()
  }
  expect_true(becomes_true(function() {
    gc()
    unresolved(1)
    status()$memory[["used"]] == 0
  }))
  expect_untouched()
})

test_that("a result that a task damages is an error, not a crash", {
  pool(1)
  expect_s3_class(no_hang(mirai(stop(strrep("x", 1e7)))[]), "miraiError")
  long <- no_hang(mirai(structure(1, class = strrep("y", 1e6)))[])
  expect_identical(nchar(class(long)), 1000000L)
  deep <- list()
  for (i in 1:20000) deep <- list(deep)
  answer <- tryCatch(no_hang(mirai(deep, deep = deep)[]), error = identity)
  expect_true(inherits(answer, "error") || is_error_value(answer) || is.list(answer))
  rm(deep, answer)
  expect_untouched(1L)
})
