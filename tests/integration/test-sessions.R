# Sessions beside each other, and Ctrl-C.

test_that("two sessions do not meet", {
  code <- quote({
    daemons(2)
    everywhere(who <- name, name = name)
    mine <- status()$pids
    ok <- TRUE
    for (i in 1:200) {
      values <- collect_mirai(lapply(1:10, function(i) mirai(list(who, Sys.getpid()))))
      ok <- ok && all(vapply(values, function(v) v[[1L]] == name && v[[2L]] %in% mine, NA))
    }
    daemons(0)
    report(ok, mine)
    Sys.sleep(1)
  })
  sessions <- lapply(c("one", "two", "three"), function(name) start_session(code, name = name))
  reports <- lapply(sessions, function(session) session$report(120))
  expect_true(all(vapply(reports, `[[`, NA, 1L)))
  pids <- unlist(lapply(reports, `[[`, 2L))
  expect_identical(anyDuplicated(pids), 0L)
})

test_that("a session that resets or dies does not touch its neighbour", {
  pool(2)
  code <- quote({
    daemons(2)
    m <- lapply(1:100, function(i) mirai(i))
    report(1)
    Sys.sleep(600)
  })
  for (signal in c(tools::SIGKILL, tools::SIGTERM)) {
    session <- start_session(code)
    m <- lapply(1:100, function(i) mirai({
      Sys.sleep(0.01)
      i
    }, i = i))
    session$report()
    session$kill(signal)
    expect_identical(collect(m), as.list(1:100))
    expect_true(becomes_true(function() !exists_process(session$pid)))
  }
  expect_untouched()
})

test_that("SIGINT to a waiting host ends the wait and not the task", {
  session <- start_session(quote({
    daemons(1)
    gate <- tempfile()
    m <- mirai({
      while (!file.exists(gate)) Sys.sleep(0.01)
      "through"
    }, gate = gate)
    outcomes <- character()
    for (wait in expression(m[], call_mirai(m), collect_mirai(list(m)), race_mirai(list(m)), m[])) {
      report("waiting")
      outcomes <- c(outcomes, tryCatch({
        eval(wait)
        "waited"
      }, interrupt = function(e) "interrupted"))
    }
    still <- unresolved(m)
    file.create(gate)
    report(outcomes, still, m[])
    Sys.sleep(600)
  }))
  for (i in 1:5) {
    expect_identical(session$report()[[1L]], "waiting")
    Sys.sleep(c(0, 0.005, 0.05, 0.2, 0.3)[i])
    session$kill(tools::SIGINT)
  }
  report <- session$report()
  session$kill()
  expect_identical(report, list(rep("interrupted", 5L), TRUE, "through"))
})

test_that("a shower of interrupts leaves the host whole", {
  session <- start_session(quote({
    daemons(2)
    report("ready")
    interrupted <- 0L
    n <- 0L
    suspendInterrupts({
      until <- Sys.time() + 4
      while (Sys.time() < until) tryCatch(allowInterrupts({
        m <- lapply(1:50, function(i) mirai(sum(x) + i, x = rep(1, if (i %% 10L) 10 else 1e5), i = i))
        out <- collect_mirai(m)
        n <- n + 1L
        for (i in 1:50) if (!identical(out[[i]], (if (i %% 10L) 10 else 1e5) + i)) stop("wrong value")
        x <- mirai_map(1:50, function(i) i)[.flat]
        if (!identical(x, 1:50)) stop("wrong map")
      }), interrupt = function(e) interrupted <<- interrupted + 1L)
      rm(m, x)
      values <- collect_mirai(lapply(1:50, function(i) mirai(i, i = i)))
      for (k in 1:5) gc()
      unresolved(1)
      report(interrupted, n, values, status()$memory[["used"]], sum(status()$daemons[, "online"]))
      Sys.sleep(600)
    })
  }))
  session$report()
  for (i in 1:200) {
    Sys.sleep(0.015)
    session$kill(tools::SIGINT)
  }
  report <- session$report()
  session$kill()
  expect_gt(report[[1L]], 5L)
  expect_gt(report[[2L]], 5L)
  expect_identical(report[3:5], list(as.list(1:50), 0, 2L))
})

test_that("a wait under suspendInterrupts() goes on, asleep, and Ctrl-C comes after it", {
  result <- in_session(quote({
    daemons(1)
    m <- mirai({
      Sys.sleep(1)
      "through"
    })
    value <- NULL
    outcome <- tryCatch({
      suspendInterrupts({
        tools::pskill(Sys.getpid(), tools::SIGINT)
        before <- proc.time()
        value <- m[]
        cpu <- sum((proc.time() - before)[1:2])
      })
      Sys.sleep(0)
      "not interrupted"
    }, interrupt = function(e) "interrupted")
    list(value, outcome, cpu < 0.5)
  }))
  expect_identical(result$value, list("through", "interrupted", TRUE), label = paste(result$output, collapse = "\n"))
})

# A terminal of its own for R: what is typed into it reaches the whole foreground process group.
test_that("Ctrl-C on a terminal reaches the host alone", {
  script <- Sys.which("script")
  skip_if(!nzchar(script), "no script(1) to make a terminal with")
  keys <- tempfile()
  screen <- tempfile()
  system2("mkfifo", keys)
  gate <- tempfile()
  r <- sprintf("%s --no-save --no-restore --no-readline --quiet --interactive", shQuote(file.path(R.home("bin"), "R")))
  system2("sh", c("-c", shQuote(sprintf("exec %s -qfec %s %s < %s > /dev/null 2>&1", script, shQuote(r), screen, keys))),
          wait = FALSE)
  terminal <- fifo(keys, "w", blocking = TRUE)
  withr::defer(close(terminal))
  type <- function(...) {
    cat(..., file = terminal, sep = "")
    flush(terminal)
  }
  lines <- function() if (file.exists(screen)) suppressWarnings(readLines(screen, warn = FALSE)) else character()
  shows <- function(text) {
    expect_true(becomes_true(function() any(grepl(text, lines(), fixed = TRUE)), 30), label = paste0("'", text, "' appears; that"))
    if (!any(grepl(text, lines(), fixed = TRUE))) cat(lines(), sep = "\n")
  }
  type(".libPaths(", paste(deparse(.libPaths()), collapse = ""), "); library(setsuna)\n")
  type("gate <- ", deparse(gate), "; daemons(2); pids <- status()$pids\n")
  type("m <- mirai({ while (!file.exists(gate)) Sys.sleep(0.01); 'thr' }, gate = gate)\n")
  type("cat('about', 'to wait\\n'); m[]; cat('not', 'reached\\n')\n")
  shows("about to wait")
  Sys.sleep(0.3)
  type("\003")
  Sys.sleep(0.3)
  type("cat('un', unresolved(m), '\\n', sep = '')\n")
  shows("unTRUE")
  # While the session is idle, and while it computes.
  type("\003")
  Sys.sleep(0.2)
  type("tryCatch({ cat('comp', 'uting\\n'); repeat 1 }, interrupt = function(e) cat('stop', 'ped\\n'))\n")
  shows("comp uting")
  type("\003")
  shows("stop ped")
  file.create(gate)
  type("paste0(m[], 'ough')\n")
  shows("through")
  type("cat('same', identical(pids, status()$pids), '\\n', sep = '')\n")
  shows("sameTRUE")
  expect_false(any(grepl("not reached", lines(), fixed = TRUE)))
  type("q('no')\n")
})

test_that("a host under nohup, or with its signals ignored, works", {
  result <- in_session(quote({
    daemons(2)
    m <- mirai(Sys.sleep(600))
    Sys.sleep(0.1)
    stop_mirai(m)
    list(as.integer(m[]), mirai(system("exit 3"))[], {
      daemons(0)
      mirai(2)[]
    })
  }), before = "trap '' INT HUP TERM CHLD PIPE")
  expect_identical(result$value, list(20L, 3L, 2), label = paste(result$output, collapse = "\n"))
})
