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
