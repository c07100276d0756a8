// C++ exceptions and R long jumps never cross: work that may throw runs inside guarded(), whose message the caller turns
// into an R error after every C++ object is gone.
#pragma once

#include <cstdio>
#include <exception>

#include "glue.hpp"
#include "host.hpp"

namespace setsuna::host {

inline char guard_message[4096];

// False: guard_message says what went wrong. The callable must not call R.
template <class Work>
bool guarded(Work&& work) noexcept {
  try {
    work();
    return true;
  } catch (const std::exception& error) {
    std::snprintf(guard_message, sizeof(guard_message), "%s", error.what());
  } catch (...) {
    std::snprintf(guard_message, sizeof(guard_message), "unknown error");
  }
  return false;
}

inline void refuse_in_fork() {
  if (Host::forked()) {
    Rf_error(
        "setsuna cannot be used in a process forked from the one that loaded it (by mclapply, say): "
        "call mirai() before the fork, or start a process of its own");
  }
}

}  // namespace setsuna::host
