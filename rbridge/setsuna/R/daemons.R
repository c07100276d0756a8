#' Set daemons
#'
#' Daemons are background processes that evaluate mirai, one at a time each, until they are reset. `daemons(n)` starts `n` of
#' them on this machine; they are online when it returns. `daemons(0)` resets: the daemons end, unfinished mirai resolve to an
#' `errorValue` of 7, and later ones get a process of their own each, as before. Calling `daemons()` again replaces what was
#' set. Daemons end with this session, whatever way it ends.
#'
#' @section What a daemon inherits:
#' A daemon has the environment variables, working directory, library paths, locale, time zone and CPU affinity that this
#' session has at the call of `daemons()`; the environment's startup files apply as for `Rscript`. Its random numbers come
#' from a stream of its own (see below). It does not have this session's variables, options or packages: send what a task
#' needs with it, or set it up with [everywhere()].
#'
#' @section Daemons on other machines:
#' With a `url` daemons come from elsewhere: started by `remote`, by [launch_remote()], or by hand with the commands that
#' `launch_remote()` shows. A single URL without `n` takes any number of them, which may come and go at any time. With `n`, or
#' with several URLs, each is the place of one daemon: WebSocket URLs get the paths `/1`, `/2` and so on, others the next ports.
#' Port 0 takes a free one; the value without dispatcher, and [status()], show which. A host name that is this machine's own
#' listens at all of its addresses. Local daemons can be added with [launch_local()].
#'
#' A connection that is cut off is noticed at the latest after 35 seconds; the tasks of that daemon resolve to an `errorValue`
#' of 19, or run again (`.retry`).
#'
#' @section How tasks are distributed:
#' With `dispatcher = TRUE` there is one queue, first in, first out, and a task goes to the first daemon that is free. With
#' `dispatcher = FALSE` a task is given to a daemon at once, to each in turn, and waits there behind what that daemon has to
#' do: for tasks of similar length. (There is no dispatcher process in either case: daemons take tasks from memory that they
#' share with this session.)
#'
#' @section Compute profiles:
#' Any number of sets of daemons can exist side by side, each under a name given as `.compute`; the default has the name
#' 'default'. Tasks go to the profile named in `.compute` of [mirai()], or see [with_daemons()].
#'
#' The value has a method for `with()`: `with(daemons(4), { ... })` evaluates the expression with these daemons and resets
#' them afterwards.
#'
#' @section Random numbers:
#' Each daemon has a stream of L'Ecuyer's generator, so that no two daemons draw the same numbers. With a `seed` each *task*
#' has a stream instead, in the order of submission, which makes results the same for any number of daemons: the streams are
#' those that [parallel::nextRNGStream()] gives, started from `set.seed(seed, "L'Ecuyer-CMRG")`. The generator of this session
#' is not touched.
#'
#' @param n number of daemons. 0 resets; `NULL` resets and also ends daemons that would otherwise persist
#'   (`autoexit = FALSE`). If it is missing and nothing else is given, the value is that of [status()].
#' @param url where to listen for daemons: text such as [host_url()], `"tcp://192.168.1.5:5555"`, `"wss://host:5555/path"` or
#'   `"abstract://name"`. Nothing is started on this machine: processes that call [daemon()] join. See below.
#' @param remote how to launch daemons on other machines, one for each URL, or one for each machine where all share one URL: by
#'   [ssh_config()], [cluster_config()], [http_config()] or [remote_config()]. See [launch_remote()].
#' @param dispatcher `TRUE`: one queue for all daemons; `FALSE`: tasks are given to daemons in turn. See below.
#' @param ... arguments of [daemon()] for each of the daemons: `autoexit`, `cleanup`, `output`, `idletime`, `walltime`,
#'   `maxtasks`.
#' @param sync `TRUE`: no daemons at all; tasks are evaluated in this session when they are submitted, for debugging. `n` is not
#'   needed then.
#' @param seed an integer: a reproducible stream of random numbers for each task. See below.
#' @param memory megabytes that the arguments of unfinished tasks may take. Where they are full, [mirai()] waits (and can be
#'   interrupted), and [try_mirai()] gives `NULL`. Default: half of the memory that this process can have.
#' @param serial a value of [serial_config()]: how objects that are handles to something outside of R travel.
#' @param tls for URLs that begin with `tls+tcp://` or `wss://`: the certificate and private key of this side, a file that
#'   holds both or a character vector of two texts in PEM format. `NULL`: single-use ones are made; [launch_remote()] hands
#'   the certificate to the daemons, the key stays here.
#' @param pass password of an encrypted private key.
#' @param .compute name of the compute profile; `NULL` for the one in force, usually 'default'.
#' @param spin microseconds for which a process that waits looks for an answer before it sleeps, whatever comes: shortens round
#'   trips, costs CPU time. With 0, the default, it looks only for what the other side has said to be a moment away (20 at most).
#' @param respawn `TRUE`: a daemon that dies is replaced. (Not one that ends by itself, because of `maxtasks`, say.)
#' @param preload names of packages that are loaded once, before daemons are forked, instead of in each.
#' @param auth `TRUE`: daemons that come over the network must prove that they know the profile's token, which the commands of
#'   [launch_remote()] hold. `FALSE`: whoever reaches the URL may join, and so run code of this session's user.
#' @param config values of knobs, see [tune()]: the file that `tune()` wrote, or a list such as `list(slots = 4096)`. `NULL`: the
#'   file that the environment variable `SETSUNA_CONFIG` names, if it is set. `spin`, where it is given, goes before.
#' @param trace a file name: what becomes of each task is written to it, in the format of Chrome's and Perfetto's viewers;
#'   `TRUE`: it is kept in memory only. In both cases [setsuna_profile()] gives it as a data frame. `NULL`: off.
#' @return The number of daemons set, or the URL when listening without dispatcher: an object of class `miraiDaemons` that
#'   prints as that. A reset gives 0.
#' @seealso [status()], [everywhere()], [launch_local()], [daemon()].
#' @examples
#' daemons(2)
#' mirai(Sys.getpid())[] == Sys.getpid()
#' status()
#' daemons(0)
#'
#' # results that do not depend on the number of daemons
#' with(daemons(2, seed = 42), mirai_map(1:2, function(i) runif(1))[.flat])
#' with(daemons(1, seed = 42), mirai_map(1:2, function(i) runif(1))[.flat])
#'
#' # a second set, with a limit on each of its daemons
#' daemons(1, idletime = 60000, .compute = "other")
#' mirai("from the other", .compute = "other")[]
#' daemons(0, .compute = "other")
#'
#' # in this process, to debug
#' with(daemons(sync = TRUE), mirai(Sys.getpid())[] == Sys.getpid())
#' @export
daemons <- function(n, url = NULL, remote = NULL, dispatcher = TRUE, ..., sync = FALSE, seed = NULL, memory = NULL,
                    serial = NULL, tls = NULL, pass = NULL, .compute = NULL, spin = 0, respawn = TRUE, preload = NULL,
                    auth = TRUE, config = NULL, trace = NULL) {
  name <- .profile_name(.compute)
  .refuse_in_startup()
  sync <- .flag(sync, "sync")
  if (missing(n) && is.null(url) && !sync) {
    if (nargs() > !is.null(.compute)) .abort("'n' is missing: give the number of daemons, or 0 to reset")
    return(status(name))
  }
  if (!missing(n) && is.null(n)) return(.reset(name, persistent = TRUE))
  if (!missing(n)) n <- .count(n, "n")
  if (!missing(n) && n == 0L && is.null(url)) return(.reset(name))
  .check_remote(remote, url)
  traced <- .trace_options(trace, name, sync)
  knobs <- .config_knobs(config)
  if (!missing(spin)) knobs$spin <- .spin(spin)
  listen <- .listen_urls(if (!missing(n)) n, url)
  listen$access <- .access(name, listen$urls, tls, pass, auth)
  options <- .profile_options(name, dispatcher, list(...), seed, memory, serial, knobs, respawn, preload, listen)
  options[names(traced)] <- traced
  if (sync) return(.set_sync(name, options))
  if (is.null(url)) return(.set_local(name, n, options))
  value <- .set_listener(name, options)
  if (!is.null(remote)) .launch_all(name, remote)
  value
}

.refuse_in_startup <- function(what = "daemons()") {
  if (nzchar(Sys.getenv("SETSUNA_CHILD")))
    .abort(what, " was called while a daemon's own R starts (in .Rprofile?): guard it with ",
           "if (!nzchar(Sys.getenv(\"SETSUNA_CHILD\")))")
}

.set_local <- function(name, n, options) {
  if (n > 1024L) .abort("'n' is ", n, ": at most 1024 daemons can share one machine's memory")
  id <- .open_profile(name, options, n)
  problem <- .Call(C_profile_wait_online, id, n)
  if (!is.null(problem)) {
    .reset(name)
    .abort("the daemons did not start: ", .start_problem(problem))
  }
  .warn_of_threads(options)
  .daemons_value(n, name)
}

.start_problem <- function(text) if (nzchar(text)) text else "their processes ended at once"

# A process with threads cannot be forked safely: its daemons are fresh processes, which takes a tenth of a second for each.
.warn_of_threads <- function(options) {
  packages <- if (length(options$preload)) .Call(C_threaded_packages, options$zygote_key) else ""
  if (nzchar(packages))
    warning("'preload': loading ", packages, " starts threads, so daemons start slowly, each as a process of its own; ",
            "leave it out and load it with everywhere(library(...))", call. = FALSE)
}

.set_listener <- function(name, options) {
  .open_profile(name, options, 0L)
  urls <- .profiles[[name]]$urls
  .daemons_value(if (options$dispatcher) length(urls) else urls, name)
}

.open_profile <- function(name, options, n) {
  .Call(C_profile_set_sync, name, FALSE)
  .profiles[[name]] <- NULL
  .jobs_cancel(name)
  if (isTRUE(options$traced)) .write_traces_at_exit()
  id <- .Call(C_profile_open, options, n)
  urls <- .Call(C_profile_urls, id)
  .profiles[[name]] <- list(id = id, n = if (options$given_url) length(urls) else n, dispatcher = options$dispatcher,
                            url = if (length(urls)) urls[1L] else "", urls = urls,
                            listens = if (!options$given_url) "nowhere" else if (options$shared) "shared" else "seats",
                            access = options$access, stream = options$stream, seeded = options$seeded,
                            serial = options$serial, daemon = options$daemon, knobs = .knobs_with_session(options$knobs_shown),
                            trace_path = options$trace_path)
  id
}

.reset <- function(name, persistent = FALSE) {
  if (persistent) .tokens[[name]] <- NULL
  if (.Call(C_profile_is_sync, name)) .Call(C_profile_set_sync, name, FALSE)
  .Call(C_profile_close, name, TRUE, persistent)
  .jobs_cancel(name)
  .profiles[[name]] <- NULL
  0L
}

# What R knows of each profile that is set, by name. The task queue and the processes are the native code's.
.profiles <- new.env(parent = emptyenv())

# NULL if no daemons are set.
.profile <- function(name) {
  record <- .profiles[[name]]
  current <- if (is.null(record$sync)) identical(.Call(C_profile_id, name), record$id) else .Call(C_profile_is_sync, name)
  if (current) record
}

.set_profile <- function(name) {
  record <- .profile(name)
  if (is.null(record)) .abort(.unset_text(name))
  record
}

.unset_text <- function(name) {
  if (name == "default") "No daemons set. Use e.g. setsuna::daemons(6) to set 6 local daemons."
  else paste0("No daemons set for the '", name, "' compute profile. Use e.g. setsuna::daemons(6, .compute = \"", name,
              "\") to set 6 local daemons.")
}

.daemons_value <- function(value, name) structure(value, class = "miraiDaemons", compute = name)

#' @export
print.miraiDaemons <- function(x, ...) {
  print(.plain(x), ...)
  invisible(x)
}

.plain <- function(x) {
  attributes(x) <- NULL
  x
}

#' @export
format.miraiDaemons <- function(x, ...) format(.plain(x), ...)

#' @exportS3Method all.equal miraiDaemons
all.equal.miraiDaemons <- function(target, current, ...) all.equal(.plain(target), current, ...)

#' @exportS3Method waldo::compare_proxy
compare_proxy.miraiDaemons <- function(x, path = "x") list(object = .plain(x), path = path)

#' @rawNamespace S3method(utils::str, miraiDaemons)
str.miraiDaemons <- function(object, ...) utils::str(.plain(object), ...)

#' @export
with.miraiDaemons <- function(data, expr, ...) {
  name <- attr(data, "compute", exact = TRUE)
  before <- .Call(C_set_default_profile, name)
  on.exit({
    .Call(C_set_default_profile, before)
    .reset(name)
  })
  expr
}

# ---- options of a profile ----

.daemon_defaults <- list(autoexit = TRUE, cleanup = TRUE, output = FALSE, idletime = Inf, walltime = Inf, maxtasks = Inf)

# `...` of daemons() and launch_local(): the arguments of daemon() that make sense for a local process.
.daemon_options <- function(given) {
  if (length(given) && (is.null(names(given)) || !all(nzchar(names(given)))))
    .abort("all ... arguments must be named: they are arguments of daemon()")
  unknown <- setdiff(names(given), names(.daemon_defaults))
  if (length(unknown))
    .abort("there is no argument '", unknown[1L], "': daemon() has, for local daemons, ", toString(names(.daemon_defaults)))
  options <- .daemon_defaults
  options[names(given)] <- given
  for (name in c("idletime", "walltime", "maxtasks")) {
    value <- options[[name]]
    if (!.is_number(value) || value < 0) .abort("'", name, "' must be one number of at least 0, or Inf, not ", .describe(value))
  }
  for (name in c("cleanup", "output")) options[[name]] <- .flag(options[[name]], name)
  exit <- options$autoexit
  if (length(exit) != 1L || !(is.logical(exit) || (.is_number(exit) && exit >= 1 && exit <= 64)))
    .abort("'autoexit' must be TRUE, NA, FALSE or a signal number, not ", .describe(exit))
  options
}

# As in embed::ForkRequest: 0 kill, -1 finish, a positive number is a signal.
.autoexit_code <- function(autoexit) {
  if (is.numeric(autoexit)) return(as.integer(autoexit))
  if (isTRUE(autoexit)) 0L else -1L
}

.profile_options <- function(name, dispatcher, daemon, seed, memory, serial, knobs, respawn, preload,
                             listen = list(urls = character(), shared = TRUE, given = FALSE), ephemeral = FALSE) {
  given <- daemon
  daemon <- .daemon_options(given)
  if (!is.null(seed)) seed <- .seed(seed)
  if (!is.null(memory) && !(.is_number(memory) && memory > 0))
    .abort("'memory' must be one positive number of MB, or NULL, not ", .describe(memory))
  if (!is.null(preload) && (!is.character(preload) || anyNA(preload)))
    .abort("'preload' must be names of packages, or NULL, not ", .describe(preload))
  .session_knobs_set(knobs)
  knobs <- .knobs_in_force(knobs)
  base <- if (is.null(seed)) .random_stream() else .Call(C_seed_stream, seed)
  daemon$stream <- base
  daemon$serial <- .serial_resolve(serial)
  list(
    name = name,
    dispatcher = .flag(dispatcher, "dispatcher"),
    respawn = .flag(respawn, "respawn"),
    ephemeral = ephemeral,
    urls = listen$urls,
    shared = listen$shared,
    given_url = listen$given,
    daemon = given,
    access = listen$access,
    seeded = !is.null(seed),
    stream = base,
    memory = memory,
    knobs = as.list(stats::setNames(.knobs_to_codes(knobs), names(knobs))),
    knobs_shown = knobs,
    serial = daemon$serial,
    output = daemon$output,
    autoexit = .autoexit_code(daemon$autoexit),
    config = .host_config(daemon),
    zygote_key = paste(.key_text(preload), collapse = "\n"),
    program = .daemon_program(),
    library = dirname(getNamespaceInfo("setsuna", "path")),
    preload = preload
  )
}

.spin <- function(spin) {
  most <- .knob_table()["spin", "high"]
  if (!.is_number(spin) || spin < 0 || spin > most)
    .abort("'spin' must be one number of microseconds from 0 to ", format(most), ", not ", .describe(spin))
  spin
}

.key_text <- function(preload) deparse(.zygote_key(preload), width.cutoff = 500L)

.seed <- function(seed) {
  if (!.is_number(seed) || seed != trunc(seed) || abs(seed) > .Machine$integer.max)
    .abort("'seed' must be one integer or NULL, not ", .describe(seed))
  as.integer(seed)
}

# A stream that nobody chose: from the system's randomness, so that the session's own generator is not touched.
.random_stream <- function() .Call(C_seed_stream, .system_random("integer", 1L))

.system_random <- function(what, n) {
  con <- file("/dev/urandom", "rb", raw = TRUE)
  on.exit(close(con))
  readBin(con, what, n)
}

# Called by mirai() where no daemons are set: the pool of fresh processes, with the session's present configuration.
.open_ephemeral <- function() {
  .refuse_in_startup("mirai()")
  options <- .profile_options("default", TRUE, list(maxtasks = 1L), NULL, NULL, NULL, .config_knobs(NULL),
                              TRUE, NULL, ephemeral = TRUE)
  id <- .Call(C_ephemeral_id)
  # The stream differs each time; what decides is the rest.
  identity <- list(.config_identity(options$config), options$zygote_key, options$knobs)
  if (!is.null(id) && identical(identity, .ephemeral$identity)) return(id)
  .ephemeral$identity <- identity
  .Call(C_profile_open, options, 0L)
}

.config_identity <- function(bytes) {
  config <- unserialize(bytes)
  config$daemon$stream <- NULL
  config
}

.ephemeral <- new.env(parent = emptyenv())
