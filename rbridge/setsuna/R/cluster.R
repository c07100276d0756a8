# A cluster for the package parallel: node i is daemon i of a profile of its own, and keeps its state between jobs.

#' A cluster for package parallel
#'
#' Makes daemons usable wherever a cluster of package \pkg{parallel} is: [parallel::parLapply()], [parallel::clusterExport()]
#' and so on. Where R knows cluster types of other packages, `parallel::makeCluster(n, type = "MIRAI")` makes one as well.
#'
#' @param n number of nodes. Not needed where `url` has one URL for each.
#' @param url where nodes on other machines dial, see [daemons()]: each has a URL of its own. It returns when all are there.
#' @param remote how to start them, see [daemons()]. Without it the commands to start them by hand are shown.
#' @param ... further arguments of [daemons()].
#' @param cl a cluster made by `make_cluster()`.
#' @return `make_cluster()`: an object of classes `miraiCluster` and `cluster`. `stop_cluster()`: `NULL`, invisibly;
#'   `parallel::stopCluster()` does the same.
#' @examples
#' cl <- make_cluster(2)
#' cl
#' parallel::parLapply(cl, 1:4, function(x) x^2) |> unlist()
#' parallel::clusterExport(cl, "letters")
#' status(cl)
#' stop_cluster(cl)
#' @export
make_cluster <- function(n, url = NULL, remote = NULL, ...) {
  if (missing(n) && is.null(url)) .abort("'n' is missing: give the number of nodes")
  n <- if (missing(n)) length(url) else .count(n, "n", 1)
  if (is.null(url) && !is.null(remote)) .abort("'remote' needs a 'url' that the nodes can reach, such as host_url()")
  id <- paste0("cluster ", .clusters$made <- .clusters$made + 1L)
  daemons(n, url = url, remote = remote, cleanup = FALSE, ..., .compute = id)
  if (!is.null(url)) .await_nodes(n, id, remote)
  profile <- .profile(id)
  nodes <- lapply(seq_len(n), function(i) {
    structure(list2env(list(id = id, profile = profile$id, index = i, host = "localhost", rank = i, pending = NULL, tag = NULL),
                       parent = emptyenv()), class = "miraiNode")
  })
  structure(nodes, class = c("miraiCluster", "cluster"), id = id)
}

.await_nodes <- function(n, id, remote) {
  if (is.null(remote)) {
    cat("Start the nodes with these commands:\n")
    print(launch_remote(n, .compute = id))
  }
  tryCatch(problem <- .Call(C_profile_wait_min, .profile(id)$id, n), interrupt = function(e) {
    .reset(id)
    stop("interrupted while the nodes of the cluster were awaited", call. = FALSE)
  })
  if (is.null(problem)) return()
  .reset(id)
  .abort("the nodes of the cluster did not come: ", problem)
}

.clusters <- new.env(parent = emptyenv())
.clusters$made <- 0L

#' @rdname make_cluster
#' @export
stop_cluster <- function(cl) {
  if (!inherits(cl, "miraiCluster")) .abort("'cl' must be a cluster made by make_cluster(), not ", .describe(cl))
  id <- attr(cl, "id", exact = TRUE)
  if (identical(.profile(id)$id, cl[[1L]]$profile)) .reset(id)
  invisible()
}

#' @exportS3Method parallel::stopCluster
stopCluster.miraiCluster <- function(cl = NULL) stop_cluster(cl)

#' @exportS3Method parallel::sendData
sendData.miraiNode <- function(node, data) {
  if (!identical(data$type, "EXEC")) return(invisible())
  if (!identical(.profile(node$id)$id, node$profile)) .abort("the cluster of this node was stopped: make a new one")
  job <- data$data
  node$tag <- job$tag
  node$pending <- .Call(C_mirai_submit_to, quote(.run(.fun, .args, .return)),
                        list(.run = .run_on_node, .fun = job$fun, .args = job$args, .return = job$return),
                        node$profile, node$index)
  invisible()
}

# On the daemon.
.run_on_node <- function(fun, args, return) {
  success <- TRUE
  start <- proc.time()
  value <- tryCatch(do.call(fun, args, quote = TRUE), error = function(e) {
    success <<- FALSE
    structure(conditionMessage(e), class = c("snow-try-error", "try-error"))
  })
  list(value = if (return) value, success = success, time = proc.time() - start)
}

#' @exportS3Method parallel::recvData
recvData.miraiNode <- function(node) {
  if (is.null(node$pending)) .abort("node ", node$index, " of the cluster has nothing to receive")
  value <- .Call(C_mirai_collect, node$pending)
  node$pending <- NULL
  if (is_error_value(value)) {
    text <- paste0("node ", node$index, ": ", conditionMessage(.as_condition(value)))
    value <- list(value = structure(text, class = c("snow-try-error", "try-error")), success = FALSE,
                  time = proc.time() - proc.time())
  }
  c(list(type = "VALUE"), value, list(tag = node$tag))
}

#' @exportS3Method parallel::recvOneData
recvOneData.miraiCluster <- function(cl) {
  busy <- which(!vapply(cl, function(node) is.null(node$pending), NA))
  if (!length(busy)) .abort("no node of the cluster has anything to receive")
  first <- busy[race_mirai(lapply(busy, function(i) cl[[i]]$pending))]
  list(node = first, value = recvData.miraiNode(cl[[first]]))
}

#' @export
`[.miraiCluster` <- function(x, ...) structure(unclass(x)[...], class = class(x), id = attr(x, "id", exact = TRUE))

#' @export
print.miraiCluster <- function(x, ...) {
  id <- attr(x, "id", exact = TRUE)
  active <- length(x) > 0L && identical(.profile(id)$id, x[[1L]]$profile)
  cat("< miraiCluster | ID: ", id, " nodes: ", length(x), " active: ", active, " >\n", sep = "")
  invisible(x)
}

#' @export
print.miraiNode <- function(x, ...) {
  cat("< miraiNode | node: ", x$index, " cluster ID: ", x$id, " >\n", sep = "")
  invisible(x)
}

.register_cluster_type <- function(...) {
  parallel <- asNamespace("parallel")
  if (exists("registerClusterType", parallel, inherits = FALSE))
    tryCatch(get("registerClusterType", parallel)("MIRAI", make_cluster), error = function(e) NULL)
}
