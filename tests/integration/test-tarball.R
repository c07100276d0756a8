# The package for machines without the checkout: one tarball, which R CMD check finds nothing wrong with, and which runs.

test_that("the tarball passes R CMD check without errors and warnings, and what it installs runs", {
  root <- normalizePath(file.path("..", ".."))
  dir <- withr::local_tempdir()
  made <- system2(file.path(root, "tools", "r-package"), c("--tarball", dir), stdout = TRUE)
  expect_true(file.exists(made))
  listed <- untar(made, list = TRUE)
  expect_true(all(c("setsuna/src/core/runtime/layout.hpp", "setsuna/inst/doc/setsuna.html") %in% listed))
  withr::local_dir(dir)
  log <- system2("R", c("CMD", "check", "--no-manual", "--no-vignettes", "--no-tests", basename(made)), stdout = TRUE,
                 stderr = TRUE, env = c("_R_CHECK_FORCE_SUGGESTS_=false", "MAKEFLAGS=-j2"))
  wrong <- grep("(ERROR|WARNING)$", log, value = TRUE)
  expect_identical(wrong, character())
  expect_match(tail(grep("^Status:", log, value = TRUE), 1L), "^Status: (OK|[0-9]+ NOTEs?)$")
  # The package that the check has installed, in a session that knows no other.
  code <- "library(setsuna, lib.loc = 'setsuna.Rcheck'); daemons(1); cat(mirai(x + 1, x = 41)[]); invisible(daemons(0))"
  said <- system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), stdout = TRUE,
                  env = paste0("R_LIBS=", file.path(dir, "setsuna.Rcheck")))
  expect_identical(tail(said, 1L), "42")
})
