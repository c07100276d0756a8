#' Launch by ssh
#'
#' A launch configuration for [launch_remote()] and the `remote` argument of [daemons()]: daemons are started on machines that
#' this one reaches by ssh. There has to be a key that needs no password (or an agent that has it), and the host's key has to
#' be known: `ssh` runs in the background, where it cannot ask. The daemons' program goes over its standard input, so the
#' token that lets a daemon join is in nobody's list of processes.
#'
#' @section Tunnels:
#' With `tunnel = TRUE` the daemons reach this session through the ssh connection, so that no port has to be open to the
#' other machine. The tunnel has the same port on both sides: the profile's URL must be at `localhost` or `127.0.0.1`, such
#' as `local_url(tcp = TRUE)`. The connection stays as long as a daemon uses it.
#'
#' @param remotes machines, as text of the form `"ssh://user@host:port"`; user and port can be left out. Daemons are shared
#'   out among them in turn; one that stands here several times gets more.
#' @param tunnel `TRUE`: connect through ssh instead of directly.
#' @param timeout seconds to wait for an answer of the machine.
#' @param command the program `ssh`: its name or path, optionally followed by arguments, such as
#'   `c("ssh", "-i", "~/.ssh/other_key")`.
#' @inheritParams remote_config
#' @return A list, to be given to [daemons()] or [launch_remote()].
#' @examples
#' ssh_config("ssh://10.75.32.90:222")
#'
#' ssh_config(c("ssh://me@node1", "ssh://me@node2"), tunnel = TRUE, timeout = 30)
#'
#' if (interactive()) {
#'   daemons(
#'     n = 4,
#'     url = host_url(ws = TRUE, port = 5555),
#'     remote = ssh_config(remotes = "ssh://10.75.32.90")
#'   )
#' }
#' @export
ssh_config <- function(remotes, tunnel = FALSE, timeout = 10, command = "ssh", rscript = "Rscript") {
  if (missing(remotes) || !is.character(remotes) || !length(remotes) || anyNA(remotes))
    .abort("'remotes' must be text of the form \"ssh://user@host:port\"",
           if (!missing(remotes)) paste0(", not ", .describe(remotes)))
  lapply(remotes, .parse_ssh_url)
  if (!.is_number(timeout) || timeout < 1)
    .abort("'timeout' must be one number of seconds of at least 1, not ", .describe(timeout))
  if (!is.character(command) || !length(command) || anyNA(command) || !nzchar(command[1L]))
    .abort("'command' must be the program ssh, as text, not ", .describe(command))
  list(type = "ssh", remotes = remotes, tunnel = .flag(tunnel, "tunnel"), timeout = timeout, command = command,
       rscript = .string(rscript, "rscript"))
}

# Words for the command line of ssh: the port's option and the destination. They cannot be taken for other options.
.parse_ssh_url <- function(text) {
  user <- "((?:[^@/:\\s\\[\\]-][^@/:\\s\\[\\]]*@)?)"
  host <- "([A-Za-z0-9_.][A-Za-z0-9_.-]*|\\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\\])"
  pattern <- paste0("^ssh://", user, host, "(?::([0-9]+))?/?$")
  parts <- regmatches(text, regexec(pattern, text, perl = TRUE))[[1L]]
  if (!length(parts))
    .abort("'remotes' has \"", text, "\": it must be of the form \"ssh://user@host:port\" (user and port can be left out)")
  if (nzchar(parts[4L]) && !(as.numeric(parts[4L]) %in% 1:65535))
    .abort("'remotes' has \"", text, "\": the port must be from 1 to 65535")
  c(if (nzchar(parts[4L])) c("-p", parts[4L]), "--", paste0(parts[2L], gsub("[][]", "", parts[3L])))
}

# One connection for all daemons of a machine: a second one could not forward the same port.
.launch_by_ssh <- function(config, urls, programs, name, output) {
  remotes <- config$remotes[(seq_along(programs) - 1L) %% length(config$remotes) + 1L]
  options <- c("-T", "-o", "BatchMode=yes", "-o", paste0("ConnectTimeout=", ceiling(config$timeout)))
  for (remote in unique(remotes)) {
    forward <- if (config$tunnel) .tunnel_options(urls[remotes == remote])
    words <- c(config$command, options, forward, .parse_ssh_url(remote), "sh -s")
    script <- .shell_script(programs[remotes == remote], config$rscript)
    .start_launcher(name, remote, paste(vapply(words, .shell_word, ""), collapse = " "), script, output)
  }
}

# A tunnel that is cut is noticed by ssh alone: what goes through it stays a whole connection on this machine.
.tunnel_options <- function(urls) {
  parts <- .tunnel_ends(urls)
  forward <- unique(sprintf("%1$s:%2$s:%1$s:%2$s", parts$host, parts$port))
  c(rbind("-R", forward), "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")
}

.tunnel_ends <- function(urls) {
  parts <- regmatches(urls, regexec("^[a-z+]+://(localhost|127\\.0\\.0\\.1):([0-9]+)(/.*)?$", urls))
  bad <- !lengths(parts)
  if (any(bad))
    .abort("'tunnel' needs a URL at localhost or 127.0.0.1, which is then the other machine's as well; this profile's is \"",
           urls[bad][1L], "\": use e.g. daemons(url = local_url(tcp = TRUE))")
  list(host = vapply(parts, `[`, "", 2L), port = vapply(parts, `[`, "", 3L))
}

# For `sh -s`: runs the programs at the same time. Its exit status is that of one that failed, if any has.
.shell_script <- function(programs, rscript) {
  documents <- vapply(programs, .shell_here_document, "", rscript = rscript, after = " &")
  paste(c("status=0; pids=", rbind(documents, "pids=\"$pids $!\""), "for pid in $pids; do wait $pid || status=$?; done",
          "exit $status"), collapse = "\n")
}
