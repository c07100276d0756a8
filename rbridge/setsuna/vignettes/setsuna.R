## ----setup, include = FALSE-----------------------------------------------------------------------
knitr::opts_chunk$set(collapse = TRUE, comment = "#>")
# A page that loads nothing from elsewhere.
page <- file.path(dirname(knitr::current_input(dir = TRUE)), "page.html")
options(markdown.html.options = "-highlight_code", markdown.html.template = page, width = 100, digits = 4)

## -------------------------------------------------------------------------------------------------
library(setsuna)

## -------------------------------------------------------------------------------------------------
m <- mirai({
    res <- rnorm(n) + m
    res / rev(res)
  },
  m = runif(1),
  n = 1e6
)
m
m$data

## -------------------------------------------------------------------------------------------------
call_mirai(m)$data |> str()
m[] |> length()

## -------------------------------------------------------------------------------------------------
rate <- 0.05
mirai(1 + rate)[]
mirai(1 + rate, rate = rate)[]

## -------------------------------------------------------------------------------------------------
amount <- 200
growth <- quote(amount * (1 + rate))
mirai(growth, .args = list(amount, rate))[]

## -------------------------------------------------------------------------------------------------
x <- rnorm(1e5)
file <- tempfile()
m <- mirai(write.csv(x, file = file), .args = list(x, file))
looks <- 0
while (unresolved(m)) {
  looks <- looks + 1      # a look at incoming data would go here
  Sys.sleep(0.05)
}
cat("written:", is.null(m$data), "\n")

## -------------------------------------------------------------------------------------------------
tasks <- list(slow = mirai(Sys.sleep(60)), fast = mirai("here"))
race_mirai(tasks)
stop_mirai(tasks$slow)
tasks$slow$data

## -------------------------------------------------------------------------------------------------
fragile <- function(i) {
  if (runif(1) < 0.2) stop("no luck\n", call. = FALSE)
  sprintf("step %d done\n", i)
}
for (i in 1:5) {
  repeat {
    m <- call_mirai(mirai(fragile(i), .args = list(fragile, i)))
    cat(m$data)
    if (!is_error_value(m$data)) break
  }
}

## -------------------------------------------------------------------------------------------------
mirai(tools::pskill(Sys.getpid(), tools::SIGKILL))[]

## -------------------------------------------------------------------------------------------------
daemons(2)
status()

## -------------------------------------------------------------------------------------------------
long <- mirai(Sys.sleep(60))
mirai_map(1:4, function(i) i)[.flat]
unresolved(long)
stop_mirai(long)

## -------------------------------------------------------------------------------------------------
daemons(2, dispatcher = FALSE)
status()
table(mirai_map(1:10, function(i) Sys.getpid())[.flat]) |> as.vector()

## -------------------------------------------------------------------------------------------------
done <- mirai_map(1:2, function(i) {options(digits = 3); leftover <<- TRUE; setwd("/")})[]
mirai_map(1:2, function(i) exists("leftover") || getwd() == "/")[.flat]

## -------------------------------------------------------------------------------------------------
launch_local(1)
status()$connections

## -------------------------------------------------------------------------------------------------
daemons(0)
with(daemons(2), {
  mirai_map(1:3, function(i) i * 10)[.flat]
})

## -------------------------------------------------------------------------------------------------
daemons(2)
m <- mirai_map(c(a = 1, b = 4, c = 9), sqrt)
m[]
m[.flat]
mirai_map(data.frame(x = 1:3, y = 4:6), function(x, y) x * y)[.flat]

## ---- error = TRUE--------------------------------------------------------------------------------
mirai_map(1:10, function(i, limit) if (i > limit) stop("too large") else i, .args = list(limit = 3))[.stop]

## -------------------------------------------------------------------------------------------------
everywhere({
  library(stats4)
  common <<- list(answer = 42)
})
mirai("package:stats4" %in% search())[]
mirai(common$answer)[]

## -------------------------------------------------------------------------------------------------
daemons(1, .compute = "writers")
writer <- mirai(Sys.getpid(), .compute = "writers")[]
writer == status(.compute = "writers")$pids
writer %in% status()$pids

## -------------------------------------------------------------------------------------------------
with_daemons("writers", mirai(Sys.getpid())[]) == writer
daemons(0, .compute = "writers")

## -------------------------------------------------------------------------------------------------
m1 <- mirai(stop("occurred with a custom message", call. = FALSE))
m1[]
f <- function(x) if (x > 0) stop("positive")
m2 <- mirai({
  g <- function(x) f(x)
  g(1)
}, f = f)
m2[]
m2$data$stack.trace
m2$data$condition.class
is_mirai_error(m2$data)

## ---- eval = FALSE--------------------------------------------------------------------------------
#  daemons(1)
#  m <- mirai(Sys.sleep(60))
#  tools::pskill(status()$pids, tools::SIGINT)
#  m[]
#  #> 'miraiInterrupt' chr ""
#  is_mirai_interrupt(m$data)
#  #> [1] TRUE

## -------------------------------------------------------------------------------------------------
m3 <- mirai(Sys.sleep(60), .timeout = 100)
m3[]
is_error_value(m3$data)
is_mirai_error(m3$data)

## -------------------------------------------------------------------------------------------------
daemons(1, seed = 1)
mirai_map(1:3, function(i) rnorm(1))[.flat]
daemons(2, seed = 1)
mirai_map(1:3, function(i) rnorm(1))[.flat]

## -------------------------------------------------------------------------------------------------
daemons(1, memory = 100)
x <- runif(1e6)
y <- mirai(x * 2, x = x)[]
identical(y, x * 2)
daemons(0)

