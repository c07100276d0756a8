# Commands of launch_remote(), pasted: given to shells as they were printed.

for (scheme in c("tcp", "wss")) test_that(paste("printed commands make daemons, over", scheme), {
  withr::defer(daemons(0))
  daemons(n = 2, url = host_url(ws = scheme == "wss", tls = scheme == "wss"), walltime = 600000)
  printed <- capture.output(print(launch_remote(2, remote_config(rscript = other_rscript()))))
  expect_identical(printed[1L], "[1]")
  second <- which(printed == "[2]")
  expect_identical(printed[c(second - 1L, length(printed))], c("", ""))
  expect_match(paste(printed, collapse = " "), paste0(scheme, "://", Sys.info()[["nodename"]]), fixed = TRUE)
  commands <- list(printed[2:(second - 2L)], printed[(second + 1L):(length(printed) - 1L)])
  for (command in commands) {
    script <- withr::local_tempfile(lines = command)
    system2("sh", c("-s", "<", script), stdout = FALSE, stderr = FALSE, wait = FALSE)
  }
  connected(2)
  expect_identical(mirai_map(1:10, function(i) i)[.flat], 1:10)
  # Both URLs have their daemon.
  expect_error(launch_remote(1), "'n' is 1, but 0 of the profile's 2 URLs are without a daemon")
  # daemon() has wiped the token from its command line.
  expect_token_hidden()
})
