# tools/bench --compare OLD NEW: what changed between two result files, and whether that is a regression.
#   Rscript bench/r/compare_results.R ROOT OLD NEW [--threshold=5] [--alpha=0.01]
# Exit status: 0 no regression, 1 a regression, 2 the input is no good.

# One line for each metric that both files have. `worse` is the change of the median in percent, positive for the worse; a
# regression is worse by more than the threshold (and by what the machine got slower) and significant by the Mann-Whitney test on the raw samples, corrected for as
# many tests of setsuna's own metrics as there are: `alpha` is the chance that the same code is called worse or better anywhere.
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
  table$n_old <- lengths(old_groups[keys])
  table$n_new <- lengths(new_groups[keys])
  table$ours <- startsWith(table$system, "setsuna")
  smallest <- mapply(smallest_p, table$n_old, table$n_new)
  table$testable <- FALSE
  table$testable[table$ours] <- able_tests(smallest[table$ours], alpha)
  table$p_holm <- NA_real_
  table$p_holm[table$testable] <- holm(table$p[table$testable])
  few <- ifelse(pmin(table$n_old, table$n_new) == 1L, "one sample: not judged", "too few samples: not judged")
  # What the other systems lost as well is the machine's.
  drift <- machine_drift(table)
  margin <- threshold + if (is.na(drift)) 0 else pmax(0, sign(table$worse) * drift)
  table$verdict <- ifelse(!table$testable, few, ifelse(table$p_holm >= alpha | abs(table$worse) <= margin, "",
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
  line <- "%-58s %12s %12s %-18s %9s %7s %8s %8s  %s\n"
  cat(sprintf(line, "metric", "old", "new", "unit", "change", "samples", "p", "p Holm", "verdict"))
  ours <- ours[order(-ours$worse), ]
  change <- ifelse(ours$better == "lower", ours$worse, -ours$worse)
  cat(sprintf(line, substr(name(ours), 1, 58), short_number(ours$old), short_number(ours$new), substr(ours$unit, 1, 18),
              sprintf("%+.1f%%", change), paste0(ours$n_old, "/", ours$n_new), sprintf("%.4f", ours$p),
              ifelse(ours$testable, sprintf("%.4f", ours$p_holm), "-"), ours$verdict), sep = "")
  tested <- sum(ours$testable)
  cat(sprintf("\n%d metrics in both files, %d judged: a regression is worse by more than %g %% with p Holm < %g. p is of the\n",
              nrow(ours), tested, threshold, alpha))
  cat("Mann-Whitney test, two-sided; p Holm is corrected for so many of them, so the same code twice has a regression anywhere in\n")
  cat(sprintf("at most %g of 100 comparisons, if the machine was as busy in both runs.\n", 100 * alpha))
  if (tested < nrow(ours)) {
    cat(sprintf("%d could not be judged, as so few samples never reach that, whatever they are. More come from a longer run (--minutes),\n",
                nrow(ours) - tested))
    cat("from one without the peers (--alone), or with some rows only (--rows); of fewer metrics each needs fewer.\n")
  }
  drift <- machine_drift(table)
  if (!is.na(drift)) {
    cat(sprintf("What is not setsuna (%d metrics) got %s by %.1f %% at the median: %s.\n", sum(!table$ours),
                if (drift > 0) "worse" else "better", abs(drift),
                if (abs(drift) > threshold) "the machine was not the same" else "the machine was the same"))
    if (abs(drift) > threshold) cat("So much more than the threshold is not held against setsuna. Surer: both in turn, by tools/bench --against.\n")
  }
}

# How much worse the other systems got, in percent, at the median: what the machine has to do with it. NA: there are none.
machine_drift <- function(table) {
  others <- table$worse[!table$ours & is.finite(table$worse)]
  if (length(others)) stats::median(others) else NA_real_
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
