# The report: one HTML file that needs nothing else, and each plot as a PNG beside it.

source(file.path(here, "draw.R"))
source(file.path(here, "plots.R"))
source(file.path(here, "targets.R"))
source(file.path(here, "report_text.R"))

html_table <- function(header, rows, classes = rep("", length(header))) {
  cell <- function(tag, x) paste0(sprintf('<%s class="%s">%s</%s>', tag, classes, x, tag), collapse = "")
  paste0('<div class="wide"><table><thead><tr>', cell("th", header), "</tr></thead><tbody>",
         paste0("<tr>", apply(rows, 1L, function(r) cell("td", r)), "</tr>", collapse = "\n"), "</tbody></table></div>")
}

section_drawing <- function(section, medians, samples) {
  m <- medians[medians$metric == section$metric, ]
  s <- samples[samples$metric == section$metric, ]
  switch(section$kind,
    curves = plot_curves(section$title, m, s, section$reference, if (isTRUE(section$linear)) FALSE else NULL),
    systems = plot_systems(section$title, m, s),
    processes = plot_systems(section$title, m, s, paste0(m$system, ", ", m$param)),
    transports = plot_systems(section$title, m, s, ifelse(m$system == "setsuna", paste0("setsuna, ", m$param), m$system)))
}

section_html <- function(section, medians, samples, out) {
  if (!any(medians$metric == section$metric)) return("")
  drawing <- section_drawing(section, medians, samples)
  png_of(drawing, file.path(out, "plots", paste0(section$metric, ".png")))
  workload <- unique(medians$workload[medians$metric == section$metric])
  counts <- range(medians$n[medians$metric == section$metric])
  turns <- if (counts[1L] == counts[2L]) paste(counts[1L], "turns") else sprintf("%d to %d turns", counts[1L], counts[2L])
  caption <- paste0(if (length(workload) == 1L) workload else "Workloads as named in the table below", ". ",
                    if (counts[2L] > 1) paste0("Large dots: medians of ", turns, "; small dots: each of them") else "One value each")
  paste0(sprintf('<section id="%s"><h3>%s</h3>', section$metric, section$title), '<p class="how">', gsub("\\s+", " ", section$how), "</p>",
         "<figure>", svg_of(drawing), "<figcaption>", escape(caption), "</figcaption></figure>",
         '<p class="meaning">', escape(section$say(medians)), "</p></section>")
}

targets_html <- function(medians) {
  judged <- judge_targets(medians)
  if (is.null(judged)) return("<p>This run did not measure the rows that have a mark.</p>")
  paste0(sprintf("<p>%d of %d marks are reached in this run.</p>", sum(judged$met), nrow(judged)),
         html_table(c("what", "setsuna", "beside", "to reach", "measured", ""),
                    cbind(escape(judged$what), judged$ours, escape(judged$beside), judged$mark, judged$measured,
                          ifelse(judged$met, '<span class="met">reached</span>', '<span class="missed">missed</span>')),
                    c("", "n", "", "w", "n", "")))
}

defeats_html <- function(medians) {
  lost <- defeats(medians)
  if (!nrow(lost)) {
    return(paste("<p>In this run no installed peer was better in any row that had at least three turns,",
                 "as far as the spread allows to say.</p>"))
  }
  title_of <- function(metric) {
    hit <- Filter(function(s) s$metric == metric, sections)
    if (length(hit)) return(sprintf('<a href="#%s">%s</a>', metric, hit[[1L]]$title))
    if (metric == "map") '<a href="#map_speedup">Map: elements a second</a>' else metric
  }
  what <- vapply(seq_len(nrow(lost)), function(i) {
    of <- switch(lost$param_unit[i], "us per element" = " an element", daemons = " daemons", "queued tasks" = " queued", "")
    paste0(title_of(lost$metric[i]), if (nzchar(lost$param[i])) paste0(", ", param_label(lost$param[i], lost$param_unit[i]), of))
  }, "")
  ours <- mapply(pretty_value, lost$median * lost$setsuna_ratio, lost$unit)
  lower <- lost$better == "lower"
  from <- ifelse(lower, lost$ratio_low, 1 / lost$ratio_high)
  to <- ifelse(lower, lost$ratio_high, 1 / lost$ratio_low)
  interval <- sprintf("%.2f \u2013 %.2f", from, to)
  paste0("<p>Every case in which another system was better (three turns or more, and a 95 % interval of the ratio that does not ",
         "hold 1), the worst first.</p>",
         html_table(c("what", "better here", "its median", "setsuna", "behind by", "95 % interval"),
                    cbind(what, lost$system, mapply(pretty_value, lost$median, lost$unit), ours,
                          paste0(vapply(lost$times, format_number, ""), "\u00d7"), interval), c("", "", "n", "n", "n", "n")))
}

native_html <- function(medians) {
  m <- medians[medians$metric == "native", ]
  if (!nrow(m)) return("")
  time <- function(x) vapply(x, pretty_value, "", "ns")
  paste0("<h2>Micro-benchmarks in C++</h2><p>Google Benchmark, repetitions interleaved at random; the time of one item where an ",
         "iteration handles several. The queues of others do less than ours: they jam or lose a value if a process dies between ",
         "two of their instructions.</p>",
         html_table(c("benchmark", "system", "median", "from", "to", "samples"),
                    cbind(escape(m$workload), m$system, time(m$median), time(m$min), time(m$max), m$n), c("", "", "n", "n", "n", "n")))
}

all_medians_html <- function(medians) {
  m <- medians[medians$metric != "native", ]
  if (!nrow(m)) return("")
  figures <- function(x) mapply(pretty_value, x, m$unit)
  ratio <- ifelse(is.finite(m$setsuna_ratio), sprintf("%.3g (%.3g \u2013 %.3g)", m$setsuna_ratio, m$ratio_low, m$ratio_high), "")
  paste0("<details><summary>All medians with their spread</summary>",
    html_table(c("metric", "workload", "system", "at", "median", "quartiles", "from \u2013 to", "n", "setsuna / this (95 %)"),
               cbind(m$metric, escape(m$workload), m$system, paste(m$param, m$param_unit), figures(m$median),
                     paste(figures(m$q25), "\u2013", figures(m$q75)), paste(figures(m$min), "\u2013", figures(m$max)), m$n, ratio),
               c("", "", "", "", "n", "n", "n", "n", "n")), "</details>")
}

write_report <- function(out, results, medians) {
  dir.create(file.path(out, "plots"), showWarnings = FALSE)
  machine <- results$machine
  notes <- function(title, lines) {
    if (!length(lines)) return("")
    paste0("<h3>", title, "</h3><ul>", paste0("<li>", escape(lines), "</li>", collapse = ""), "</ul>")
  }
  body <- c(
    "<h1>setsuna beside its peers</h1>",
    sprintf('<p class="lead">Measured by <code>tools/bench</code> on %s. Commit %s.</p>', escape(machine[["date"]]), escape(machine[["commit"]])),
    "<h2>How to read this</h2>",
    "<p>Each row runs its systems in turn (A B A B \u2026) in one process of its own, so that whatever disturbs the machine for a ",
    "while disturbs all of them alike. What counts is the ratio of the medians; absolute times are this machine\u2019s. Every plot ",
    "names its axes and says which way is better; a pale dot is one turn, a large dot the median of the turns. Intervals are 95 % ",
    "bootstrap intervals of the ratio of medians.</p>",
    "<p>All raw samples are in <code>results.csv</code>, one a line; <code>tools/bench --compare OLD NEW</code> tells two such files ",
    "apart. The plots are in <code>plots/</code> as PNG.</p>",
    "<h2>The machine</h2><dl>", sprintf("<dt>%s</dt><dd>%s</dd>", escape(names(machine)), escape(machine)), "</dl>",
    '<h2 id="targets">Against its own marks</h2>', targets_html(medians),
    '<h2 id="losses">Where setsuna loses</h2>', defeats_html(medians),
    "<h2>The measurements</h2>", vapply(sections, section_html, "", medians, results$samples, out),
    native_html(medians),
    "<h2>What is missing</h2>", if (!length(c(results$left_out, results$failed))) "<p>Nothing was left out.</p>",
    notes("Left out", results$left_out), notes("Failed", results$failed),
    "<h2>All figures</h2>", all_medians_html(medians)
  )
  head <- c('<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">', "<title>setsuna beside its peers</title><style>",
            readLines(file.path(here, "report.css")), drawing_css(), "</style></head><body><main>")
  writeLines(c(head, body, "</main></body></html>"), file.path(out, "report.html"), useBytes = TRUE)
}
