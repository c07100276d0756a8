# The two kinds of plot of the report: dots on a line for systems side by side, and curves over a parameter. Every raw sample is
# a small pale dot, the median a large one.

# A number with its unit, in the prefix that suits it.
pretty_value <- function(value, unit) {
  if (is.na(value)) return("(not measured)")
  scaled <- function(steps, names) {
    i <- max(1L, sum(abs(value) >= steps))
    paste(format_number(value / steps[i]), names[i])
  }
  base <- c(ns = 1, us = 1e3, ms = 1e6, s = 1e9)
  if (unit %in% names(base)) {
    value <- value * base[[unit]]
    return(scaled(c(1, 1e3, 1e6, 1e9), c("ns", "\u00b5s", "ms", "s")))
  }
  if (unit == "bytes") return(scaled(c(1, 1e3, 1e6, 1e9), c("B", "kB", "MB", "GB")))
  if (grepl("/s$", unit)) return(scaled(c(1, 1e3, 1e6), c("/s", "k/s", "M/s")))
  if (grepl("^%", unit)) return(paste(format_number(value), "%"))
  if (unit == "ms of CPU a second") return(paste(format_number(value), "ms"))
  if (grepl("^times", unit)) return(paste0(format_number(value), "\u00d7"))
  paste(format_number(value), unit)
}

format_number <- function(x) {
  if (x == 0) return("0")
  if (abs(x) < 0.01) return(format(signif(x, 2), scientific = FALSE, trim = TRUE))
  digits <- if (abs(x) >= 100) 0 else if (abs(x) >= 10) 1 else if (abs(x) >= 1) 2 else 3
  text <- formatC(x, format = "f", digits = digits, big.mark = ",")
  if (grepl("\\.", text)) sub("\\.?0+$", "", text) else text
}

ticks_of <- function(range, log) {
  if (!log) {
    ticks <- pretty(range, 5)
    return(ticks[ticks >= range[1L] - 1e-9 & ticks <= range[2L] + 1e-9])
  }
  decades <- seq(floor(log10(range[1L])), ceiling(log10(range[2L])))
  steps <- if (diff(log10(range)) < 2.2) c(1, 2, 5) else 1
  ticks <- sort(as.vector(outer(steps, 10^decades)))
  ticks <- ticks[ticks >= range[1L] * 0.999 & ticks <= range[2L] * 1.001]
  if (length(ticks) > 8L) ticks <- ticks[seq(1L, length(ticks), by = 2L)]
  ticks
}

# A scale: data to pixels.
scale_of <- function(range, pixels, log) {
  f <- if (log) log10 else identity
  from <- f(range)
  function(x) pixels[1L] + (f(x) - from[1L]) / diff(from) * diff(pixels)
}

padded <- function(values, log) {
  r <- range(values)
  if (log) {
    if (diff(log10(r)) < 0.5) r <- c(r[1L] / 1.8, r[2L] * 1.8)
    return(c(r[1L] / 1.15, r[2L] * 1.15))
  }
  c(0, if (r[2L] > 0) r[2L] * 1.06 else 1)
}

better_text <- function(better) if (better == "lower") "\u2190 less is better" else "more is better \u2192"

# Systems side by side: `medians` and `samples` of one metric. Logarithmic when values are apart by more than 20 times.
plot_systems <- function(title, medians, samples, label = medians$system) {
  force(label) # before the medians are put in order
  unit <- medians$unit[1L]
  better <- medians$better[1L]
  o <- order(if (better == "lower") medians$median else -medians$median)
  medians <- medians[o, ]
  label <- label[o]
  log <- all(samples$value > 0) && max(samples$value) > 20 * min(samples$value)
  row_height <- 30
  left <- max(110, 8.6 * max(nchar(label)) + 28)
  width <- 780
  right <- width - 110
  top <- 34
  height <- top + row_height * nrow(medians) + 52
  d <- new_drawing(width, height, title)
  range <- padded(samples$value, log)
  x <- scale_of(range, c(left, right), log)
  bottom <- top + row_height * nrow(medians)
  for (tick in ticks_of(range, log)) {
    draw_line(d, c(x(tick), x(tick)), c(top - 4, bottom), "grid")
    draw_text(d, x(tick), bottom + 18, pretty_value(tick, unit), "soft", "middle", 12)
  }
  draw_text(d, left, top - 14, paste0(better_text(better), if (log) "   (logarithmic scale)" else ""), "soft", "start", 12)
  draw_text(d, (left + right) / 2, bottom + 40, axis_title(unit), "soft", "middle", 12)
  key <- key_of(samples)
  for (i in seq_len(nrow(medians))) {
    y <- top + row_height * (i - 0.5)
    class <- class_of(medians$system[i])
    values <- samples$value[key == key_of(medians[i, ])]
    draw_text(d, left - 14, y + 4.5, label[i], class, "end", 13.5, medians$system[i] == "setsuna")
    draw_line(d, x(range(values)), c(y, y), class, 2)
    draw_dot(d, x(values), rep(y, length(values)), class, 3, 0.35)
    draw_dot(d, x(medians$median[i]), y, class, 6)
    draw_text(d, max(x(values)) + 12, y + 4.5, pretty_value(medians$median[i], unit), class, "start", 13, medians$system[i] == "setsuna")
  }
  d
}

axis_title <- function(unit) {
  switch(unit, us = , ms = , ns = "time", "% of ideal" = "efficiency, % of all cores' ideal", "times sequential" = "speed-up over one core",
         "% of optimum" = "makespan, % of the shortest possible", MB = "memory, MB", bytes = "memory", unit)
}

# What a parameter is called on its axis.
param_label <- function(param, unit) {
  switch(unit, percentile = paste0("p", param), bytes = pretty_value(as.numeric(param), "bytes"),
         "us per element" = if (param == "0") "0" else pretty_value(as.numeric(param), "us"),
         "queued tasks" = if (as.numeric(param) >= 1e6) paste(as.numeric(param) / 1e6, "M") else format_number(as.numeric(param)),
         param)
}

param_title <- function(unit) {
  switch(unit, percentile = "percentile of all requests", bytes = "size of the vector (logarithmic)", "us per element" = "work in each element",
         "queued tasks" = "tasks in the queue (logarithmic)", daemons = "number of daemons (logarithmic)", unit)
}

# Labels at the right edge, pushed apart so that none covers another.
spread_labels <- function(y, gap, low, high) {
  o <- order(y)
  z <- y[o]
  for (pass in 1:200) {
    moved <- FALSE
    for (i in seq_along(z)[-1L]) if (z[i] - z[i - 1L] < gap - 0.01) {
      shift <- (gap - (z[i] - z[i - 1L])) / 2
      z[i - 1L] <- z[i - 1L] - shift
      z[i] <- z[i] + shift
      moved <- TRUE
    }
    z <- pmin(pmax(z, low), high)
    if (!moved) break
  }
  y[o] <- z
  y
}

# Curves over the parameter, one a system, labelled at their ends. `reference`: a level drawn across, with its label.
plot_curves <- function(title, medians, samples, reference = NULL, log_y = NULL) {
  unit <- medians$unit[1L]
  p_unit <- medians$param_unit[1L]
  params <- unique(medians$param)
  params <- params[order(as.numeric(params))]
  even <- p_unit %in% c("percentile", "us per element")
  if (is.null(log_y)) log_y <- all(samples$value > 0) && max(samples$value) > 20 * min(samples$value)
  width <- 780
  height <- 420
  left <- 86
  right <- width - 172
  top <- 44
  bottom <- height - 62
  d <- new_drawing(width, height, title)
  y_range <- padded(c(samples$value, reference$level), log_y)
  y <- scale_of(y_range, c(bottom, top), log_y)
  numbers <- as.numeric(params)
  x_of <- if (even || length(params) == 1L) {
    function(p) left + 24 + (match(p, params) - 1) / max(1, length(params) - 1) * (right - left - 48)
  } else {
    s <- scale_of(range(numbers), c(left + 24, right - 24), TRUE)
    function(p) s(as.numeric(p))
  }
  for (tick in ticks_of(y_range, log_y)) {
    draw_line(d, c(left, right), c(y(tick), y(tick)), "grid")
    draw_text(d, left - 10, y(tick) + 4, pretty_value(tick, unit), "soft", "end", 12)
  }
  last_x <- -Inf
  for (p in params) if (x_of(p) - last_x > 38 || even) {
    draw_text(d, x_of(p), bottom + 20, param_label(p, p_unit), "soft", "middle", 12)
    last_x <- x_of(p)
  }
  draw_text(d, (left + right) / 2, bottom + 44, param_title(p_unit), "soft", "middle", 12.5)
  good <- if (medians$better[1L] == "lower") "less is better \u2193" else "more is better \u2191"
  draw_text(d, left - 60, top - 20, paste0(axis_title(unit), if (log_y) ", logarithmic", " \u2014 ", good), "soft", "start", 12.5)
  if (!is.null(reference)) {
    draw_line(d, c(left, right), rep(y(reference$level), 2), "ink", 1.2, TRUE)
    draw_text(d, left + 6, y(reference$level) - 6, reference$label, "ink", "start", 12)
  }
  key <- key_of(samples)
  systems <- unique(medians$system)
  systems <- c(setdiff(systems, "setsuna"), intersect(systems, "setsuna")) # ours on top
  ends <- data.frame(system = systems, x = 0, y = 0)
  for (i in seq_along(systems)) {
    m <- medians[medians$system == systems[i], ]
    m <- m[order(as.numeric(m$param)), ]
    class <- class_of(systems[i])
    px <- vapply(m$param, x_of, 0)
    for (j in seq_len(nrow(m))) {
      values <- samples$value[key == key_of(m[j, ])]
      draw_dot(d, rep(px[j], length(values)), y(values), class, 2.4, 0.3)
    }
    draw_line(d, px, y(m$median), class, if (systems[i] == "setsuna") 3 else 1.8)
    draw_dot(d, px, y(m$median), class, if (systems[i] == "setsuna") 4.6 else 3.6)
    ends[i, c("x", "y")] <- c(px[length(px)], y(m$median[nrow(m)]))
  }
  # A curve that reaches the right edge has its name in the margin, one that ends before has it beside its last point.
  label_y <- ends$y
  for (x in unique(ends$x)) label_y[ends$x == x] <- spread_labels(ends$y[ends$x == x], 17, top, bottom)
  for (i in seq_along(systems)) {
    class <- class_of(systems[i])
    early <- ends$x[i] < right - 70
    x <- if (early) ends$x[i] + 22 else right + 10
    draw_line(d, c(ends$x[i] + 7, x), c(ends$y[i], label_y[i]), class, 0.8, TRUE)
    draw_text(d, x + 4, label_y[i] + 4.5, systems[i], class, "start", 13, systems[i] == "setsuna")
  }
  d
}
