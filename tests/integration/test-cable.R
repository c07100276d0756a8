# A daemon in a network namespace of its own, behind a line whose cable is pulled, or that delays and loses packets.

# A listener here and one daemon there.
over_the_line <- function(other, ..., frame = parent.frame()) {
  daemons(url = sprintf("tcp://%s:0", other$here))
  withr::defer(daemons(0), envir = frame)
  libraries <- shQuote(paste(.libPaths(), collapse = ":"))
  command <- launch_remote(1L, ...)[1L]
  system(paste(paste0("R_LIBS=", libraries), "exec", paste(other$inside, collapse = " "), command, "> /dev/null 2>&1"), wait = FALSE)
  pid <- no_hang(mirai(Sys.getpid())[])
  withr::defer(tools::pskill(pid, tools::SIGKILL), envir = frame)
  pid
}

test_that("when the cable is pulled the task is lost in time, and both ends give up", {
  other <- local_namespace()
  pid <- over_the_line(other)
  file <- withr::local_tempfile()
  m <- mirai({
    file.create(file)
    Sys.sleep(1000)
  }, file = file)
  expect_true(becomes_true(function() file.exists(file)))
  run_quietly(other$inside[1L], c("-n", other$inside[4L], "link", "set", "eth0", "down"))
  took <- system.time(value <- no_hang(m[], 90))[["elapsed"]]
  expect_identical(as.integer(value), 19L)
  expect_lt(took, 45) # 35 s are promised
  expect_identical(info()[["connections"]], 0L)
  expect_true(becomes_true(function() !exists_process(pid), 60)) # by the kernel's keep-alive
})

test_that("over a line that delays and loses packets everything arrives", {
  other <- local_namespace()
  tc <- program_of("tc", "iproute2")
  added <- suppressWarnings(system2(tc, c("-n", other$inside[4L], "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "50ms",
                                          "loss", "5%"), stdout = FALSE, stderr = FALSE))
  if (added != 0L) skip("needs a kernel with netem (CONFIG_NET_SCH_NETEM): 'tc qdisc add' is refused here")
  over_the_line(other)
  x <- runif(1e5)
  expect_identical(collect(lapply(1:20, function(i) mirai(x + i, x = x, i = i))), lapply(1:20, function(i) x + i))
})
