// What /proc says of a process of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace setsuna::monitor {

struct ProcessFacts {
  bool found = false;
  double cpu_seconds = 0;
  std::uint64_t resident_bytes = 0;
};

// From the text of /proc/PID/stat.
ProcessFacts parse_stat(std::string_view text, double ticks_per_second, std::uint64_t page_bytes);
ProcessFacts process_facts(std::int32_t pid);

// Its command line, as one line; or its name.
std::string process_command(std::int32_t pid);

}  // namespace setsuna::monitor
