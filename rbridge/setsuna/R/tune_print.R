# How what tune() found is shown: a table and a plot, in text; a plot in a file.

#' @export
print.setsunaTuning <- function(x, ...) {
  cat("Goal: ", x$goal, " (", .tune_unit(x), ")\n", sep = "")
  m <- x$machine
  cat("Machine: ", m[["cpu"]], ", ", m[["cpus"]], " CPUs for this process, ", m[["memory"]], ", Linux ", m[["kernel"]], ", R ", m[["r"]],
      ", ", m[["date"]], "\n", sep = "")
  for (note in x$notes) cat(note, "\n", sep = "")
  for (name in names(x$knobs)) .tune_print_knob(name, x$knobs[[name]])
  .tune_print_end(x)
  invisible(x)
}

.tune_unit <- function(x) if (x$goal == "power" && length(.tune_rapl())) "uJ a task" else .tune_units[[x$goal]]

.tune_print_knob <- function(name, knob) {
  unit <- .knob_table()[name, "unit"]
  cat("\n", name, if (nzchar(unit)) paste0(" (", unit, ")"), ": ", knob$chosen, "\n  ", knob$why, "\n", sep = "")
  if (is.null(knob$table)) return()
  table <- knob$table
  shown <- data.frame(
    value = paste0(ifelse(table$value == knob$chosen, "> ", "  "), table$value),
    samples = table$n,
    median = vapply(table$median, .tune_number, ""),
    spread = paste("+-", vapply(table$spread / 2, .tune_number, "")),
    gain = ifelse(table$value == knob$default, "default", paste0(vapply(table$gain, .tune_percent, ""), ifelse(
      is.na(table$low), "", paste0(" (", round(100 * table$low, 1), " to ", round(100 * table$high, 1), ")")))),
    p = ifelse(is.na(table$p), "", format(table$p, digits = 2)),
    plot = .tune_bars(table$median, table$spread)
  )
  cells <- rbind(names(shown), as.matrix(shown))
  cells[1L, ncol(cells)] <- ""
  widths <- apply(nchar(cells), 2L, max)
  for (i in seq_len(nrow(cells))) cat("  ", paste(sprintf("%-*s", widths, cells[i, ]), collapse = "  "), "\n", sep = "")
}

.tune_number <- function(x) format(signif(x, 3), scientific = FALSE, trim = TRUE)

# From 0: '#' up to the lower quartile's distance, '-' over the spread around the median.
.tune_bars <- function(median, spread, width = 30L) {
  top <- max(median + spread / 2, 1e-12)
  vapply(seq_along(median), function(i) {
    low <- round(width * max(0, median[i] - spread[i] / 2) / top)
    high <- round(width * (median[i] + spread[i] / 2) / top)
    paste0(strrep("#", low), strrep("-", max(0, high - low)))
  }, "")
}

.tune_print_end <- function(x) {
  cat("\n")
  end <- x$together
  if (!is.null(end$gain))
    cat("All choices together against the defaults (", end$work, "): ", .tune_percent(end$gain), " better (",
        round(100 * end$low, 1), " to ", round(100 * end$high, 1), "), p = ", format(end$p, digits = 2), "\n", sep = "")
  if (!is.null(end$why)) cat(end$why, "\n", sep = "")
  if (!length(x$config)) return(cat("Configuration: the defaults", if (isTRUE(end$worse)) ", since the choices are worse together", "\n", sep = ""))
  cat("Configuration: ", paste(names(x$config), vapply(x$config, .tune_label, ""), sep = " = ", collapse = ", "), "\n", sep = "")
}

# ---- the plot ----

.tune_plot_type <- function(path) {
  if (is.null(path)) return()
  .tune_writable(path, "plot")
  type <- tolower(sub("^.*\\.", "", basename(path)))
  if (!type %in% c("svg", "png")) .abort("'plot' must be a file that ends in .svg or .png, not ", .describe(path))
  if (type == "png" && !capabilities("png")) .abort("'plot': this R cannot write PNG: give a file that ends in .svg")
  type
}

.tune_plot_file <- function(result, path) {
  shown <- Filter(function(knob) !is.null(knob$table), result$knobs)
  if (.tune_plot_type(path) == "svg") return(writeLines(.tune_svg(result, shown), path))
  grDevices::png(path, 900, 80 + 220 * max(1L, (length(shown) + 1L) %/% 2L), type = if (capabilities("cairo")) "cairo" else "Xlib")
  on.exit(grDevices::dev.off())
  graphics::par(mfrow = c(max(1L, (length(shown) + 1L) %/% 2L), 2L), mar = c(3, 4, 2, 1))
  for (name in names(shown)) .tune_plot_knob(name, shown[[name]], .tune_unit(result))
}

.tune_plot_knob <- function(name, knob, unit) {
  color <- ifelse(names(knob$samples) == knob$chosen, "#2266aa", "#999999")
  graphics::boxplot(knob$samples, main = paste0(name, ": ", knob$chosen), ylab = unit, ylim = c(0, max(unlist(knob$samples))),
                    border = color, outline = FALSE)
  graphics::stripchart(knob$samples, vertical = TRUE, add = TRUE, method = "overplot", pch = 16, col = color)
}

# Written by hand: R's own svg() needs a graphics library that not every R has. One panel a knob: each sample, and the median.
.tune_svg <- function(result, shown) {
  width <- 640
  panel <- 150
  height <- 50 + panel * max(1L, length(shown))
  head <- sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">",
                  width, height)
  title <- .tune_svg_text(20, 25, paste0("setsuna tune: ", result$goal, ", ", .tune_unit(result), " (lower is better)"), 15)
  panels <- lapply(seq_along(shown), function(i) .tune_svg_panel(names(shown)[i], shown[[i]], 50 + panel * (i - 1), width, panel))
  c(head, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>", title, unlist(panels), "</svg>")
}

.tune_svg_text <- function(x, y, text, size = 12, anchor = "start") {
  for (pair in list(c("&", "&amp;"), c("<", "&lt;"), c(">", "&gt;"))) text <- gsub(pair[1L], pair[2L], text, fixed = TRUE)
  sprintf("<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\">%s</text>", x, y, as.integer(size), anchor, text)
}

.tune_svg_panel <- function(name, knob, top, width, height) {
  most <- max(unlist(knob$samples), 1e-12)
  values <- names(knob$samples)
  left <- 110
  step <- (width - left - 20) / length(values)
  y <- function(cost) top + height - 30 - (height - 50) * cost / most
  base <- sprintf("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#888\"/>", left, y(0), width - 20L, y(0))
  marks <- lapply(seq_along(values), function(i) {
    centre <- left + step * (i - 0.5)
    color <- if (values[i] == knob$chosen) "#2266aa" else "#999999"
    costs <- knob$samples[[i]]
    c(sprintf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\" fill-opacity=\"0.5\"/>", centre, y(costs), color),
      sprintf("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"3\"/>", centre - 15,
              y(stats::median(costs)), centre + 15, y(stats::median(costs)), color),
      .tune_svg_text(centre, top + height - 14, values[i], 12, "middle"))
  })
  c(.tune_svg_text(20, top + height / 2, name, 13), .tune_svg_text(left - 8, y(most) + 4, .tune_number(most), 11, "end"),
    .tune_svg_text(left - 8, y(0) + 4, "0", 11, "end"), base, unlist(marks))
}
