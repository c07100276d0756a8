# Schedulers, by programs that behave as their documentation says. (A real Slurm: test-slurm.R.)

# A program of this name on the PATH.
scheduler_program <- function(name, lines, folder, frame = parent.frame())
  awkward_program(lines, name, folder, frame)

# The script that was submitted, run as element `value` of the array.
run_element <- function(script, variable, value, rscript = real_rscript()) {
  out <- withr::local_tempfile()
  text <- recording(paste(readLines(script), collapse = "\n"), out)
  writeLines(text, script <- withr::local_tempfile())
  expect_identical(withr::with_envvar(structure(value, names = variable), system2("sh", script)), 0L)
  wait_for_rds(out)
}

two_urls <- c("ws://h:1/1", "ws://h:1/2")

submits <- function(flavour, answer, version = "exit 1", frame = parent.frame()) {
  folder <- withr::local_tempdir("sched uler ", .local_envir = frame)
  program <- scheduler_program(flavour, c(
    sprintf("if [ \"$1\" = --version ]; then %s; fi", version),
    sprintf("printf '%%s\\n' \"$@\" > %s", shQuote(file.path(folder, "args"))),
    sprintf("cat > %s", shQuote(file.path(folder, "script"))),
    sprintf("echo '%s'", answer)
  ), folder)
  list(program = program, folder = folder, args = function() readLines(file.path(folder, "args"), warn = FALSE),
       script = file.path(folder, "script"))
}

test_that("every scheduler gets an array whose elements dial their own URLs, with all arguments", {
  withr::defer(.jobs_cancel("fake"))
  cases <- list(
    list("sbatch", "12;big", args = c("--parsable", "--array=1-2"), index = "SLURM_ARRAY_TASK_ID", id = "12;big"),
    list("qsub", "77.1-2:1", args = c("-terse", "-t", "1-2"), index = "SGE_TASK_ID", id = "77.1-2"),
    list("qsub", "78[].server", "echo pbs_version = 22.05; exit 0", args = c("-J", "1-2"), index = "PBS_ARRAY_INDEX",
         id = "78[].server"),
    list("qsub", "79[].server", "echo Version: 6.1; exit 0", args = c("-t", "1-2"), index = "PBS_ARRAYID", id = "79[].server"),
    list("bsub", "Job <80> is submitted to default queue <normal>.", args = c("-J", "setsuna[1-2]"), index = "LSB_JOBINDEX",
         id = "80")
  )
  script <- awkward_program(sprintf("exec %s \"$@\"", shQuote(real_rscript())))
  for (case in cases) {
    fake <- submits(case[[1L]], case[[2L]], if (length(case) > 5L) case[[3L]] else "exit 1")
    config <- cluster_config(fake$program, "#X -a\n   #X -b\nexport SETUP=done", rscript = script)
    .launch_by_cluster(config, two_urls, nasty_arguments(), "fake")
    expect_identical(fake$args(), case$args)
    lines <- readLines(fake$script)
    expect_identical(lines[1L], "#!/bin/sh")
    expect_true(all(c("#X -a", "#X -b", "export SETUP=done") %in% lines))
    for (i in 1:2) expect_nasty(run_element(fake$script, case$index, as.character(i)), two_urls[i])
    jobs <- .jobs[["fake"]]
    expect_identical(jobs[[length(jobs)]]$id, case$id)
  }
})

test_that("a single job is no array, and jobs that share a URL need no index", {
  withr::defer(.jobs_cancel("fake"))
  fake <- submits("sbatch", "5")
  .launch_by_cluster(cluster_config(fake$program), "tcp://h:1", list(), "fake")
  expect_identical(fake$args(), "--parsable")
  expect_identical(run_element(fake$script, "X", "1"), list("tcp://h:1"))
  .launch_by_cluster(cluster_config(fake$program), rep("tcp://h:1", 3), list(), "fake")
  expect_identical(fake$args(), c("--parsable", "--array=1-3"))
  expect_no_match(readLines(fake$script), "SLURM_ARRAY_TASK_ID")
})

test_that("the token is on no command line", {
  withr::defer(.jobs_cancel("fake"))
  fake <- submits("sbatch", "5")
  .launch_for(fake_record(two_urls, token = "5ec2e7"), 2, cluster_config(fake$program))
  expect_no_match(fake$args(), "5ec2e7")
  expect_match(paste(readLines(fake$script), collapse = "\n"), "5ec2e7")
  # Neither on ssh's nor on those that it runs.
  seen <- withr::local_tempfile()
  ssh <- awkward_program(c("for last; do :; done", sprintf("ps -ww -o args= -e > %s", shQuote(seen)), "$last"), "ssh")
  rscript <- awkward_program(c(sprintf("ps -ww -o args= -e >> %s", shQuote(seen)), "cat > /dev/null"))
  .launch_for(fake_record(token = "5ec2e7"), 1, ssh_config("ssh://a", command = ssh, rscript = rscript))
  expect_true(becomes_true(function() all(.jobs_status("fake")$state[2L] == "ended")))
  lines <- readLines(seen)
  expect_true(any(grepl("/ssh -T -o BatchMode=yes", lines)) && any(grepl("/Rscript -$", lines)))
  expect_no_match(lines, "5ec2e7")
})

test_that("a refusal is an error with the scheduler's words", {
  folder <- withr::local_tempdir()
  sbatch <- scheduler_program("sbatch", c("echo 'sbatch: error: invalid partition specified: x' >&2", "exit 1"), folder)
  expect_error(.launch_by_cluster(cluster_config(sbatch), two_urls, list(), "fake"),
               "'remote': .*sbatch refused the job: sbatch: error: invalid partition specified: x")
  sbatch <- scheduler_program("sbatch", "echo hello", folder)
  expect_error(.launch_by_cluster(cluster_config(sbatch), two_urls, list(), "fake"), "gave no job id: hello")
  expect_error(.launch_by_cluster(cluster_config("/no/bsub"), two_urls, list(), "fake"), "'command' is \"/no/bsub\"")
})

test_that("a scheduler is asked once in a while, however often somebody looks", {
  withr::defer(.jobs_cancel("fake"))
  folder <- withr::local_tempdir("sched uler ")
  asked <- file.path(folder, "asked")
  scheduler_program("scancel", ":", folder)
  scheduler_program("squeue", c(sprintf("echo asked >> %s", shQuote(asked)), "echo \"${1#--jobs=}_1|RUNNING|None\""), folder)
  times <- function() length(readLines(asked))
  good_s <- .answers$good_s
  withr::defer(.answers$good_s <- good_s)
  .answers$good_s <- 1e6
  .add_job("fake", list(kind = "sbatch", id = "12", command = file.path(folder, "sbatch")))
  first <- .jobs_status("fake")
  expect_identical(first$state, "running")
  for (i in 1:5) expect_identical(.jobs_status("fake"), first)
  expect_identical(times(), 1L)
  # Each job has an answer of its own.
  .add_job("fake", list(kind = "sbatch", id = "13", command = file.path(folder, "sbatch")))
  for (i in 1:3) expect_identical(.jobs_status("fake")$id, c("12_1", "13_1"))
  expect_identical(times(), 2L)
  # One that is too old is not given again.
  .answers$good_s <- 0
  .jobs_status("fake")
  expect_identical(times(), 4L)
  # Nor one of before a reset.
  .answers$good_s <- 1e6
  .jobs_cancel("fake")
  .add_job("fake", list(kind = "sbatch", id = "12", command = file.path(folder, "sbatch")))
  .jobs_status("fake")
  expect_identical(times(), 5L)
})

test_that("states of jobs, and their end with a reset", {
  withr::defer(.jobs_cancel("fake"))
  folder <- withr::local_tempdir("sched uler ")
  cancelled <- file.path(folder, "cancelled")
  canceller <- function(name) scheduler_program(name, sprintf("echo %s \"$@\" >> %s", name, shQuote(cancelled)), folder)
  for (name in c("scancel", "qdel", "bkill")) canceller(name)
  scheduler_program("squeue", c("echo '12_1|RUNNING|None'", "echo '12_2|PENDING|Resources'", "echo '12_3|TIMEOUT|TimeLimit'",
                                "echo '12_4|CANCELLED|None'", "echo '12_10|COMPLETED|None'"), folder)
  .add_job("fake", list(kind = "sbatch", id = "12;big", command = file.path(folder, "sbatch")))
  expect_identical(.jobs_status("fake"), data.frame(
    id = paste0("12_", c(1:4, 10)), state = c("running", "pending", "failed", "cancelled", "ended"),
    why = c("", "Resources", "TimeLimit", "", "")
  ))
  # Later the scheduler has forgotten the job.
  .forget_answers()
  scheduler_program("squeue", c("echo 'slurm_load_jobs error: Invalid job id specified' >&2", "exit 1"), folder)
  expect_identical(.jobs_status("fake")$state, c("ended", "ended", "failed", "cancelled", "ended"))
  .forget_answers()
  scheduler_program("squeue", c("echo 'Unable to contact slurm controller' >&2", "exit 1"), folder)
  expect_identical(.jobs_status("fake"), data.frame(id = "12;big", state = "unknown", why = "Unable to contact slurm controller"))
  .jobs_cancel("fake")

  # Grid Engine's table, and PBS's.
  scheduler_program("qstat", c(
    "echo 'job-ID  prior   name       user         state submit/start at     queue       slots ja-task-ID'",
    "echo '-----'",
    "echo '  77 0.55500 STDIN      me           r     11/28/2026 17:00:00 all.q@node1     1 1'",
    "echo '  77 0.55500 STDIN      me           Eqw   11/28/2026 17:00:00                 1 2'",
    "echo ' 770 0.55500 STDIN      me           qw    11/28/2026 17:00:00                 1 2'"
  ), folder)
  .add_job("fake", list(kind = "qsub", id = "77.1-2", command = file.path(folder, "qsub"), failed = "E"))
  expect_identical(.jobs_status("fake")$state, c("running", "failed"))
  .jobs_cancel("fake")
  scheduler_program("qstat", c("echo 'Job id            Name   User   Time Use S Queue'", "echo '78[].server  STDIN  me  0 Q workq'"),
                    folder)
  .add_job("fake", list(kind = "qsub", id = "78[].server", command = file.path(folder, "qsub"), failed = "^$"))
  expect_identical(.jobs_status("fake")[c("id", "state", "why")], data.frame(id = "78[].server", state = "pending", why = "Q"))
  .jobs_cancel("fake")

  scheduler_program("bjobs", c("echo '80|1|RUN|-|-'", "echo '80|2|PEND|-|New job is waiting'",
                               "echo '80|3|EXIT|TERM_MEMLIMIT|-'"), folder)
  .add_job("fake", list(kind = "bsub", id = "80", command = file.path(folder, "bsub")))
  expect_identical(.jobs_status("fake"), data.frame(id = paste0("80[", 1:3, "]"), state = c("running", "pending", "failed"),
                                                   why = c("", "New job is waiting", "TERM_MEMLIMIT")))
  .jobs_cancel("fake")
  expect_identical(readLines(cancelled), c("scancel --quiet --clusters=big 12", "qdel 77", "qdel 78[].server", "bkill 80"))
  expect_null(.jobs_status("fake"))
})
