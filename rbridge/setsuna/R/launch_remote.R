#' Launch daemons on other machines
#'
#' For a profile that listens on the network (see the argument `url` of [daemons()]). Without a configuration,
#' `launch_remote()` returns the shell commands that start daemons, to be pasted on the machines where they are to run. With
#' one it starts them itself: by [ssh_config()], [cluster_config()], [http_config()] or a command of your own
#' ([remote_config()]). It does not wait for them to come online; [status()] shows when they are, and in `$launches` what has
#' become of the launches.
#'
#' A command has everything that the daemon needs: the URL, the token that lets it join, the certificate to trust if the
#' connection is encrypted, and the arguments of [daemon()] that [daemons()] was given. The other machine needs R and this
#' package. Keep the commands to yourself while the profile is set: who has the token can join, and is sent tasks.
#'
#' @param n Where each daemon has a URL of its own: the number of daemons, for which the lowest URLs without a daemon are
#'   taken; or, as a vector of more than one number, which of the URLs. Where all share one URL: the number of daemons. Or text:
#'   the URLs as the daemons are to dial them, such as one through a proxy. If it is missing and there is a configuration, one
#'   daemon for each of its machines.
#' @param remote a configuration by [remote_config()], [ssh_config()], [cluster_config()] or [http_config()].
#' @param ... further arguments of [daemon()] for these daemons, such as `maxtasks = 10`, `autoexit = FALSE`, `tlscert` or
#'   `rs`.
#' @param tls certificates to trust for the connection instead of the profile's own: PEM text, or a file of this
#'   machine whose text is then put into the command. (For a file of the other machine, give `tlscert`.)
#' @param .compute name of the compute profile; `NULL` for the one in force.
#' @return The commands, of class `miraiLaunchCmd`, which prints them ready to be copied; invisibly if daemons were launched
#'   with a configuration. With [http_config()] a list of the service's answers, invisibly.
#' @seealso [launch_local()] for this machine.
#' @examples
#' daemons(n = 2, url = host_url())
#' launch_remote(2)
#' launch_remote(1, remote_config(rscript = "/opt/R/bin/Rscript"), maxtasks = 10)
#' daemons(0)
#' @export
launch_remote <- function(n = 1L, remote = remote_config(), ..., tls = NULL, .compute = NULL) {
  record <- .remote_record(.profile_name(.compute))
  .launch_for(record, if (missing(n)) NULL else n, remote, list(...), tls)
}

# For launch_remote() and daemons(): `n` is NULL where it was not given.
.launch_for <- function(record, n, remote, daemon = list(), tls = NULL) {
  type <- .config_type(remote)
  urls <- .launch_urls(record, n, .config_size(remote))
  arguments <- .launch_arguments(record, daemon, tls)
  programs <- vapply(urls, function(url) .daemon_program_text(.r_code(url), arguments), "", USE.NAMES = FALSE)
  output <- isTRUE(arguments$output)
  answers <- switch(type,
    ssh = .launch_by_ssh(remote, urls, programs, record$name, output),
    cluster = .launch_by_cluster(remote, urls, arguments, record$name),
    http = .launch_by_http(remote, programs),
    command = if (!is.null(remote$command)) .launch_by_command(remote, programs, record$name, output)
  )
  .note_launched(record$name, urls)
  if (type == "http") return(invisible(answers))
  commands <- structure(vapply(programs, .shell_command, "", rscript = remote$rscript, USE.NAMES = FALSE),
                        class = "miraiLaunchCmd")
  if (type == "command" && is.null(remote$command)) commands else invisible(commands)
}

# For daemons(): one daemon for each URL, or for each machine where all share one. A profile that cannot have its daemons is
# not left set.
.launch_all <- function(name, remote) {
  launched <- FALSE
  on.exit(if (!launched) .reset(name))
  record <- .remote_record(name)
  .launch_for(record, if (!record$single) length(record$urls), remote)
  launched <- TRUE
}

.check_remote <- function(remote, url) {
  if (is.null(remote)) return()
  if (.config_type(remote) == "command" && is.null(remote$command))
    .abort("'remote' has no command: leave it out, and call launch_remote() for commands to paste")
  if (is.null(url)) .abort("'remote' needs a 'url' for its daemons to dial, such as host_url()")
}

.config_type <- function(remote) {
  types <- c("command", "ssh", "cluster", "http")
  if (!is.list(remote) || !is.character(remote$type) || length(remote$type) != 1L || !remote$type %in% types)
    .abort("'remote' must be a value of remote_config(), ssh_config(), cluster_config() or http_config(), not ",
           .describe(remote))
  remote$type
}

# How many machines a configuration names.
.config_size <- function(remote) {
  if (remote$type == "ssh") length(remote$remotes)
  else if (is.list(remote$args)) length(remote$args)
  else 1L
}

# Where each of the daemons dials.
.launch_urls <- function(record, n, size) {
  if (is.character(n)) {
    if (!length(n) || !all(grepl("^(abstract|ipc|tcp|tls\\+tcp|ws|wss)://.", n)))
      .abort("'n' must be, as text, URLs such as \"tcp://host:5555\", not ", .describe(n))
    return(as.vector(n))
  }
  if (is.null(n)) n <- size
  if (length(n) == 1L) {
    n <- .count(n, "n", 1)
    return(if (record$single) rep(record$urls, n) else record$urls[.free_seats(record, n)])
  }
  if (!is.numeric(n) || !length(n) || anyNA(n) || any(n != trunc(n)) || any(n < 1))
    .abort("'n' must be a number of daemons, numbers of URLs, or URLs, not ", .describe(n))
  if (record$single)
    .abort("'n' has ", length(n), " numbers, but the daemons of this profile share one URL: give how many to start")
  if (any(n > length(record$urls))) .abort("'n' has ", max(n), ": this profile has ", length(record$urls), " URLs")
  record$urls[n]
}

# The lowest URLs without a daemon. Those for which one is on its way come last: it may have failed.
.free_seats <- function(record, n) {
  free <- which(!record$connected)
  if (n > length(free))
    .abort("'n' is ", n, ", but ", length(free), " of the profile's ", length(record$urls), " URLs ",
           if (length(free) == 1L) "is" else "are", " without a daemon: launch at most as many")
  free[order(record$urls[free] %in% .launched[[record$name]])][seq_len(n)]
}

.launched <- new.env(parent = emptyenv())

.note_launched <- function(name, urls) .launched[[name]] <- unique(c(.launched[[name]], urls))

# The arguments of daemon() besides the URL: those that are not as by default.
.launch_arguments <- function(record, given, tls) {
  if (length(given) && (is.null(names(given)) || !all(nzchar(names(given)))))
    .abort("all ... arguments must be named: they are arguments of daemon()")
  special <- given[names(given) %in% c("asyncdial", "tlscert", "rs")]
  options <- record$daemon
  options[setdiff(names(given), names(special))] <- given[setdiff(names(given), names(special))]
  options <- .daemon_options(options)
  options <- options[!mapply(identical, options, .daemon_defaults[names(options)])]
  if (!is.null(special$asyncdial)) special$asyncdial <- .flag(special$asyncdial, "asyncdial")
  if (!is.null(special$tlscert)) special$tlscert <- .pem_or_path(special$tlscert, "tlscert")
  if (!is.null(special$rs)) special$rs <- .rng_state(special$rs)
  tls <- if (is.null(special$tlscert)) .launch_certificate(tls) %||% record$tls
  c(if (!is.null(record$token)) list(token = record$token), options, special, if (!is.null(tls)) list(tls = tls))
}

.pem_or_path <- function(value, what) {
  if (!is.character(value) || anyNA(value) || !length(value)) .abort("'", what, "' must be text, not ", .describe(value))
  value
}

.rng_state <- function(rs) {
  if (!is.numeric(rs) || length(rs) != 7L || anyNA(rs) || any(rs != trunc(rs)))
    .abort("'rs' must be a .Random.seed of L'Ecuyer-CMRG (7 whole numbers), not ", .describe(rs))
  as.integer(rs)
}

# PEM text. Of c(certificates, key) the key stays here.
.launch_certificate <- function(tls) {
  if (is.null(tls)) return(NULL)
  text <- .pem_or_path(tls, "tls")[1L]
  if (grepl("-----BEGIN", text, fixed = TRUE)) {
    if (grepl("PRIVATE KEY-----", text, fixed = TRUE))
      .abort("'tls' has a private key, which must not leave this machine: give the certificates only")
    return(text)
  }
  if (!file.exists(text))
    .abort("'tls' is \"", text, "\", which is neither certificates as PEM text nor a file of this machine; for a file of the ",
           "other machine give 'tlscert'")
  .launch_certificate(paste0(paste(readLines(text, warn = FALSE), collapse = "\n"), "\n"))
}

#' @export
print.miraiLaunchCmd <- function(x, ...) {
  for (i in seq_along(x)) cat(sprintf("[%d]\n%s\n\n", i, unclass(x)[i]))
  invisible(x)
}
