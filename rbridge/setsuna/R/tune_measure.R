# What tune() measures: the work of a goal, in a profile of its own, with one configuration. One sample is
# c(cost =, time =): the goal's cost, and how long a task took in it (microseconds).

# ---- what is tried ----

# By knob: the values beside the default, those near to it first, and the work in which the knob matters.
.tune_plan <- list(
  spin = list(values = c(20, 50, 200), work = "small"),
  wake_batch = list(values = c(64, 1024, 16), work = "small"),
  slots = list(values = c(32768, 4096, 1024), work = "queue"),
  inline_bytes = list(values = c(256, 128, 0), work = "letter"),
  prefetch = list(values = c(63, 4, 0), work = "remote"),
  codec = list(values = "serialize", work = "frame"),
  arena = list(values = c(256, 64), work = "blocks"),
  growth = list(values = c(2, 1, 32), work = "blocks"),
  send_zc = list(values = c(65536, 1048576), work = "remote_bulk"),
  reactor = list(values = c("io_uring", "epoll"), work = "remote"),
  ring = list(values = c("single_issuer", "cooperative", "plain"), work = "remote")
)

# Those that tune() looks at for a goal, if nothing else is asked for.
.tune_goals <- list(
  latency = c("spin", "inline_bytes", "codec", "reactor", "ring"),
  throughput = c("wake_batch", "slots", "inline_bytes", "codec", "growth", "prefetch", "send_zc", "reactor"),
  memory = c("slots", "inline_bytes", "arena", "growth"),
  power = c("spin", "wake_batch", "inline_bytes", "codec", "reactor")
)

.tune_units <- c(latency = "us a round trip", throughput = "us a task", memory = "MB", power = "us of CPU time a task")

.tune_is_remote <- function(work) startsWith(work, "remote")

# A task's argument, and how many tasks a flood has, by work.
.tune_works <- list(
  small = list(payload = function() 1, flood = 20000L),
  queue = list(payload = function() 1, flood = 60000L),
  letter = list(payload = function() as.raw(rep(1:15, 20L)), flood = 20000L),
  frame = list(payload = function() datasets::mtcars, flood = 5000L),
  blocks = list(payload = function() as.raw(rep(1L, 20000L)), flood = 4000L),
  remote = list(payload = function() 1, flood = 10000L),
  remote_bulk = list(payload = function() as.raw(rep_len(1:255, 4e6)), flood = 16L)
)

# ---- one sample ----

.tune_profile <- ".setsuna-tune"

# `scale`: below 1 for short samples.
.tune_sample <- function(goal, work, config, scale = 1, n = .tune_daemons()) {
  settings <- .tune_works[[work]]
  payload <- settings$payload()
  on.exit(.reset(.tune_profile))
  .tune_open(work, config, if (goal %in% c("latency", "power")) 1L else n)
  count <- max(8L, as.integer(settings$flood * scale))
  switch(goal,
    latency = .tune_latency(payload, max(8L, count %/% 20L)),
    throughput = .tune_throughput(payload, count),
    memory = .tune_memory(payload, count),
    power = .tune_power(payload, max(8L, count %/% 40L), scale)
  )
}

.tune_daemons <- function() max(1L, min(16L, sum(as.integer(rawToBits(as.raw(.Call(C_get_affinity)))))))

# One daemon is enough where the connection is what matters.
.tune_open <- function(work, config, n) {
  if (!.tune_is_remote(work)) return(daemons(n, config = config, .compute = .tune_profile))
  daemons(url = "tcp://127.0.0.1:0", config = config, .compute = .tune_profile)
  program <- file.path(dirname(.daemon_program()), "setsuna-daemon")
  record <- .profiles[[.tune_profile]]
  system2(program, c(shQuote(record$urls[1L]), paste0("token=", record$access$token)), wait = FALSE, stdout = FALSE,
          stderr = FALSE, env = paste0("R_LIBS=", shQuote(paste(.libPaths(), collapse = ":"))))
  everywhere(NULL, .min = 1L, .compute = .tune_profile)[]
}

.tune_task <- quote(x)

.tune_clock <- function() as.numeric(Sys.time())

.tune_trip <- function(payload) mirai(.tune_task, x = payload, .compute = .tune_profile)[]

.tune_latency <- function(payload, count) {
  for (i in seq_len(max(4L, count %/% 5L))) .tune_trip(payload)
  each <- numeric(count)
  for (i in seq_len(count)) {
    start <- .tune_clock()
    .tune_trip(payload)
    each[i] <- .tune_clock() - start
  }
  time <- 1e6 * stats::median(each)
  c(cost = time, time = time)
}

.tune_flood <- function(payload, count) {
  start <- .tune_clock()
  tasks <- lapply(seq_len(count), function(i) mirai(.tune_task, x = payload, .compute = .tune_profile))
  collect_mirai(tasks)
  1e6 * (.tune_clock() - start) / count
}

.tune_throughput <- function(payload, count) {
  .tune_flood(payload, max(4L, count %/% 20L))
  time <- .tune_flood(payload, count)
  c(cost = time, time = time)
}

# Memory of the session and its daemons, with each shared page counted once, behind a flood.
.tune_memory <- function(payload, count) {
  time <- .tune_flood(payload, count)
  gc(FALSE)
  pids <- c(Sys.getpid(), nextget("pids", .tune_profile))
  c(cost = sum(vapply(pids, .tune_resident, 0)) / 1024, time = time)
}

# KB. Where the kernel does not tell shares, all that is resident.
.tune_resident <- function(pid) {
  lines <- .tune_lines(file.path("/proc", pid, "smaps_rollup"))
  found <- grep("^Pss:", lines, value = TRUE)
  if (!length(found)) found <- grep("^VmRSS:", .tune_lines(file.path("/proc", pid, "status")), value = TRUE)
  if (length(found)) as.numeric(gsub("[^0-9]", "", found[1L])) else 0
}

.tune_lines <- function(path) suppressWarnings(tryCatch(readLines(path), error = function(e) character()))

# CPU time of tasks that come now and then, and of doing nothing: most of a computer's day. Where the processor counts energy
# and lets us read it, energy.
.tune_power <- function(payload, count, scale) {
  for (i in seq_len(8L)) .tune_trip(payload)
  pids <- c(Sys.getpid(), nextget("pids", .tune_profile))
  start <- .tune_clock()
  before <- .tune_used(pids)
  for (i in seq_len(count)) {
    .tune_trip(payload)
    msleep(1)
  }
  msleep(300 * scale)
  used <- .tune_used(pids) - before
  c(cost = used / count, time = 1e6 * (.tune_clock() - start) / count)
}

.tune_rapl <- function() {
  files <- Sys.glob("/sys/class/powercap/intel-rapl:[0-9]*/energy_uj")
  files[!grepl(":[0-9]+:[0-9]", files) & file.access(files, 4L) == 0L]
}

# Microjoules if they can be had, else microseconds of CPU time.
.tune_used <- function(pids) {
  energy <- .tune_rapl()
  if (length(energy)) return(sum(as.numeric(vapply(energy, function(file) .tune_lines(file)[1L], ""))))
  sum(vapply(pids, .tune_cpu, 0))
}

# Microseconds, of all threads; without the scheduler's statistics in ticks of the clock.
.tune_cpu <- function(pid) {
  files <- Sys.glob(file.path("/proc", pid, "task", "*", "schedstat"))
  ns <- vapply(files, function(file) as.numeric(strsplit(c(.tune_lines(file), "0")[1L], " ")[[1L]][1L]), 0)
  if (length(ns) && sum(ns) > 0) return(sum(ns) / 1000)
  stat <- .tune_lines(file.path("/proc", pid, "stat"))
  if (!length(stat)) return(0)
  fields <- strsplit(sub("^.*\\) ", "", stat[1L]), " ")[[1L]]
  sum(as.numeric(fields[12:13])) * 1e6 / 100
}

# ---- a sample in a session of its own: for knobs that are settled when a session begins ----

.tune_sample_apart <- function(goal, work, config, scale) {
  files <- tempfile(c("task", "answer"), fileext = ".rds")
  on.exit(unlink(files))
  saveRDS(list(goal = goal, work = work, config = config, scale = scale), files[1L])
  code <- sprintf("setsuna:::.tune_apart(%s, %s)", deparse(files[1L]), deparse(files[2L]))
  said <- suppressWarnings(system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), stdout = TRUE, stderr = TRUE,
                                   env = c(paste0("R_LIBS=", shQuote(paste(.libPaths(), collapse = ":"))), "SETSUNA_CONFIG=",
                                           "SETSUNA_REACTOR=")))
  if (!file.exists(files[2L])) stop(paste(c("a session of its own failed", utils::tail(said, 3L)), collapse = ": "), call. = FALSE)
  readRDS(files[2L])
}

.tune_apart <- function(task, answer) {
  given <- readRDS(task)
  sample <- .tune_sample(given$goal, given$work, given$config, given$scale)
  saveRDS(sample, answer)
}
