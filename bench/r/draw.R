# A drawing is a list of primitives in pixels, from which come both an inline SVG (real text, colours that follow the reader's
# light or dark theme) and a PNG.

system_colours <- c(
  setsuna = "#1b5fc4", "setsuna round robin" = "#6f9fe0", mirai = "#8a4fb0", PSOCK = "#c2571a", mclapply = "#2c8a62",
  "future multisession" = "#a5802a", "future multicore" = "#7d8a2c", callr = "#b8436f", foreach = "#4f7f95", crew = "#8a6a55"
)
dark_colours <- c(
  setsuna = "#7db1ff", "setsuna round robin" = "#a9c8f5", mirai = "#c79ae6", PSOCK = "#f0996a", mclapply = "#6fcfa4",
  "future multisession" = "#d9b766", "future multicore" = "#b9c766", callr = "#ee8fb1", foreach = "#92c0d4", crew = "#c9aa96"
)
role_colours <- c(ink = "#22272e", soft = "#6b7480", grid = "#e3e7ec", paper = "#ffffff")

class_of <- function(system) if (system %in% names(system_colours)) paste0("s", match(system, names(system_colours))) else "s0"
colour_of <- function(class) {
  if (class %in% names(role_colours)) return(role_colours[[class]])
  i <- suppressWarnings(as.integer(sub("^s", "", class)))
  if (is.na(i) || i == 0L) "#6b7480" else system_colours[[i]]
}

new_drawing <- function(width, height, title) {
  d <- new.env()
  d$width <- width
  d$height <- height
  d$title <- title
  d$items <- list()
  d
}
put <- function(d, ...) d$items[[length(d$items) + 1L]] <- list(...)
draw_line <- function(d, x, y, class, width = 1, dash = FALSE) {
  put(d, kind = "line", x = x, y = y, class = class, width = width, dash = dash)
}
draw_dot <- function(d, x, y, class, radius = 3.5, alpha = 1) {
  put(d, kind = "dot", x = x, y = y, class = class, radius = radius, alpha = alpha)
}
draw_text <- function(d, x, y, text, class = "ink", anchor = "start", size = 13, bold = FALSE) {
  put(d, kind = "text", x = x, y = y, text = text, class = class, anchor = anchor, size = size, bold = bold)
}

escape <- function(x) gsub(">", "&gt;", gsub("<", "&lt;", gsub("&", "&amp;", x, fixed = TRUE), fixed = TRUE), fixed = TRUE)

svg_of <- function(d) {
  n <- function(x) format(round(x, 1), trim = TRUE, scientific = FALSE, drop0trailing = TRUE)
  one <- function(i) switch(i$kind,
    line = sprintf('<polyline class="l %s" stroke-width="%s"%s points="%s"/>', i$class, n(i$width),
                   if (i$dash) ' stroke-dasharray="2 4"' else "", paste0(vapply(i$x, n, ""), ",", vapply(i$y, n, ""), collapse = " ")),
    dot = paste0(sprintf('<circle class="f %s" cx="%s" cy="%s" r="%s"%s/>', i$class, vapply(i$x, n, ""), vapply(i$y, n, ""), n(i$radius),
                         if (i$alpha < 1) sprintf(' opacity="%s"', i$alpha) else ""), collapse = ""),
    text = sprintf('<text class="f %s" x="%s" y="%s" font-size="%s" text-anchor="%s"%s>%s</text>', i$class, n(i$x), n(i$y), n(i$size),
                   i$anchor, if (i$bold) ' font-weight="600"' else "", escape(i$text)))
  paste0(sprintf('<svg role="img" aria-label="%s" viewBox="0 0 %d %d" width="%d" height="%d">', gsub('"', "&quot;", escape(d$title)),
                 as.integer(d$width), as.integer(d$height), as.integer(d$width), as.integer(d$height)),
         paste(vapply(d$items, one, ""), collapse = "\n"), "</svg>")
}

png_of <- function(d, path, scale = 2) {
  if (!capabilities("png")) return(invisible(FALSE))
  type <- if (capabilities("cairo")) "cairo" else getOption("bitmapType")
  grDevices::png(path, d$width * scale, d$height * scale, type = type, res = 72 * scale, bg = role_colours[["paper"]])
  on.exit(grDevices::dev.off())
  graphics::par(mar = c(0, 0, 0, 0), xaxs = "i", yaxs = "i", family = "sans")
  graphics::plot.new()
  graphics::plot.window(c(0, d$width), c(d$height, 0))
  for (i in d$items) {
    colour <- colour_of(i$class)
    switch(i$kind,
      line = graphics::lines(i$x, i$y, col = colour, lwd = i$width, lty = if (i$dash) "13" else "solid"),
      dot = graphics::points(i$x, i$y, pch = 16, col = grDevices::adjustcolor(colour, i$alpha), cex = i$radius / 3.2),
      text = halo_text(i$x, i$y, i$text, col = colour, cex = i$size / 12.6, font = if (i$bold) 2L else 1L,
                            adj = c(c(start = 0, middle = 0.5, end = 1)[[i$anchor]], 0)))
  }
  invisible(TRUE)
}

# Text with a rim of paper, so that it stays legible where it crosses a curve (in the SVG the style does that).
halo_text <- function(x, y, text, col, ...) {
  for (angle in seq(0, 2 * pi, length.out = 9)[-1L]) {
    graphics::text(x + 1.6 * cos(angle), y + 1.6 * sin(angle), text, col = role_colours[["paper"]], ...)
  }
  graphics::text(x, y, text, col = col, ...)
}

# The style of every drawing, for the light and the dark theme.
drawing_css <- function() {
  rules <- function(colours, roles) {
    c(sprintf(".f.%s{fill:%s}.l.%s{stroke:%s}", names(roles), roles, names(roles), roles),
      sprintf(".f.s%d{fill:%s}.l.s%d{stroke:%s}", seq_along(colours), colours, seq_along(colours), colours),
      sprintf(".f.s0{fill:%s}.l.s0{stroke:%s}", roles[["soft"]], roles[["soft"]]))
  }
  dark_roles <- c(ink = "#e3e7ec", soft = "#99a3b0", grid = "#353c46", paper = "#1b1f24")
  paste(c("svg{max-width:100%;height:auto;font-family:inherit}",
          "text{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}",
                 ".l{fill:none;stroke-linejoin:round;stroke-linecap:round}",
          rules(system_colours, role_colours), "@media (prefers-color-scheme:dark){", rules(dark_colours, dark_roles), "}"), collapse = "\n")
}
