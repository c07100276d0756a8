# Launching by a real ssh: an sshd of the test's own, on loopback, and in a network namespace for tunnels.

test_that("daemons come by ssh from several machines, run tasks and end with a reset", {
  one <- start_sshd()
  rscript <- other_rscript()
  withr::defer(daemons(0))
  config <- ssh_config(rep(one$remote, 2), command = one$command, rscript = rscript)
  expect_equal(daemons(n = 3, url = local_url(), remote = config), 3L)
  connected(3)
  expect_identical(sort(mirai_map(1:6, function(i) i^2)[.flat]), (1:6)^2)
  launches <- status()$launches
  expect_identical(launches$state, "running") # one connection, for one machine
  expect_identical(launches$id, one$remote)
  pids <- status()$pids
  daemons(0)
  expect_true(becomes_true(function() !any(vapply(pids, exists_process, NA))))
})

test_that("daemons that dial by tcp come by ssh", {
  one <- start_sshd()
  withr::defer(daemons(0))
  daemons(n = 2, url = "tcp://127.0.0.1:0", remote = ssh_config(one$remote, command = one$command, rscript = other_rscript()))
  connected(2)
  expect_token_hidden()
  expect_identical(mirai_map(1:6, function(i) i^2)[.flat], (1:6)^2)
  expect_true(all(vapply(1:4, function(i) mirai(Sys.getenv("SSH_CONNECTION"))[] != "", NA)))
  daemons(url = "tcp://127.0.0.1:0", remote = ssh_config(rep(one$remote, 3), command = one$command, rscript = other_rscript()))
  connected(3)
  launch_remote(1, ssh_config(one$remote, command = one$command, rscript = other_rscript()), maxtasks = 1)
  connected(4)
})

test_that("a certificate comes by ssh, to daemons that trust it alone", {
  one <- start_sshd()
  withr::defer(daemons(0))
  config <- ssh_config(one$remote, command = one$command, rscript = other_rscript())
  for (url in c("tls+tcp://127.0.0.1:0", host_url(ws = TRUE, tls = TRUE))) {
    daemons(n = 2, url = url, remote = config, maxtasks = 100)
    connected(2)
    expect_token_hidden()
    expect_identical(mirai_map(1:6, function(i) i^2)[.flat], (1:6)^2)
  }
})

test_that("quoting survives ssh", {
  withr::defer(.jobs_cancel("fake"))
  one <- start_sshd()
  out <- file.path(withr::local_tempdir(), c("1", "2"))
  programs <- vapply(out, function(file) recording(.daemon_program_text(.r_code("tcp://h:1"), nasty_arguments()), file), "")
  config <- ssh_config(one$remote, command = one$command, rscript = other_rscript())
  .launch_by_ssh(config, rep("tcp://h:1", 2), programs, "fake", FALSE)
  for (file in out) expect_nasty(wait_for_rds(file), "tcp://h:1")
  # And a printed command, given to ssh as one argument by a configuration of one's own.
  unlink(out)
  words <- c("-F", shQuote(one$command[3L]), .parse_ssh_url(one$remote), ".")
  .launch_by_command(remote_config("ssh", words, rscript = other_rscript(), quote = TRUE), programs[1L], "fake", FALSE)
  expect_nasty(wait_for_rds(out[1L]), "tcp://h:1")
})

test_that("what ssh says is in the status of a launch that fails", {
  one <- start_sshd()
  withr::defer(daemons(0))
  failure <- function(config, ...) {
    daemons(url = local_url(), remote = config, ...)
    expect_true(becomes_true(function() status()$launches$state == "failed"))
    status()$launches$why
  }
  expect_match(failure(ssh_config("ssh://127.0.0.1:1", command = one$command)), "exit status 255: .*onnection refused")
  stranger <- sub("ssh://.*@", "ssh://nobody@", one$remote)
  expect_match(failure(ssh_config(stranger, command = one$command)), "exit status 255: .*Permission denied")
  unknown <- ssh_config(one$remote, command = c("ssh", "-F", "none"))
  expect_match(failure(unknown), "exit status 255: .*(verification failed|denied)")
  absent <- ssh_config(one$remote, command = one$command, rscript = "/no/Rscript")
  expect_match(failure(absent), "exit status 127: .*/no/Rscript")
})

test_that("a tunnel carries daemons of a machine that cannot reach this one", {
  other <- local_namespace()
  one <- start_sshd(other$address, other$inside)
  withr::defer(daemons(0))
  config <- ssh_config(rep(one$remote, 2), tunnel = TRUE, command = one$command, rscript = other_rscript())
  expect_equal(daemons(url = sprintf("tcp://127.0.0.1:%d", free_port()), remote = config), 1L)
  connected(2)
  expect_true(all(unlist(on_each(2, function() Sys.readlink("/proc/self/ns/net"))) != Sys.readlink("/proc/self/ns/net")))
  expect_identical(mirai(sum(x), x = as.double(1:1e6))[], sum(as.double(1:1e6)))
  # A later one goes through the tunnel that is there.
  launch_remote(1, config)
  connected(3)
  # Each of a profile's ports has its tunnel.
  repeat {
    port <- free_port()
    if (!inherits(try(close(serverSocket(port + 1L)), silent = TRUE), "try-error")) break
  }
  daemons(n = 2, url = sprintf("tcp://localhost:%d", port), remote = config)
  connected(2)
  expect_identical(mirai_map(1:4, function(i) i)[.flat], 1:4)
})
