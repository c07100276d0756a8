# Which two CPUs are chosen, and that a row says what it has pinned.
source("helper-bench.R")
source(file.path(bench_root, "bench/r/pinned.R"))

# `cores`, `packages`: of each CPU.
machine <- function(cores, packages) function(cpu, file) {
  (if (file == "thread_siblings_list") cores else packages)[cpu + 1L]
}

test_that("two CPUs are of two cores and one package where there are such", {
  expect_identical(two_cpus(0:3, machine(c("0-1", "0-1", "2-3", "2-3"), rep("0", 4))), c(0L, 2L))
  expect_identical(two_cpus(0:3, machine(c("0", "1", "2", "3"), c("0", "1", "0", "1"))), c(0L, 2L))
  expect_identical(two_cpus(0:1, machine(c("0-1", "0-1"), c("0", "0"))), c(0L, 1L)) # siblings only
  expect_identical(two_cpus(c(3L, 5L), function(cpu, file) NA_character_), c(3L, 5L)) # nothing is known
  expect_null(two_cpus(2L))
})

test_that("session and daemon are pinned apart, and the session is free again afterwards", {
  cpus <- two_cpus()
  skip_if(is.null(cpus), "one CPU only")
  free <- parallel::mcaffinity(NULL)
  seen <- with_pinned_daemon(function(pinned) list(pinned = pinned, here = parallel::mcaffinity(NULL), there = mirai(parallel::mcaffinity(NULL))[]))
  expect_identical(seen$pinned$cpus, cpus)
  expect_identical(c(seen$here, seen$there) - 1L, cpus)
  expect_identical(seen$pinned$text, sprintf("session on CPU %d; daemon on CPU %d", cpus[1L], cpus[2L]))
  expect_identical(parallel::mcaffinity(NULL), free)
  expect_false(daemons_set())
})

test_that("on one CPU the result file says that nothing is pinned", {
  skip_if(!nzchar(Sys.which("taskset")), "needs taskset (Debian package util-linux)")
  out <- tempfile("bench")
  on.exit(unlink(out, recursive = TRUE))
  one <- parallel::mcaffinity(NULL)[1L] - 1L
  status <- system2("taskset", c("-c", one, shQuote(file.path(bench_root, "tools/bench")), "--minutes=0.03", "--rows=round_trip",
                                 shQuote(paste0("--out=", out))), stdout = FALSE, stderr = FALSE)
  expect_identical(status, 0L)
  expect_match(unique(read_results(file.path(out, "results.csv"))$samples$workload), "; not pinned: one CPU only$")
})

test_that("with two, both sides are measured, and the file names the CPUs", {
  skip_if(is.null(two_cpus()), "one CPU only")
  out <- tempfile("bench")
  on.exit(unlink(out, recursive = TRUE))
  run <- tools_bench("--minutes=0.03", "--rows=round_trip", paste0("--out=", out))
  expect_identical(run[1L], 0L, info = printed(run))
  samples <- read_results(file.path(out, "results.csv"))$samples
  expect_match(unique(samples$workload), "session on CPU [0-9]+; daemon on CPU [0-9]+$")
  skip_if(!grepl("futex", paste(samples$system, collapse = " ")), "the C++ benchmarks are not built")
  turns <- samples$system[1:2]
  expect_setequal(turns, c("setsuna", "futex ping-pong"))
  expect_identical(samples$sample[1:2], c(1, 1)) # in turn
})
