# JSON, as little as configuration files need: no other package has to be installed for it.

# An object is a list with names, an array a list without, null is NULL. An error says where it stopped.
.json_read <- function(text) {
  tokens <- .json_tokens(text)
  at <- 1L
  peek <- function() if (at <= length(tokens)) tokens[at] else "the end"
  take <- function(wanted = NULL) {
    token <- peek()
    if (at > length(tokens) || !(is.null(wanted) || token %in% wanted))
      stop(if (is.null(wanted)) "a value" else paste(dQuote(wanted, FALSE), collapse = " or "), " is missing before ",
           if (at > length(tokens)) "the end" else token, call. = FALSE)
    at <<- at + 1L
    token
  }
  items <- function(close, item) {
    out <- list()
    if (peek() == close) {
      take()
      return(out)
    }
    repeat {
      out <- item(out)
      if (take(c(",", close)) == close) return(out)
    }
  }
  member <- function(out) {
    if (!startsWith(peek(), "\"")) stop("a name in double quotes is missing before ", peek(), call. = FALSE)
    name <- .json_string(take())
    take(":")
    if (name %in% names(out)) stop("the name \"", name, "\" comes twice", call. = FALSE)
    out[name] <- list(value())
    out
  }
  value <- function() {
    token <- take()
    if (token == "{") return(items("}", member))
    if (token == "[") return(items("]", function(out) c(out, list(value()))))
    if (startsWith(token, "\"")) return(.json_string(token))
    switch(token, true = TRUE, false = FALSE, null = NULL,
           if (grepl("^[-0-9]", token)) as.numeric(token) else stop("a value is missing before ", token, call. = FALSE))
  }
  out <- value()
  if (at <= length(tokens)) stop("there is more behind the end: ", tokens[at], call. = FALSE)
  out
}

.json_tokens <- function(text) {
  pattern <- paste0("[{}\\[\\],:]|\"(?:[^\"\\\\\\x00-\\x1f]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4})*\"",
                    "|-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
  found <- gregexpr(pattern, text, perl = TRUE)
  tokens <- regmatches(text, found)[[1L]]
  between <- regmatches(text, found, invert = TRUE)[[1L]]
  strange <- grep("[^ \t\r\n]", between)
  if (length(strange)) {
    at <- sum(nchar(tokens[seq_len(strange[1L] - 1L)])) + sum(nchar(between[seq_len(strange[1L] - 1L)]))
    what <- sub("\n.*", "", sub("^[ \t\r\n]+", "", substring(text, at + 1L)))
    stop("what is this? ", substr(what, 1L, 20L), call. = FALSE)
  }
  tokens
}

.json_string <- function(token) {
  body <- substr(token, 2L, nchar(token) - 1L)
  if (!grepl("\\", body, fixed = TRUE)) return(body)
  parts <- regmatches(body, gregexpr("\\\\u[0-9a-fA-F]{4}|\\\\.|[^\\\\]+", body, perl = TRUE))[[1L]]
  plain <- c(b = "\b", f = "\f", n = "\n", r = "\r", t = "\t")
  one <- function(part) {
    if (!startsWith(part, "\\")) return(part)
    kind <- substr(part, 2L, 2L)
    if (kind == "u") intToUtf8(strtoi(substr(part, 3L, 6L), 16L)) else if (kind %in% names(plain)) plain[[kind]] else kind
  }
  paste(vapply(parts, one, ""), collapse = "")
}

# Lists with names become objects, one level a line.
.json_write <- function(x, indent = "") {
  if (is.null(x)) return("null")
  if (!is.list(x)) {
    if (length(x) != 1L) return(paste0("[", paste(vapply(x, .json_write, ""), collapse = ", "), "]"))
    if (is.character(x)) return(.json_quote(x))
    if (is.logical(x)) return(if (is.na(x)) "null" else tolower(x))
    return(if (is.finite(x)) format(x, digits = 15L, scientific = FALSE, trim = TRUE) else "null")
  }
  if (!length(x)) return("{}")
  inner <- paste0(indent, "  ")
  values <- vapply(x, .json_write, "", indent = inner)
  lines <- if (is.null(names(x))) values else paste0(vapply(names(x), .json_quote, ""), ": ", values)
  marks <- if (is.null(names(x))) c("[", "]") else c("{", "}")
  paste0(marks[1L], "\n", paste0(inner, lines, collapse = ",\n"), "\n", indent, marks[2L])
}

.json_quote <- function(x) {
  x <- gsub("([\"\\\\])", "\\\\\\1", enc2utf8(x))
  for (code in c(1:31)) x <- gsub(intToUtf8(code), sprintf("\\u%04x", code), x, fixed = TRUE)
  paste0("\"", gsub("\\\\u000a", "\\\\n", x), "\"")
}
