#include "rbridge/monitor/view/process_facts.hpp"

#include <unistd.h>

#include <cstdlib>

#include "rbridge/monitor/view/read_file.hpp"

namespace setsuna::monitor {
namespace {

// Fields of /proc/PID/stat, counted from the state, which follows the name in parentheses.
constexpr int kUserTicks = 11;
constexpr int kSystemTicks = 12;
constexpr int kResidentPages = 21;

}  // namespace

ProcessFacts parse_stat(std::string_view text, double ticks_per_second, std::uint64_t page_bytes) {
  ProcessFacts facts;
  const std::size_t name_end = text.rfind(')');  // the name may hold anything, also ')'
  if (name_end == std::string_view::npos || name_end + 2 >= text.size()) {
    return facts;
  }
  const std::string fields(text.substr(name_end + 2));
  const char* at = fields.c_str();
  double ticks = 0;
  for (int field = 0; *at != '\0'; ++field) {
    if (field == kUserTicks || field == kSystemTicks) {
      ticks += std::strtod(at, nullptr);
    } else if (field == kResidentPages) {
      facts.resident_bytes = std::strtoull(at, nullptr, 10) * page_bytes;
      facts.cpu_seconds = ticks / ticks_per_second;
      facts.found = true;
      break;
    }
    while (*at != '\0' && *at != ' ') ++at;
    while (*at == ' ') ++at;
  }
  return facts;
}

ProcessFacts process_facts(std::int32_t pid) {
  static const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::string text;
  return pid > 0 && read_file("/proc/" + std::to_string(pid) + "/stat", &text) ? parse_stat(text, ticks, page)
                                                                               : ProcessFacts();
}

std::string process_command(std::int32_t pid) {
  std::string text;
  const std::string folder = "/proc/" + std::to_string(pid);
  if (!read_file(folder + "/cmdline", &text) || text.empty()) {
    read_file(folder + "/comm", &text);
  }
  for (char& c : text) {
    c = c == '\0' || c == '\n' ? ' ' : c;
  }
  while (!text.empty() && text.back() == ' ') {
    text.pop_back();
  }
  return text;
}

}  // namespace setsuna::monitor
