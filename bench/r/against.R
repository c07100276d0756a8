# tools/bench --against=LIB: the installed setsuna and that of another library, in turn, process by process. Two runs one after
# the other differ by what else the machine does meanwhile, and a test of their samples takes that for the code's; here it
# falls on both. What one process measures hangs together, too (where its memory lies, say), so that a sample is the median
# of a process.

fewest_rounds <- 9L # with fewer nothing can be significant among many metrics
most_rounds <- 31L
process_s <- 2 # until a process measures

# A library that has setsuna, or an error that says what is wrong with it.
other_library <- function(path) {
  if (!dir.exists(path)) stop("--against: there is no folder ", path, call. = FALSE)
  if (!file.exists(file.path(path, "setsuna", "Meta", "package.rds"))) {
    stop("--against: there is no setsuna in ", path, ": name an R library, the folder that a package is installed into", call. = FALSE)
  }
  normalizePath(path)
}

# One sample of each metric: what this process says.
sample_of_process <- function(samples, round) {
  if (!NROW(samples)) return(NULL)
  samples$value <- as.numeric(samples$value)
  groups <- split(samples, factor(key_of(samples), unique(key_of(samples))))
  do.call(rbind, lapply(groups, function(g) {
    first <- g[1L, ]
    first$value <- stats::median(g$value)
    first$sample <- round
    first
  }))
}

# How often each of these rows runs, and for how long: a data frame. `fixed`: seconds that each needs beside (by name).
plan_turns <- function(keys, minutes, fixed) {
  seconds_each <- minutes * 60 / length(keys)
  beside <- process_s + fixed[keys]
  rounds <- as.integer(pmax(fewest_rounds, pmin(most_rounds, seconds_each / (2 * (beside + 2)))))
  data.frame(key = keys, rounds = rounds, budget = pmax(1, seconds_each / (2 * rounds) - beside), beside = beside)
}

# `run(key, budget, library)` measures a row in a process of its own. list(old, new, left_out, failed), samples of both sides.
run_in_turn <- function(plan, libraries, run, say = cat) {
  all <- list(old = NULL, new = NULL, left_out = character(), failed = character())
  for (i in seq_len(nrow(plan))) {
    key <- plan$key[i]
    rounds <- plan$rounds[i]
    budget <- plan$budget[i]
    say(sprintf("%-18s %d rounds of %.1f s for each\n", key, rounds, budget))
    for (round in seq_len(rounds)) for (side in if (round %% 2L) c("old", "new") else c("new", "old")) {
      result <- run(key, budget, libraries[[side]])
      all[[side]] <- rbind(all[[side]], sample_of_process(result$samples, round))
      all$left_out <- unique(c(all$left_out, result$left_out))
      if (!is.null(result$failed)) all$failed <- unique(c(all$failed, paste0(key, " (", side, "): ", one_line(result$failed))))
    }
  }
  all
}
