# Sys.sleep() takes SIGINT over while it waits and then gives it back to the handler before. In the instant in which it takes it
# over for the first time in a process it does not know that one yet: a signal then leaves none, and the next ends the process
# (R 4.2, R_SelectEx()). So the first time is before there are tasks.
.steady_sigint <- function() Sys.sleep(1e-6)
