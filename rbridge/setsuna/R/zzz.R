#' @keywords internal
#' @useDynLib setsuna, .registration = TRUE, .fixes = "C_"
"_PACKAGE"

# Kept nearly empty: every daemon and every host pays for what runs here.
.onLoad <- function(libname, pkgname) {
  if (isNamespaceLoaded("parallel")) .register_cluster_type()
  else setHook(packageEvent("parallel", "onLoad"), .register_cluster_type)
}
