# What can be tuned: a value for each knob, and where it comes from. The table itself is the native code's (knobs.cpp).

.knob_table <- function() {
  if (is.null(.knobs$table)) .knobs$table <- .knob_frame()
  .knobs$table
}

.knobs <- new.env(parent = emptyenv())

.knob_frame <- function() {
  table <- .Call(C_knob_table)
  choices <- strsplit(table$choices, "|", fixed = TRUE)
  table$choices <- NULL
  table <- as.data.frame(table, stringsAsFactors = FALSE)
  table$choices <- choices
  rownames(table) <- table$name
  table
}

.knob_defaults <- function(table = .knob_table()) {
  values <- lapply(table$name, function(name) {
    choices <- table[name, "choices"][[1L]]
    if (length(choices)) choices[1L] else table[name, "preset"]
  })
  names(values) <- table$name
  values
}

# `source`: where the value comes from, for messages.
.knob_check <- function(name, value, table, source) {
  row <- table[name, ]
  choices <- row$choices[[1L]]
  of <- paste0("'", name, "' in ", source)
  if (length(choices)) {
    if (is.character(value) && length(value) == 1L && value %in% choices) return(value)
    .abort(of, " must be one of ", toString(dQuote(choices, FALSE)), ", not ", .describe(value))
  }
  allowed <- paste0(if (row$power) "a power of two" else if (name == "spin") "a number" else "a whole number", " from ",
                    .knob_number(row$low), " to ", .knob_number(row$high), if (nzchar(row$unit)) paste0(" (", row$unit, ")"))
  if (!.is_number(value) || value < row$low || value > row$high || (name != "spin" && value != trunc(value)) ||
      (row$power && log2(value) != trunc(log2(value))))
    .abort(of, " must be ", allowed, ", not ", .describe(value))
  as.numeric(value)
}

.knob_number <- function(x) format(x, scientific = FALSE, trim = TRUE)

# Of a list of knobs that somebody gave: the same, checked.
.knobs_check <- function(given, source) {
  if (is.null(given)) return(list())
  if (!is.list(given) || (length(given) && (is.null(names(given)) || !all(nzchar(names(given))))))
    .abort(source, " must be a list with names, such as list(slots = 4096), not ", .describe(given))
  table <- .knob_table()
  unknown <- setdiff(names(given), table$name)
  if (length(unknown)) .abort("there is no knob '", unknown[1L], "' (in ", source, "): there are ", toString(table$name))
  if (anyDuplicated(names(given))) .abort("'", names(given)[anyDuplicated(names(given))], "' is twice in ", source)
  given <- given[!vapply(given, is.null, NA)]
  for (name in names(given)) given[[name]] <- .knob_check(name, given[[name]], table, source)
  given
}

# `config` of daemons(): a list, a file, or NULL: the file that SETSUNA_CONFIG names, if it names one.
.config_knobs <- function(config) {
  if (is.null(config)) {
    path <- Sys.getenv("SETSUNA_CONFIG")
    return(if (nzchar(path)) .config_read(path, paste0("the file of SETSUNA_CONFIG, '", path, "'")) else list())
  }
  if (is.list(config)) return(.knobs_check(config, "'config'"))
  if (!is.character(config) || length(config) != 1L || is.na(config) || !nzchar(config))
    .abort("'config' must be the name of a file that tune() wrote, a list of knobs, or NULL, not ", .describe(config))
  .config_read(config, paste0("the file '", config, "'"))
}

# All knobs: those given over the defaults.
.knobs_in_force <- function(given) {
  if (is.null(.knobs$defaults)) .knobs$defaults <- .knob_defaults()
  values <- .knobs$defaults
  values[names(given)] <- given
  values
}

# Those of the session as they are, now that it has begun.
.knobs_with_session <- function(values) {
  session <- .session_knobs()
  values[names(session)] <- session
  values
}

# ---- those of the session: its reactor starts but once ----

.session_names <- c("reactor", "ring", "send_zc") # in the order of C_session_knobs

.session_knobs <- function() .knobs_from_codes(stats::setNames(.Call(C_session_knobs), .session_names))

.session_knobs_set <- function(given) {
  given <- given[intersect(names(given), .session_names)]
  if (nzchar(Sys.getenv("SETSUNA_REACTOR"))) given$reactor <- NULL
  if (!length(given)) return()
  now <- .session_knobs()
  wanted <- now
  wanted[names(given)] <- given
  if (identical(wanted, now) || .Call(C_session_knobs_set, .knobs_to_codes(wanted))) return()
  name <- names(given)[!mapply(identical, given, now[names(given)])][1L]
  .abort("'", name, "' is ", now[[name]], " in this session and cannot become ", given[[name]],
         ": it is settled by the first daemons() or mirai() of a session. Give it there, or by SETSUNA_CONFIG")
}

# The native code has numbers only: a word is its place among the choices.
.knobs_to_codes <- function(values) {
  table <- .knob_table()
  # Not by `[` of the table, which takes long for a mirai() without daemons.
  choices <- table$choices[match(names(values), table$name)]
  codes <- .mapply(function(value, among) if (length(among)) match(value, among) - 1 else value, list(values, choices), NULL)
  as.double(unlist(codes))
}

.knobs_from_codes <- function(codes) {
  table <- .knob_table()
  values <- lapply(names(codes), function(name) {
    choices <- table[name, "choices"][[1L]]
    if (length(choices)) choices[codes[[name]] + 1] else codes[[name]]
  })
  stats::setNames(values, names(codes))
}

# ---- the manual: a section of ?tune, made from the table ----

.knob_manual <- function() {
  table <- .knob_frame()
  items <- vapply(seq_len(nrow(table)), function(i) .knob_item(table[i, ], .knob_defaults(table)[[i]]), "")
  c(
    "@section Knobs:",
    "The values in force are in `status()$config`. For each knob: its default, what else it may be, what it does, and the",
    "command that shows on your machine whether the default is right: `setsuna tune`, or `tune()` with the same arguments;",
    "`tools/bench` belongs to the source repository.",
    "", items, "",
    "Bounds that are no knobs: a slot's room for arguments and results (`inline_bytes` can be lower, not higher), the size of an",
    "extent (2 MB, a huge page) and the number of daemons (1024) are part of the shared memory's layout, which session and",
    "daemons are compiled with."
  )
}

.knob_item <- function(row, default) {
  choices <- row$choices[[1L]]
  number <- function(x) paste0(.knob_number(x), if (nzchar(row$unit)) paste0(" ", row$unit))
  values <- if (length(choices)) paste0("default `\"", default, "\"`; ", paste0("`\"", choices, "\"`", collapse = ", "))
            else paste0("default ", number(row$preset), "; ", .knob_number(row$low), " to ", .knob_number(row$high))
  paste0("* `", row$name, "` (", values, if (row$session) "; settled by the session's first `daemons()` or `mirai()`", "): ",
         row$meaning, " `", row$evidence, "`")
}
