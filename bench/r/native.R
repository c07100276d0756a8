# Google Benchmark's programs, and single numbers out of them.

build_folder <- function() file.path(Sys.getenv("SETSUNA_BUILD", file.path(root, "build")), "release", "bench")

# The queues first, the memory last: its benchmarks set their own, long times.
native_programs <- function() {
  found <- list.files(build_folder(), "_bench$")
  first <- c("queue_bench", "peer_queue_bench", "ping_pong_bench", "copy_bench", "tcp_bench", "connection_bench", "codec_bench")
  c(intersect(first, found), setdiff(found, first))
}

# As JSON: the CSV of a program whose benchmarks count different things ends at the first difference.
native_table <- function(program, filter = ".", min_time = 0.1, limit = 120, env = character()) {
  path <- file.path(build_folder(), program)
  if (!file.exists(path)) stop(program, " is not built (tools/setup builds it)")
  text <- suppressWarnings(system2("timeout", c(ceiling(limit), shQuote(path), shQuote(paste0("--benchmark_filter=", filter)),
    "--benchmark_format=json", paste0("--benchmark_min_time=", min_time)), stdout = TRUE, stderr = FALSE, env = env))
  status <- attr(text, "status")
  if (identical(status, 124L)) stop(program, " did not end in the ", ceiling(limit), " s that were left for it")
  if (length(status)) stop(program, " ended with status ", status)
  table <- if (any(startsWith(text, "{"))) jsonlite::fromJSON(text)$benchmarks # without a benchmark it prints none
  if (!is.data.frame(table)) stop(program, " printed no results")
  if (is.null(table$error_occurred)) table else table[!table$error_occurred %in% TRUE, , drop = FALSE]
}

native <- function(program, benchmark, field = "real_time", min_time = 0.2, env = character()) {
  table <- native_table(program, paste0("^", benchmark, "($|/)"), min_time, env = env)
  if (!nrow(table)) stop(benchmark, " is not in ", program)
  # Time units differ from one benchmark to the next: always nanoseconds here.
  scale <- if (field == "real_time") c(ns = 1, us = 1e3, ms = 1e6, s = 1e9)[[table$time_unit[1L]]] else 1
  table[[field]][1L] * scale
}

has_native <- function(program, benchmark) {
  path <- file.path(build_folder(), program)
  file.exists(path) && benchmark %in%
    sub("/.*", "", suppressWarnings(system2(path, "--benchmark_list_tests=true", stdout = TRUE, stderr = FALSE)))
}

# The other libraries on the C++ side: which benchmark shows that it was there when the programs were built.
native_peers <- list(
  list(name = "libnng", program = "tcp_bench", benchmark = "nng_ping_pong"),
  list(name = "libzmq", program = "tcp_bench", benchmark = "zmq_ping_pong"),
  list(name = "boost.lockfree", program = "peer_queue_bench", benchmark = "boost_pair"),
  list(name = "moodycamel", program = "peer_queue_bench", benchmark = "moodycamel_pair")
)

# Which side a benchmark measures; everything not named here is setsuna's own.
native_system <- function(name) {
  known <- c("^nng_" = "libnng", "^zmq_" = "libzmq", "^boost_" = "boost.lockfree", "^moodycamel_" = "moodycamel",
             "^plain_" = "plain Vyukov queue", "malloc" = "malloc", "^memcpy" = "memcpy", "^(tcp_|blocking_)" = "raw TCP",
             "^futex_" = "futex ping-pong", "^serialize|_r_serialize|^r_" = "R serialize()")
  hit <- vapply(names(known), grepl, NA, x = name)
  if (any(hit)) known[[which(hit)[1L]]] else "setsuna"
}

add_row("native", 120, function(budget) {
  for (peer in native_peers) {
    if (!has_native(peer$program, peer$benchmark)) leave_out(peer$name, "was not there when the C++ benchmarks were built")
  }
  programs <- native_programs()
  if (!length(programs)) {
    leave_out("the C++ benchmarks", paste("not built in", build_folder(), "- tools/setup builds them"))
    return(invisible())
  }
  lists <- lapply(file.path(build_folder(), programs), system2, "--benchmark_list_tests=true", stdout = TRUE, stderr = FALSE)
  # A benchmark costs a few times its minimum time, finding the number of iterations included.
  rounds <- if (budget > 60) 9L else if (budget > 30) 5L else if (budget > 8) 3L else 1L
  min_time <- max(0.001, min(0.1, budget / (6 * rounds * sum(lengths(lists)))))
  tables <- native_rounds(programs, rounds, min_time, now() + 0.9 * budget)
  for (program in names(tables)) emit_native(program, tables[[program]])
}, fixed = 4)

# All programs in turn, and again: what disturbs the machine for a while does not fall on one alone. A list of tables.
native_rounds <- function(programs, rounds, min_time, until) {
  tables <- list()
  took <- list()
  for (round in seq_len(rounds)) {
    for (program in programs) {
      if (round > 1L && (is.null(tables[[program]]) || now() + took[[program]] > until)) next
      started <- now()
      table <- tryCatch(native_table(program, min_time = min_time, limit = max(5, until - now())), error = identity)
      took[[program]] <- now() - started
      if (is.data.frame(table)) {
        tables[[program]] <- rbind(tables[[program]], native_times(table))
      } else if (round == 1L) {
        leave_out(program, conditionMessage(table))
      }
    }
  }
  tables
}

# Nanoseconds of an iteration; where one handles several items, of an item.
native_times <- function(table) {
  time <- table$real_time * c(ns = 1, us = 1e3, ms = 1e6, s = 1e9)[table$time_unit]
  rate <- if (is.null(table$items_per_second)) rep(NA_real_, nrow(table)) else table$items_per_second
  data.frame(name = table$name, time = ifelse(is.na(rate), time, 1e9 / rate))
}

emit_native <- function(program, table) {
  for (name in unique(table$name)) {
    time <- table$time[table$name == name]
    emit("native", native_system(name), time, "ns", "lower",
         workload = paste0(sub("_bench$", "", program), ": ", sub("/real_time$", "", name)))
    if (startsWith(name, "noop_dispatch")) {
      emit("noop", "setsuna", 1e9 / time, "tasks/s", "higher", "no-op dispatch without R; window 256")
    }
  }
}
