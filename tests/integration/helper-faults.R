# What the package's own fault tests use.
source(file.path("..", "..", "rbridge", "setsuna", "tests", "testthat", "helper-faults.R"), local = TRUE)

# A session that stays: `code` in a fresh Rscript whose input and output are ours. A list of functions.
start_session <- function(code, ..., before = ":", env = character()) {
  folder <- tempfile("session-")
  dir.create(folder)
  script <- file.path(folder, "script.R")
  saveRDS(list(...), file.path(folder, "data.rds"))
  writeLines(c(
    sprintf("list2env(readRDS(%s), globalenv())", deparse(file.path(folder, "data.rds"))),
    sprintf(".libPaths(%s)", paste(deparse(.libPaths()), collapse = "")),
    "library(setsuna)",
    sprintf("report <- function(...) { saveRDS(list(...), %1$s); file.rename(%1$s, sub(\"[.]part$\", \"\", %1$s)) }",
            deparse(file.path(folder, "report.rds.part"))),
    paste(deparse(code), collapse = "\n")
  ), script)
  pid_file <- file.path(folder, "pid")
  command <- sprintf("%s; echo $$ > %s; %s exec %s %s > %s 2>&1 < /dev/null", before, shQuote(pid_file),
                     paste(env, collapse = " "), shQuote(file.path(R.home("bin"), "Rscript")), shQuote(script),
                     shQuote(file.path(folder, "output")))
  # A process group and session of its own, as a terminal gives it; and SIGINT is not ignored, as it is behind `&`.
  system2("setsid", c("bash", "-c", shQuote(paste("trap - INT;", command))), wait = FALSE)
  pid <- pid_in(pid_file)
  report <- file.path(folder, "report.rds")
  list(
    pid = pid,
    # What the session has passed to report(), once.
    report = function(seconds = 60) {
      if (!becomes_true(function() file.exists(report) || !exists_process(pid), seconds) || !file.exists(report))
        stop("the session reported nothing: ", paste(readLines(file.path(folder, "output"), warn = FALSE), collapse = "\n"))
      value <- readRDS(report)
      file.remove(report)
      value
    },
    output = function() readLines(file.path(folder, "output"), warn = FALSE),
    kill = function(signal = tools::SIGKILL) tools::pskill(pid, signal)
  )
}

# Everything that descends from a process, by pid.
descendants <- function(pid) {
  all <- processes()
  found <- integer()
  new <- pid
  while (length(new)) {
    new <- setdiff(all$pid[all$parent %in% new], found)
    found <- c(found, new)
  }
  found
}

# Processes that hold a file open whose name matches.
holders <- function(pattern) {
  pids <- list.files("/proc", "^[0-9]+$")
  holds <- vapply(pids, function(pid) {
    links <- suppressWarnings(Sys.readlink(list.files(file.path("/proc", pid, "fd"), full.names = TRUE)))
    any(grepl(pattern, links))
  }, NA)
  as.integer(pids[holds])
}
