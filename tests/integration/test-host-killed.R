# A host that is killed leaves nothing behind: no daemon, no child of a task, no temporary directory, no shared memory.

# Kills the host once it has reported the pids of its daemons, and waits until all that belongs to it is gone.
expect_nothing_left <- function(session, extra = integer(), tempdirs = character()) {
  mine <- c(descendants(session$pid), extra)
  expect_gt(length(mine), 0L)
  expect_true(all(vapply(mine, exists_process, NA)))
  memory <- holders("memfd:setsuna")
  memory <- intersect(memory, c(mine, session$pid))
  expect_gt(length(memory), 0L)
  session$kill()
  gone <- becomes_true(function() !any(vapply(mine, exists_process, NA)), 20)
  expect_true(gone, label = paste("left:", paste(intersect(mine, processes()$pid), collapse = " ")))
  expect_length(intersect(holders("memfd:setsuna"), mine), 0L)
  for (dir in tempdirs) expect_true(becomes_true(function() !dir.exists(dir), 20), label = paste("still there:", dir))
}

test_that("killed while idle", {
  session <- start_session(quote({
    daemons(3)
    dirs <- collect_mirai(lapply(1:20, function(i) mirai({
      writeLines("x", tempfile())
      tempdir()
    })))
    report(unique(unlist(dirs)))
    Sys.sleep(600)
  }))
  tempdirs <- session$report()[[1L]]
  expect_nothing_left(session, tempdirs = tempdirs)
})

test_that("killed during a flood", {
  session <- start_session(quote({
    daemons(2)
    x <- numeric(2e5)
    m <- list()
    repeat {
      m <- c(m, lapply(1:100, function(i) mirai(sum(x) + i, i = i, x = x + i)))
      if (length(m) == 1000L) report("flooded")
      if (length(m) > 5000L) m <- list()
    }
  }))
  session$report()
  expect_nothing_left(session)
})

test_that("killed while tasks compute what nothing can interrupt, with children of theirs", {
  library <- native_faults()
  marks <- c(tempfile(), tempfile(), tempfile())
  session <- start_session(quote({
    daemons(3)
    m <- list(
      mirai({
        dyn.load(library)
        .Call("fault_ignore_signals")
        cat(Sys.getpid(), file = mark)
        .Call("fault_spin")
      }, library = library, mark = marks[1L]),
      mirai({
        system(paste("sleep 1000 & echo $! >", mark))
        Sys.sleep(600)
      }, mark = marks[2L]),
      mirai({
        # In a session of its own, its parent gone.
        system(paste("setsid sh -c 'echo $$ >", mark, "; exec sleep 1000' &"))
        Sys.sleep(600)
      }, mark = marks[3L])
    )
    report("started")
    Sys.sleep(600)
  }), library = library, marks = marks)
  session$report()
  pids <- vapply(marks, pid_in, 0L)
  expect_nothing_left(session, extra = pids)
})

test_that("killed while a task without daemons runs", {
  mark <- tempfile()
  session <- start_session(quote({
    m <- mirai({
      cat(Sys.getpid(), file = mark)
      Sys.sleep(600)
    }, mark = mark)
    report(1)
    Sys.sleep(600)
  }), mark = mark)
  session$report()
  expect_nothing_left(session, extra = pid_in(mark))
})

test_that("killed at once after daemons() was called, and while it is", {
  for (delay in c(0, 0.1, 0.2, 0.3, 0.5)) {
    session <- start_session(quote({
      report(1)
      daemons(4)
      report(2)
      Sys.sleep(600)
    }))
    session$report()
    Sys.sleep(delay)
    mine <- descendants(session$pid)
    session$kill()
    # Those that were born between the look and the kill have the same session's environment: look by name and parent.
    expect_true(becomes_true(function() {
      all <- processes()
      !any(mine %in% all$pid) && length(descendants(session$pid)) == 0L
    }, 20))
  }
  # A fork server whose host died before it looked would have been adopted by init.
  expect_true(becomes_true(function() {
    all <- processes()
    !any(all$command == "setsuna-daemon" & all$parent == 1L)
  }, 20))
})

test_that("autoexit = NA lets the task in hand finish, a signal number raises it", {
  mark <- tempfile()
  done <- tempfile()
  session <- start_session(quote({
    daemons(1, autoexit = NA)
    m <- mirai({
      cat(Sys.getpid(), file = mark)
      Sys.sleep(1.5)
      file.create(done)
    }, mark = mark, done = done)
    report(1)
    Sys.sleep(600)
  }), mark = mark, done = done)
  session$report()
  pid <- pid_in(mark)
  session$kill()
  expect_true(becomes_true(function() file.exists(done)))
  expect_true(becomes_true(function() !exists_process(pid)))
  mark <- tempfile()
  done <- tempfile()
  session <- start_session(quote({
    daemons(1, autoexit = tools::SIGINT)
    m <- mirai({
      cat(Sys.getpid(), file = mark)
      tryCatch(Sys.sleep(600), interrupt = function(e) file.create(done))
    }, mark = mark, done = done)
    report(1)
    Sys.sleep(600)
  }), mark = mark, done = done)
  session$report()
  pid <- pid_in(mark)
  session$kill()
  expect_true(becomes_true(function() file.exists(done)))
  expect_true(becomes_true(function() !exists_process(pid)))
})

test_that("a host that ends in order leaves nothing either", {
  for (last in expression(quit("no"), stop("as an error"), q("no", 3L), tools::pskill(Sys.getpid(), tools::SIGTERM),
                          tools::pskill(Sys.getpid(), 11L))) {
    session <- start_session(bquote({
      daemons(2)
      dirs <- unique(unlist(collect_mirai(lapply(1:10, function(i) mirai(tempdir())))))
      m <- mirai(system("sleep 1000"))
      n <- lapply(1:1000, function(i) mirai(i))
      report(dirs)
      Sys.sleep(0.5)
      .(last)
    }))
    dirs <- session$report()[[1L]]
    mine <- descendants(session$pid)
    expect_true(becomes_true(function() !exists_process(session$pid), 30))
    expect_true(becomes_true(function() !any(vapply(mine, exists_process, NA)), 20), label = deparse(last))
    expect_true(becomes_true(function() !any(dir.exists(dirs)), 20), label = deparse(last))
  }
})
