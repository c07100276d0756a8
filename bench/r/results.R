# The result file: a CSV of raw samples, one a line, below a head of `#` lines that says which schema it is and describes the
# machine, and above a last `#` line with the number of samples, so that a file cut short is noticed.
#
#   # setsuna-bench schema 1
#   # machine cores: 2
#   # left out: mirai (the R package mirai is not installed)
#   metric,workload,system,param,param_unit,unit,better,sample,value
#   latency,flood,setsuna,2,daemons,tasks/s,higher,1,201345.2
#   # end 1 samples

result_schema <- 1L
result_columns <- c("metric", "workload", "system", "param", "param_unit", "unit", "better", "sample", "value")

one_line <- function(x) gsub("[[:space:]]+", " ", paste(x, collapse = " "))

# `notes`: character vectors named machine (itself named), `left out` and failed.
write_results <- function(path, samples, machine, left_out = character(), failed = character()) {
  head <- c(sprintf("# setsuna-bench schema %d", result_schema),
            sprintf("# machine %s: %s", names(machine), vapply(machine, one_line, "")),
            sprintf("# left out: %s", vapply(left_out, one_line, "")), sprintf("# failed: %s", vapply(failed, one_line, "")))
  samples$value <- signif(samples$value, 7)
  lines <- utils::capture.output(utils::write.csv(samples[result_columns], row.names = FALSE, quote = FALSE))
  temporary <- paste0(path, ".new") # renamed when whole: nobody ever sees half of it
  writeLines(c(head, lines, sprintf("# end %d samples", nrow(samples))), temporary)
  invisible(file.rename(temporary, path))
}

bad_input <- function(path, ...) {
  stop(structure(class = c("bad_input", "error", "condition"), list(message = paste0(path, ": ", ...), call = NULL)))
}

tagged <- function(lines, tag) {
  sub(paste0("^# ", tag, ": "), "", grep(paste0("^# ", tag, ": "), lines, value = TRUE))
}

# list(samples, machine, left_out, failed), or an error of class bad_input that says which file and what is wrong with it.
read_results <- function(path) {
  if (!file.exists(path)) bad_input(path, "there is no such file")
  if (dir.exists(path)) bad_input(path, "is a folder; name the results.csv in it")
  lines <- tryCatch(readLines(path, warn = FALSE), error = function(e) bad_input(path, "cannot be read: ", conditionMessage(e)))
  first <- if (length(lines)) lines[1L] else ""
  if (!grepl("^# setsuna-bench schema [0-9]+$", first, useBytes = TRUE)) {
    bad_input(path, "is not a result file of tools/bench: its first line is not '# setsuna-bench schema N'")
  }
  schema <- as.integer(sub(".* ", "", first))
  if (is.na(schema) || schema > result_schema) {
    bad_input(path, "has schema ", schema, ", newer than this tools/bench reads (", result_schema, "): use the tools/bench it came from")
  }
  check_samples(path, lines)
}

check_samples <- function(path, lines) {
  is_note <- startsWith(lines, "#")
  end <- regmatches(lines[length(lines)], regexec("^# end ([0-9]+) samples$", lines[length(lines)]))[[1L]]
  if (length(end) != 2L) bad_input(path, "is damaged: cut short, the last line is not '# end N samples'")
  body <- lines[!is_note]
  if (!length(body) || !identical(strsplit(body[1L], ",")[[1L]], result_columns)) {
    bad_input(path, "is damaged: the columns must be ", paste(result_columns, collapse = ","))
  }
  counts <- lengths(strsplit(paste0(body, ",x"), ",", fixed = TRUE)) - 1L
  if (any(counts != length(result_columns))) {
    wrong <- which(counts != length(result_columns))[1L]
    bad_input(path, "is damaged: line ", which(!is_note)[wrong], " has ", counts[wrong], " fields, not ", length(result_columns))
  }
  samples <- utils::read.csv(text = body, colClasses = "character")
  if (nrow(samples) != as.numeric(end[2L])) {
    bad_input(path, "is damaged: it should hold ", end[2L], " samples and holds ", nrow(samples))
  }
  for (column in c("sample", "value")) {
    number <- suppressWarnings(as.numeric(samples[[column]]))
    if (anyNA(number) || any(!is.finite(number))) {
      wrong <- which(!is.finite(number))[1L]
      bad_input(path, "is damaged: sample ", wrong, " has the ", column, " '", samples[[column]][wrong], "', which is no number")
    }
    samples[[column]] <- number
  }
  wrong <- which(!samples$better %in% c("lower", "higher"))
  if (length(wrong)) bad_input(path, "is damaged: `better` must be lower or higher, not '", samples$better[wrong[1L]], "'")
  machine <- regmatches(lines, regexec("^# machine ([^:]+): (.*)$", lines))
  machine <- machine[lengths(machine) == 3L]
  list(samples = samples, machine = stats::setNames(vapply(machine, `[`, "", 3L), vapply(machine, `[`, "", 2L)),
       left_out = tagged(lines, "left out"), failed = tagged(lines, "failed"))
}

# Sides that are setsuna, with something or without it; all others are other systems.
is_ours <- function(system) startsWith(system, "setsuna") | system == "untraced"

# What a sample belongs to: samples of one key are of the same thing.
key_of <- function(samples) do.call(paste, c(samples[c("metric", "workload", "system", "param", "param_unit", "unit")], sep = "|"))

# One line a key: the medians with their spread, and the ratio of setsuna's median to it.
medians_of <- function(samples) {
  keys <- key_of(samples)
  groups <- split(seq_len(nrow(samples)), factor(keys, unique(keys)))
  rows <- lapply(groups, function(at) {
    first <- samples[at[1L], c("metric", "workload", "system", "param", "param_unit", "unit", "better")]
    ours <- samples$value[samples$system == "setsuna" & samples$metric == first$metric & samples$workload == first$workload &
                            samples$param == first$param & samples$unit == first$unit]
    ratio <- if (length(ours)) ratio_interval(ours, samples$value[at]) else c(ratio = NA, low = NA, high = NA)
    cbind(first, t(spread(samples$value[at])), setsuna_ratio = ratio[["ratio"]], ratio_low = ratio[["low"]],
          ratio_high = ratio[["high"]])
  })
  table <- do.call(rbind, rows)
  rownames(table) <- NULL
  table
}
