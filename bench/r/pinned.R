# Two sides on two CPUs, so that it is not the scheduler's choice of the moment that is measured. CPUs have the kernel's
# numbers here; parallel::mcaffinity() counts from 1.

cpu_topology <- function(cpu, file) {
  path <- sprintf("/sys/devices/system/cpu/cpu%d/topology/%s", cpu, file)
  if (file.exists(path)) readLines(path, 1L, warn = FALSE) else NA_character_
}

# Two of `allowed`: the first, and one of another core of the same package where there is such a one, so that the two share
# no execution units but the nearest cache. NULL: there are not two.
two_cpus <- function(allowed = parallel::mcaffinity(NULL) - 1L, topology = cpu_topology) {
  if (length(allowed) < 2L) return(NULL)
  alike <- function(file) vapply(allowed[-1L], function(cpu) identical(topology(cpu, file), topology(allowed[1L], file)), NA)
  other_core <- !alike("thread_siblings_list")
  if (!any(other_core)) other_core[] <- TRUE # siblings only, or nothing is known
  c(allowed[1L], allowed[-1L][order(!other_core, !alike("physical_package_id"))[1L]])
}

# Pins this thread and the only daemon of the default profile to a CPU each. list(cpus, text): NULL, and why, where that cannot
# be. What is not pinned: the session's reactor thread, which has no part in a round trip.
pin_apart <- function() {
  not <- function(why) list(cpus = NULL, text = paste("not pinned:", why))
  cpus <- two_cpus()
  if (is.null(cpus)) return(not("one CPU only"))
  there <- tryCatch(setsuna::mirai(parallel::mcaffinity(cpu), cpu = cpus[2L] + 1L)[], error = identity)
  here <- tryCatch(parallel::mcaffinity(cpus[1L] + 1L), error = identity)
  if (!identical(there, cpus[2L] + 1L) || !identical(here, cpus[1L] + 1L)) return(not("it is refused"))
  list(cpus = cpus, text = sprintf("session on CPU %d; daemon on CPU %d", cpus[1L], cpus[2L]))
}

# Runs `code`, a function of what pin_apart() says, with one daemon that has these options; this thread may run anywhere again after.
with_pinned_daemon <- function(code, ...) {
  before <- parallel::mcaffinity(NULL)
  setsuna::daemons(1, ...)
  on.exit({
    setsuna::daemons(0)
    if (!is.null(before)) parallel::mcaffinity(before)
  })
  code(pin_apart())
}
