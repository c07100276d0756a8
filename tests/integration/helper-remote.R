# What remote daemons are tested with: real programs of Debian's packages, each started by a test on loopback (or in a
# network namespace) and stopped after it.

for (helper in c("helper-api.R", "helper-launch.R"))
  source(file.path("..", "..", "rbridge", "setsuna", "tests", "testthat", helper), local = TRUE)

# The path of a program; a test that needs one that is not there is skipped, and says what to install.
program_of <- function(name, package) {
  places <- c(unname(Sys.which(name)), file.path(c("/usr/sbin", "/sbin"), name))
  found <- Find(function(path) file.access(path, 1L) == 0L, places)
  if (is.null(found)) testthat::skip(paste0("needs ", name, " (Debian package ", package, ")"))
  found
}

free_port <- function() {
  repeat {
    port <- sample(20000:32000, 1L)
    socket <- tryCatch(serverSocket(port), error = function(e) NULL)
    if (is.null(socket)) next
    close(socket)
    return(port)
  }
}

run_quietly <- function(program, args, input = NULL) {
  log <- tempfile()
  status <- system2(program, shQuote(args), stdout = log, stderr = log, input = input)
  if (status != 0L) stop(basename(program), " ended with status ", status, ": ", paste(readLines(log), collapse = "\n"))
}

end_process <- function(pid_file, signal = tools::SIGTERM) {
  pid <- suppressWarnings(tryCatch(as.integer(readLines(pid_file)), error = function(e) integer()))
  if (!length(pid)) return()
  tools::pskill(pid, signal)
  becomes_true(function() !exists_process(pid), 20)
}

# An Rscript that finds this library, in a folder whose name needs quoting.
other_rscript <- function(frame = parent.frame())
  awkward_program(c(sprintf("export R_LIBS=%s", shQuote(paste(.libPaths(), collapse = ":"))),
                    sprintf("exec %s \"$@\"", shQuote(real_rscript()))), frame = frame)

connected <- function(n, .compute = NULL)
  expect_true(becomes_true(function() info(.compute)[["connections"]] == n), label = paste(n, "daemons that connect; that"))

# The token of a profile: what other users must not see.
expect_token_hidden <- function() {
  token <- sub(".*token='([0-9a-f]+)'.*", "\\1", launch_remote(status()$url[1L]))
  expect_match(token, "^[0-9a-f]{32,}$")
  expect_no_match(system2("ps", c("-ww", "-e", "-o", "args="), stdout = TRUE), token, fixed = TRUE)
}

# ---- sshd ----

# A machine: list(remote = its ssh:// URL, command = an ssh that knows its key and has one of its own, log()).
# `inside`: words before a command that runs it in a network namespace.
start_sshd <- function(address = "127.0.0.1", inside = character(), frame = parent.frame()) {
  sshd <- program_of("sshd", "openssh-server")
  program_of("ssh", "openssh-client")
  folder <- withr::local_tempdir("ssh ", .local_envir = frame)
  path <- function(name) file.path(folder, name)
  for (key in c("host", "user")) run_quietly("ssh-keygen", c("-q", "-t", "ed25519", "-N", "", "-f", path(key)))
  port <- free_port()
  if (Sys.info()[["effective_user"]] == "root") dir.create("/run/sshd", showWarnings = FALSE)
  writeLines(c(
    sprintf("ListenAddress %s:%d", address, port), sprintf("HostKey \"%s\"", path("host")),
    sprintf("PidFile \"%s\"", path("pid")), sprintf("AuthorizedKeysFile \"%s\"", path("user.pub")),
    "StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
    "PermitRootLogin prohibit-password", "AllowTcpForwarding yes", "MaxStartups 100"
  ), path("config"))
  start <- c(inside, sshd, "-f", path("config"), "-E", path("log"))
  run_quietly(start[1L], start[-1L])
  withr::defer(end_process(path("pid")), envir = frame)
  if (!becomes_true(function() file.exists(path("pid")), 20)) stop("sshd did not start: ", readLines(path("log")))
  writeLines(sprintf("[%s]:%d %s", address, port, readLines(path("host.pub"))), path("known_hosts"))
  # Options with spaces in their values come by a file: ssh splits them.
  writeLines(c(sprintf("IdentityFile \"%s\"", path("user")), "IdentitiesOnly yes",
               sprintf("UserKnownHostsFile \"%s\"", path("known_hosts")), "GlobalKnownHostsFile /dev/null"), path("client"))
  list(remote = sprintf("ssh://%s@%s:%d", Sys.info()[["effective_user"]], address, port),
       command = c("ssh", "-F", path("client")), log = function() readLines(path("log")))
}

# A network namespace with a loopback of its own, joined to this one by a pair of interfaces: list(inside, address).
local_namespace <- function(frame = parent.frame()) {
  ip <- program_of("ip", "iproute2")
  name <- paste0("setsuna-", Sys.getpid())
  id <- Sys.getpid() %% 250L
  quiet <- function(...) suppressWarnings(system2(ip, c(...), stdout = FALSE, stderr = FALSE)) == 0L
  if (!quiet("netns", "add", name)) testthat::skip("needs network namespaces: 'ip netns add' is refused here")
  withr::defer(quiet("netns", "del", name), envir = frame)
  link <- sprintf("sets%d", Sys.getpid() %% 100000L)
  address <- sprintf("10.231.%d.%d", id, 1:2)
  joined <- quiet("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name) &&
    quiet("addr", "add", paste0(address[1L], "/24"), "dev", link) && quiet("link", "set", link, "up") &&
    quiet("-n", name, "addr", "add", paste0(address[2L], "/24"), "dev", "eth0") &&
    quiet("-n", name, "link", "set", "eth0", "up") && quiet("-n", name, "link", "set", "lo", "up")
  if (!joined) testthat::skip("needs virtual Ethernet pairs: 'ip link add type veth' is refused here")
  list(inside = c(ip, "netns", "exec", name), address = address[2L], here = address[1L])
}

# ---- Slurm ----

# A cluster of one node, with munge. Sets SLURM_CONF for as long as it runs.
start_slurm <- function(frame = parent.frame()) {
  munged <- program_of("munged", "munge")
  slurmctld <- program_of("slurmctld", "slurmctld")
  slurmd <- program_of("slurmd", "slurmd")
  program_of("sbatch", "slurm-client")
  folder <- withr::local_tempdir("slurm", .local_envir = frame)
  path <- function(name) file.path(folder, name)
  for (name in c("spool", "state")) dir.create(path(name))
  key <- file("/dev/urandom", "rb", raw = TRUE)
  writeBin(readBin(key, "raw", 1024L), path("key"))
  close(key)
  Sys.chmod(path("key"), "400")
  # By force: only this user comes through the folder to the socket, which munged does not like.
  run_quietly(munged, c("--force", paste0("--", c("key-file", "socket", "pid-file", "log-file", "seed-file"), "=",
                               path(c("key", "socket", "munged.pid", "munged.log", "seed")))))
  withr::defer(end_process(path("munged.pid")), envir = frame)
  host <- Sys.info()[["nodename"]]
  user <- Sys.info()[["effective_user"]]
  setting <- function(name, value) paste0(name, "=", value)
  writeLines(c(
    setting("ClusterName", "setsuna"), sprintf("SlurmctldHost=%s(127.0.0.1)", host),
    setting(c("SlurmUser", "SlurmdUser"), user),
    "AuthType=auth/munge", setting("AuthInfo", paste0("socket=", path("socket"))), "CredType=cred/munge",
    setting("SlurmctldPort", free_port()), setting("SlurmdPort", free_port()),
    setting(c("StateSaveLocation", "SlurmdSpoolDir", "SlurmctldPidFile", "SlurmdPidFile", "SlurmctldLogFile", "SlurmdLogFile"),
            path(c("state", "spool", "ctld.pid", "slurmd.pid", "ctld.log", "slurmd.log"))),
    "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "JobAcctGatherType=jobacct_gather/none", "MpiDefault=none",
    "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core", "ReturnToService=2", "SchedulerParameters=sched_interval=1",
    "SlurmdParameters=config_overrides", sprintf("NodeName=%s NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN", host),
    sprintf("PartitionName=test Nodes=%s Default=YES MaxTime=INFINITE State=UP", host)
  ), path("slurm.conf"))
  withr::local_envvar(SLURM_CONF = path("slurm.conf"), .local_envir = frame)
  withr::defer(for (name in c("slurmd.pid", "ctld.pid")) end_process(path(name)), envir = frame)
  run_quietly(slurmctld, "-i")
  run_quietly(slurmd, "-b")
  ready <- function() any(suppressWarnings(system2("sinfo", c("-h", "-o", "%T"), stdout = TRUE, stderr = FALSE)) == "idle")
  if (!becomes_true(ready, 60))
    stop("Slurm did not start: ", paste(unlist(lapply(path(c("ctld.log", "slurmd.log")), readLines)), collapse = "\n"))
  list(folder = folder, output = sprintf("#SBATCH --output=%s/job-%%A_%%a.out", folder))
}

# ---- nginx ----

# A reverse proxy before a WebSocket server at `port`: list(port, tls_port, certificate).
start_nginx <- function(port, frame = parent.frame()) {
  nginx <- program_of("nginx", "nginx-light")
  openssl <- program_of("openssl", "openssl")
  folder <- withr::local_tempdir("nginx", .local_envir = frame)
  path <- function(name) file.path(folder, name)
  run_quietly(openssl, c("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                         "-keyout", path("key.pem"), "-out", path("certificate.pem")))
  ports <- c(free_port(), free_port())
  forward <- c(
    "location / {", sprintf("proxy_pass http://127.0.0.1:%d;", port), "proxy_http_version 1.1;",
    "proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection \"upgrade\";",
    "proxy_set_header Host $host;", "proxy_read_timeout 1h;", "}"
  )
  temporary <- c("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
  writeLines(c(
    if (Sys.info()[["effective_user"]] == "root") "user root;",
    sprintf("pid %s; error_log %s;", path("pid"), path("error.log")), "events {}", "http {", "access_log off;",
    sprintf("%s_temp_path %s;", temporary, path(temporary)),
    "server {", sprintf("listen 127.0.0.1:%d;", ports[1L]), forward, "}",
    "server {", sprintf("listen 127.0.0.1:%d ssl;", ports[2L]), sprintf("ssl_certificate %s;", path("certificate.pem")),
    sprintf("ssl_certificate_key %s;", path("key.pem")), forward, "}", "}"
  ), path("nginx.conf"))
  run_quietly(nginx, c("-p", folder, "-c", path("nginx.conf"), "-e", path("error.log")))
  withr::defer(end_process(path("pid")), envir = frame)
  if (!becomes_true(function() file.exists(path("pid")), 20)) stop("nginx did not start")
  list(port = ports[1L], tls_port = ports[2L], certificate = path("certificate.pem"),
       log = function() readLines(path("error.log")))
}
