# The text that starts a daemon: the R program, and shell commands around it.

# R code that gives `value`, from characters that no shell changes within double quotes, nor R's own front end (which reads
# '~', '\n' and the like in its arguments its own way): everything else is written as a \u escape. Newlines stay as they are.
.r_code <- function(value) {
  if (is.null(value)) return("NULL")
  text <- if (is.character(value)) vapply(enc2utf8(value), .r_string, "", USE.NAMES = FALSE)
          else if (is.integer(value)) ifelse(is.na(value), "NA", format(value, trim = TRUE, scientific = FALSE))
          else vapply(value, deparse, "", control = "digits17")
  if (length(text) == 1L) text else paste0("c(", paste(text, collapse = ","), ")")
}

.r_string <- function(text) {
  points <- utf8ToInt(text)
  plain <- points == 10L | (points >= 32L & points < 127L & !points %in% utf8ToInt("\"$'\\`!~"))
  characters <- intToUtf8(points, multiple = TRUE)
  characters[!plain] <- ifelse(points[!plain] > 65535L, sprintf("\\U%08x", points[!plain]), sprintf("\\u%04x", points[!plain]))
  paste0("'", paste(characters, collapse = ""), "'")
}

# A call of daemon(). `url`: its first argument, as R code; the others: a named list of values.
.daemon_program_text <- function(url, arguments) {
  given <- vapply(arguments, .r_code, "")
  paste0("setsuna::daemon(", paste(c(url, if (length(given)) paste0(names(given), "=", given)), collapse = ", "), ")")
}

# One word of a shell command. A leading ~/ stays the home directory of who runs the command.
.shell_word <- function(text) {
  if (grepl("^[A-Za-z0-9_./@%+=:,-]+$", text)) return(text)
  if (startsWith(text, "~/")) return(paste0("~/", .shell_word(substring(text, 3L))))
  shQuote(text, "sh")
}

# What R takes in an argument -e, all in all (it counts a space and a newline as three).
.longest_argument <- 9900L

# A command to paste, or for a launcher that takes a command. Text that is too long for an argument comes by standard input.
.shell_command <- function(program, rscript) {
  spaces <- lengths(regmatches(program, gregexpr("[ \n]", program)))
  if (nchar(program, "bytes") + 2L * spaces > .longest_argument) return(.shell_here_document(program, rscript))
  paste0(.shell_word(rscript), " -e \"", program, "\"")
}

# The program by standard input: nobody sees it in a list of processes. `after`: what else stands on the command's line.
.shell_here_document <- function(program, rscript, after = "") {
  paste0(.shell_word(rscript), " - <<'", .end_mark, "'", after, "\n", program, "\n", .end_mark)
}

.end_mark <- "END_OF_SETSUNA_PROGRAM"
