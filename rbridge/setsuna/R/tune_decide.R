# What tune() concludes from its samples. Pure: costs in, a choice out. A cost is better the lower it is.

.tune_level <- 0.05 # of the test, all values of a knob together
.tune_least_gain <- 0.03 # a smaller gain is not worth a configuration

# `costs`: a list of samples, named by value, in the order in which values are preferred where none of them is surely the best;
# the default's is `default`. `times`: where the cost is not a time, what the work
# took with each value, in the same form: a value that is slower than the default by more than `slower` is no choice.
.tune_decide <- function(costs, default, times = NULL, slower = 0.25) {
  base <- costs[[default]]
  table <- do.call(rbind, lapply(names(costs), function(value) {
    x <- costs[[value]]
    compared <- if (value == default) list(gain = 0, low = NA_real_, high = NA_real_, p = NA_real_) else .tune_compare(base, x)
    data.frame(value = value, n = length(x), median = stats::median(x), spread = stats::IQR(x), gain = compared$gain,
               low = compared$low, high = compared$high, p = compared$p, slower = .tune_slower(times, value, default))
  }))
  others <- table$value != default
  table$p[others] <- stats::p.adjust(table$p[others], "holm")
  good <- others & !is.na(table$p) & table$p < .tune_level & table$gain >= .tune_least_gain
  fits <- good & table$slower <= slower
  chosen <- default
  if (any(fits)) {
    top <- max(table$gain[fits])
    chosen <- table$value[fits & (table$gain == top | (!is.na(table$high) & table$high >= top))][1L]
  }
  list(chosen = chosen, table = table, why = .tune_why(table, default, chosen, good, slower))
}

# By how much the cost falls from `base` to `x`, as a share of `base`, with its 95 % interval, and the probability of such
# samples if it does not fall: Mann and Whitney's test, and the shift that belongs to it, of the logarithms.
.tune_compare <- function(base, x) {
  none <- list(gain = 0, low = NA_real_, high = NA_real_, p = NA_real_)
  if (length(base) < 2L || length(x) < 2L) return(none)
  if (any(c(base, x) <= 0)) { # nothing was used, now and then: no ratios
    test <- suppressWarnings(stats::wilcox.test(base, x))
    middle <- stats::median(base)
    gain <- if (middle > 0) 1 - stats::median(x) / middle else 0
    return(list(gain = gain, low = NA_real_, high = NA_real_, p = test$p.value))
  }
  if (length(unique(c(base, x))) == 1L) return(list(gain = 0, low = 0, high = 0, p = 1))
  test <- suppressWarnings(stats::wilcox.test(log(base), log(x), conf.int = TRUE))
  share <- function(shift) 1 - exp(-as.vector(shift))
  list(gain = share(test$estimate), low = share(test$conf.int[1L]), high = share(test$conf.int[2L]), p = test$p.value)
}

.tune_slower <- function(times, value, default) {
  if (is.null(times) || value == default) return(0)
  stats::median(times[[value]]) / stats::median(times[[default]]) - 1
}

.tune_why <- function(table, default, chosen, good, slower) {
  if (chosen != default) {
    row <- table[table$value == chosen, ]
    return(paste0(.tune_percent(row$gain), " better than the default, p = ", format(row$p, digits = 2)))
  }
  if (any(good))
    return(paste0("default kept: ", table$value[good][which.max(table$gain[good])], " is better, but more than ",
                  .tune_percent(slower), " slower"))
  others <- table[table$value != default, , drop = FALSE]
  if (!nrow(others) || all(is.na(others$p))) return("default kept: too few samples")
  best <- others[which.max(others$gain), ]
  if (best$gain <= 0) return("default kept: nothing is better")
  certain <- !is.na(best$p) && best$p < .tune_level
  paste0("default kept: the best other, ", best$value, ", gains ", .tune_percent(best$gain),
         if (certain) ", too little" else paste0(", which may be chance (p = ", format(best$p, digits = 2), ")"))
}

.tune_percent <- function(x) paste0(format(round(100 * x, 1)), " %")
