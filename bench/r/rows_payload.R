# What bytes cost: vectors of 8 B to 800 MB there and back, only there, only back, and one large argument of many calls.

payload_bytes <- c(8, 800, 8e4, 8e6, 8e7, 8e8)

# A size is left out where the machine has not the memory for the copies that a peer makes of it.
payload_row <- function(key, operation, weight, workload) {
  add_row(key, weight, function(budget) {
    sizes <- payload_bytes
    if (budget < 25) sizes <- sizes[sizes < 8e8]
    if (budget < 3) sizes <- sizes[sizes < 8e6]
    if (available_bytes() < 8e9) {
      sizes <- sizes[sizes < 8e8]
      leave_out("payload of 800 MB", "less than 8 GB of memory is free")
    }
    with_systems(systems_with(operation), n = 1L, function(systems) {
      share <- ifelse(sizes >= 8e8, 3, ifelse(sizes >= 8e7, 1.5, 0.6))
      share <- share / sum(share)
      tired <- character() # those that took longer than all of the next size's time already
      for (i in seq_along(sizes)) {
        x <- if (operation == "fetch") sizes[i] else stats::runif(sizes[i] / 8)
        sides <- lapply(systems[setdiff(names(systems), tired)], function(s) {
          time_side(function() s[[operation]](x), 1e3, most = 200L)
        })
        if (operation == "echo" && sizes[i] == 8e7 && has_native("copy_bench", "memcpy_80MB")) {
          sides[["memcpy"]] <- function(slice) native("copy_bench", "memcpy_80MB", min_time = max(0.02, slice / 3)) / 1e6
        }
        if (sizes[i] >= 8e6) for (s in systems["setsuna"]) for (j in 1:3) s[[operation]](x) # warm, as memcpy's buffers are
        took <- list()
        take_turns(sides, budget * share[i], function(name, value, turn) {
          took[[name]] <<- value
          emit(key, name, value, "ms", "lower", workload, sizes[i], "bytes", turn)
        })
        if (i < length(sizes)) {
          expected <- 2 * vapply(took, function(ms) ms / 1000 * sizes[i + 1L] / sizes[i], 0) # two turns at least
          slow <- names(expected)[expected > budget * share[i + 1L] & sizes[i] >= 8e6]
          for (name in setdiff(slow, c("setsuna", "memcpy"))) {
            leave_out(sprintf("%s with a payload of %g MB (%s)", name, sizes[i + 1L] / 1e6, key), "it would take longer than the row has")
            tired <- c(tired, name)
          }
        }
        rm(x, sides)
        gc(full = TRUE)
      }
    })
  }, fixed = 8)
}

payload_row("echo", "echo", 110, "a double vector there and back")
payload_row("payload_there", "send", 70, "a double vector as argument")
payload_row("payload_back", "fetch", 70, "a double vector as result; made there")

add_row("repeated_argument", 25, function(budget) {
  bytes <- if (budget < 3) 8e5 else if (budget < 15) 8e6 else 8e7
  calls <- if (budget < 15) 20L else 40L
  x <- stats::runif(bytes / 8)
  with_systems(systems_with("argument"), function(systems) {
    # PSOCK sends the vector with each call: few calls show its price as well.
    few <- c(PSOCK = max(2L, calls %/% 10L), mirai = max(2L, calls %/% 10L))
    sides <- lapply(systems, function(s) {
      m <- if (is.na(few[s$name])) calls else few[[s$name]]
      function(slice) seconds(s$argument(x, m)) / m * 1e3
    })
    take_turns(sides, budget, function(name, value, turn) {
      emit("repeated_argument", name, value, "ms", "lower", sprintf("each of %d calls with the same vector", calls), bytes, "bytes", turn)
    })
  })
}, fixed = 5)
