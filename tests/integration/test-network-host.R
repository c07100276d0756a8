# A host on the network: what strangers, resets, deaths and mixed pools do to it.

start_remote <- function(n = 1L, ...) {
  command <- launch_remote(n, ...)
  libraries <- shQuote(paste(.libPaths(), collapse = ":"))
  for (line in command) system(paste0("R_LIBS=", libraries, " exec ", line, " > /dev/null 2>&1"), wait = FALSE)
}

port_of <- function(url) as.integer(sub(".*:([0-9]+)(/.*)?$", "\\1", url))

# Sends bytes to a port and waits until the other side closes. TRUE: it has.
hostile <- function(url, bytes) {
  con <- socketConnection("127.0.0.1", port_of(url), blocking = TRUE, open = "r+b", timeout = 30)
  on.exit(close(con))
  writeBin(bytes, con)
  flush(con)
  no_hang(repeat {
    got <- readBin(con, "raw", 4096L)
    if (!length(got)) return(TRUE)
  })
}

has_event <- function(pattern) becomes_true(function() any(grepl(pattern, status()$events)))

test_that("bytes that are no daemon's are refused with a reason, and the others do not notice", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote()
  no_hang(everywhere({}, .min = 1))
  url <- status()$url
  set.seed(1)
  running <- mirai_map(1:200, function(i) { Sys.sleep(0.002); i })
  for (bytes in list(charToRaw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), as.raw(rep(255, 4096)), as.raw(sample(0:255, 1e5, TRUE)),
                     serialize(quote(system("touch /tmp/owned")), NULL)))
    expect_true(tryCatch(hostile(url, bytes), error = function(e) grepl("reset", conditionMessage(e))))
  expect_true(has_event("refused a connection"))
  expect_identical(collect(running), as.list(1:200))
})

test_that("a wrong token is refused, and said to be wrong", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  error <- no_hang(tryCatch(setsuna::daemon(status()$url, token = "0000"), error = conditionMessage))
  expect_match(error, "token")
  expect_match(error, status()$url, fixed = TRUE)
  expect_true(has_event("token"))
  expect_match(no_hang(tryCatch(setsuna::daemon(status()$url), error = conditionMessage)), "token")
  daemons(url = "tcp://127.0.0.1:0", auth = FALSE)
  start_remote()
  expect_identical(no_hang(mirai(1)[]), 1)
})

test_that("an open listener that others can reach is warned of", {
  on.exit(daemons(0))
  expect_warning(daemons(url = "tcp://0.0.0.0:0", auth = FALSE), "can run code as this user")
  expect_no_warning(daemons(url = "tcp://[::1]:0", auth = FALSE))
})

test_that("a reset with 10,000 tasks in flight resolves them all and leaves nothing behind", {
  daemons(url = "tcp://127.0.0.1:0")
  start_remote(2)
  no_hang(everywhere({}, .min = 2))
  pids <- status()$pids
  tasks <- lapply(1:10000, function(i) mirai({ Sys.sleep(0.001); i }, i = i))
  Sys.sleep(0.2)
  daemons(0)
  values <- no_hang(collect_mirai(tasks))
  codes <- vapply(values, function(v) if (is_error_value(v)) as.integer(v) else 0L, 0L)
  expect_setequal(unique(codes), c(0L, 7L))
  expect_gt(sum(codes == 0L), 0L)
  expect_true(all(vapply(pids, function(pid) becomes_true(function() !exists_process(pid)), NA)))
})

test_that("a flood survives remote daemons that are killed all the time: each mirai resolves, none twice", {
  file <- withr::local_tempfile()
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote(3)
  no_hang(everywhere({}, .min = 2))
  tasks <- lapply(1:3000, function(i) mirai({
    cat(paste0(i, "\n"), file = file, append = TRUE) # one write
    i
  }, i = i, file = file))
  for (k in 1:4) {
    Sys.sleep(0.15)
    victims <- status()$pids
    if (length(victims)) tools::pskill(victims[1L], tools::SIGKILL)
    start_remote(1)
  }
  values <- no_hang(collect_mirai(tasks), 120)
  dead <- vapply(values, is_error_value, NA)
  expect_true(all(vapply(values[dead], function(v) as.integer(v) == 19L, NA)))
  expect_identical(values[!dead], as.list(which(!dead)))
  expect_lt(sum(dead), 200L) # at most what each of the four had in hand
  ran <- as.integer(readLines(file))
  expect_identical(anyDuplicated(ran), 0L)
  expect_true(all(which(!dead) %in% ran))
})

test_that("with .retry the tasks of a dead remote daemon run on another", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote(2)
  no_hang(everywhere({}, .min = 2))
  flag <- withr::local_tempfile()
  m <- mirai({
    if (!file.exists(flag)) {
      file.create(flag)
      tools::pskill(Sys.getpid(), 9)
    }
    "again"
  }, flag = flag, .retry = 1)
  expect_identical(no_hang(m[]), "again")
})

test_that("local and remote daemons share the queue, everywhere() reaches both, and those that come late", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  launch_local(1)
  start_remote(1)
  no_hang(everywhere(mark <<- "set", .min = 2))
  where <- on_each(2, function() list(Sys.getpid(), mark))
  expect_length(unique(vapply(where, function(w) w[[1L]], 0L)), 2L)
  expect_identical(unique(vapply(where, function(w) w[[2L]], "")), "set")
  start_remote(1)
  no_hang(everywhere({}, .min = 3))
  expect_identical(unique(vapply(on_each(3, function() mark), identity, "")), "set")
})

test_that("without dispatcher each of two remote daemons gets every other task", {
  daemons(url = "tcp://127.0.0.1:0", dispatcher = FALSE)
  on.exit(daemons(0))
  start_remote(2)
  no_hang(everywhere({}, .min = 2))
  expect_identical(status()$connections, 2L)
  pids <- vapply(no_hang(collect_mirai(lapply(1:10, function(i) mirai(Sys.getpid())))), identity, 0L)
  expect_identical(as.vector(table(pids)), c(5L, 5L))
})

test_that("a large argument to one daemon does not hold up small tasks of another", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote(2)
  no_hang(everywhere({}, .min = 2))
  x <- rep(1, 4e7) # 320 MB
  big <- mirai({ Sys.sleep(1); sum(x) }, x = x)
  small <- lapply(1:50, function(i) mirai(i, i = i))
  expect_identical(no_hang(collect_mirai(small)), as.list(1:50))
  expect_identical(no_hang(big[], 120), 4e7)
})

test_that("long tasks are shared out evenly: none waits behind another while a daemon is idle", {
  daemons(url = "tcp://127.0.0.1:0")
  on.exit(daemons(0))
  start_remote(2)
  no_hang(everywhere({}, .min = 2))
  invisible(collect(mirai_map(1:500, identity))) # short ones: from now on tasks are prefetched
  file <- withr::local_tempfile()
  tasks <- lapply(1:4, function(i) mirai({ Sys.sleep(0.5); Sys.getpid() }))
  pids <- vapply(no_hang(collect_mirai(tasks)), identity, 0L)
  expect_identical(as.vector(table(pids)), c(2L, 2L))
})

test_that("a cluster of package parallel on the network", {
  on.exit(if (exists("cl", inherits = FALSE)) stop_cluster(cl))
  withr::local_envvar(R_LIBS = paste(.libPaths(), collapse = ":"))
  cl <- no_hang(make_cluster(2, url = "tcp://127.0.0.1:0", remote = remote_config("Rscript", "-")))
  expect_identical(unlist(parallel::parLapply(cl, 1:4, function(x) x^2)), (1:4)^2)
  pids <- unlist(parallel::clusterEvalQ(cl, Sys.getpid()))
  expect_length(unique(pids), 2L)
  expect_identical(unlist(parallel::clusterEvalQ(cl, Sys.getpid())), pids)
})
