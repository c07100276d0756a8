# `setsuna status`, `setsuna top` and `setsuna metrics` against running sessions.

# Two daemons with a task each that lasts, and a queue behind them.
busy_session <- function(frame = parent.frame(), ...) {
  session <- start_session(quote({
    daemons(2)
    invisible(collect_mirai(lapply(1:500, function(i) mirai(i, i = i))))
    m <- lapply(1:42, function(i) mirai(Sys.sleep(600)))
    while (info()[["executing"]] < 2L) msleep(10)
    report(status()$pids)
    Sys.sleep(600)
  }), ...)
  withr::defer(session$kill(), envir = frame)
  session$pids <- session$report()[[1L]]
  session
}

test_that("status --json has the facts of its schema", {
  session <- busy_session()
  host <- status_json(session$pid)
  expect_identical(host$pid, session$pid)
  expect_null(host$problem)
  expect_match(host$command, "script.R", fixed = TRUE)
  expect_match(host$backend, "^(io_uring|epoll)")
  expect_gt(host$uptime_s, 0)
  expect_gt(host$resident_bytes, 1e6)
  expect_length(host$profiles, 1L)
  profile <- host$profiles[[1L]]
  expect_identical(profile$name, "default")
  expect_true(profile$dispatcher)
  expect_identical(profile$daemons_online, 2L)
  expect_identical(profile$respawns, 0L)
  expect_identical(profile$tasks, list(awaiting = 40L, executing = 2L, completed = 500L))
  expect_identical(profile$queue[c("ready", "spilled")], list(ready = 40L, spilled = 0L))
  expect_setequal(names(profile$memory_bytes), c("arguments", "budget", "resident", "segment"))
  latency <- profile$latency_ns
  expect_identical(latency$count, 500L)
  values <- unlist(latency[c("p50", "p90", "p99", "p99.9", "max")])
  expect_true(values[1L] > 0 && !is.unsorted(values))
  daemons <- profile$daemons
  expect_setequal(vapply(daemons, function(d) d$pid, 1L), session$pids)
  for (d in daemons) {
    expect_identical(d$kind, "local")
    expect_identical(d$state, "busy")
    expect_identical(d$assigned, d$completed + 1L)
    expect_gt(d$resident_bytes, 1e6)
  }
  expect_identical(sum(vapply(daemons, function(d) d$completed, 1L)), 500L)
})

test_that("status as text; who is not there is said to be", {
  session <- busy_session()
  answer <- run_setsuna("status", session$pid)
  expect_identical(answer$status, 0L)
  expect_match(answer$out, "profile default: 2 daemons online", all = FALSE)
  expect_match(answer$out, "40 awaiting, 2 executing, 500 completed", all = FALSE)
  answer <- run_setsuna("status", Sys.getpid() * 0 + 1L)
  expect_identical(answer$status, 1L)
  expect_match(answer$err, "process 1 is no R session of yours")
  answer <- run_setsuna("status", "--jsno")
  expect_identical(answer$status, 64L)
  expect_match(answer$err, "'--jsno'")
  expect_match(run_setsuna("status", "--help")$out, "latency_ns", all = FALSE)
})

test_that("a respawn is counted, and its daemon starts afresh", {
  session <- start_session(quote({
    daemons(1)
    mirai(tools::pskill(Sys.getpid(), 9))[]
    mirai(1)[]
    report(status()$pids)
    Sys.sleep(600)
  }))
  withr::defer(session$kill())
  pid <- session$report()[[1L]]
  profile <- status_json(session$pid)$profiles[[1L]]
  expect_identical(profile$respawns, 1L)
  expect_identical(profile$daemons_started, 2L)
  expect_identical(profile$daemons[[1L]]$pid, pid)
  expect_identical(profile$daemons[[1L]]$completed, 1L)
})

test_that("tasks without daemons and with them are told apart", {
  session <- start_session(quote({
    m <- mirai(Sys.sleep(600))
    daemons(1)
    report("set")
    Sys.sleep(600)
  }))
  withr::defer(session$kill())
  session$report()
  profiles <- status_json(session$pid)$profiles
  expect_identical(vapply(profiles, function(p) p$name, ""), c("default", "default"))
  expect_identical(vapply(profiles, function(p) p$ephemeral, NA), c(TRUE, FALSE))
  parse_metrics(run_setsuna("status", "--prometheus", session$pid)$out)
})

test_that("a session can refuse, and says what is allowed", {
  session <- busy_session(env = "SETSUNA_MONITOR=off")
  expect_identical(run_setsuna("status", session$pid)$status, 1L)
  session <- start_session(quote({
    report(tryCatch(daemons(1), error = conditionMessage))
    Sys.sleep(600)
  }), env = "SETSUNA_MONITOR=no")
  withr::defer(session$kill())
  message <- session$report()[[1L]]
  expect_match(message, "SETSUNA_MONITOR must be \"on\" or \"off\", not \"no\"", fixed = TRUE)
})

test_that("another user sees nothing", {
  session <- busy_session()
  expect_identical(run_setsuna("status", session$pid)$status, 0L)
  answer <- run_setsuna("status", session$pid, before = as_nobody())
  expect_identical(answer$status, 1L)
  expect_length(answer$out, 0L)
})

test_that("a child that the session forks is no session, and keeps none alive", {
  session <- start_session(quote({
    daemons(1)
    child <- parallel::mcparallel(Sys.sleep(600))
    report(child$pid)
    Sys.sleep(600)
  }))
  child <- session$report()[[1L]]
  withr::defer(tools::pskill(child, tools::SIGKILL))
  expect_identical(status_json(session$pid)$pid, session$pid)
  expect_null(status_json(child))
  session$kill()
  expect_true(becomes_true(function() is.null(status_json(session$pid)), 20))
  name <- sprintf("@setsuna-monitor-[0-9]+-%d-", session$pid)
  expect_true(becomes_true(function() !any(grepl(name, readLines("/proc/net/unix"))), 20))
})

test_that("top in a terminal: what it shows, its keys, and its end", {
  session <- busy_session()
  terminal <- start_terminal(paste(shQuote(setsuna_program()), "top", session$pid, "; stty -a | grep -wo -e '-*echo' -e '-*icanon'"))
  terminal$shows(sprintf("^> *%d +up .* R .*/script.R", session$pid))
  terminal$shows("^  profile default  2 daemons  .* 500 completed  0 respawns")
  terminal$shows("40 awaiting \\(40 ready, 0 spilled\\)  2 executing")
  for (pid in session$pids) terminal$shows(sprintf(" %d  busy ", pid))
  expect_length(terminal$screen(), 24L)

  terminal$keys("Down")
  terminal$shows(sprintf("^local daemon 1 of profile default of session %d, process %d", session$pid, session$pids[1L]))
  terminal$keys("j")
  terminal$shows("^local daemon 2 of")
  terminal$keys("k")
  terminal$keys("Up")
  terminal$shows(sprintf("^session %d: ", session$pid))
  terminal$keys("s")
  terminal$shows("by rate")
  terminal$keys("+")
  terminal$shows("every 0.125 s")
  terminal$keys("-")
  terminal$shows("every 0.25 s")
  terminal$keys("h")
  terminal$shows("setsuna top: help")
  terminal$keys("h")
  terminal$lacks("setsuna top: help")
  terminal$keys("Space")
  terminal$shows("PAUSED")
  terminal$keys("Space")
  terminal$lacks("PAUSED")

  terminal$keys("q")
  terminal$shows("^echo$")  # the terminal echoes again, line by line, and what top showed is gone
  terminal$shows("^icanon$")
  terminal$lacks("setsuna top  ")
})

test_that("top follows the window's size, and leaves the terminal as it was", {
  session <- busy_session()
  terminal <- start_terminal(paste(shQuote(setsuna_program()), "top", session$pid, "; stty -a | grep -wo -e '-*echo' -e '-*icanon'; echo over"))
  terminal$shows("h help  q quit")
  terminal$resize(40, 10)
  terminal$shows("session  h help$")
  terminal$shows(sprintf("^> *%d +up ", session$pid))
  terminal$resize(20, 5)
  terminal$shows("^too small: make it$")
  terminal$resize(120, 40)
  terminal$shows("h help  q quit")
  terminal$shows(" busy ")
  terminal$resize(20, 5)
  terminal$shows("^too small: make it$")
  terminal$keys("q")
  terminal$shows("^over$")
  terminal$shows("^echo$")
  terminal$shows("^icanon$")
})

test_that("top maps the session's memory for reading only, and for good", {
  session <- busy_session()
  terminal <- start_terminal(paste(shQuote(setsuna_program()), "top", session$pid))
  terminal$shows(" busy ")
  pid <- top_process(session$pid)
  expect_length(pid, 1L)
  smaps <- readLines(file.path("/proc", pid, "smaps"))
  at <- grep("memfd:setsuna", smaps, fixed = TRUE)
  expect_gt(length(at), 0L)
  expect_match(smaps[at], "^[0-9a-f]+-[0-9a-f]+ r--s ")
  flags <- vapply(at, function(i) smaps[i + grep("^VmFlags:", smaps[-seq_len(i)])[1L]], "")
  expect_match(flags, " rd ")
  expect_no_match(flags, " (wr|mw)( |$)")  # not writable, and the kernel will not let it become so
})

test_that("a session that is killed leaves the list of a top that goes on", {
  first <- busy_session()
  second <- busy_session()
  terminal <- start_terminal(paste(shQuote(setsuna_program()), "top"), rows = 500L) # others' sessions have their lines, too
  terminal$shows(sprintf("^[> ] *%d +up ", first$pid))
  terminal$keys("End")
  first$kill()
  terminal$lacks(sprintf("^[> ] *%d +up ", first$pid))
  terminal$shows("setsuna top  ")
  terminal$keys("Home")
  terminal$shows(sprintf("^[> ] *%d +up ", second$pid))
})

test_that("a session that is stopped is shown as silent, and comes back", {
  session <- busy_session()
  terminal <- start_terminal(paste(shQuote(setsuna_program()), "top", session$pid))
  terminal$shows(" busy ")
  session$kill(tools::SIGSTOP)
  terminal$shows("it does not answer")
  terminal$shows(" busy ")  # daemons are read without it
  session$kill(tools::SIGCONT)
  terminal$lacks("it does not answer")
})

test_that("top ends by signals, and without a terminal it names the alternative", {
  session <- busy_session()
  terminal <- start_terminal(paste(shQuote(setsuna_program()), "top", session$pid, "; echo ended with $?"))
  terminal$shows(" busy ")
  terminal$keys("C-c")
  terminal$shows("ended with 130")
  answer <- run_setsuna("top")
  expect_identical(answer$status, 1L)
  expect_match(answer$err, "setsuna status")
  dumb <- start_terminal(paste("TERM=dumb", shQuote(setsuna_program()), "top"))
  dumb$shows("cannot place text")
})

# ---- Prometheus ----

test_that("status --prometheus is in its format", {
  session <- busy_session()
  answer <- run_setsuna("status", "--prometheus", session$pid)
  expect_identical(answer$status, 0L)
  metrics <- parse_metrics(answer$out)
  of <- function(name) metrics[[sprintf("%s{pid=\"%d\",profile=\"default\"}", name, session$pid)]]
  expect_identical(of("setsuna_tasks_awaiting"), 40)
  expect_identical(of("setsuna_tasks_executing"), 2)
  expect_identical(of("setsuna_tasks_completed_total"), 500)
  expect_identical(of("setsuna_task_latency_seconds_count"), 500)
  expect_gt(of("setsuna_task_latency_seconds_sum"), 0)
  skip_if(!nzchar(Sys.which("promtool")), "promtool is not there (Debian package prometheus)")
  expect_identical(system2("promtool", c("check", "metrics"), input = answer$out, stdout = FALSE, stderr = FALSE), 0L)
})

start_metrics <- function(frame = parent.frame()) {
  files <- tempfile(c("said", "pid"))
  # The shell says which process it is before it becomes the program: nothing else is found by its name, or ended.
  system2("sh", c("-c", shQuote('echo $$ >"$1"; exec "$2" metrics --port=0'), "sh", shQuote(files[2L]), shQuote(setsuna_program())),
          stdout = files[1L], stderr = files[1L], wait = FALSE)
  lines <- function(file) if (file.exists(file)) readLines(file, warn = FALSE) else character()
  if (!becomes_true(function() length(lines(files[2L])) == 1L)) stop("the endpoint's process does not start")
  pid <- as.integer(lines(files[2L]))
  withr::defer(tools::pskill(pid), envir = frame)
  url <- function() grep("^http", lines(files[1L]), value = TRUE)
  if (!becomes_true(function() length(url()) == 1L)) stop("no endpoint: ", lines(files[1L]))
  list(url = url(), port = as.integer(sub(".*:([0-9]+)/.*", "\\1", url())), pid = pid)
}

test_that("the endpoint serves this user, on loopback only", {
  session <- busy_session()
  endpoint <- start_metrics()
  expect_match(Sys.readlink(file.path("/proc", endpoint$pid, "exe")), "/setsuna-monitor$")
  answer <- curl::curl_fetch_memory(endpoint$url)
  expect_identical(answer$status_code, 200L)
  expect_match(answer$type, "text/plain; version=0.0.4", fixed = TRUE)
  metrics <- parse_metrics(strsplit(rawToChar(answer$content), "\n")[[1L]])
  expect_identical(metrics[[sprintf("setsuna_host_up{pid=\"%d\"}", session$pid)]], 1)
  expect_identical(curl::curl_fetch_memory(sub("metrics", "", endpoint$url))$status_code, 404L)
  # A name that leads a browser to this machine is not this machine's.
  handle <- curl::new_handle(httpheader = "Host: example.org")
  expect_identical(curl::curl_fetch_memory(endpoint$url, handle)$status_code, 403L)
  listening <- system2("ss", c("-Hltn", shQuote(sprintf("sport = :%d", endpoint$port))), stdout = TRUE)
  expect_match(listening, sprintf("127.0.0.1:%d", endpoint$port), fixed = TRUE)
  expect_length(listening, 1L)
  answer <- run_setsuna("metrics", "--port=0", "--address=0.0.0.0")
  expect_identical(answer$status, 64L)
  expect_match(answer$err, "only be 127.0.0.1")
  answer <- run_setsuna("metrics", paste0("--port=", endpoint$port))
  expect_identical(answer$status, 1L)
  expect_match(answer$err, "choose another --port")
})

test_that("the endpoint refuses other users", {
  nobody <- as_nobody()
  endpoint <- start_metrics()
  script <- sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3", endpoint$port)
  ask <- function(before) {
    words <- c(before, "bash", "-c", script)
    suppressWarnings(system2(words[1L], shQuote(words[-1L]), stdout = TRUE, stderr = TRUE))
  }
  expect_match(ask("env")[1L], "200 OK", fixed = TRUE)
  refused <- ask(nobody)
  expect_match(refused[1L], "403 Forbidden", fixed = TRUE)
  expect_no_match(refused, "setsuna_")
})
