source("helper-bench.R")

test_that("a run makes a valid result file and a report with its rows", {
  out <- tempfile("bench")
  on.exit(unlink(out, recursive = TRUE))
  run <- tools_bench("--minutes=0.03", "--rows=ephemeral", paste0("--out=", out))
  expect_identical(run[1L], 0L, info = printed(run))
  results <- read_results(file.path(out, "results.csv"))
  expect_identical(unique(results$samples$metric), "ephemeral")
  expect_true(all(results$samples$value > 0))
  expect_true(all(c("date", "cores", "pinned CPUs", "kernel", "governor", "reactor", "huge pages", "memory", "R", "commit") %in%
                    names(results$machine)))
  html <- paste(readLines(file.path(out, "report.html")), collapse = "\n")
  expect_match(html, '<section id="ephemeral">', fixed = TRUE)
  expect_identical(tools_bench("--compare", file.path(out, "results.csv"), file.path(out, "results.csv"))[1L], 0L)
})

test_that("arguments that are no good are named, with what is allowed", {
  refused <- function(why, ...) {
    run <- tools_bench(...)
    expect_identical(run[1L], 2L)
    expect_match(printed(run), why)
  }
  refused("there is no row 'fast'; the rows: .*flood", "--rows=fast")
  refused("there is no row ''; the rows: .*flood", "--rows=")
  refused("unknown argument '--quik'; known: --quick", "--quik")
  refused("--minutes must be a number above 0", "--minutes=soon")
})
