# The run behind tools/bench: each row in a process of its own, then the result files and the report.
#   Rscript bench/r/main.R ROOT [--quick] [--alone] [--rows=a,b] [--out=DIR] [--minutes=N]
#   Rscript bench/r/main.R ROOT --against=LIB ...                setsuna in LIB and this one in turn, then what has changed
#   Rscript bench/r/main.R ROOT --row=KEY BUDGET_S FILE          one row, in this process (used by the run itself)

args <- commandArgs(TRUE)
root <- args[1L]
args <- args[-1L]
here <- file.path(root, "bench", "r")
for (file in c("../stats.R", "results.R", "measure.R", "native.R", "peers.R", "pinned.R", "rows_latency.R", "rows_throughput.R",
               "rows_payload.R", "rows_pool.R", "rows_remote.R", "rows_crowd.R", "machine.R", "compare_results.R",
               "against.R")) source(file.path(here, file))

refuse <- function(...) {
  message("tools/bench: ", ...)
  quit(status = 2L)
}

# ---- one row --------------------------------------------------------------------------------------------------------

run_row <- function(key, budget, path) {
  recorded$deadline <- now() + budget + recorded$rows[[key]]$fixed
  save <- function(failed) saveRDS(list(samples = samples_table(), left_out = recorded$left_out, failed = failed), path)
  recorded$save <- function() save("did not end in time")
  failed <- tryCatch({
    recorded$rows[[key]]$run(budget)
    NULL
  }, error = function(e) conditionMessage(e))
  save(failed)
}

if (length(args) == 3L && startsWith(args[1L], "--row=")) {
  suppressPackageStartupMessages(library(setsuna))
  run_row(sub("--row=", "", args[1L]), as.numeric(args[2L]), args[3L])
  quit(status = 0L)
}

# ---- the command line ----------------------------------------------------------------------------------------------

option <- function(name, default) {
  given <- grep(paste0("^--", name, "="), args, value = TRUE)
  if (length(given)) sub("^[^=]*=", "", given[length(given)]) else default
}
unknown <- grep("^--(quick$|alone$|rows=|out=|minutes=|against=)", args, value = TRUE, invert = TRUE)
if (length(unknown)) refuse("unknown argument '", unknown[1L], "'; known: --quick, --alone, --rows=a,b, --out=DIR, --minutes=N, --against=LIB, --compare OLD NEW")
quick <- "--quick" %in% args
against <- option("against", NULL)
if (!is.null(against)) against <- tryCatch(other_library(against), error = function(e) refuse(conditionMessage(e)))
if ("--alone" %in% args || !is.null(against)) Sys.setenv(SETSUNA_BENCH_ALONE = "1") # the rows' processes inherit it
minutes <- suppressWarnings(as.numeric(option("minutes", if (quick) "4.4" else "18")))
if (is.na(minutes) || minutes <= 0 || minutes > 1440) {
  refuse("--minutes must be a number above 0 and at most 1440, not '", option("minutes", ""), "'")
}
rows <- option("rows", NULL)
# With a comma at its end, nothing at all is a row without a name.
if (!is.null(against) && "native" %in% strsplit(paste0(rows, ","), ",", fixed = TRUE)[[1L]]) {
  refuse("--against compares R libraries, and the row 'native' runs the programs of ", build_folder(), ": leave it out of --rows")
}
wanted <- if (is.null(rows)) setdiff(names(recorded$rows), if (!is.null(against)) "native") else unique(strsplit(paste0(rows, ","), ",", fixed = TRUE)[[1L]])
for (name in wanted) if (!name %in% names(recorded$rows)) {
  refuse("there is no row '", name, "'; the rows: ", paste(names(recorded$rows), collapse = ", "))
}
out <- option("out", file.path(Sys.getenv("SETSUNA_BUILD", file.path(root, "build")), "bench-results"))
if (!dir.exists(out) && !dir.create(out, recursive = TRUE, showWarnings = FALSE)) refuse("--out: cannot make the folder ", out)
out <- normalizePath(out)

# ---- all rows -------------------------------------------------------------------------------------------------------

# A row that hangs is ended, named and does not hold up the rest; what it measured until then counts.
run_apart <- function(key, budget, deadline, library = NULL) {
  path <- tempfile(fileext = ".rds")
  on.exit(unlink(path))
  log <- file.path(out, "log.txt")
  left <- deadline + 25 - now()
  limit <- max(5, ceiling(min(budget * 2 + 60, left)))
  status <- system2("timeout", c("-k", "5", limit, "Rscript", "--no-save", shQuote(file.path(here, "main.R")), shQuote(root),
                                 paste0("--row=", key), format(budget, scientific = FALSE), shQuote(path)),
                    stdout = log, stderr = log, env = if (!is.null(library)) paste0("R_LIBS=", shQuote(paste0(library, ":", Sys.getenv("R_LIBS")))))
  result <- if (file.exists(path)) readRDS(path) else list(samples = NULL, left_out = character(), failed = "nothing measured")
  if (status == 0L) return(result)
  tail <- one_line(utils::tail(readLines(log, warn = FALSE), 3L))
  result$failed <- NULL
  if (status == 124L && left < budget * 2 + 60) {
    result$left_out <- c(result$left_out, paste0("the rest of ", key, " (the time was up)"))
  } else {
    why <- if (status == 124L) sprintf("did not end within %d s", as.integer(limit)) else sprintf("its process ended with status %d", status)
    result$failed <- paste0(why, if (nzchar(tail)) paste0(": ", tail))
  }
  result
}

machine <- describe_machine(root, args)
cat(sprintf("%-12s %s\n", names(machine), machine), sep = "")
say_plan <- function(minutes) cat(sprintf("\n%d rows in about %.1f minutes\n\n", length(wanted), minutes))
listed <- function(what, lines) if (length(lines)) cat("\n", what, ":\n", paste0("  ", lines, "\n"), sep = "")

if (!is.null(against)) {
  plan <- plan_turns(wanted, minutes, vapply(recorded$rows, `[[`, 0, "fixed"))
  say_plan(sum(2 * plan$rounds * (plan$budget + plan$beside)) / 60)
  if (min(plan$budget) < 3) cat("Little time for each: a row's largest sizes are left out. --rows takes fewer rows, --minutes more time\n\n")
  both <- run_in_turn(plan, list(old = against, new = dirname(find.package("setsuna"))),
                      function(key, budget, library) run_apart(key, budget, now() + 3600, library))
  listed("left out", both$left_out)
  listed("failed", both$failed)
  if (!NROW(both$old) || !NROW(both$new)) refuse("nothing was measured with one of the two")
  files <- file.path(out, c("old.csv", "results.csv"))
  theirs <- replace(machine, c("setsuna", "commit"), c(as.character(utils::packageVersion("setsuna", against)), paste("that of", against)))
  write_results(files[1L], both$old, theirs, both$left_out, both$failed)
  write_results(files[2L], both$new, machine, both$left_out, both$failed)
  cat("\n")
  # What else the machine does falls on both, so that nothing is excused.
  status <- tryCatch(compare_files(files[1L], files[2L], 5, 0.01, excuse = FALSE), error = function(e) refuse(conditionMessage(e)))
  if (length(both$failed)) status <- max(status, 1L)
  cat(sprintf("written: %s\n", files), sep = "")
  quit(status = status)
}

say_plan(minutes)
started <- now()
deadline <- started + minutes * 60
samples <- NULL
left_out <- failed <- character()
weights <- vapply(recorded$rows[wanted], `[[`, 0, "weight")
fixed <- vapply(recorded$rows[wanted], `[[`, 0, "fixed") + 1
for (i in seq_along(wanted)) {
  after <- i:length(wanted)
  budget <- max(0.5, (deadline - now() - sum(fixed[after])) * weights[i] / sum(weights[after]))
  if (i > 1L && now() > deadline) {
    left_out <- c(left_out, paste0(wanted[i], " (the time was up)"))
    next
  }
  row_started <- now()
  cat(sprintf("%2d/%d %-18s", i, length(wanted), wanted[i]))
  result <- run_apart(wanted[i], budget, deadline)
  samples <- rbind(samples, result$samples)
  left_out <- unique(c(left_out, result$left_out))
  cat(sprintf("%6.1f s  %5d samples%s\n", now() - row_started, NROW(result$samples), if (is.null(result$failed)) "" else "  FAILED"))
  if (!is.null(result$failed)) failed <- c(failed, paste0(wanted[i], ": ", one_line(result$failed)))
}
machine[["took"]] <- sprintf("%.1f minutes", (now() - started) / 60)

if (NROW(samples)) for (column in c("sample", "value")) samples[[column]] <- as.numeric(samples[[column]])
if (!NROW(samples)) {
  message("tools/bench: nothing was measured", if (length(failed)) paste0(":\n  ", paste(failed, collapse = "\n  ")))
  quit(status = 1L)
}
source(file.path(here, "report.R"))
write_results(file.path(out, "results.csv"), samples, machine, left_out, failed)
results <- read_results(file.path(out, "results.csv")) # what is reported is what is in the file
medians <- medians_of(results$samples)
utils::write.csv(medians, file.path(out, "medians.csv"), row.names = FALSE)
write_report(out, results, medians)

print_targets(medians)
listed("left out", left_out)
listed("failed", failed)
cat("\n", sprintf("written: %s\n", file.path(out, c("report.html", "results.csv", "medians.csv"))), sep = "")
quit(status = if (length(failed)) 1L else 0L)
