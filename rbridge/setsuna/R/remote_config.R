#' Launch with a command
#'
#' A launch configuration for [launch_remote()] and the `remote` argument of [daemons()]: each daemon is started by a command
#' of your own, such as that of a cluster's resource manager or of a container.
#'
#' The command runs through the shell on this machine, in the background. `args` are pasted into it as they are: one may hold
#' several words, and what has spaces within a word is to be quoted. An argument `"."` stands for the command that starts a
#' daemon; this machine's other users can read it in their lists of processes, and with it the token that lets a daemon join.
#' If there is no `"."`, the daemon's R program comes by standard input instead, which nobody sees: the command is then to end
#' in an R that reads it, such as `Rscript -`.
#'
#' @param command the program, or `NULL`: [launch_remote()] then only returns the shell commands.
#' @param args arguments of the program, as text; or a list of such vectors, one for each daemon.
#' @param rscript the program `Rscript` of the other machine: its name, or its path.
#' @param quote `TRUE`: the daemon's command is one argument, to be read by a further shell (as for `ssh`, or `sbatch --wrap`);
#'   `FALSE`: its words are arguments of their own (as for `srun`).
#' @return A list, to be given to [daemons()] or [launch_remote()].
#' @seealso [ssh_config()], [cluster_config()], [http_config()].
#' @examples
#' # Slurm: a daemon for each call of srun
#' remote_config(command = "srun", args = c("--mem 512 -n 1", "."))
#'
#' # two machines through a program that passes on one command line, as ssh does
#' remote_config(
#'   command = "ssh",
#'   args = list(c("-p 22 node1", "."), c("-p 22 node2", ".")),
#'   quote = TRUE
#' )
#'
#' # a container; the program comes by standard input
#' remote_config("docker", c("run --rm -i --network host r-setsuna", "Rscript -"))
#' @export
remote_config <- function(command = NULL, args = c("", "."), rscript = "Rscript", quote = FALSE) {
  if (!is.null(command)) .string(command, "command")
  each <- if (is.list(args)) args else list(args)
  bad <- !vapply(each, function(one) is.character(one) && !anyNA(one) && length(one) > 0L, NA)
  if (!length(each) || any(bad))
    .abort("'args' must be text, or a list of character vectors, not ", .describe(if (any(bad)) each[bad][[1L]] else args))
  list(type = "command", command = command, args = args, rscript = .string(rscript, "rscript"), quote = .flag(quote, "quote"))
}

# A daemon for each of `programs`, over the sets of arguments in turn.
.launch_by_command <- function(config, programs, name, output) {
  sets <- if (is.list(config$args)) config$args else list(config$args)
  for (i in seq_along(programs)) {
    args <- sets[[(i - 1L) %% length(sets) + 1L]]
    by_argument <- args == "."
    text <- .shell_command(programs[i], config$rscript)
    args[by_argument] <- if (config$quote) shQuote(text, "sh") else text
    line <- paste(c(.shell_word(config$command), args[nzchar(args)]), collapse = " ")
    .start_launcher(name, config$command, line, if (any(by_argument)) "" else programs[i], output)
  }
}
