# What the tests of `setsuna top`, `setsuna status` and `setsuna metrics` share.

setsuna_program <- function() system.file("bin", "setsuna", package = "setsuna", mustWork = TRUE)

# list(status, out, err) of a command of `setsuna`; `before`: words before it.
run_setsuna <- function(..., before = character()) {
  files <- c(tempfile(), tempfile())
  words <- c(before, setsuna_program(), ...)
  status <- suppressWarnings(system2(words[1L], shQuote(words[-1L]), stdout = files[1L], stderr = files[2L]))
  read <- function(file) readLines(file, warn = FALSE)
  list(status = status, out = read(files[1L]), err = paste(read(files[2L]), collapse = "\n"))
}

# The facts of one session as `setsuna status --json` has them; NULL: it is not there.
status_json <- function(pid) {
  answer <- run_setsuna("status", "--json", pid)
  if (answer$status == 0L) jsonlite::fromJSON(answer$out, simplifyVector = FALSE)$hosts[[1L]]
}

# Runs a command as another user; skips where that cannot be.
as_nobody <- function() {
  testthat::skip_if_not(Sys.info()[["effective_user"]] == "root", "being another user takes root")
  testthat::skip_if(!nzchar(Sys.which("setpriv")), "needs setpriv (Debian package util-linux)")
  c("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
}

# A terminal in which a shell runs `command`. Ends with the test.
start_terminal <- function(command, rows = 24L, columns = 80L, frame = parent.frame()) {
  program_of("tmux", "tmux")
  server <- paste0("setsuna-", Sys.getpid(), "-", sample.int(1e6, 1L))
  tmux <- function(...) suppressWarnings(system2("tmux", shQuote(c("-L", server, "-f", "/dev/null", ...)), stdout = TRUE,
                                                 stderr = TRUE))
  withr::defer(tmux("kill-server"), envir = frame)
  tmux("new-session", "-d", "-x", columns, "-y", rows, "env LC_ALL=C.UTF-8 PS1='$ ' sh")
  tmux("send-keys", "-l", command)
  tmux("send-keys", "Enter")
  screen <- function() tmux("capture-pane", "-p")
  list(
    screen = screen,
    keys = function(...) invisible(tmux("send-keys", ...)),
    resize = function(columns, rows) invisible(tmux("resize-window", "-x", columns, "-y", rows)),
    shows = function(pattern) testthat::expect_true(
      becomes_true(function() any(grepl(pattern, screen(), perl = TRUE))),
      label = paste0("a screen with '", pattern, "', which has\n", paste(screen(), collapse = "\n"), "\n; that")),
    lacks = function(pattern) testthat::expect_true(
      becomes_true(function() !any(grepl(pattern, screen(), perl = TRUE))),
      label = paste0("a screen without '", pattern, "', which has\n", paste(screen(), collapse = "\n"), "\n; that"))
  )
}

# The process of `setsuna top` that watches `pid`.
top_process <- function(pid) {
  found <- suppressWarnings(system2("pgrep", c("-f", shQuote(paste0("setsuna top ", pid, "$"))), stdout = TRUE))
  found <- Filter(function(p) grepl("setsuna-top$", Sys.readlink(file.path("/proc", p, "exe"))), found)
  as.integer(found)
}

# The text format 0.0.4: a matrix of metric names and values; fails where a line is not of it.
parse_metrics <- function(lines) {
  label <- "[a-zA-Z_][a-zA-Z0-9_]*=\"([^\"\\\\]|\\\\[\\\\\"n])*\""
  sample <- sprintf("^([a-zA-Z_:][a-zA-Z0-9_:]*)(\\{%s(,%s)*\\})? ([-+0-9.eE]+|NaN|[-+]Inf)$", label, label)
  comment <- "^# (HELP|TYPE) [a-zA-Z_:][a-zA-Z0-9_:]* .+$"
  testthat::expect_match(lines, paste0(sample, "|", comment))
  samples <- lines[!startsWith(lines, "#")]
  types <- sub("^# TYPE (\\S+) .*", "\\1", grep("^# TYPE", lines, value = TRUE))
  testthat::expect_false(anyDuplicated(types) > 0L)
  series <- sub(" [^ ]+$", "", samples)
  testthat::expect_false(anyDuplicated(series) > 0L)
  stats::setNames(as.numeric(sub(".* ", "", samples)), series)
}
