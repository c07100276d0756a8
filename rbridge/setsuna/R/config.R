# Configuration files: what tune() writes and daemons(config = ) reads.

.config_format <- 1 # the version of the file's format

.config_read <- function(path, source = paste0("the file '", path, "'")) {
  if (!file.exists(path) || dir.exists(path)) .abort(source, " does not exist: setsuna::tune() writes one")
  text <- tryCatch(paste(readLines(path, encoding = "UTF-8", warn = FALSE), collapse = "\n"), error = identity)
  if (inherits(text, "error")) .abort(source, " cannot be read: ", conditionMessage(text))
  if (!validUTF8(text)) .abort(source, " is not a configuration: it is not text in UTF-8")
  file <- tryCatch(.json_read(text), error = identity)
  if (inherits(file, "error")) .abort(source, " is not a configuration (JSON): ", conditionMessage(file))
  if (!is.list(file) || is.null(file$setsuna_config))
    .abort(source, " is not a configuration of setsuna: it has no entry \"setsuna_config\". setsuna::tune() writes one")
  version <- file$setsuna_config
  if (!.is_number(version) || version != trunc(version) || version < 1)
    .abort(source, " is of no version that exists: \"setsuna_config\" must be ", .config_format, ", not ", .describe(version))
  if (version > .config_format)
    .abort(source, " is of version ", version, ", and this setsuna reads versions up to ", .config_format,
           ": use a newer setsuna, or write the file anew with setsuna::tune()")
  unknown <- setdiff(names(file), c("setsuna_config", "comment", "knobs"))
  if (length(unknown))
    .abort(source, " has an unknown entry \"", unknown[1L], "\": there are \"setsuna_config\", \"comment\" and \"knobs\"")
  .knobs_check(file$knobs, source)
}

.config_write <- function(path, knobs, comment) {
  text <- .json_write(list(setsuna_config = .config_format, comment = comment, knobs = knobs))
  trouble <- tryCatch(writeLines(text, path, useBytes = TRUE), error = identity, warning = identity)
  if (inherits(trouble, "condition")) .abort("the file '", path, "' cannot be written: ", conditionMessage(trouble))
}
