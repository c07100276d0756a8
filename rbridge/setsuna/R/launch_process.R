# Programs that launch daemons, in the background.

# Runs a shell command whose standard input is `input`. With `output` it writes to this session's output, else what it says
# is kept (the beginning of it) to explain a failure.
.start_launcher <- function(name, label, line, input, output) {
  folder <- tempfile("launch-")
  dir.create(folder, mode = "700")
  script <- file.path(folder, "input")
  cat(input, "\n", file = script, sep = "")
  status <- shQuote(file.path(folder, "status"), "sh")
  # The input goes as soon as it is open. The status appears whole, under its name, or not at all.
  run <- sprintf("exec < %1$s; rm -f %1$s; { %2$s\n}; echo $? > %3$s.part; mv %3$s.part %3$s", shQuote(script, "sh"), line,
                 status)
  if (!output)
    run <- sprintf("exec > /dev/null 2>&1; { %s; } 2>&1 | { head -c 65536 > %s; cat > /dev/null; }", run,
                   shQuote(file.path(folder, "log"), "sh"))
  # A session of its own: Ctrl-C in the terminal is not for it.
  system2("setsid", c("sh", "-c", shQuote(run, "sh")), wait = FALSE)
  .add_job(name, list(kind = "process", id = label, folder = folder))
}

.process_state <- function(job) {
  code <- suppressWarnings(tryCatch(readLines(file.path(job$folder, "status"))[1L], error = function(e) NULL))
  if (is.null(code)) return(data.frame(id = job$id, state = "running", why = ""))
  if (identical(code, "0")) return(data.frame(id = job$id, state = "ended", why = ""))
  log <- suppressWarnings(tryCatch(readLines(file.path(job$folder, "log"), warn = FALSE), error = function(e) character()))
  log <- log[nzchar(trimws(log))]
  last <- if (length(log)) paste0(": ", paste(log[seq_along(log) > length(log) - 2L], collapse = " ")) else ""
  data.frame(id = job$id, state = "failed", why = paste0("exit status ", code, last))
}
