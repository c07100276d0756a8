# The R packages beside setsuna, each brought to the same few operations by the fastest documented way to do them:
#
#   start(n)    workers, as many as cores unless the row says otherwise          stop()
#   trip()      one task there and back, waited for
#   flood(m)    m trivial tasks, each one a task of its own, all collected
#   map(x, f)   f over the elements of x; may send them in chunks               echo(x)   x there and back
#   send(x), fetch(bytes)   only there, only back        pid()   the process of a worker
#   argument(x, m)          m calls that each take x
#
# A system that does not have an operation lacks the function, and is left out of the rows that need it.

`%||%` <- function(a, b) if (is.null(a)) b else a

peers <- list()
add_peer <- function(name, packages, ...) peers[[name]] <<- list(name = name, packages = packages, ...)

# setsuna and mirai share an interface: `package` is the only difference.
mirai_like <- function(package) {
  get <- function(name) getExportedValue(package, name)
  list(
    start = function(n = cores) {
      get("daemons")(n)
      get("everywhere")({}, .min = n)[] # all of them are there
    },
    stop = function() get("daemons")(0),
    trip = local({ mirai <- NULL; function() { if (is.null(mirai)) mirai <<- get("mirai"); mirai(x + 1, x = 1)[] } }),
    flood = function(m) {
      mirai <- get("mirai")
      tasks <- vector("list", m)
      for (i in seq_len(m)) tasks[[i]] <- mirai(x + 1, x = i)
      values <- get("collect_mirai")(tasks)
      stopifnot(identical(values[[m]], m + 1))
    },
    map = function(x, f) stopifnot(length(get("mirai_map")(x, f)[]) == length(x)),
    pid = function() get("mirai")(Sys.getpid())[],
    echo = function(x) get("mirai")(x, x = x)[],
    send = function(x) get("mirai")(length(x), x = x)[],
    fetch = function(bytes) get("mirai")(numeric(bytes / 8), bytes = bytes)[],
    argument = function(x, m) get("collect_mirai")(lapply(seq_len(m), function(i) get("mirai")(x[[i]], x = x, i = i)))
  )
}

do.call(add_peer, c(list("setsuna", "setsuna"), mirai_like("setsuna")))
do.call(add_peer, c(list("mirai", "mirai"), mirai_like("mirai")))

local({
  cluster <- NULL
  add_peer("PSOCK", "parallel",
    start = function(n = cores) cluster <<- parallel::makePSOCKcluster(n),
    stop = function() parallel::stopCluster(cluster),
    trip = function() parallel::clusterCall(cluster[1L], function(x) x + 1, 1)[[1L]],
    pid = function() parallel::clusterCall(cluster[1L], Sys.getpid)[[1L]],
    flood = function(m) parallel::clusterApplyLB(cluster, seq_len(m), function(x) x + 1),
    map = function(x, f) parallel::parLapply(cluster, x, f),
    echo = function(x) parallel::clusterCall(cluster[1L], identity, x)[[1L]],
    send = function(x) parallel::clusterCall(cluster[1L], length, x)[[1L]],
    fetch = function(bytes) parallel::clusterCall(cluster[1L], function(n) numeric(n), bytes / 8)[[1L]],
    argument = function(x, m) parallel::clusterApplyLB(cluster, seq_len(m), function(i, vector) vector[[i]], vector = x))
})

add_peer("mclapply", "parallel",
  start = function(n = cores) NULL,
  stop = function() NULL,
  trip = function() parallel::mccollect(parallel::mcparallel(1 + 1))[[1L]],
  flood = function(m) parallel::mclapply(seq_len(m), function(x) x + 1, mc.cores = cores, mc.preschedule = FALSE),
  map = function(x, f) parallel::mclapply(x, f, mc.cores = cores),
  echo = function(x) parallel::mccollect(parallel::mcparallel(x))[[1L]],
  fetch = function(bytes) parallel::mccollect(parallel::mcparallel(numeric(bytes / 8)))[[1L]],
  argument = function(x, m) parallel::mclapply(seq_len(m), function(i) x[[i]], mc.cores = cores, mc.preschedule = FALSE))

future_like <- function(strategy) {
  list(
    start = function(n = cores) {
      options(future.globals.maxSize = Inf)
      future::plan(getExportedValue("future", strategy), workers = I(n), substitute = FALSE) # I(): one worker is a process too
      future::value(lapply(seq_len(n), function(i) future::future(Sys.getpid())))
    },
    stop = function() future::plan(future::sequential),
    trip = function() future::value(future::future(x + 1, globals = list(x = 1))),
    flood = function(m) for (f in lapply(seq_len(m), function(i) future::future(i + 1))) future::value(f),
    echo = function(x) future::value(future::future(x, globals = list(x = x))),
    send = function(x) future::value(future::future(length(x), globals = list(x = x))),
    fetch = function(bytes) future::value(future::future(numeric(bytes / 8), globals = list(bytes = bytes)))
  )
}
do.call(add_peer, c(list("future multisession", "future"), future_like("multisession")))
do.call(add_peer, c(list("future multicore", "future"), future_like("multicore")))

local({
  session <- NULL
  add_peer("callr", "callr",
    start = function(n = 1L) session <<- callr::r_session$new(),
    stop = function() session$close(),
    trip = function() session$run(function(x) x + 1, list(1)),
    flood = function(m) for (i in seq_len(m)) session$run(function(x) x + 1, list(i)),
    echo = function(x) session$run(function(x) x, list(x)),
    send = function(x) session$run(function(x) length(x), list(x)),
    fetch = function(bytes) session$run(function(n) numeric(n), list(bytes / 8)))
})

local({
  cluster <- NULL
  i <- NULL
  add_peer("foreach", c("foreach", "doParallel"),
    start = function(n = cores) {
      cluster <<- parallel::makePSOCKcluster(n)
      doParallel::registerDoParallel(cluster)
    },
    stop = function() {
      foreach::registerDoSEQ()
      parallel::stopCluster(cluster)
    },
    trip = function() foreach::`%dopar%`(foreach::foreach(i = 1), i + 1),
    flood = function(m) foreach::`%dopar%`(foreach::foreach(i = seq_len(m)), i + 1),
    map = function(x, f) foreach::`%dopar%`(foreach::foreach(i = x), f(i)))
})

local({
  controller <- NULL
  wait_all <- function() controller$wait(mode = "all")
  add_peer("crew", "crew",
    start = function(n = cores) {
      controller <<- crew::crew_controller_local(workers = n, seconds_idle = 600)
      controller$start()
      controller$push(1)
      wait_all()
      controller$pop()
    },
    stop = function() controller$terminate(),
    trip = function() {
      controller$push(x + 1, data = list(x = 1))
      wait_all()
      controller$pop()$result[[1L]]
    },
    flood = function(m) {
      for (i in seq_len(m)) controller$push(x + 1, data = list(x = i))
      wait_all()
      stopifnot(nrow(controller$collect()) == m)
    },
    echo = function(x) {
      controller$push(x, data = list(x = x))
      wait_all()
      controller$pop()$result[[1L]]
    })
})

# The systems that have all of `operations`, started by nobody yet; what is not installed is left out by name.
systems_with <- function(operations, among = names(peers)) {
  chosen <- list()
  if (alone && length(among) > 1L) {
    leave_out("the peers", "--alone")
    among <- intersect(among, "setsuna")
  }
  for (name in among) {
    absent <- Filter(function(p) !requireNamespace(p, quietly = TRUE), peers[[name]]$packages)
    if (length(absent)) {
      leave_out(name, paste("the R package", paste(absent, collapse = " and "), "is not installed"))
    } else if (all(operations %in% names(peers[[name]]))) {
      chosen[[name]] <- peers[[name]]
    }
  }
  chosen
}

# What a session of its own needs to use the peers.
sources_peers <- function() {
  sprintf("root <- %s; here <- %s; for (file in c('measure.R', 'peers.R')) source(file.path(here, file))", deparse(root), deparse(here))
}

# Starts the systems, runs `code`, stops them whatever happens. One that does not start is left out by name.
with_systems <- function(systems, code, n = cores) {
  running <- list()
  on.exit(for (s in running) try(s$stop(), silent = TRUE))
  for (s in systems) {
    ok <- tryCatch({
      s$start(n)
      TRUE
    }, error = function(e) {
      leave_out(s$name, paste("did not start:", conditionMessage(e)))
      FALSE
    })
    if (ok) running[[s$name]] <- s
  }
  code(running)
}
