# Who may come in from the network: `token` (text, or NULL), `tls` (of the host: certificate and key), `certificate` (what
# daemons need to know it, or NULL). NULL if no URL is on the network.
.access <- function(name, urls, tls, pass, auth) {
  auth <- .flag(auth, "auth")
  secure <- grepl("^(tls[+]tcp|wss)://", urls)
  if (!any(secure) && !(is.null(tls) && is.null(pass)))
    .abort("'", if (is.null(tls)) "pass" else "tls", "' is for a 'url' that begins with tls+tcp:// or wss://")
  network <- !grepl("^(abstract|ipc)://", urls)
  if (!any(network)) return(NULL)
  if (!auth && !all(grepl("://(127[.][0-9.]+|localhost|\\[::1\\])(:|/|$)", urls[network])))
    warning("auth = FALSE: whoever reaches ", urls[network][1L], " can run code as this user", call. = FALSE)
  access <- list(token = if (auth) .token_of(name))
  if (any(secure)) c(access, .host_tls(urls[secure], tls, pass)) else access
}

# Kept for the profile's next listener: daemons that persist come back to it. daemons(NULL) ends them, and it.
.token_of <- function(name) {
  if (is.null(.tokens[[name]])) .tokens[[name]] <- paste(.system_random("raw", 32L), collapse = "")
  .tokens[[name]]
}

.tokens <- new.env(parent = emptyenv())

# list(tls = c(certificate, key), pass, certificate): given, or made for these URLs.
.host_tls <- function(urls, tls, pass) {
  if (!is.null(pass) && (!is.character(pass) || length(pass) != 1L || is.na(pass)))
    .abort("'pass' must be one string, not ", .describe(pass))
  if (is.null(tls)) {
    if (!is.null(pass)) .abort("'pass' is the password of the private key in 'tls', which is missing")
    made <- .Call(C_make_certificate, unique(vapply(urls, .host_of, "")), .certificate_days)
    return(list(tls = made, pass = NULL, certificate = made[1L]))
  }
  if (!is.character(tls) || anyNA(tls) || !length(tls) %in% 1:2)
    .abort("'tls' must be a file with certificate and key, or c(certificate, key) as PEM text or files, not ", .describe(tls))
  list(tls = c(tls, "")[1:2], pass = pass, certificate = NULL)
}

# The host in a URL, without brackets.
.host_of <- function(url) {
  host <- sub("^[^:]+://(\\[[^]]*\\]|[^:/]*).*", "\\1", url)
  host <- gsub("^\\[|\\]$", "", host)
  if (host %in% c("", "*", "0.0.0.0", "::")) Sys.info()[["nodename"]] else host # the wildcard has no name of its own
}

# Single-use: it need not outlive a session.
.certificate_days <- 3650L
