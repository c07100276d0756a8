# A profile's record as launches see it, without a profile.
fake_record <- function(urls = "tcp://host:5555", single = length(urls) == 1L, connected = rep(FALSE, length(urls)),
                        token = NULL, tls = NULL, daemon = list(), name = "fake")
  list(name = name, urls = urls, single = single, connected = connected, token = token, tls = tls, daemon = daemon)

# The daemon's program with the call of daemon() replaced by one that writes its arguments to a file.
recording <- function(program, file)
  sub("setsuna::daemon(", sprintf("(function(...) saveRDS(list(...), '%s'))(", file), program, fixed = TRUE)

nasty_values <- c(
  "it's \"quoted\" $HOME `id` $(id) \\ \\n \\\\ !! !1 ~ ~n~ ~+~ %s {a,b} * ; & | <x> # \t end",
  "-----BEGIN CERTIFICATE-----\nMIIB+/abc=\n\n  two  spaces\n-----END CERTIFICATE-----\n",
  "\u00e9\u65e5\u672c\U0001f600"
)

nasty_arguments <- function() list(
  token = nasty_values[1L], tls = nasty_values[2L], rs = c(10407L, NA, -1L, 100000L, 5L, 6L, 7L), maxtasks = 1e5,
  walltime = Inf, autoexit = NA, output = TRUE, tlscert = nasty_values
)

# What nasty_arguments() are when they have been through the text: whole numbers are doubles.
expect_nasty <- function(got, url) {
  want <- c(list(url), nasty_arguments())
  want$rs <- as.double(want$rs)
  expect_identical(got, want)
}

# A script in a folder with spaces and a quote in its path.
awkward_program <- function(lines, name = "Rscript", folder = withr::local_tempdir("it's a folder ", .local_envir = frame),
                            frame = parent.frame()) {
  path <- file.path(folder, name)
  writeLines(c("#!/bin/sh", lines), path)
  Sys.chmod(path, "755")
  path
}

real_rscript <- function() file.path(R.home("bin"), "Rscript")

wait_for_file <- function(path, seconds = 60) {
  end <- Sys.time() + seconds
  while (!file.exists(path) && Sys.time() < end) Sys.sleep(0.02)
  file.exists(path)
}

# readRDS() of a file that another process is about to write.
wait_for_rds <- function(path, seconds = 60) {
  end <- Sys.time() + seconds
  repeat {
    value <- suppressWarnings(tryCatch(list(readRDS(path)), error = function(e) NULL))
    if (!is.null(value)) return(value[[1L]])
    if (Sys.time() > end) stop("nothing was written to ", path)
    Sys.sleep(0.02)
  }
}
