# The package as a whole: what it exports is documented, what it documents runs elsewhere.

test_that("every export has a help page with an example", {
  database <- tools::Rd_db("setsuna")
  tags <- function(rd, tag) {
    found <- Filter(function(part) attr(part, "Rd_tag") == tag, rd)
    vapply(found, function(part) paste(unlist(part), collapse = ""), "")
  }
  aliases <- lapply(database, tags, "\\alias")
  expect_setequal(setdiff(getNamespaceExports("setsuna"), unlist(aliases)), character())
  with_example <- vapply(database, function(rd) any(nzchar(trimws(tags(rd, "\\examples")))), NA)
  topics <- aliases[!with_example]
  expect_setequal(intersect(getNamespaceExports("setsuna"), unlist(topics)), character())
})

test_that("loading it starts nothing", {
  code <- paste("library(setsuna); stopifnot(is.null(.Call(setsuna:::C_host_backend)),",
                "length(list.files('/proc/self/task')) == 1L)")
  expect_identical(system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)),
                           env = paste0("R_LIBS=", paste(.libPaths(), collapse = ":"))), 0L)
})
