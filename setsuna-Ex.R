pkgname <- "setsuna"
source(file.path(R.home("share"), "R", "examples-header.R"))
options(warn = 1)
library('setsuna')

base::assign(".oldSearch", base::search(), pos = 'CheckExEnv')
base::assign(".old_wd", base::getwd(), pos = 'CheckExEnv')
cleanEx()
nameEx("as.promise.mirai")
### * as.promise.mirai

flush(stderr()); flush(stdout())

### Name: as.promise.mirai
### Title: Mirai as promises
### Aliases: as.promise.mirai as.promise.mirai_map is.promising.mirai
###   is.promising.mirai_map

### ** Examples

## Don't show: 
if (requireNamespace("promises", quietly = TRUE)) (if (getRversion() >= "3.4") withAutoprint else force)({ # examplesIf
## End(Don't show)
done <- FALSE
promises::then(mirai("hello"), function(value) {
  cat(value, "\n")
  done <<- TRUE
})
while (!done) later::run_now(10) # at the prompt it comes by itself
## Don't show: 
}) # examplesIf
## End(Don't show)



cleanEx()
nameEx("call_mirai")
### * call_mirai

flush(stderr()); flush(stdout())

### Name: call_mirai
### Title: Wait for, collect and look at mirai
### Aliases: call_mirai collect_mirai race_mirai unresolved

### ** Examples

m <- mirai({
  Sys.sleep(0.1)
  "done"
})
while (unresolved(m)) {
  # do something else
  msleep(20)
}
m$data

call_mirai(mirai(1 + 1))$data
collect_mirai(list(a = mirai(1), b = mirai(2)))

race_mirai(list(mirai(Sys.sleep(5)), mirai("quick")))



cleanEx()
nameEx("cluster_config")
### * cluster_config

flush(stderr()); flush(stdout())

### Name: cluster_config
### Title: Launch through a cluster's scheduler
### Aliases: cluster_config

### ** Examples

# Slurm
cluster_config(
  command = "sbatch",
  options = "#SBATCH --job-name=setsuna
             #SBATCH --mem=10G
             #SBATCH --output=job.out
             module load R/4.5.0"
)

# Grid Engine
cluster_config("qsub", options = c("#$ -N setsuna", "#$ -l h_vmem=10G"))

# LSF
cluster_config("bsub", options = "#BSUB -M 10000", rscript = "/opt/R/bin/Rscript")

if (interactive()) {
  daemons(n = 4, url = host_url(ws = TRUE), remote = cluster_config("sbatch"))
}



cleanEx()
nameEx("daemon")
### * daemon

flush(stderr()); flush(stdout())

### Name: daemon
### Title: Daemon of a profile that listens
### Aliases: daemon

### ** Examples

if (interactive()) {
  daemon("abstract://08b4b97238bde0689bc9514b")
  daemon("tcp://192.168.0.2:5555", token = "36ba2f8c")
}



cleanEx()
nameEx("daemons")
### * daemons

flush(stderr()); flush(stdout())

### Name: daemons
### Title: Set daemons
### Aliases: daemons

### ** Examples

daemons(2)
mirai(Sys.getpid())[] == Sys.getpid()
status()
daemons(0)

# results that do not depend on the number of daemons
with(daemons(2, seed = 42), mirai_map(1:2, function(i) runif(1))[.flat])
with(daemons(1, seed = 42), mirai_map(1:2, function(i) runif(1))[.flat])

# a second set, with a limit on each of its daemons
daemons(1, idletime = 60000, .compute = "other")
mirai("from the other", .compute = "other")[]
daemons(0, .compute = "other")

# in this process, to debug
with(daemons(sync = TRUE), mirai(Sys.getpid())[] == Sys.getpid())



cleanEx()
nameEx("daemons_set")
### * daemons_set

flush(stderr()); flush(stdout())

### Name: daemons_set
### Title: Are daemons set?
### Aliases: daemons_set require_daemons

### ** Examples

daemons_set()

f <- function() {
  require_daemons(call = environment())
  mirai(1)[]
}
try(f())
with(daemons(1), f())



cleanEx()
nameEx("everywhere")
### * everywhere

flush(stderr()); flush(stdout())

### Name: everywhere
### Title: Evaluate an expression on every daemon
### Aliases: everywhere

### ** Examples

daemons(2)
everywhere({
  library(parallel)
  options(digits = 4)
})
mirai("package:parallel" %in% search())[]

everywhere({}, offset = 100)
mirai_map(1:3, function(i) i + offset)[.flat]
daemons(0)



cleanEx()
nameEx("http_config")
### * http_config

flush(stderr()); flush(stdout())

### Name: http_config
### Title: Launch by HTTP
### Aliases: http_config

### ** Examples

http_config(
  url = "https://jobs.example.com/api/launch",
  data = "{\"command\": \"%s\", \"memory_gb\": 4}",
  token = function() Sys.getenv("JOBS_TOKEN")
)



cleanEx()
nameEx("is_error_value")
### * is_error_value

flush(stderr()); flush(stdout())

### Name: is_error_value
### Title: Errors, interrupts and timeouts
### Aliases: is_error_value is_mirai_error is_mirai_interrupt

### ** Examples

f <- function(x) if (x > 0) stop("positive")
m <- call_mirai(mirai(f(1), f = f))
m$data
is_error_value(m$data)
is_mirai_error(m$data)
is_mirai_interrupt(m$data)
m$data$stack.trace
m$data$condition.class
conditionMessage(m$data)

m <- call_mirai(mirai(Sys.sleep(60), .timeout = 50))
m$data
is_error_value(m$data)
is_mirai_error(m$data)



cleanEx()
nameEx("is_mirai")
### * is_mirai

flush(stderr()); flush(stdout())

### Name: is_mirai
### Title: Is it a mirai?
### Aliases: is_mirai is_mirai_map

### ** Examples

is_mirai(mirai(1))
is_mirai(1)
is_mirai_map(mirai_map(1:2, identity))



cleanEx()
nameEx("launch_local")
### * launch_local

flush(stderr()); flush(stdout())

### Name: launch_local
### Title: Add local daemons
### Aliases: launch_local

### ** Examples

daemons(1)
launch_local(1, maxtasks = 10)
status()
daemons(0)



cleanEx()
nameEx("launch_remote")
### * launch_remote

flush(stderr()); flush(stdout())

### Name: launch_remote
### Title: Launch daemons on other machines
### Aliases: launch_remote

### ** Examples

daemons(n = 2, url = host_url())
launch_remote(2)
launch_remote(1, remote_config(rscript = "/opt/R/bin/Rscript"), maxtasks = 10)
daemons(0)



cleanEx()
nameEx("local_url")
### * local_url

flush(stderr()); flush(stdout())

### Name: local_url
### Title: URLs to listen at
### Aliases: local_url host_url

### ** Examples

local_url()
local_url(tcp = TRUE, port = 5555)
host_url()
host_url(tls = TRUE, ws = TRUE, port = 5555)
host_url(interface = "lo")



cleanEx()
nameEx("make_cluster")
### * make_cluster

flush(stderr()); flush(stdout())

### Name: make_cluster
### Title: A cluster for package parallel
### Aliases: make_cluster stop_cluster

### ** Examples

cl <- make_cluster(2)
cl
parallel::parLapply(cl, 1:4, function(x) x^2) |> unlist()
parallel::clusterExport(cl, "letters")
status(cl)
stop_cluster(cl)



cleanEx()
nameEx("mirai")
### * mirai

flush(stderr()); flush(stdout())

### Name: mirai
### Title: Evaluate an expression asynchronously
### Aliases: mirai try_mirai

### ** Examples

m <- mirai({
  Sys.sleep(0.1)
  x + y
}, x = 1, y = 2)
m
m$data
m[]

# a constructed expression, and objects passed by their names
x <- 5
twice <- function(x) 2 * x
expr <- quote(twice(x))
mirai(expr, .args = list(twice, x))[]

# an error is a value
m <- mirai(stop("something went wrong"))
m[]
is_error_value(m$data)

# a limit of time
mirai(Sys.sleep(60), .timeout = 100)[]



cleanEx()
nameEx("mirai_map")
### * mirai_map

flush(stderr()); flush(stdout())

### Name: mirai_map
### Title: Map a function over a vector, on daemons
### Aliases: mirai_map

### ** Examples

daemons(2)

m <- mirai_map(1:3, function(i) i^2)
m
m[]

mirai_map(c(a = 1, b = 2, c = 3), rnorm, .args = list(n = 2))[]

# a vector instead of a list
mirai_map(1:3, function(i) i + offset, offset = 10)[.flat]

# over the rows of a data frame
df <- data.frame(x = 1:3, y = c(10, 20, 30))
mirai_map(df, function(x, y) x * y)[.flat]

# the first error ends it
m <- mirai_map(list(1, "a", 3), function(x) x + 1)
tryCatch(m[.stop], error = function(e) cat(conditionMessage(e), "\n"))

daemons(0)



cleanEx()
nameEx("msleep")
### * msleep

flush(stderr()); flush(stdout())

### Name: msleep
### Title: Sleep for milliseconds
### Aliases: msleep

### ** Examples

msleep(5)



cleanEx()
nameEx("nextcode")
### * nextcode

flush(stderr()); flush(stdout())

### Name: nextcode
### Title: What a number means
### Aliases: nextcode

### ** Examples

nextcode(0:3)
nextcode(mirai(Sys.sleep(60), .timeout = 10)[])



cleanEx()
nameEx("nextstream")
### * nextstream

flush(stderr()); flush(stdout())

### Name: nextstream
### Title: What is known of a compute profile
### Aliases: nextstream nextget saisei

### ** Examples

daemons(1, seed = 1)
nextstream()
nextget("dispatcher")
print(saisei(1))
daemons(0)



cleanEx()
nameEx("on_daemon")
### * on_daemon

flush(stderr()); flush(stdout())

### Name: on_daemon
### Title: Is this code evaluated on a daemon?
### Aliases: on_daemon

### ** Examples

on_daemon()
mirai(setsuna::on_daemon())[]



cleanEx()
nameEx("remote_config")
### * remote_config

flush(stderr()); flush(stdout())

### Name: remote_config
### Title: Launch with a command
### Aliases: remote_config

### ** Examples

# Slurm: a daemon for each call of srun
remote_config(command = "srun", args = c("--mem 512 -n 1", "."))

# two machines through a program that passes on one command line, as ssh does
remote_config(
  command = "ssh",
  args = list(c("-p 22 node1", "."), c("-p 22 node2", ".")),
  quote = TRUE
)

# a container; the program comes by standard input
remote_config("docker", c("run --rm -i --network host r-setsuna", "Rscript -"))



cleanEx()
nameEx("serial_config")
### * serial_config

flush(stderr()); flush(stdout())

### Name: serial_config
### Title: Custom serialization of reference objects
### Aliases: serial_config register_serial

### ** Examples

box <- structure(new.env(), class = "box")
box$content <- 1:3

config <- serial_config("box", function(x) serialize(x$content, NULL), function(x) {
  structure(list2env(list(content = unserialize(x))), class = "box")
})
str(config, give.attr = FALSE, max.level = 1)



cleanEx()
nameEx("ssh_config")
### * ssh_config

flush(stderr()); flush(stdout())

### Name: ssh_config
### Title: Launch by ssh
### Aliases: ssh_config

### ** Examples

ssh_config("ssh://10.75.32.90:222")

ssh_config(c("ssh://me@node1", "ssh://me@node2"), tunnel = TRUE, timeout = 30)

if (interactive()) {
  daemons(
    n = 4,
    url = host_url(ws = TRUE, port = 5555),
    remote = ssh_config(remotes = "ssh://10.75.32.90")
  )
}



cleanEx()
nameEx("status")
### * status

flush(stderr()); flush(stdout())

### Name: status
### Title: Daemons and tasks at this moment
### Aliases: status info

### ** Examples

daemons(2)
mirai_map(1:10, identity)[.flat]
status()
status()$mirai
info()
daemons(0)



cleanEx()
nameEx("stop_mirai")
### * stop_mirai

flush(stderr()); flush(stdout())

### Name: stop_mirai
### Title: Cancel a mirai
### Aliases: stop_mirai

### ** Examples

m <- mirai(Sys.sleep(60))
stop_mirai(m)
m$data



cleanEx()
nameEx("tune")
### * tune

flush(stderr()); flush(stdout())

### Name: tune
### Title: Find the configuration that suits this machine
### Aliases: tune

### ** Examples

## Not run: 
##D found <- tune("latency", quick = TRUE, out = "setsuna.json")
##D found
##D daemons(2, config = "setsuna.json")
##D status()$config$spin
##D daemons(0)
## End(Not run)

# a configuration by hand
daemons(1, config = list(slots = 1024, spin = 20))
status()$config$slots
daemons(0)



cleanEx()
nameEx("with_daemons")
### * with_daemons

flush(stderr()); flush(stdout())

### Name: with_daemons
### Title: A compute profile for a part of a program
### Aliases: with_daemons local_daemons

### ** Examples

daemons(1, .compute = "gpu")
with_daemons("gpu", {
  mirai("on gpu")[]
})

run <- function() {
  local_daemons("gpu")
  mirai("on gpu as well")[]
}
run()
daemons(0, .compute = "gpu")



### * <FOOTER>
###
cleanEx()
options(digits = 7L)
base::cat("Time elapsed: ", proc.time() - base::get("ptime", pos = 'CheckExEnv'),"\n")
grDevices::dev.off()
###
### Local variables: ***
### mode: outline-minor ***
### outline-regexp: "\\(> \\)?### [*]+" ***
### End: ***
quit('no')
