#' Find the configuration that suits this machine
#'
#' The defaults of setsuna suit most machines and most work. `tune()` tries other values of its knobs on this machine: each
#' value in turn, again and again, so that what else the machine does hits all of them alike. A value is chosen only if it
#' beats the default by a margin that is neither chance nor too small to matter.
#'
#' The same from the command line: `setsuna tune`, with the program `setsuna` in the package's `bin` folder; see
#' `setsuna tune --help`.
#'
#' @section What is measured:
#' * `"latency"`: the time of a round trip, `mirai(x, x = x)[]`.
#' * `"throughput"`: the time a task in a flood of them, collected.
#' * `"memory"`: memory of session and daemons behind a flood, each shared page counted once.
#' * `"power"`: CPU time of session and daemons for tasks that come now and then, and for idling. Where the processor counts
#'   the energy that it uses and the user may read that (Intel's RAPL, which virtual machines have not), energy.
#'
#' The work has the shape in which the knob matters: arguments of 300 bytes for `inline_bytes`, daemons that are connected over
#' TCP (on the loopback) for `prefetch`, and so on. For memory and power a value that makes the work more than 25 % slower is no
#' choice. At last all choices are tried together; if they are worse than the defaults, these are kept.
#'
#' @eval .knob_manual()
#'
#' @section The file:
#' JSON, with the knobs that differ from their defaults:
#' ```
#' {
#'   "setsuna_config": 1,
#'   "comment": {"goal": "latency", "machine": "..."},
#'   "knobs": {"spin": 50}
#' }
#' ```
#' `daemons(config = "FILE")` reads it, and so does each `daemons()` without `config` if the environment variable
#' `SETSUNA_CONFIG` holds its name.
#'
#' @param goal what is to be small: `"latency"`, `"throughput"` (the time of a task in a flood), `"memory"` or `"power"`.
#' @param quick `TRUE`: fewer and shorter samples, done in two minutes. Else it takes up to ten.
#' @param out name of the file to write; `NULL`: none.
#' @param knobs names of the knobs to try; `NULL`: those that matter for the goal.
#' @param plot name of a file for a plot, which ends in `.svg` or `.png`; `NULL`: none. (Printing shows one in text.)
#' @param progress `TRUE`: shows what is being done.
#' @return A list of class `setsunaTuning`, which prints as a report: `goal`, `knobs` (for each knob `chosen`, `table`, `why` and
#'   the samples), `together` (all choices against the defaults), `config` (a list for [daemons()]), `machine`, `notes`.
#' @seealso [daemons()], [status()].
#' @examples
#' \dontrun{
#' found <- tune("latency", quick = TRUE, out = "setsuna.json")
#' found
#' daemons(2, config = "setsuna.json")
#' status()$config$spin
#' daemons(0)
#' }
#'
#' # a configuration by hand
#' daemons(1, config = list(slots = 1024, spin = 20))
#' status()$config$slots
#' daemons(0)
#' @export
tune <- function(goal = c("latency", "throughput", "memory", "power"), quick = FALSE, out = NULL, knobs = NULL, plot = NULL,
                 progress = interactive()) {
  goal <- .tune_goal(goal)
  quick <- .flag(quick, "quick")
  progress <- .flag(progress, "progress")
  knobs <- .tune_names(knobs, goal)
  .tune_writable(out, "out")
  .tune_plot_type(plot)
  result <- .tune_run(goal, knobs, .tune_effort(quick), progress)
  if (!is.null(out)) .config_write(out, result$config, .tune_comment(result))
  if (!is.null(plot)) .tune_plot_file(result, plot)
  result
}

.tune_goal <- function(goal) {
  goals <- names(.tune_goals)
  if (identical(goal, goals)) return(goals[1L])
  if (!is.character(goal) || length(goal) != 1L || !goal %in% goals)
    .abort("'goal' must be one of ", toString(dQuote(goals, FALSE)), ", not ", .describe(goal))
  goal
}

.tune_names <- function(knobs, goal) {
  if (is.null(knobs)) return(.tune_goals[[goal]])
  known <- names(.tune_plan)
  if (!is.character(knobs) || !length(knobs) || anyNA(knobs))
    .abort("'knobs' must be names of knobs, or NULL, not ", .describe(knobs))
  unknown <- setdiff(knobs, known)
  if (length(unknown)) .abort("'knobs': there is no knob '", unknown[1L], "': there are ", toString(known))
  unique(knobs)
}

.tune_writable <- function(path, what) {
  if (is.null(path)) return()
  .string(path, what)
  if (dir.exists(path)) .abort("'", what, "' is the directory '", path, "': give the name of a file")
  if (file.access(dirname(path), 2L) != 0L) .abort("'", what, "': no file can be made in the directory '", dirname(path), "'")
}

# Rounds: samples of each value, at most; seconds: for all knobs together.
.tune_effort <- function(quick) {
  if (quick) list(rounds = 9L, scale = 0.25, seconds = 100) else list(rounds = 15L, scale = 1, seconds = 480)
}

.tune_fewest_rounds <- 5L # with fewer no difference is significant

.tune_run <- function(goal, knobs, effort, progress) {
  say <- .tune_teller(progress)
  found <- list()
  started <- .tune_clock()
  weights <- vapply(knobs, .tune_weight, 0)
  for (i in seq_along(knobs)) {
    left <- effort$seconds - (.tune_clock() - started)
    share <- left * weights[i] / (sum(weights[i:length(knobs)]) + 1) # one for the end
    say("[", i, "/", length(knobs), "] ", knobs[i])
    found[[knobs[i]]] <- .tune_knob(goal, knobs[i], effort, share, say)
  }
  config <- .tune_config(found)
  together <- NULL
  if (length(config)) {
    say("[end] all choices together")
    together <- .tune_together(goal, config, effort, max(5, effort$seconds - (.tune_clock() - started)), say)
    if (isTRUE(together$worse)) config <- list()
  }
  say(NULL)
  structure(list(goal = goal, knobs = found, together = together, config = config, machine = .tune_machine(),
                 notes = .tune_notes(goal, effort)), class = "setsunaTuning")
}

# Of the time that there is: where daemons start from nothing for each sample, most of it goes into that.
.tune_weight <- function(knob) if (.knob_table()[knob, "session"]) 4 else if (.tune_is_remote(.tune_plan[[knob]]$work)) 3 else 1

# Overwrites one line of a terminal; elsewhere a line for each message. NULL ends it.
.tune_teller <- function(progress) {
  terminal <- isatty(stderr())
  last <- ""
  function(...) {
    if (!progress) return(invisible())
    text <- paste0(...)
    if (!length(text)) text <- ""
    if (!terminal) {
      if (nzchar(text) && !identical(sub(": round.*", "", text), last)) message(text)
      last <<- sub(": round.*", "", text)
    } else {
      cat("\r", formatC(text, width = -70L), if (!nzchar(text)) "\r", sep = "", file = stderr())
    }
  }
}

# Samples of each value in turn, in another order each round, until the rounds or the seconds are over.
.tune_rounds <- function(configs, goal, work, effort, seconds, apart, tell) {
  measure <- if (apart) .tune_sample_apart else .tune_sample
  costs <- times <- stats::setNames(rep(list(numeric()), length(configs)), names(configs))
  start <- .tune_clock()
  longest <- 0
  for (round in 0:effort$rounds) { # round 0 warms up
    begun <- .tune_clock()
    if (round > 1L && begun - start + longest > seconds) break
    tell(round)
    for (value in .tune_order(names(configs), round)) {
      sample <- measure(goal, work, configs[[value]], effort$scale)
      if (round == 0L) next
      costs[[value]] <- c(costs[[value]], sample[["cost"]])
      times[[value]] <- c(times[[value]], sample[["time"]])
    }
    longest <- max(longest, .tune_clock() - begun)
  }
  list(costs = costs, times = times)
}

# Not by sample(): the session's random numbers are not touched.
.tune_order <- function(names, round) {
  turned <- names[(seq_along(names) + round) %% length(names) + 1L]
  if (round %% 2L) rev(turned) else turned
}

.tune_knob <- function(goal, knob, effort, seconds, say) {
  table <- .knob_table()
  default <- .knob_defaults()[[knob]]
  values <- unique(c(list(default), as.list(.tune_plan[[knob]]$values)))
  labels <- vapply(values, .tune_label, "")
  configs <- stats::setNames(lapply(values, function(value) stats::setNames(list(value), knob)), labels)
  samples <- tryCatch(
    .tune_rounds(configs, goal, .tune_plan[[knob]]$work, effort, seconds, table[knob, "session"],
                 function(round) say(knob, ": round ", round, " of at most ", effort$rounds)),
    error = function(e) conditionMessage(e))
  if (is.character(samples))
    return(list(chosen = labels[1L], value = default, default = labels[1L], table = NULL,
                why = paste("default kept: it could not be measured:", samples)))
  decision <- .tune_decide(samples$costs, labels[1L], if (goal %in% c("memory", "power")) samples$times)
  c(decision, list(value = values[[match(decision$chosen, labels)]], default = labels[1L], samples = samples$costs,
                   work = .tune_plan[[knob]]$work))
}

.tune_label <- function(value) if (is.character(value)) value else .knob_number(value)

.tune_config <- function(found) {
  changed <- Filter(function(knob) knob$chosen != knob$default, found)
  if (length(changed)) lapply(changed, `[[`, "value") else list()
}

.tune_together <- function(goal, config, effort, seconds, say) {
  apart <- any(.knob_table()[names(config), "session"])
  work <- if (any(.tune_is_remote(vapply(names(config), function(knob) .tune_plan[[knob]]$work, "")))) "remote" else "small"
  samples <- tryCatch(
    .tune_rounds(list(defaults = list(), chosen = config), goal, work, effort, seconds, apart,
                 function(round) say("all together: round ", round)),
    error = function(e) conditionMessage(e))
  if (is.character(samples)) return(list(worse = TRUE, why = paste("the choices do not work together:", samples)))
  compared <- .tune_compare(samples$costs$defaults, samples$costs$chosen)
  compared$worse <- !is.na(compared$p) && compared$p < .tune_level && compared$gain < -.tune_least_gain
  compared$work <- work
  compared
}

# ---- about the machine ----

.tune_machine <- function() {
  cpu <- grep("^model name", .tune_lines("/proc/cpuinfo"), value = TRUE)
  memory <- grep("^MemTotal:", .tune_lines("/proc/meminfo"), value = TRUE)
  c(
    cpu = if (length(cpu)) trimws(sub("^[^:]*:", "", cpu[1L])) else "unknown",
    cpus = as.character(.tune_daemons()),
    memory = if (length(memory)) paste(round(as.numeric(gsub("[^0-9]", "", memory[1L])) / 1024^2, 1), "GB") else "unknown",
    kernel = unname(Sys.info()[["release"]]),
    r = paste(R.version$major, R.version$minor, sep = "."),
    setsuna = as.character(utils::packageVersion("setsuna")),
    date = format(Sys.time(), "%Y-%m-%d %H:%M")
  )
}

.tune_notes <- function(goal, effort) {
  if (goal != "power") return(character())
  if (length(.tune_rapl())) return("Energy was read from RAPL: the costs are in microjoules a task.")
  "No energy counter (RAPL) can be read here, as in most virtual machines: CPU time stands for energy."
}

.tune_comment <- function(result) {
  c(list(goal = result$goal), as.list(result$machine),
    list(found = lapply(result$knobs, function(knob) paste0(knob$chosen, " (", knob$why, ")"))))
}

# ---- the command line ----

# `setsuna tune`: arguments of tune() as NAME=R-CODE, checked by the program.
.tune_main <- function(args) {
  given <- .code_arguments(args)
  result <- tryCatch(do.call(tune, c(given, list(progress = TRUE))), error = function(e) {
    message("setsuna tune: ", conditionMessage(e))
    NULL
  })
  if (is.null(result)) return(1L)
  print(result)
  if (!is.null(given$out)) cat("\nWritten: ", given$out, ". Use it by daemons(config = \"", given$out, "\") or SETSUNA_CONFIG=",
                               given$out, "\n", sep = "")
  0L
}
