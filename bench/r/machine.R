# What the figures were measured on.

first_line <- function(path, otherwise = "unknown") {
  if (file.exists(path)) tryCatch(readLines(path, 1L, warn = FALSE), error = function(e) otherwise) else otherwise
}

field_of <- function(path, field) {
  line <- grep(paste0("^", field, "\\s*:"), readLines(path), value = TRUE)
  if (length(line)) sub("^[^:]*:\\s*", "", line[1L]) else "unknown"
}

commit_of <- function(root) {
  git <- function(...) suppressWarnings(system2("git", c("-C", shQuote(root), ...), stdout = TRUE, stderr = FALSE))
  if (!nzchar(Sys.which("git")) || !dir.exists(file.path(root, ".git"))) return("unknown: no git here")
  paste0(git("rev-parse", "--short=12", "HEAD")[1L], if (length(git("status", "--porcelain", "-uno"))) ", with changes not committed")
}

chosen_in_brackets <- function(text) if (grepl("\\[", text)) sub(".*\\[(.*)\\].*", "\\1", text) else text

describe_machine <- function(root, options) {
  load <- strsplit(first_line("/proc/loadavg"), " ")[[1L]][1L]
  memory <- as.numeric(sub("\\D+(\\d+).*", "\\1", readLines("/proc/meminfo", 1L))) / 1024^2
  huge <- first_line("/sys/kernel/mm/transparent_hugepage/enabled")
  shmem <- first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
  governor <- first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none shown (a virtual machine, most often)")
  disabled <- first_line("/proc/sys/kernel/io_uring_disabled", "0")
  all_cpus <- first_line("/sys/devices/system/cpu/online")
  allowed <- field_of("/proc/self/status", "Cpus_allowed_list")
  backend <- tryCatch({
    setsuna::daemons(1, .compute = "asked")
    on.exit(setsuna::daemons(0, .compute = "asked"))
    one_line(setsuna::status(.compute = "asked")$backend)
  }, error = function(e) "unknown")
  c(
    date = format(Sys.time(), "%Y-%m-%d %H:%M %Z"),
    processor = field_of("/proc/cpuinfo", "model name"),
    cores = paste(cores, "usable of", first_line("/sys/devices/system/cpu/online"), "online"),
    "pinned CPUs" = if (identical(all_cpus, allowed)) paste0("none: any of ", allowed) else allowed,
    virtual = if (grepl(" hypervisor", paste(readLines("/proc/cpuinfo"), collapse = " "))) "yes, under a hypervisor" else "no sign of it",
    memory = sprintf("%.1f GB", memory),
    kernel = paste(Sys.info()[["sysname"]], Sys.info()[["release"]]),
    governor = governor,
    reactor = paste0(backend, " (kernel.io_uring_disabled = ", disabled, ")"),
    "huge pages" = paste0("anonymous: ", chosen_in_brackets(huge), "; shared: ", chosen_in_brackets(shmem)),
    R = R.version.string,
    setsuna = as.character(utils::packageVersion("setsuna")),
    commit = commit_of(root),
    "load before" = paste(load, "over the last minute"),
    command = paste(c("tools/bench", options), collapse = " ")
  )
}
