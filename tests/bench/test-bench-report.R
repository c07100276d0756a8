source("helper-bench.R")
assign("here", file.path(bench_root, "bench/r"), globalenv()) # where the report's parts look for each other
source(file.path(here, "report.R"))

# Samples of every section, with setsuna, a rival and what the section's parameter needs.
all_sections <- function() {
  params <- function(section) switch(section$kind, curves = switch(section$metric,
    latency_all = list(c("50", "99", "99.9"), "percentile"), map_speedup = , map_efficiency = list(c("0", "100", "1000"), "us per element"),
    echo = , payload_there = , payload_back = list(c("8", "80000000"), "bytes"), queue_depth = list(c("1", "1000000"), "queued tasks"),
    list(c("1", "8", "64"), "daemons")), transports = list(c("tcp", "ws"), "transport"), processes = list(c("session", "daemon"), "process"), list("", ""))
  do.call(rbind, lapply(sections, function(section) {
    at <- params(section)
    do.call(rbind, lapply(seq_along(at[[1L]]), function(i) {
      make <- function(system, factor) fake_samples(factor * i * c(9, 10, 11, 12, 13), system, section$metric, "us", "lower", at[[1L]][i], at[[2L]])
      rbind(make("setsuna", 1), make("PSOCK", 3), if (section$metric == "flood") make("callr", 0.1))
    }))
  }))
}

out <- tempfile("report")
dir.create(out)
write_results(file.path(out, "results.csv"), rbind(all_sections(), fake_samples(3, "boost.lockfree", "native", "ns", "lower", workload = "q: <pair>")),
              c(fake_machine, note = "a < b & c"), left_out = "mirai (the R package mirai is not installed)", failed = "mixed: broke")
results <- read_results(file.path(out, "results.csv"))
medians <- medians_of(results$samples)
write_report(out, results, medians)
html <- paste(readLines(file.path(out, "report.html")), collapse = "\n")

test_that("the report needs nothing from outside", {
  expect_false(grepl("https?://|//[a-z]+\\.|@import|url\\(|<script|<link|<img|src=", html))
})

test_that("every section has its plot, inline and as a PNG", {
  plots <- lengths(regmatches(html, gregexpr("<svg ", html)))
  expect_identical(plots, length(sections))
  for (section in sections) {
    expect_match(html, sprintf('<section id="%s"><h3>%s</h3>', section$metric, section$title), fixed = TRUE)
    expect_identical(readBin(file.path(out, "plots", paste0(section$metric, ".png")), "raw", 4L), as.raw(c(0x89, 0x50, 0x4e, 0x47)))
  }
  expect_false(grepl("NaN|NA,|Inf", paste(regmatches(html, gregexpr("<svg .*?</svg>", html))[[1L]], collapse = "")))
})

test_that("the report is well formed and names what is missing", {
  skip_if_not_installed("xml2")
  expect_silent(xml2::read_xml(sub("<!doctype html>", "", gsub("<meta[^>]*>", "", html))))
})

test_that("what was left out, what failed and where setsuna loses are there", {
  expect_match(html, "mirai (the R package mirai is not installed)", fixed = TRUE)
  expect_match(html, "mixed: broke", fixed = TRUE)
  expect_match(html, "a &lt; b &amp; c", fixed = TRUE)
  lost <- defeats(medians)
  expect_identical(lost$metric, "flood")
  expect_identical(lost$system, "callr")
  expect_equal(lost$times, 10)
})

test_that("a label stays with its system when the plot puts them in order", {
  m <- medians[medians$metric == "flood", ]
  d <- plot_systems("t", m, results$samples[results$samples$metric == "flood", ])
  texts <- Filter(function(i) i$kind == "text" && i$text %in% m$system, d$items)
  expect_identical(vapply(texts, `[[`, "", "text"), c("callr", "setsuna", "PSOCK"))
  expect_identical(vapply(texts, `[[`, "", "class"), vapply(c("callr", "setsuna", "PSOCK"), class_of, "", USE.NAMES = FALSE))
})

test_that("marks are judged against what they name", {
  judged <- judge_targets(medians_of(rbind(
    fake_samples(12, "setsuna", "round_trip", "us", "lower"), fake_samples(10, "futex ping-pong", "round_trip", "us", "lower"),
    fake_samples(100, "setsuna", "flood"), fake_samples(10, "PSOCK", "flood"), fake_samples(0, "setsuna", "idle", "ms of CPU a second", "lower"))))
  expect_identical(judged$met, c(TRUE, FALSE, TRUE))
  expect_identical(judged$measured[1:2], c("1.2", "10"))
})
