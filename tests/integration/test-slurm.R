# Launching through a real Slurm of one node, started by the test.

test_that("daemons are the elements of a job array, and the reset cancels what waits", {
  slurm <- start_slurm()
  withr::defer(daemons(0))
  config <- cluster_config("sbatch", c(slurm$output, "export FROM_OPTIONS='set here'"), rscript = other_rscript())
  expect_equal(daemons(n = 3, url = local_url(), remote = config), 3L)
  connected(3)
  launches <- status()$launches
  expect_identical(launches$state, rep("running", 3))
  expect_match(launches$id, "^[0-9]+_[123]$")
  tasks <- on_each(3, function() Sys.getenv(c("SLURM_ARRAY_TASK_ID", "FROM_OPTIONS"), names = FALSE))
  expect_identical(sort(vapply(tasks, `[`, "", 1L)), c("1", "2", "3"))
  expect_identical(unique(vapply(tasks, `[`, "", 2L)), "set here")

  daemons(url = local_url(), remote = cluster_config("sbatch", c(slurm$output, "#SBATCH --hold")))
  launches <- status()$launches
  expect_identical(launches$state, "pending")
  expect_identical(launches$why, "JobHeldUser")
  daemons(0)
  state <- function() system2("squeue", c("-h", "--states=all", "-j", launches$id, "-o", "%T"), stdout = TRUE)
  expect_true(becomes_true(function() identical(state(), "CANCELLED")))

  # A job that fails says so.
  daemons(url = local_url(), remote = cluster_config("sbatch", c(slurm$output, "exit 3")))
  expect_true(becomes_true(function() status()$launches$state == "failed"))
  expect_identical(status()$launches$why, "NonZeroExitCode")
  expect_error(launch_remote(1, cluster_config("sbatch", "#SBATCH --partition=none")), "refused the job: .*invalid partition")
})

test_that("jobs come over the network, by URLs of their own or by one, and trust a certificate in their script", {
  slurm <- start_slurm()
  withr::defer(daemons(0))
  config <- cluster_config("sbatch", slurm$output, rscript = other_rscript())
  daemons(n = 3, url = host_url(ws = TRUE, tls = TRUE), remote = config)
  connected(3)
  expect_identical(unname(status()$daemons[, "online"]), c(1L, 1L, 1L))
  expect_identical(length(grep("^wss://.*/[123]$", rownames(status()$daemons))), 3L)
  expect_identical(mirai_map(1:4, function(i) i)[.flat], 1:4)
  daemons(url = "tcp://127.0.0.1:0")
  launch_remote(2, config)
  connected(2)
  expect_token_hidden()
  expect_identical(mirai_map(1:4, function(i) i)[.flat], 1:4)
})

test_that("a session that ends without a reset cancels its jobs", {
  slurm <- start_slurm()
  session <- start_session(quote({
    daemons(url = local_url(), remote = cluster_config("sbatch", "#SBATCH --hold"))
    report(status()$launches)
    quit("no")
  }))
  launches <- session$report()
  expect_identical(launches[[1L]]$state, "pending")
  state <- function() system2("squeue", c("-h", "--states=all", "-j", launches[[1L]]$id, "-o", "%T"), stdout = TRUE)
  expect_true(becomes_true(function() identical(state(), "CANCELLED")))
})

test_that("quoting survives sbatch", {
  slurm <- start_slurm()
  withr::defer(.jobs_cancel("fake"))
  out <- file.path(slurm$folder, "out")
  config <- cluster_config("sbatch", slurm$output, rscript = other_rscript())
  program <- recording(.daemon_program_text(.r_code("tcp://h:1"), nasty_arguments()), out)
  answer <- .submit(config, "--parsable", .cluster_script(config, program))
  expect_match(answer, "^[0-9]+$")
  expect_nasty(wait_for_rds(out), "tcp://h:1")
})
