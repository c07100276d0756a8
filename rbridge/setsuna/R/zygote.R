# The R side of the fork server (zygote), of the daemons that it forks, and of the host that starts it.

# ---- entry of the executable setsuna-daemon ----

.daemon_main <- function(mode, args) {
  Sys.unsetenv("SETSUNA_CHILD")
  status <- switch(mode,
    zygote = .zygote_main(.option_words(args, "--preload=")),
    child = .exec_child_main(args),
    dial = .dial_main(args),
    command = .command_main(args),
    tune = .tune_main(args)
  )
  quit("no", status, runLast = FALSE)
}

.option_words <- function(args, option) {
  found <- args[startsWith(args, option)]
  if (!length(found)) return(character())
  strsplit(substring(found[length(found)], nchar(option) + 1L), ",", fixed = TRUE)[[1L]]
}

# setsuna-daemon URL ARGUMENT=VALUE ...: a value is R code, or text if it does not parse
.dial_main <- function(args) {
  do.call(get("daemon", topenv()), c(list(args[1L]), .code_arguments(args[-1L])))
}

.code_arguments <- function(words) {
  parts <- regmatches(words, regexpr("=", words, fixed = TRUE), invert = TRUE)
  bad <- lengths(parts) != 2L
  if (any(bad)) stop("setsuna-daemon: '", words[bad][1L], "' is not of the form ARGUMENT=VALUE", call. = FALSE)
  values <- lapply(parts, function(part) tryCatch(eval(str2lang(part[2L]), baseenv()), error = function(e) part[2L]))
  names(values) <- vapply(parts, `[`, "", 1L)
  values
}

# setsuna daemon URL ...: the reason why it ended is no failure.
.command_main <- function(args) {
  .dial_main(args)
  0L
}

# ---- fork server ----

.zygote_main <- function(preload) {
  threaded <- .preload(preload)
  inherited <- .Call(C_initial_names)
  startup <- setdiff(names(.Call(C_process_environment)), inherited)
  .steady_sigint()
  eapply(topenv(), identity, all.names = TRUE) # loads each function now and not in every daemon
  for (i in 1:2) .rehearse()
  # No gc() here: it takes 17 ms, and daemons would copy hardly fewer pages in their own collections.
  .Call(C_zygote_open, .exec_command(preload), threaded)
  suspendInterrupts(.zygote_rounds(startup))
}

# In the fork server and, from the return of C_zygote_loop on, in each daemon: whatever R does before the fork, down to the
# handlers around the task loop, daemons have done.
.zygote_rounds <- function(startup) {
  outcome <- .daemon_rounds(C_zygote_loop, .zygote_step(startup))
  if (is.null(outcome)) return(0L)
  .Call(C_daemon_leave, outcome)
  .Call(C_daemon_exit, outcome)
}

# What the loop asks of R: a raw vector is a configuration to apply; a list is the link of a daemon, which this process now
# is, whose configuration has to be looked at in R; a string is why there is no going on.
.zygote_step <- function(startup) {
  config <- NULL
  state <- list(startup = startup, shared = NULL)
  function(step) {
    if (is.character(step)) stop(step, call. = FALSE)
    if (is.list(step)) {
      .Call(C_daemon_tempdir)
      allowInterrupts(.daemon_child(step, config))
    }
    .Call(C_zygote_configured, tryCatch({
      config <<- unserialize(step)
      state$shared <<- .apply_shared(config$shared, state)
      .daemon_plan(config)
      NULL
    }, error = conditionMessage))
  }
}

# With a plan, a new daemon goes online without a word of R.
.daemon_plan <- function(config) {
  options <- config$daemon
  numbers <- if (is.null(config$entry) && !is.null(options$stream)) .daemon_numbers(options)
  .Call(C_daemon_plan, numbers, options$stream, config$threads, options$serial,
        .restore_scope(options$forked %||% TRUE), .calm)
}

# What daemons do first in R, for nothing: functions of base are loaded from disk at their first use, and memory that is
# written to before the fork need not be copied after it.
.rehearse <- function() {
  .Call(C_rehearse_tempdir)
  exists(".Random.seed", globalenv(), inherits = FALSE)
  bitwAnd(1L, 1L)
  .limit(Inf)
  .restore_scope(TRUE)
  calls <- NULL
  remember <- function(e) calls <<- sys.calls()
  suspendInterrupts(tryCatch(
    withCallingHandlers(allowInterrupts(.depth()), error = remember),
    error = identity,
    interrupt = identity
  ))
}

# Loads the packages and returns the names of those after which there are more threads than one.
.preload <- function(packages) {
  threads <- .Call(C_thread_count)
  threaded <- character()
  for (package in packages) {
    loadNamespace(package)
    now <- .Call(C_thread_count)
    if (now > max(threads, 1L)) threaded <- c(threaded, package)
    threads <- now
  }
  threaded
}

.exec_command <- function(preload) {
  c(
    normalizePath("/proc/self/exe"),
    paste0("--library=", dirname(getNamespaceInfo(topenv(), "path"))),
    if (length(preload)) paste0("--preload=", paste(preload, collapse = ","))
  )
}

# ---- daemons ----

# A daemon that was started by exec: nothing of its configuration is applied yet.
.exec_child_main <- function(args) {
  .steady_sigint()
  .preload(.option_words(args, "--preload="))
  words <- args[startsWith(args, "--child=")]
  numbers <- as.numeric(strsplit(substring(words, 9L), "[.:,]")[[1L]])
  numbers <- as.integer(numbers - ifelse(numbers >= 2^31, 2^32, 0)) # 32 bits without a sign
  link <- list(index = numbers[1L], epoch = numbers[2L], segment = numbers[3L], host_page = numbers[4L],
               refill = numbers[5L])
  config <- NULL
  if (numbers[6L] >= 0L) {
    config <- unserialize(.Call(C_read_fd, numbers[6L]))
    state <- list(startup = setdiff(names(.Call(C_process_environment)), .Call(C_initial_names)), shared = NULL)
    .apply_shared(config$shared, state)
  }
  .daemon_child(link, config)
}

# Runs in each daemon, on top of an R that is as the zygote left it. Does not return.
.daemon_child <- function(link, config) {
  .Call(C_set_threads, config$threads)
  # One with a stream replaces the fork server's seed.
  if (is.null(config$daemon$stream) && exists(".Random.seed", globalenv(), inherits = FALSE))
    rm(".Random.seed", envir = globalenv())
  status <- if (is.null(config$entry)) {
    .daemon_run(link, config$daemon)
  } else {
    tryCatch({
      eval(config$entry, globalenv())
      0L
    }, error = function(e) {
      message("Error: ", conditionMessage(e))
      1L
    })
  }
  .Call(C_daemon_exit, status)
}

# ---- configuration: what the host's session hands on ----

.locale_categories <- c("LC_COLLATE", "LC_CTYPE", "LC_MONETARY", "LC_NUMERIC", "LC_TIME", "LC_MESSAGES", "LC_PAPER",
                        "LC_MEASUREMENT")

# A process's own, not to be handed on.
.private_variables <- c("R_SESSION_TMPDIR", "SETSUNA_CHILD", "SETSUNA_DAEMON")

# The configuration of daemons started now, as the bytes that go into a fork request. `daemon`: list of the arguments of
# the task loop; `entry`: an expression to evaluate in the daemon instead of the task loop.
.host_config <- function(daemon = list(), entry = NULL) {
  env <- .Call(C_process_environment)
  shared <- list(
    env = env[!names(env) %in% .private_variables],
    directory = getwd(),
    libraries = .libPaths(),
    locale = vapply(.locale_categories, Sys.getlocale, ""),
    umask = .Call(C_get_umask),
    affinity = .Call(C_get_affinity)
  )
  config <- list(shared = shared, threads = .Call(C_get_threads), daemon = daemon, entry = entry)
  serialize(config, NULL, xdr = FALSE, version = 3L)
}

# Applied in the zygote, before it forks. Returns what is now in force, for the next call. Numeric libraries have read
# their variables when they were loaded, with a single thread; what the host has reaches those that tasks load.
.apply_shared <- function(shared, state) {
  if (identical(shared, state$shared)) return(shared)
  .apply_environment(shared$env, state$startup)
  if (!is.null(shared$directory) && !identical(getwd(), shared$directory)) {
    tryCatch(setwd(shared$directory), error = function(e) {
      stop("cannot change to the working directory '", shared$directory, "'", call. = FALSE)
    })
  }
  assign(".lib.loc", shared$libraries, envir = environment(.libPaths))
  for (category in names(shared$locale)) {
    wanted <- shared$locale[[category]]
    if (!identical(Sys.getlocale(category), wanted)) suppressWarnings(Sys.setlocale(category, wanted))
  }
  .Call(C_set_umask, shared$umask)
  .Call(C_set_affinity, shared$affinity)
  shared
}

# `kept`: variables set by the zygote's own startup files. A host that does not have them (because it was started without
# these files) does not take them away; what it has wins.
.apply_environment <- function(env, kept) {
  current <- .Call(C_process_environment)
  gone <- setdiff(names(current), c(names(env), kept, .private_variables))
  if (length(gone)) Sys.unsetenv(gone)
  old <- current[names(env)]
  changed <- env[is.na(old) | old != env]
  if (length(changed)) do.call(Sys.setenv, as.list(changed))
  if (any(c(gone, names(changed)) == "TZ")) .forget_timezone()
}

# Sys.timezone() remembers its first answer.
.forget_timezone <- function() {
  base <- baseenv()
  if (!exists(".sys.timezone", base, inherits = FALSE)) return()
  locked <- bindingIsLocked(".sys.timezone", base)
  if (locked) unlockBinding(".sys.timezone", base)
  assign(".sys.timezone", NA_character_, envir = base)
  if (locked) lockBinding(".sys.timezone", base)
}

# ---- host ----

# Not system.file(): it reads the descriptions of all installed copies of the package, and mirai() without daemons asks
# each time.
.daemon_program <- function() {
  program <- file.path(getNamespaceInfo("setsuna", "path"), "bin", "setsuna-daemon")
  if (!file.exists(program)) .abort("the program '", program, "' is missing: install setsuna again")
  program
}

# What only a fresh start of R honours. When it changes, the host replaces its zygote.
.zygote_key <- function(preload = NULL) {
  variables <- c("R_DEFAULT_PACKAGES", "R_PROFILE", "R_PROFILE_USER", "R_ENVIRON", "R_ENVIRON_USER", "R_HOME",
                 "R_ENABLE_JIT", "R_MAX_VSIZE", "LD_LIBRARY_PATH", "LD_PRELOAD", "HOME")
  first_file <- function(...) Find(file.exists, c(...))
  files <- c(
    first_file(Sys.getenv("R_PROFILE_USER", ".Rprofile"), "~/.Rprofile"),
    first_file(Sys.getenv("R_ENVIRON_USER", ".Renviron"), "~/.Renviron")
  )
  files <- normalizePath(as.character(files))
  list(env = Sys.getenv(variables, NA), files = files, changed = file.mtime(files), preload = preload)
}
