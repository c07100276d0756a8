# tools/bench --compare OLD NEW: what changed between two result files, and whether that is a regression.
#   Rscript bench/r/compare_results.R ROOT OLD NEW [--threshold=5] [--alpha=0.01]
# Exit status: 0 no regression, 1 a regression, 2 the input is no good.

# One line for each metric that both files have. `worse` is the change of the median in percent, positive for the worse; a
# regression is worse by more than the threshold and significant by the Mann-Whitney test on the raw samples, corrected for as many
# tests of setsuna's own metrics as there are: `alpha` is the chance that the same code is called worse or better anywhere. With
# `excuse`, what the other systems lost in the same row is the machine's, if that is more than the threshold, too.
compare_samples <- function(old, new, threshold = 5, alpha = 0.01, excuse = TRUE) {
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
  table$ours <- is_ours(table$system)
  smallest <- mapply(smallest_p, table$n_old, table$n_new)
  table$testable <- FALSE
  table$testable[table$ours] <- able_tests(smallest[table$ours], alpha)
  table$p_holm <- NA_real_
  table$p_holm[table$testable] <- holm(table$p[table$testable])
  few <- ifelse(pmin(table$n_old, table$n_new) == 1L, "one sample: not judged", "too few samples: not judged")
  table$verdict <- ifelse(!table$testable, few, ifelse(table$p_holm >= alpha | abs(table$worse) <= threshold, "",
                          ifelse(table$worse > 0, "REGRESSION", "better")))
  if (excuse) table$verdict[table$verdict %in% c("REGRESSION", "better") & shared_with_others(table, threshold)] <- others_too
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
  others <- table$worse[!table$ours & is.finite(table$worse)]
  if (length(others)) {
    drift <- stats::median(others)
    cat(sprintf("What is not setsuna (%d metrics) got %s by %.1f %% at the median: %s.\n", length(others),
                if (drift > 0) "worse" else "better", abs(drift),
                if (abs(drift) > threshold) "the machine was not the same" else "the machine was the same"))
  }
  if (others_too %in% ours$verdict) {
    cat("'", others_too, "': the other systems changed so in the same row, more than the threshold, and setsuna by no more than the\n",
        "threshold beyond that. Surer: both in turn, by tools/bench --against.\n", sep = "")
  }
}

others_too <- "so did the others"
fewest_of_others <- 5L

# How many times as long (or as little) it is now, as a logarithm: for times and for rates alike, positive for the worse.
log_worse <- function(table) {
  change <- log(table$new / table$old)
  ifelse(table$better == "lower", change, -change)
}

# Whether the other systems in the same row changed the same way by more than the threshold, and setsuna by no more than the
# threshold beyond them.
shared_with_others <- function(table, threshold) {
  ours <- log_worse(table)
  row <- paste(table$metric, table$param)
  counts <- !table$ours & is.finite(ours) & pmin(table$n_old, table$n_new) >= fewest_of_others
  others <- vapply(row, function(r) stats::median(ours[counts & row == r]), 0)
  beyond <- (ours - others) * sign(ours)
  limit <- log1p(threshold / 100)
  !is.na(beyond) & abs(others) > limit & sign(others) == sign(ours) & beyond <= limit
}

compare_files <- function(old_path, new_path, threshold, alpha, excuse = TRUE) {
  old <- read_results(old_path)
  new <- read_results(new_path)
  keys <- function(samples) unique(key_of(samples)[is_ours(samples$system)])
  if (!length(intersect(keys(old$samples), keys(new$samples)))) bad_input(new_path, "has no metric of setsuna in common with ", old_path)
  for (what in intersect(c("processor", "cores", "kernel", "R", "reactor", "pinned CPUs"), names(old$machine))) {
    if (!identical(old$machine[[what]], unname(new$machine[what])[1L])) {
      cat(sprintf("note: %s differs: '%s' and '%s'\n", what, old$machine[[what]], new$machine[what]))
    }
  }
  only <- list(OLD = setdiff(keys(old$samples), keys(new$samples)), NEW = setdiff(keys(new$samples), keys(old$samples)))
  for (name in names(only)) if (length(only[[name]])) cat(sprintf("note: %d metrics are only in %s\n", length(only[[name]]), name))
  table <- compare_samples(old$samples, new$samples, threshold, alpha, excuse)
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
