# The statistics of the benchmarks: medians with their spread, ratios with confidence intervals, the rank test behind
# --compare, and a log-linear latency histogram. Base R only; tests/bench/test-stats.R has it on known distributions.

# Median and spread of one metric's samples.
spread <- function(x) {
  q <- stats::quantile(x, c(0, 0.25, 0.5, 0.75, 1), names = FALSE, type = 7)
  c(min = q[1L], q25 = q[2L], median = q[3L], q75 = q[4L], max = q[5L], mad = stats::mad(x), n = length(x))
}

# median(a) / median(b) with a percentile bootstrap interval. The two are resampled apart; with one sample on each side the
# interval is the ratio itself. The caller's random numbers are left as they were.
ratio_interval <- function(a, b, level = 0.95, times = 1000L, seed = 1L) {
  had_seed <- exists(".Random.seed", globalenv(), inherits = FALSE)
  old_seed <- if (had_seed) get(".Random.seed", globalenv())
  on.exit(if (had_seed) assign(".Random.seed", old_seed, globalenv()) else rm(".Random.seed", envir = globalenv()))
  set.seed(seed, kind = "Mersenne-Twister", normal.kind = "Inversion", sample.kind = "Rejection")
  medians <- function(x) {
    if (length(x) == 1L) return(rep(x, times))
    drawn <- matrix(x[sample.int(length(x), times * length(x), replace = TRUE)], times)
    apply(drawn, 1L, stats::median)
  }
  ratios <- medians(a) / medians(b)
  tail <- (1 - level) / 2
  limits <- stats::quantile(ratios, c(tail, 1 - tail), names = FALSE, na.rm = TRUE)
  c(ratio = stats::median(a) / stats::median(b), low = limits[1L], high = limits[2L])
}

# Two-sided Mann-Whitney test: the p value. Exact (counting arrangements of ranks) for small samples, else the normal
# approximation with the corrections for ties and continuity. Samples that are all equal give 1.
mann_whitney <- function(a, b) {
  na <- length(a)
  nb <- length(b)
  if (!na || !nb) return(NA_real_)
  ranks <- rank(c(a, b))
  u <- sum(ranks[seq_len(na)]) - na * (na + 1) / 2
  ties <- table(ranks)
  if (all(ties == 1) && na < 50 && nb < 50) {
    low <- min(u, na * nb - u)
    return(min(1, 2 * stats::pwilcox(low, na, nb)))
  }
  n <- na + nb
  if (n <= 64) return(exact_rank_p(2 * ranks, na))
  variance <- na * nb / 12 * ((n + 1) - sum(ties^3 - ties) / (n * (n - 1)))
  if (variance <= 0) return(1)
  distance <- max(0, abs(u - na * nb / 2) - 0.5)
  2 * stats::pnorm(-distance / sqrt(variance))
}

# With ties: how the sum of `na` of these ranks (doubled, so that they are whole) is distributed when any of them may be those.
exact_rank_p <- function(doubled, na) {
  observed <- sum(doubled[seq_len(na)])
  ways <- matrix(0, na + 1L, sum(doubled) + 1L) # of how many, with which sum
  ways[1L, 1L] <- 1
  for (rank in doubled) for (count in seq.int(na, 1L)) {
    before <- seq_len(ncol(ways) - rank)
    ways[count + 1L, before + rank] <- ways[count + 1L, before + rank] + ways[count, before]
  }
  share <- ways[na + 1L, ] / sum(ways[na + 1L, ])
  sums <- seq_along(share) - 1
  min(1, 2 * min(sum(share[sums <= observed]), sum(share[sums >= observed])))
}

# The smallest p value that `na` and `nb` samples can give at all: with 3 against 3 it is 0.1, so nothing is ever significant.
smallest_p <- function(na, nb) min(1, 2 / choose(na + nb, na))

# Which of several tests can reach the level at all when it has to hold for all of them together, given the smallest p value
# that each can give: the others are not counted (R. E. Tarone, 1990), or samples that can tell nothing would cost the rest its
# power. `level`: for all of them.
able_tests <- function(smallest, level) {
  able <- rep(FALSE, length(smallest))
  for (count in seq_along(smallest)) {
    able <- smallest < level / count
    if (sum(able) <= count) break
  }
  able
}

# Holm's correction: the chance of even one false alarm among all metrics stays at the level.
holm <- function(p) {
  known <- which(!is.na(p))
  adjusted <- p
  order_p <- known[order(p[known])]
  count <- length(order_p)
  running <- 0
  for (i in seq_along(order_p)) {
    running <- max(running, min(1, (count - i + 1) * p[order_p[i]]))
    adjusted[order_p[i]] <- running
  }
  adjusted
}

# ---- Histogram ------------------------------------------------------------------------------------------------------

# Log-linear ("HDR") histogram of latencies in nanoseconds: exact below 128, from there 128 buckets an octave, so that a
# value read is within 0.4 % of one recorded, whatever its size. The same buckets as runtime/histogram.hpp.
hdr_sub <- 128

hdr_bucket <- function(value) {
  value <- pmin(floor(value), 2^44 - 1)
  octave <- pmax(7, floor(log2(pmax(value, 1))))
  octave <- octave + (2^(octave + 1) <= value) - (octave > 7 & 2^octave > value) # log2() may round at a power of two
  shift <- octave - 7
  ifelse(value < hdr_sub, value, shift * hdr_sub + floor(value / 2^shift))
}

hdr_lowest <- function(bucket) {
  shift <- pmax(0, floor(bucket / hdr_sub) - 1)
  ifelse(bucket < 2 * hdr_sub, bucket, (hdr_sub + bucket %% hdr_sub) * 2^shift)
}

# A histogram is a data frame of the buckets that hold something, with the exact minimum and maximum kept beside them.
hdr_record <- function(values) {
  found <- table(hdr_bucket(values))
  structure(list(bucket = as.numeric(names(found)), count = as.numeric(found), min = min(values), max = max(values)),
            class = "hdr")
}

hdr_merge <- function(a, b) {
  counts <- tapply(c(a$count, b$count), c(a$bucket, b$bucket), sum)
  structure(list(bucket = as.numeric(names(counts)), count = as.numeric(counts), min = min(a$min, b$min),
                 max = max(a$max, b$max)), class = "hdr")
}

# The smallest value v such that `percent` % of what was recorded is <= v, to bucket precision.
hdr_percentile <- function(histogram, percent) {
  order_bucket <- order(histogram$bucket)
  bucket <- histogram$bucket[order_bucket]
  seen <- cumsum(histogram$count[order_bucket])
  total <- seen[length(seen)]
  vapply(percent, function(p) {
    if (p <= 0) return(histogram$min)
    if (p >= 100) return(histogram$max)
    hit <- bucket[which(seen >= p / 100 * total - 1e-9)[1L]]
    low <- hdr_lowest(hit)
    min(max(low + floor((hdr_lowest(hit + 1) - low) / 2), histogram$min), histogram$max)
  }, 0)
}

# A percentile says something only if at least one value lies beyond it.
percentiles_for <- function(n, wanted = c(50, 90, 99, 99.9, 99.99)) wanted[n * (1 - wanted / 100) >= 1 - 1e-6]

# ---- Schedules ------------------------------------------------------------------------------------------------------

# When the last of `durations` ends if each goes, in order, to the worker that is free first (FIFO), or to the next in turn
# (round robin); and a bound that no schedule beats.
makespan_fifo <- function(durations, workers) {
  free <- numeric(workers)
  for (d in durations) {
    first <- which.min(free)
    free[first] <- free[first] + d
  }
  max(free)
}
makespan_round_robin <- function(durations, workers) {
  max(tapply(durations, (seq_along(durations) - 1L) %% workers, sum))
}
makespan_bound <- function(durations, workers) max(sum(durations) / workers, max(durations))

# Where y crosses `level` between measured points, on a logarithmic x: NA if it never does, -Inf if it is above from the start.
crossing <- function(x, y, level) {
  o <- order(x)
  x <- x[o]
  y <- y[o]
  if (y[1L] >= level) return(-Inf)
  i <- which(y >= level)[1L]
  if (is.na(i)) return(NA_real_)
  if (x[i - 1L] <= 0) return(x[i])
  share <- (level - y[i - 1L]) / (y[i] - y[i - 1L])
  exp(log(x[i - 1L]) + share * (log(x[i]) - log(x[i - 1L])))
}
