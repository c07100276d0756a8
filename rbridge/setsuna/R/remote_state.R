# What launching daemons has to know of a profile that listens: list(
#   name      of the profile
#   urls      where daemons dial: one URL for each of its places, or one that all share
#   single    TRUE if all share one URL
#   connected for each URL, whether a daemon is there (FALSE where all share one)
#   token     hexadecimal text that a daemon has to know, or NULL
#   tls       PEM text of the certificate that daemons are to trust, or NULL
#   daemon    named list of the arguments for daemon() given to daemons()
# )
.remote_record <- function(name) {
  record <- .set_profile(name)
  if (!is.null(record$sync)) .abort("the profile '", name, "' evaluates in this session (sync = TRUE): it takes no daemons")
  if (record$listens == "nowhere")
    .abort("the profile '", name, "' does not listen: give daemons() a 'url' such as host_url(); launch_local() adds ",
           "local daemons")
  raw <- .Call(C_profile_status, record$id)
  list(name = name, urls = record$urls, single = record$listens == "shared",
       connected = record$urls %in% raw[[6L]][raw[[2L]][, 1L] == 1L],
       token = record$access$token, tls = record$access$certificate, daemon = record$daemon)
}
