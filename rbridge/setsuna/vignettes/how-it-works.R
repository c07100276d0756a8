## ----setup, include = FALSE-----------------------------------------------------------------------
knitr::opts_chunk$set(collapse = TRUE, comment = "#>")
# A page that loads nothing from elsewhere.
page <- file.path(dirname(knitr::current_input(dir = TRUE)), "page.html")
options(markdown.html.options = "-highlight_code", markdown.html.template = page, width = 100)

## -------------------------------------------------------------------------------------------------
library(setsuna)
daemons(2)
v <- mirai(tools::pskill(Sys.getpid(), tools::SIGKILL))[]
v
attr(v, "signal")
mirai_map(1:6, function(i) i * 10)[.flat]
daemons(0)

