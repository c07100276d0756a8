# Called by R CMD INSTALL in place of its own copying: the daemon's executable goes along with the shared object.
libs <- file.path(R_PACKAGE_DIR, paste0("libs", R_ARCH))
dir.create(libs, recursive = TRUE, showWarnings = FALSE)
stopifnot(file.copy(paste0("setsuna", SHLIB_EXT), libs, overwrite = TRUE))

if (file.exists("setsuna-daemon")) {
  bin <- file.path(R_PACKAGE_DIR, paste0("bin", R_ARCH))
  dir.create(bin, recursive = TRUE, showWarnings = FALSE)
  stopifnot(file.copy("setsuna-daemon", bin, overwrite = TRUE, copy.mode = TRUE))
  Sys.chmod(file.path(bin, "setsuna-daemon"), "0755")
}
