# Launching on other machines: configurations, commands and their quoting. No other machine is needed.

test_that("configurations are plain lists", {
  expect_identical(remote_config(),
                   list(type = "command", command = NULL, args = c("", "."), rscript = "Rscript", quote = FALSE))
  config <- ssh_config(c("ssh://me@node1:222", "ssh://node2"), tunnel = TRUE, timeout = 3)
  expect_identical(config[c("remotes", "tunnel", "timeout", "command")],
                   list(remotes = c("ssh://me@node1:222", "ssh://node2"), tunnel = TRUE, timeout = 3, command = "ssh"))
  expect_identical(cluster_config()$command, "sbatch")
  expect_identical(cluster_config("/opt/pbs/bin/qsub")$command, "/opt/pbs/bin/qsub")
  expect_identical(http_config("https://a.example/b")$method, "POST")
  for (one in list(remote_config(), config, cluster_config(), http_config("https://a"))) expect_null(oldClass(one))
})

test_that("bad configurations are errors that name the argument", {
  expect_error(remote_config(command = 1), "'command' must be one string, not 1")
  expect_error(remote_config(args = list()), "'args' must be text")
  expect_error(remote_config(args = list("a", 2)), "'args' must be text.*not 2")
  expect_error(remote_config(rscript = ""), "'rscript' must be one string")
  expect_error(remote_config(quote = NA), "'quote' must be TRUE or FALSE, not NA")
  expect_error(ssh_config(), "'remotes' must be text")
  expect_error(ssh_config(NULL), "'remotes' must be text of the form .*, not NULL")
  for (bad in c("node1", "http://node1", "ssh://", "ssh://-oProxyCommand=x", "ssh://-x@host", "ssh://a b", "ssh://h:0",
                "ssh://h:99999", "ssh://h:22/path", "ssh://[::1", "ssh://u@@h", "ssh://h;id"))
    expect_error(ssh_config(bad), "'remotes' has ", info = bad)
  expect_error(ssh_config("ssh://a", timeout = 0), "'timeout' must be one number of seconds of at least 1, not 0")
  expect_error(ssh_config("ssh://a", tunnel = "yes"), "'tunnel' must be TRUE or FALSE, not the text \"yes\"")
  expect_error(ssh_config("ssh://a", command = ""), "'command' must be the program ssh")
  expect_error(cluster_config("srun"),
               "'command' must be one of \"sbatch\", \"qsub\", \"bsub\", or a path to it, not the text \"srun\"")
  expect_error(cluster_config(options = 1), "'options' must be text, not 1")
  expect_error(http_config(), "'url' is missing")
  expect_error(http_config("ftp://x"), "'url' is \"ftp://x\": it must begin with https://")
  expect_error(http_config("https://x", headers = "a"), "'headers' must be a named character vector or a function")
  expect_error(http_config("https://x", token = "a\nb"), "'token' must not have a line break")
  expect_error(http_config("https://x", "POST", NULL, NULL, 3), "all ... arguments must be named")
})

test_that("words of ssh's command line", {
  expect_identical(.parse_ssh_url("ssh://me@10.75.32.90:222"), c("-p", "222", "--", "me@10.75.32.90"))
  expect_identical(.parse_ssh_url("ssh://node-1.example.org/"), c("--", "node-1.example.org"))
  expect_identical(.parse_ssh_url("ssh://[fe80::1%eth0]:22"), c("-p", "22", "--", "fe80::1%eth0"))
  forward <- .tunnel_options(c("tcp://localhost:5555", "tcp://localhost:5556", "ws://127.0.0.1:80/1", "ws://127.0.0.1:80/2"))
  expect_identical(forward[1:6], c("-R", "localhost:5555:localhost:5555", "-R", "localhost:5556:localhost:5556", "-R",
                                   "127.0.0.1:80:127.0.0.1:80"))
  for (url in c("tcp://myhost:5555", "abstract://x", "tcp://localhost.example:1", "tcp://127.0.0.2:1"))
    expect_error(.tunnel_options(url), "'tunnel' needs a URL at localhost or 127.0.0.1")
  tunnelled <- ssh_config("ssh://a", tunnel = TRUE)
  expect_error(.launch_for(fake_record("tcp://myhost:5555"), NULL, tunnelled), "this profile's is \"tcp://myhost:5555\"")
})

test_that("commands are printed ready to be pasted", {
  commands <- .launch_for(fake_record(c("tcp://host:5555", "tcp://host:5556"), token = "00ff"), 2, remote_config())
  expect_s3_class(commands, "miraiLaunchCmd")
  expect_identical(capture.output(print(commands)), c(
    "[1]", "Rscript -e \"setsuna::daemon('tcp://host:5555', token='00ff')\"", "",
    "[2]", "Rscript -e \"setsuna::daemon('tcp://host:5556', token='00ff')\"", ""
  ))
})

test_that("commands have what daemons() was given, and what is not as by default", {
  record <- fake_record("wss://h:1/1", daemon = list(maxtasks = 5, cleanup = TRUE), token = "aa",
                        tls = "-----BEGIN X\nab\n-----END X\n")
  command <- unclass(.launch_for(record, 1, remote_config(), list(autoexit = FALSE, output = TRUE)))[1L]
  expect_identical(command, paste0("Rscript -e \"setsuna::daemon('wss://h:1/1', token='aa', autoexit=FALSE, output=TRUE, ",
                                   "maxtasks=5, tls='-----BEGIN X\nab\n-----END X\n')\""))
  own <- withr::local_tempfile(lines = c("-----BEGIN CERTIFICATE-----", "own", "-----END CERTIFICATE-----"))
  command <- unclass(.launch_for(record, 1, remote_config(), tls = own))[1L]
  expect_match(command, "tls='-----BEGIN CERTIFICATE-----\nown\n-----END CERTIFICATE-----\n'", fixed = TRUE)
  command <- unclass(.launch_for(record, 1, remote_config(), list(tlscert = "/etc/ca.pem")))[1L]
  expect_match(command, "tlscert='/etc/ca.pem')", fixed = TRUE)
  expect_no_match(command, "BEGIN")
  expect_error(.launch_for(record, 1, remote_config(), tls = "/no/such.pem"), "'tls' is \"/no/such.pem\"")
  expect_error(.launch_for(record, 1, remote_config(), tls = "-----BEGIN PRIVATE KEY-----"), "'tls' has a private key")
  expect_error(.launch_for(record, 1, remote_config(), list(5)), "all ... arguments must be named")
  expect_error(.launch_for(record, 1, remote_config(), list(maxtask = 5)), "there is no argument 'maxtask'")
  expect_error(.launch_for(record, 1, remote_config(), list(rs = 1:3)), "'rs' must be")
  expect_error(.launch_for(record, 1, "ssh"), "'remote' must be a value of remote_config")
})

test_that("n says which URLs", {
  seats <- fake_record(paste0("ws://h:1/", 1:4), connected = c(TRUE, FALSE, FALSE, TRUE))
  urls <- function(n, record = seats, size = 1L) .launch_urls(record, n, size)
  expect_identical(urls(1), "ws://h:1/2")
  expect_identical(urls(2), c("ws://h:1/2", "ws://h:1/3"))
  expect_identical(urls(NULL, size = 2L), c("ws://h:1/2", "ws://h:1/3"))
  expect_identical(urls(c(4, 1)), c("ws://h:1/4", "ws://h:1/1"))
  expect_identical(urls("wss://proxy/x"), "wss://proxy/x")
  expect_error(urls(3), "'n' is 3, but 2 of the profile's 4 URLs are without a daemon")
  expect_error(urls(c(1, 5)), "'n' has 5: this profile has 4 URLs")
  expect_error(urls(0), "'n' is 0: it must be a whole number of at least 1")
  expect_error(urls(1.5), "'n' is 1.5")
  expect_error(urls("proxy"), "'n' must be, as text, URLs")
  expect_error(urls(TRUE), "'n' must be one whole number")
  shared <- fake_record("tcp://h:1")
  expect_identical(urls(3, shared), rep("tcp://h:1", 3))
  expect_error(urls(1:2, shared), "'n' has 2 numbers, but the daemons of this profile share one URL")
  # A daemon is on its way to the second.
  .note_launched("fake", "ws://h:1/2")
  withr::defer(.jobs_cancel("fake"))
  expect_identical(urls(1), "ws://h:1/3")
  expect_identical(urls(2), c("ws://h:1/3", "ws://h:1/2"))
})

test_that("the quoting survives a shell, R's front end and its own reading", {
  out <- withr::local_tempfile()
  program <- recording(.daemon_program_text(.r_code("tcp://[::1]:5555"), nasty_arguments()), out)
  script <- awkward_program(sprintf("exec %s \"$@\"", shQuote(real_rscript())))
  for (shell in Filter(nzchar, Sys.which(c("sh", "bash", "dash", "zsh", "ksh")))) {
    expect_identical(system2(shell, c("-c", shQuote(.shell_command(program, script)))), 0L)
    expect_nasty(wait_for_rds(out), "tcp://[::1]:5555")
    unlink(out)
    expect_identical(system2(shell, input = .shell_command(program, script)), 0L)
    expect_nasty(wait_for_rds(out), "tcp://[::1]:5555")
    unlink(out)
  }
})

test_that("a certificate chain that is too long for an argument of R comes by a here-document", {
  chain <- paste0(strrep(paste0(strrep("A", 64L), "\n"), 300L), "end\n")
  out <- withr::local_tempfile()
  program <- recording(.daemon_program_text("'tcp://h:1'", list(tls = chain)), out)
  command <- .shell_command(program, real_rscript())
  expect_match(command, "^[^\n]*Rscript - <<")
  expect_identical(system2("sh", c("-c", shQuote(command))), 0L)
  expect_identical(wait_for_rds(out)$tls, chain)
  # The longest that still goes as an argument does go.
  unlink(out)
  fits <- function(lines) .daemon_program_text("'tcp://h:1'", list(tls = strrep("A A\n", lines)))
  lines <- Position(function(i) grepl("<<", .shell_command(fits(i), "R")), seq_len(5000L)) - 1L
  program <- sub("setsuna::daemon(", "c(", fits(lines), fixed = TRUE)
  expect_identical(nchar(system2(real_rscript(), c("-e", shQuote(paste0("cat(nchar(", program, "[2]))"))), stdout = TRUE)),
                   nchar(as.character(4L * lines)))
})

test_that("a launching command of one's own gets the daemon's command, or its program by standard input", {
  withr::defer(.jobs_cancel("fake"))
  out <- withr::local_tempfile()
  program <- recording(.daemon_program_text(.r_code("tcp://h:1"), nasty_arguments()), out)
  script <- awkward_program(sprintf("exec %s \"$@\"", shQuote(real_rscript())))
  # As srun does: its arguments are a command's.
  runner <- awkward_program("[ \"$1 $2\" = \"-n 1\" ] && shift 2 && exec \"$@\"", "run")
  .launch_by_command(remote_config(runner, c("-n 1", "."), rscript = script), program, "fake", FALSE)
  expect_nasty(wait_for_rds(out), "tcp://h:1")
  unlink(out)
  # As ssh does: one more shell reads its argument.
  runner <- awkward_program("exec sh -c \"$2\"", "shell")
  .launch_by_command(remote_config(runner, list(c("node1", ".")), rscript = script, quote = TRUE), program, "fake", FALSE)
  expect_nasty(wait_for_rds(out), "tcp://h:1")
  unlink(out)
  runner <- awkward_program("exec \"$@\"", "container")
  .launch_by_command(remote_config(runner, c(shQuote(script), "-")), program, "fake", FALSE)
  expect_nasty(wait_for_rds(out), "tcp://h:1")
  expect_true(becomes_true(function() all(.jobs_status("fake")$state == "ended")))
})

test_that("a launch that fails says why", {
  withr::defer(.jobs_cancel("fake"))
  runner <- awkward_program(c("echo starting", "echo \"no such partition: x\" >&2", "exit 3"), "run")
  .launch_for(fake_record(), 1, remote_config(runner, "."))
  expect_true(becomes_true(function() .jobs_status("fake")$state == "failed"))
  expect_identical(.jobs_status("fake")$why, "exit status 3: starting no such partition: x")
})

test_that("several programs for one shell run at the same time, and one that fails shows", {
  folder <- withr::local_tempdir()
  meet <- sprintf("file.create(file.path('%1$s', %2$d)); while (length(dir('%1$s')) < 2L) Sys.sleep(0.01); stopifnot(%2$d < 2)",
                  folder, 1:2)
  script <- .shell_script(meet, real_rscript())
  expect_identical(suppressWarnings(system2("sh", "-s", input = script, stderr = FALSE)), 1L)
  expect_length(dir(folder), 2L)
})

test_that("a real daemon starts from the printed command", {
  daemons(n = 2, url = local_url(), maxtasks = 10)
  withr::defer(daemons(0))
  command <- unclass(launch_remote(1, remote_config(rscript = real_rscript())))
  expect_match(command, "maxtasks=10")
  system2("sh", c("-c", shQuote(command)), wait = FALSE)
  expect_true(becomes_true(function() info()[["connections"]] == 1L))
  expect_identical(mirai(1 + 1)[], 2)
  expect_match(launch_remote(1), "-2'", fixed = TRUE)
})

test_that("only profiles that listen can be joined", {
  expect_error(launch_remote(.compute = "none"), "No daemons set")
  daemons(1)
  withr::defer(daemons(0))
  expect_error(launch_remote(), "does not listen")
  daemons(sync = TRUE)
  expect_error(launch_remote(), "sync = TRUE")
})

test_that("daemons() launches one for each URL, or one for each machine, and says what has become of it", {
  runner <- awkward_program("exec \"$@\"", "run")
  launcher <- function(times) remote_config(runner, rep(list("."), times), rscript = real_rscript())
  withr::defer(daemons(0))
  expect_equal(daemons(n = 3, url = local_url(), remote = launcher(2)), 3L)
  expect_true(becomes_true(function() info()[["connections"]] == 3L))
  expect_identical(status()$launches, data.frame(id = rep(runner, 3), state = "running", why = ""))
  expect_identical(mirai(1 + 1)[], 2)
  daemons(url = local_url(), remote = launcher(2), maxtasks = 1)
  expect_true(becomes_true(function() info()[["connections"]] == 2L))
  expect_identical(nrow(status()$launches), 2L)
  # daemons() were told to leave after a task.
  expect_identical(collect_mirai(list(mirai(1), mirai(2))), list(1, 2))
  expect_true(becomes_true(function() all(status()$launches$state == "ended")))
  launch_remote(2, launcher(1), autoexit = NA)
  expect_true(becomes_true(function() info()[["connections"]] == 2L))
})

test_that("what cannot be launched leaves no profile", {
  expect_error(daemons(2, remote = ssh_config("ssh://a")), "'remote' needs a 'url'")
  expect_error(daemons(url = local_url(), remote = remote_config()), "'remote' has no command")
  expect_error(daemons(url = local_url(), remote = "ssh://a"), "'remote' must be a value of")
  expect_error(daemons(url = local_url(), remote = ssh_config("ssh://a", tunnel = TRUE)), "'tunnel' needs a URL at localhost")
  expect_false(daemons_set())
})
