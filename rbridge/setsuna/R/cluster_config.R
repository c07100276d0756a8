#' Launch through a cluster's scheduler
#'
#' A launch configuration for [launch_remote()] and the `remote` argument of [daemons()]: daemons are jobs of Slurm
#' (`sbatch`), of Grid Engine, PBS or Torque (`qsub`), or of LSF (`bsub`). Several are one job array. The scheduler gets its
#' script by standard input, and the token that lets a daemon join is on no command line.
#'
#' The ids of the jobs are kept: [status()] shows in `$launches` which wait, run or have failed, and why. Jobs that are left
#' are cancelled when the profile is reset.
#'
#' @param command `"sbatch"`, `"qsub"` or `"bsub"`; or a path to one of them.
#' @param options lines of text for the script: what the scheduler wants to know (`#SBATCH`, `#$`, `#PBS`, `#BSUB`), and other
#'   shell commands to be run before R is started. One string with newlines, or several.
#' @inheritParams remote_config
#' @return A list, to be given to [daemons()] or [launch_remote()].
#' @examples
#' # Slurm
#' cluster_config(
#'   command = "sbatch",
#'   options = "#SBATCH --job-name=setsuna
#'              #SBATCH --mem=10G
#'              #SBATCH --output=job.out
#'              module load R/4.5.0"
#' )
#'
#' # Grid Engine
#' cluster_config("qsub", options = c("#$ -N setsuna", "#$ -l h_vmem=10G"))
#'
#' # LSF
#' cluster_config("bsub", options = "#BSUB -M 10000", rscript = "/opt/R/bin/Rscript")
#'
#' if (interactive()) {
#'   daemons(n = 4, url = host_url(ws = TRUE), remote = cluster_config("sbatch"))
#' }
#' @export
cluster_config <- function(command = c("sbatch", "qsub", "bsub"), options = "", rscript = "Rscript") {
  known <- c("sbatch", "qsub", "bsub")
  if (missing(command)) command <- known[1L]
  if (!is.character(command) || length(command) != 1L || is.na(command) || !basename(command) %in% known)
    .abort("'command' must be one of ", toString(dQuote(known, FALSE)), ", or a path to it, not ", .describe(command))
  if (!is.character(options) || anyNA(options)) .abort("'options' must be text, not ", .describe(options))
  list(type = "cluster", command = command, options = options, rscript = .string(rscript, "rscript"))
}

# One job, or one array of jobs: `urls` is where each daemon dials.
.launch_by_cluster <- function(config, urls, arguments, name) {
  scheduler <- .scheduler(basename(config$command))
  if (!nzchar(Sys.which(config$command)))
    .abort("'command' is \"", config$command, "\", which is not on this machine: give its path, or start R where jobs are ",
           "submitted")
  job <- scheduler$submit(config, length(urls), function(index) {
    url <- .r_code(unique(urls))
    if (length(unique(urls)) > 1L) url <- paste0(url, "[as.integer(Sys.getenv('", index, "'))]")
    .cluster_script(config, .daemon_program_text(url, arguments))
  })
  .add_job(name, job)
}

.cluster_script <- function(config, program) {
  lines <- sub("^[ \t]+#", "#", unlist(strsplit(config$options, "\n", fixed = TRUE)))
  paste(c("#!/bin/sh", lines, .shell_here_document(program, config$rscript), ""), collapse = "\n")
}

# Each has submit(config, n, script), whose `script` is a function of the variable that counts the jobs of an array; and
# state(job) and cancel(job) of what submit() gives.
.scheduler <- function(command) switch(command, sbatch = .slurm, qsub = .qsub, bsub = .lsf)

# Other programs of a scheduler lie beside the one that was named with a path.
.sibling <- function(command, name) if (grepl("/", command, fixed = TRUE)) file.path(dirname(command), name) else name

.submit <- function(config, args, script) {
  answer <- .run_tool(config$command, args, script)
  if (!is.null(attr(answer, "status")))
    .abort("'remote': ", config$command, " refused the job: ", paste(answer, collapse = " "))
  answer
}

# The one id in a scheduler's answer, which may be among other lines.
.job_id <- function(answer, pattern, config) {
  found <- regmatches(answer, regexec(pattern, answer, perl = TRUE))
  found <- found[lengths(found) > 0L]
  if (!length(found)) .abort("'remote': ", config$command, " gave no job id: ", paste(answer, collapse = " "))
  found[[1L]][2L]
}

.job_rows <- function(id, state, why) data.frame(id = id, state = state, why = ifelse(is.na(why) | why == "None", "", why))

# A job that its scheduler does not know any more has ended: as it was last seen, if that says how.
.last_state <- function(job, table) {
  key <- paste(job$kind, job$id)
  if (is.null(table)) {
    table <- .seen_states[[key]]
    if (is.null(table)) return(.job_rows(job$id, "unknown", "the scheduler does not know the job (any more)"))
    table$state[table$state %in% c("pending", "running")] <- "ended"
  }
  .seen_states[[key]] <- table
  table
}

.seen_states <- new.env(parent = emptyenv())
