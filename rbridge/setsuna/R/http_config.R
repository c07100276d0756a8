#' Launch by HTTP
#'
#' A launch configuration for [launch_remote()] and the `remote` argument of [daemons()]: each daemon is started by a request
#' to a web service, such as that of a platform which runs jobs. Needs the package 'curl'.
#'
#' Each of the values may be a function instead, which is called at the time of the launch: for tokens that expire.
#'
#' @param url where the service is, text that begins with `https://` (or `http://`, which lets others on the way read the
#'   token with which a daemon joins).
#' @param method the request's method.
#' @param headers further headers: a named character vector.
#' @param data the request's body: text, in which each `%s` stands for the command that starts a daemon (escaped as a part
#'   of a JSON string if the header `Content-Type` says JSON, which it does unless `headers` has another); or a function of
#'   this command.
#' @param ... options of libcurl for the request, by name, such as `timeout = 10`: see [curl::curl_options()].
#' @param cookie text of the header `Cookie`.
#' @param token text for the header `Authorization: Bearer`.
#' @param rscript the program `Rscript` of the other machine: its name, or its path.
#' @return A list, to be given to [daemons()] or [launch_remote()]. `launch_remote()` gives a list of the answers,
#'   invisibly: `status`, `headers` and `body`.
#' @examples
#' http_config(
#'   url = "https://jobs.example.com/api/launch",
#'   data = "{\"command\": \"%s\", \"memory_gb\": 4}",
#'   token = function() Sys.getenv("JOBS_TOKEN")
#' )
#' @export
http_config <- function(url, method = "POST", headers = NULL, data = NULL, ..., cookie = NULL, token = NULL,
                        rscript = "Rscript") {
  if (missing(url)) .abort("'url' is missing: it is where the service is, such as \"https://host/path\"")
  values <- list(url = url, method = method, headers = headers, data = data, cookie = cookie, token = token)
  Map(.check_http_value, values, names(values))
  options <- list(...)
  if (length(options) && (is.null(names(options)) || !all(nzchar(names(options)))))
    .abort("all ... arguments must be named: they are options of libcurl")
  c(list(type = "http"), values, list(options = options, rscript = .string(rscript, "rscript")))
}

.check_http_value <- function(value, what) {
  if (is.function(value)) return(value)
  if (is.null(value) && !what %in% c("url", "method")) return(value)
  if (what == "headers") {
    if (!is.character(value) || anyNA(value) || is.null(names(value)) || !all(nzchar(names(value))))
      .abort("'headers' must be a named character vector or a function, not ", .describe(value))
  } else if (!is.character(value) || length(value) != 1L || is.na(value) || !nzchar(value)) {
    .abort("'", what, "' must be one string or a function, not ", .describe(value))
  }
  if (what == "url" && !grepl("^https?://[^/]", value))
    .abort("'url' is \"", value, "\": it must begin with https:// or http://")
  if (what != "data" && any(grepl("[\r\n]", value))) .abort("'", what, "' must not have a line break")
  value
}

.launch_by_http <- function(config, programs) {
  .need("curl", "http_config()")
  lapply(programs, function(program) .http_launch(config, .shell_command(program, config$rscript)))
}

.http_launch <- function(config, command) {
  now <- lapply(c(url = "url", method = "method", headers = "headers", cookie = "cookie", token = "token"), function(what) {
    value <- config[[what]]
    .check_http_value(if (is.function(value)) value() else value, what)
  })
  headers <- c(now$headers, if (!is.null(now$cookie)) c(Cookie = now$cookie),
               if (!is.null(now$token)) c(Authorization = paste("Bearer", now$token)))
  body <- .http_body(config$data, command, .content_type(headers))
  if (!is.null(body) && is.na(.content_type(headers))) headers <- c(headers, "Content-Type" = "application/json")
  handle <- curl::new_handle()
  curl::handle_setheaders(handle, .list = as.list(headers))
  if (!is.null(body))
    curl::handle_setopt(handle, post = TRUE, postfields = charToRaw(body), postfieldsize = nchar(body, "bytes"))
  curl::handle_setopt(handle, .list = c(list(customrequest = now$method), config$options))
  answer <- tryCatch(curl::curl_fetch_memory(now$url, handle), error = function(e) {
    .abort("'remote': no answer from ", now$url, ": ", conditionMessage(e))
  })
  answer_body <- rawToChar(answer$content[answer$content != 0L])
  if (answer$status_code >= 400L)
    .abort("'remote': ", now$url, " refused the launch: status ", answer$status_code, ", ", substr(answer_body, 1L, 300L))
  list(status = answer$status_code, headers = curl::parse_headers(answer$headers), body = answer_body)
}

.content_type <- function(headers) {
  found <- headers[tolower(names(headers)) == "content-type"]
  if (length(found)) found[[1L]] else NA_character_
}

.http_body <- function(data, command, type) {
  if (is.null(data)) return(NULL)
  if (is.function(data)) {
    if (length(formals(args(data)))) return(.string(data(command), "data"))
    data <- .string(data(), "data")
  }
  if (is.na(type) || grepl("json", type, ignore.case = TRUE)) command <- .json_text(command)
  gsub("%s", command, data, fixed = TRUE)
}

# The inside of a JSON string. The command has no other control characters than line breaks.
.json_text <- function(text) {
  text <- gsub("([\\\\\"])", "\\\\\\1", text)
  gsub("\n", "\\n", text, fixed = TRUE)
}
