# Called by R CMD INSTALL in place of its own copying: the TLS object and the daemon's executable go along with the shared
# object, which looks for the first beside itself.
libs <- file.path(R_PACKAGE_DIR, paste0("libs", R_ARCH))
dir.create(libs, recursive = TRUE, showWarnings = FALSE)
stopifnot(file.copy(c(paste0("setsuna", SHLIB_EXT), "setsuna-tls.so"), libs, overwrite = TRUE))

# The same program under two names: `setsuna` is for people.
if (file.exists("setsuna-daemon")) {
  bin <- file.path(R_PACKAGE_DIR, paste0("bin", R_ARCH))
  dir.create(bin, recursive = TRUE, showWarnings = FALSE)
  for (name in c("setsuna-daemon", "setsuna")) {
    stopifnot(file.copy("setsuna-daemon", file.path(bin, name), overwrite = TRUE, copy.mode = TRUE))
    Sys.chmod(file.path(bin, name), "0755")
  }
}

# What `setsuna status`, `metrics` and `top` become; the last only where ncurses is.
for (name in Filter(file.exists, c("setsuna-monitor", "setsuna-top"))) {
  stopifnot(file.copy(name, file.path(bin, name), overwrite = TRUE, copy.mode = TRUE))
  Sys.chmod(file.path(bin, name), "0755")
}
