# Kept nearly empty: every daemon and every host pays for what runs here.
.onLoad <- function(libname, pkgname) {
  invisible()
}
