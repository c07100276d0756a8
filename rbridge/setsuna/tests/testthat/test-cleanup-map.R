# Between the elements of one range nothing of the first must be seen by the second, however short both are.

elements <- function(f, n = 200L) mirai_map(seq_len(n), f)[]

test_that("a working directory that an element chose is not the next one's", {
  with(daemons(1), {
    here <- mirai(getwd())[]
    moved <- elements(function(i) { before <- getwd(); setwd("/"); before })
    expect_identical(unique(unlist(moved)), here)
    expect_identical(mirai(getwd())[], here)
  })
})

test_that("a directory that native code chose past R is not the next one's", {
  skip_if(Sys.which("gcc") == "", "no compiler")
  dir <- tempfile("chdir")
  dir.create(dir)
  on.exit(unlink(dir, recursive = TRUE))
  source <- file.path(dir, "move.c")
  writeLines(c("#include <fcntl.h>", "#include <unistd.h>",
               "void move(int *how) {", "  if (*how == 0) { int ignored = chdir(\"/usr\"); (void)ignored; }",
               "  else { int fd = open(\"/usr\", O_RDONLY | O_DIRECTORY); int ignored = fchdir(fd); (void)ignored; close(fd); } }"),
             source)
  library <- file.path(dir, "move.so")
  expect_identical(system2("gcc", c("-shared", "-fPIC", "-o", library, source)), 0L)
  with(daemons(1), {
    everywhere(dyn.load(library), library = library)
    here <- mirai(getwd())[]
    for (how in 0:1) {
      where <- mirai_map(rep(how, 100L), function(how) { before <- getwd(); .C("move", how); before })[]
      expect_identical(unique(unlist(where)), here)
    }
  })
})

test_that("sink(), time limits and options of an element are not the next one's", {
  with(daemons(1), {
    digits <- as.integer(mirai(getOption("digits"))[])
    seen <- elements(function(i) {
      before <- c(sink.number(), as.integer(getOption("digits")))
      options(digits = 3)
      sink("/dev/null")
      setTimeLimit(elapsed = 0.001, transient = FALSE)
      before
    }, 60L)
    expect_identical(unique(seen), list(c(0L, digits)))
    expect_identical(mirai({ Sys.sleep(0.05); "late" })[], "late")
  })
})
