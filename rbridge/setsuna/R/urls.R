#' URLs to listen at
#'
#' `local_url()` makes up a URL for processes of this machine, `host_url()` one at which other machines reach this one.
#'
#' @param tcp `FALSE`: a name that only this machine knows, without a network; `TRUE`: a TCP port that only it can reach.
#' @param port the port; 0 for any that is free.
#' @param tls `TRUE`: an encrypted connection, `tls+tcp://` or `wss://`.
#' @param ws `TRUE`: a WebSocket, `ws://` or `wss://`.
#' @param interface name of a network interface, such as `"eth0"`: its address stands in the URL instead of the host name.
#' @return One string.
#' @examples
#' local_url()
#' local_url(tcp = TRUE, port = 5555)
#' host_url()
#' host_url(tls = TRUE, ws = TRUE, port = 5555)
#' host_url(interface = "lo")
#' @export
local_url <- function(tcp = FALSE, port = 0) {
  port <- .port(port)
  if (.flag(tcp, "tcp")) paste0("tcp://127.0.0.1:", port) else .new_url()
}

#' @rdname local_url
#' @export
host_url <- function(tls = FALSE, port = 0, ws = FALSE, interface = NULL) {
  port <- .port(port)
  scheme <- if (.flag(ws, "ws")) c("ws", "wss") else c("tcp", "tls+tcp")
  host <- if (is.null(interface)) Sys.info()[["nodename"]] else .interface_address(.string(interface, "interface"))
  paste0(scheme[1L + .flag(tls, "tls")], "://", host, ":", port)
}

.interface_address <- function(interface) {
  all <- .Call(C_interface_addresses)
  if (!interface %in% names(all))
    .abort("'interface' is \"", interface, "\", which this machine does not have or which is down: there are ",
           toString(unique(names(all))))
  all[[interface]]
}

.port <- function(port) {
  if (is.character(port) && length(port) == 1L && grepl("^[0-9]+$", port)) port <- as.numeric(port)
  port <- .count(port, "port")
  if (port > 65535L) .abort("'port' is ", port, ": it must be at most 65535")
  port
}

# 12 random bytes, as listeners of the same machine have them.
.new_url <- function() paste0("abstract://", paste(.system_random("raw", 12L), collapse = ""))

# Where daemons(n, url) listens: `urls`; `shared`: one for any number of daemons, else each is for one; `given` by the user.
.listen_urls <- function(n, url) {
  if (is.null(url)) return(list(urls = .new_url(), shared = TRUE, given = FALSE))
  if (!is.character(url) || anyNA(url) || !length(url) || !all(nzchar(url)))
    .abort("'url' must be text such as \"tcp://host:5555\", not ", .describe(url))
  if (is.null(n) && length(url) == 1L) return(list(urls = url, shared = TRUE, given = TRUE))
  list(urls = .expand_urls(n, url), shared = FALSE, given = TRUE)
}

# A URL for each of `n` daemons: those given, or `n` made from one, by the port (tcp), by the path (ws) or by the name.
.expand_urls <- function(n, url) {
  if (length(url) > 1L || identical(n, 1L)) {
    if (!is.null(n) && n != length(url))
      .abort("'n' is ", n, " and 'url' has ", length(url), " URLs: leave 'n' out, or give one URL for all")
    if (anyDuplicated(url[!grepl(":0(/|$)", url)])) .abort("'url' has \"", url[anyDuplicated(url)], "\" twice")
    return(url)
  }
  if (n > 65535L) .abort("'n' is ", n, ": at most 65535 URLs")
  i <- seq_len(n)
  if (grepl("^wss?://", url)) return(paste0(sub("/+$", "", url), "/", i))
  if (!grepl("^(tls[+])?tcp://", url)) return(paste0(url, "-", i))
  port <- if (grepl(":[0-9]+$", url)) as.numeric(sub(".*:", "", url))
  if (is.null(port)) .abort("'url' is \"", url, "\": it must end with a port, such as tcp://host:5555")
  if (port == 0) return(rep(url, n))
  if (port + n - 1 > 65535) .abort("'url' is \"", url, "\": there are not ", n, " ports from there on")
  paste0(sub("[0-9]+$", "", url), format(port + i - 1, scientific = FALSE, trim = TRUE))
}

# Another URL of the same kind, for a seat that its daemon will not come back to.
.url_elsewhere <- function(url) {
  fresh <- substring(.new_url(), nchar("abstract://") + 1L)
  if (grepl("^(tls[+])?tcp://", url)) return(sub("[0-9]+$", "0", url))
  if (grepl("^wss?://", url)) return(paste0(sub("^(wss?://.*):[0-9]+(/.*)?$", "\\1", url), ":0/", fresh))
  if (startsWith(url, "ipc://")) return(paste0(url, "-", fresh))
  .new_url()
}
