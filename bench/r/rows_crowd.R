# Daemons that are connected and have nothing to do, a thousand of them, simulated by one native program that speaks the
# protocol.

crowd_size <- 1000L

crowd_script <- function(program, wait_s) c(
  "suppressMessages(library(setsuna))",
  "now <- function() as.numeric(unclass(Sys.time()))",
  "private_kb <- function() as.numeric(sub('[^0-9]*([0-9]+).*', '\\\\1', grep('^Pss_Anon', readLines('/proc/self/smaps_rollup'), value = TRUE)))",
  "ms <- function(lines) sum(as.numeric(sub(' .*', '', lines))) / 1e6",
  "invisible(daemons(url = 'tcp://127.0.0.1:0'))",
  "token <- sub(\".*token='([0-9a-f]+)'.*\", '\\\\1', launch_remote(status()$url[1L]))",
  "for (i in 1:20) status()", "invisible(gc()); before <- private_kb()",
  sprintf("system(paste('echo', token, '| %s', status()$url[1L], '%d > /dev/null'), wait = FALSE)", program, crowd_size),
  sprintf("while (info()[['connections']] < %d) msleep(50)", crowd_size),
  sprintf("msleep(1000); invisible(gc()); each <- (private_kb() - before) / %d", crowd_size),
  # Another process looks, before and after: by looking this one would use time itself.
  "look <- paste0('cat /proc/', Sys.getpid(), '/task/*/schedstat')",
  sprintf("seen <- system(sprintf('a=$(%%s); sleep %g; b=$(%%s); echo \"$a\"; echo -; echo \"$b\"', look, look), intern = TRUE)", wait_s),
  "cut <- which(seen == '-')",
  sprintf("used <- (ms(seen[-seq_len(cut)]) - ms(seen[seq_len(cut - 1L)])) / %g", wait_s),
  "took <- vapply(1:50, function(i) { start <- now(); status(); now() - start }, 0)",
  "invisible(daemons(0))", "cat('\\n', each, ' ', used, ' ', median(took) * 1e3, sep = '')"
)

add_row("crowd", 14, function(budget) {
  program <- file.path(dirname(build_folder()), "tests", "embed", "idle_daemons_main")
  if (!file.exists(program)) stop("idle_daemons_main is not built (tools/setup builds it)")
  script <- crowd_script(program, max(1, min(10, budget / 3 - 2)))
  take_turns(list(setsuna = function(slice) in_session(script)), budget, function(name, value, turn) {
    workload <- "1000 connected daemons that do nothing; tcp"
    emit("crowd_memory", name, value[1L] * 1e3, "bytes", "lower", workload, sample = turn)
    emit("crowd_cpu", name, round(value[2L], 1), "ms of CPU a second", "lower", workload, sample = turn)
    emit("crowd_status", name, value[3L], "ms", "lower", workload, sample = turn)
  })
}, fixed = 4)
