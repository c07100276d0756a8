// What is said when there is nothing to be shown.
#pragma once

#include <cstdint>
#include <string>

namespace setsuna::monitor {

inline std::string no_host_message(std::int32_t pid, const std::string& problem) {
  if (!problem.empty()) {
    return problem;
  }
  if (pid != 0) {
    return "process " + std::to_string(pid) +
           " is no R session of yours that uses setsuna (`setsuna status` lists those that are), or it was started "
           "with "
           "SETSUNA_MONITOR=off";
  }
  return "no R session of yours uses setsuna now: one can be seen from its first daemons() or mirai() on, unless it "
         "was "
         "started with SETSUNA_MONITOR=off";
}

}  // namespace setsuna::monitor
