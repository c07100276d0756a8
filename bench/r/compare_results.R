# tools/bench --compare OLD NEW: what changed between two result files, and whether that is a regression.
#   Rscript bench/r/compare_results.R ROOT OLD NEW [--threshold=5] [--alpha=0.01]
# Exit status: 0 no regression, 1 a regression, 2 the input is no good.

# One line for each of setsuna's metrics that both files have. `worse` is the change of the median in percent, positive for the
# worse; a regression is worse by more than the threshold and significant by the Mann-Whitney test on the raw samples.
compare_samples <- function(old, new, threshold = 5, alpha = 0.01) {
  keys <- intersect(unique(key_of(old)), unique(key_of(new)))
  old_groups <- split(old$value, key_of(old))
  new_groups <- split(new$value, key_of(new))
  first <- new[match(keys, key_of(new)), ]
  table <- data.frame(first[c("metric", "workload", "system", "param", "param_unit", "unit", "better")], key = keys)
  table$old <- vapply(old_groups[keys], stats::median, 0)
  table$new <- vapply(new_groups[keys], stats::median, 0)
  change <- ifelse(table$old == table$new, 0, 100 * (table$new - table$old) / abs(table$old))
  table$worse <- ifelse(table$better == "lower", change, -change)
  table$p <- mapply(mann_whitney, old_groups[keys], new_groups[keys])
  table$testable <- mapply(function(a, b) smallest_p(length(a), length(b)) < alpha, old_groups[keys], new_groups[keys])
  table$ours <- startsWith(table$system, "setsuna")
  table$p_holm <- NA_real_
  table$p_holm[table$ours] <- holm(table$p[table$ours])
  table$verdict <- ifelse(!table$testable, "too few samples", ifelse(table$p >= alpha | abs(table$worse) <= threshold, "",
                          ifelse(table$worse > 0, "REGRESSION", "better")))
  rownames(table) <- NULL
  table
}

short_number <- function(x) formatC(signif(x, 4), format = "fg", digits = 4, big.mark = ",")

print_comparison <- function(table, threshold, alpha) {
  ours <- table[table$ours, ]
  name <- function(t) {
    which <- ifelse(t$metric == "native", t$workload, ifelse(t$system == "setsuna", "", t$system))
    paste0(t$metric, ifelse(nzchar(which), paste0(" [", which, "]"), ""),
           ifelse(nzchar(t$param), paste0(" ", t$param, " ", t$param_unit), ""))
  }
  line <- "%-58s %12s %12s %-18s %9s %8s %8s  %s\n"
  cat(sprintf(line, "metric", "old", "new", "unit", "change", "p", "p Holm", "verdict"))
  ours <- ours[order(-ours$worse), ]
  change <- ifelse(ours$better == "lower", ours$worse, -ours$worse)
  cat(sprintf(line, substr(name(ours), 1, 58), short_number(ours$old), short_number(ours$new), substr(ours$unit, 1, 18),
              sprintf("%+.1f%%", change), sprintf("%.4f", ours$p), sprintf("%.4f", ours$p_holm), ours$verdict), sep = "")
  tested <- sum(ours$testable)
  cat(sprintf("\n%d metrics in both files; a regression is worse by more than %g %% with p < %g (Mann-Whitney, two-sided).\n",
              nrow(ours), threshold, alpha))
  cat(sprintf("By chance alone about %.1f of the %d that were tested would be called worse; 'p Holm' is corrected for that.\n",
              tested * alpha / 2, tested))
  if (tested < nrow(ours)) {
    cat(sprintf("%d could not be tested: so few samples never reach p < %g. A longer run (--minutes) has more.\n",
                nrow(ours) - tested, alpha))
  }
  others <- table[!table$ours & is.finite(table$worse), ]
  if (nrow(others)) {
    drift <- stats::median(others$worse)
    cat(sprintf("What is not setsuna (%d metrics) got %s by %.1f %% at the median: %s.\n", nrow(others),
                if (drift > 0) "worse" else "better", abs(drift), if (abs(drift) > threshold) "the machine was not the same; measure again" else "the machine was the same"))
  }
}

compare_files <- function(old_path, new_path, threshold, alpha) {
  old <- read_results(old_path)
  new <- read_results(new_path)
  keys <- function(samples) unique(key_of(samples)[startsWith(samples$system, "setsuna")])
  if (!length(intersect(keys(old$samples), keys(new$samples)))) bad_input(new_path, "has no metric of setsuna in common with ", old_path)
  for (what in intersect(c("processor", "cores", "kernel", "R", "reactor", "pinned CPUs"), names(old$machine))) {
    if (!identical(old$machine[[what]], unname(new$machine[what])[1L])) {
      cat(sprintf("note: %s differs: '%s' and '%s'\n", what, old$machine[[what]], new$machine[what]))
    }
  }
  only <- list(OLD = setdiff(keys(old$samples), keys(new$samples)), NEW = setdiff(keys(new$samples), keys(old$samples)))
  for (name in names(only)) if (length(only[[name]])) cat(sprintf("note: %d metrics are only in %s\n", length(only[[name]]), name))
  table <- compare_samples(old$samples, new$samples, threshold, alpha)
  print_comparison(table, threshold, alpha)
  bad <- sum(table$ours & table$verdict == "REGRESSION")
  cat(if (bad) sprintf("\n%d regression%s\n", bad, if (bad > 1L) "s" else "") else "\nno regression\n")
  if (bad) 1L else 0L
}

compare_main <- function(args) {
  refuse <- function(...) {
    message("tools/bench --compare: ", ...)
    2L
  }
  number <- function(name, default, low, high) {
    given <- grep(paste0("^--", name, "="), args, value = TRUE)
    if (!length(given)) return(default)
    text <- sub("^[^=]*=", "", given[length(given)])
    value <- suppressWarnings(as.numeric(text))
    if (is.na(value) || value < low || value > high) {
      stop("--", name, " must be a number from ", low, " to ", high, ", not '", text, "'", call. = FALSE)
    }
    value
  }
  files <- args[!startsWith(args, "--")]
  unknown <- grep("^--(threshold|alpha)=", args[startsWith(args, "--")], value = TRUE, invert = TRUE)
  if (length(unknown)) return(refuse("unknown argument '", unknown[1L], "'; known: --threshold=PERCENT, --alpha=P"))
  if (length(files) != 2L) return(refuse("needs two result files, OLD and NEW; given: ", length(files)))
  tryCatch(compare_files(files[1L], files[2L], number("threshold", 5, 0, 1000), number("alpha", 0.01, 1e-9, 0.5)),
           error = function(e) refuse(conditionMessage(e)))
}

if (sys.nframe() == 0L) {
  args <- commandArgs(TRUE)
  source(file.path(args[1L], "bench", "stats.R"))
  source(file.path(args[1L], "bench", "r", "results.R"))
  quit(status = compare_main(args[-1L]))
}
