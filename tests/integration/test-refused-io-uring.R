# Host and daemons where io_uring is refused to them, as in a container.

test_that("everything works on epoll, and the status says why", {
  build <- Sys.getenv("SETSUNA_BUILD", file.path("..", "..", "build"))
  launcher <- file.path(build, "release", "tests", "net", "without_io_uring_main")
  if (!file.exists(launcher)) skip(paste0("needs ", launcher, " (tools/setup builds it)"))
  launcher <- normalizePath(launcher)
  if (system2(launcher, "true") == 77L) skip("the kernel takes no seccomp filter")
  program <- withr::local_tempfile(fileext = ".R")
  answer <- withr::local_tempfile()
  writeLines(deparse(bquote({
    .libPaths(.(.libPaths()))
    library(setsuna)
    daemons(url = "tls+tcp://127.0.0.1:0")
    launch_local(1)
    command <- launch_remote(1L)
    system(paste0("R_LIBS=", shQuote(paste(.libPaths(), collapse = ":")), " ", command, " > /dev/null 2>&1 &"))
    everywhere({}, .min = 2)[]
    x <- as.double(1:1e6)
    values <- mirai_map(1:100, function(i, x) x[i], .args = list(x = x))[.flat]
    backend <- status()$backend
    daemons(0)
    saveRDS(list(values, backend), .(answer))
  })), program)
  no_hang(system2(launcher, c(shQuote(real_rscript()), shQuote(program)), stdout = FALSE, stderr = FALSE))
  said <- readRDS(answer)
  expect_identical(said[[1L]], as.double(1:100))
  expect_match(said[[2L]], "^epoll \\(io_uring_setup: ")
})
