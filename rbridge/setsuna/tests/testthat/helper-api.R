# Calls `f()` on `n` daemons, at the same time: each waits until all have begun. The values.
on_each <- function(n, f, ..., .compute = NULL) {
  dir <- withr::local_tempdir()
  one <- evalq(function(i, dir, n, f) {
    file.create(file.path(dir, i))
    while (length(list.files(dir)) < n) Sys.sleep(0.01)
    f()
  }, globalenv())
  environment(f) <- globalenv()
  collect(mirai_map(seq_len(n), one, ..., .args = list(dir = dir, n = n, f = f), .compute = .compute))
}
