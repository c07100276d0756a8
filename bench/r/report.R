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
  sprintf('<section id="%s"><h3>%s</h3><p class="how">%s</p><figure>%s<figcaption>%s. %s</figcaption></figure><p class="meaning">%s</p></section>',
          section$metric, section$title, gsub("\\s+", " ", section$how), svg_of(drawing), escape(if (length(workload) == 1L) workload else "Workloads as named in the table below"),
          if (counts[2L] > 1) sprintf("Large dots: medians of %s; small dots: each of them", if (counts[1L] == counts[2L]) paste(counts[1L], "turns") else sprintf("%d to %d turns", counts[1L], counts[2L]))
          else "One value each", escape(section$say(medians)))
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
  if (!nrow(lost)) return("<p>In this run no installed peer was better in any row that had at least three turns, as far as the spread allows to say.</p>")
  title_of <- function(metric) {
    hit <- Filter(function(s) s$metric == metric, sections)
    if (length(hit)) sprintf('<a href="#%s">%s</a>', metric, hit[[1L]]$title) else if (metric == "map") '<a href="#map_speedup">Map: elements a second</a>' else metric
  }
  what <- vapply(seq_len(nrow(lost)), function(i) {
    paste0(title_of(lost$metric[i]), if (nzchar(lost$param[i])) paste0(", ", param_label(lost$param[i], lost$param_unit[i]),
                                                               switch(lost$param_unit[i], "us per element" = " an element", daemons = " daemons", "queued tasks" = " queued", "")))
  }, "")
  ours <- mapply(pretty_value, lost$median * lost$setsuna_ratio, lost$unit)
  paste0("<p>Every case in which another system was better (three turns or more, and a 95 % interval of the ratio that does not hold 1), the worst first.</p>",
         html_table(c("what", "better here", "its median", "setsuna", "behind by", "95 % interval"),
                    cbind(what, lost$system, mapply(pretty_value, lost$median, lost$unit), ours, paste0(vapply(lost$times, format_number, ""), "\u00d7"),
                          ifelse(lost$better == "lower", sprintf("%.2f \u2013 %.2f", lost$ratio_low, lost$ratio_high),
                                 sprintf("%.2f \u2013 %.2f", 1 / lost$ratio_high, 1 / lost$ratio_low))),
                    c("", "", "n", "n", "n", "n")))
}

native_html <- function(medians) {
  m <- medians[medians$metric == "native", ]
  if (!nrow(m)) return("")
  paste0("<h2>Micro-benchmarks in C++</h2><p>Google Benchmark, repetitions interleaved at random; the time of one item where an iteration handles several.
    The queues of others do less than ours: they jam or lose a value if a process dies between two of their instructions.</p>",
    html_table(c("benchmark", "system", "median", "from", "to", "samples"),
               cbind(escape(m$workload), m$system, vapply(m$median, pretty_value, "", "ns"), vapply(m$min, pretty_value, "", "ns"), vapply(m$max, pretty_value, "", "ns"), m$n),
               c("", "", "n", "n", "n", "n")))
}

all_medians_html <- function(medians) {
  m <- medians[medians$metric != "native", ]
  if (!nrow(m)) return("")
  figures <- function(x) mapply(pretty_value, x, m$unit)
  paste0("<details><summary>All medians with their spread</summary>",
    html_table(c("metric", "workload", "system", "at", "median", "quartiles", "from \u2013 to", "n", "setsuna / this (95 %)"),
               cbind(m$metric, escape(m$workload), m$system, paste(m$param, m$param_unit), figures(m$median), paste(figures(m$q25), "\u2013", figures(m$q75)),
                     paste(figures(m$min), "\u2013", figures(m$max)), m$n,
                     ifelse(is.finite(m$setsuna_ratio), sprintf("%.3g (%.3g \u2013 %.3g)", m$setsuna_ratio, m$ratio_low, m$ratio_high), "")),
               c("", "", "", "", "n", "n", "n", "n", "n")), "</details>")
}

report_css <- function() paste(c(
  ":root{color-scheme:light dark;--ink:#22272e;--soft:#6b7480;--line:#e3e7ec;--paper:#fff;--wash:#f6f8fa;--accent:#1b5fc4}",
  "@media (prefers-color-scheme:dark){:root{--ink:#e3e7ec;--soft:#99a3b0;--line:#353c46;--paper:#1b1f24;--wash:#22272e;--accent:#7db1ff}}",
  "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}",
  "main{max-width:820px;margin:0 auto;padding:48px 20px 80px}h1{font-size:30px;margin:0 0 4px;letter-spacing:-.01em}h2{margin:56px 0 8px;font-size:22px}",
  "h3{margin:44px 0 4px;font-size:18px}p{margin:8px 0}.lead,.how,figcaption,summary{color:var(--soft)}a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}",
  "figure{margin:14px 0 6px;padding:14px 16px 10px;border:1px solid var(--line);border-radius:8px}figcaption{font-size:13px;margin-top:6px}.meaning{font-weight:500}",
  ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px;margin:12px 0;min-width:100%}th{color:var(--soft);font-weight:500;text-align:left}",
  "th,td{padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.w{white-space:nowrap}",
  ".met{color:var(--soft)}.missed{font-weight:600;color:#b3400f}@media (prefers-color-scheme:dark){.missed{color:#f0996a}}code{font-size:.92em}summary{cursor:pointer;margin:24px 0}",
  "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:14px;background:var(--wash);padding:16px 20px;border-radius:8px}dt{color:var(--soft)}dd{margin:0}"
), collapse = "\n")

write_report <- function(out, results, medians) {
  dir.create(file.path(out, "plots"), showWarnings = FALSE)
  machine <- results$machine
  notes <- function(title, lines) if (length(lines)) paste0("<h3>", title, "</h3><ul>", paste0("<li>", escape(lines), "</li>", collapse = ""), "</ul>") else ""
  body <- c(
    "<h1>setsuna beside its peers</h1>",
    sprintf('<p class="lead">Measured by <code>tools/bench</code> on %s. Commit %s.</p>', escape(machine[["date"]]), escape(machine[["commit"]])),
    "<h2>How to read this</h2>",
    "<p>Each row runs its systems in turn (A B A B \u2026) in one process of its own, so that whatever disturbs the machine for a while disturbs all of them alike. ",
    "What counts is the ratio of the medians; absolute times are this machine\u2019s. Every plot names its axes and says which way is better; ",
    "a pale dot is one turn, a large dot the median of the turns. Intervals are 95 % bootstrap intervals of the ratio of medians.</p>",
    "<p>All raw samples are in <code>results.csv</code>, one a line; <code>tools/bench --compare OLD NEW</code> tells two such files apart. The plots are in <code>plots/</code> as PNG.</p>",
    "<h2>The machine</h2><dl>", sprintf("<dt>%s</dt><dd>%s</dd>", escape(names(machine)), escape(machine)), "</dl>",
    '<h2 id="targets">Against its own marks</h2>', targets_html(medians),
    '<h2 id="losses">Where setsuna loses</h2>', defeats_html(medians),
    "<h2>The measurements</h2>", vapply(sections, section_html, "", medians, results$samples, out),
    native_html(medians),
    "<h2>What is missing</h2>", if (!length(c(results$left_out, results$failed))) "<p>Nothing was left out.</p>",
    notes("Left out", results$left_out), notes("Failed", results$failed),
    "<h2>All figures</h2>", all_medians_html(medians)
  )
  writeLines(c('<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
               "<title>setsuna beside its peers</title><style>", report_css(), drawing_css(), "</style></head><body><main>", body, "</main></body></html>"),
             file.path(out, "report.html"), useBytes = TRUE)
}
