#include "rbridge/monitor/view/format.hpp"

#include <algorithm>
#include <cstdio>

namespace setsuna::monitor {
namespace {

std::string print(const char* format, double value, const char* unit = "") {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), format, value, unit);
  return buffer;
}

// Bytes of the character that starts here; 0: none does.
std::size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t bytes = lead < 0x80             ? 1
                            : (lead & 0xE0) == 0xC0 ? 2
                            : (lead & 0xF0) == 0xE0 ? 3
                            : (lead & 0xF8) == 0xF0 ? 4
                                                    : 0;
  if (bytes == 0 || bytes > text.size()) {
    return 0;
  }
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) {
      return 0;
    }
  }
  return bytes;
}

}  // namespace

std::string format_count(std::uint64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      out += ',';
    }
    out += digits[i];
  }
  return out;
}

std::string format_daemons(std::uint32_t count) {
  return std::to_string(count) + (count == 1 ? " daemon" : " daemons");
}

std::string format_rate(double per_second) {
  if (per_second < 0) {
    return "-";
  }
  return per_second < 99.95 ? print("%.1f", per_second) : format_count(static_cast<std::uint64_t>(per_second + 0.5));
}

std::string format_bytes(std::uint64_t bytes) {
  static const char* const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 999.5 && unit < 6) {
    value /= 1000;
    ++unit;
  }
  return print(unit == 0 || value >= 99.95 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

std::string format_duration(std::uint64_t ns) {
  static const char* const units[] = {"ns", "us", "ms", "s"};
  auto value = static_cast<double>(ns);
  int unit = 0;
  while (value >= 999.5 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  return print(unit == 0 || value >= 99.95 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

std::string format_uptime(double seconds) {
  const auto all = static_cast<std::uint64_t>(seconds < 0 ? 0 : seconds);
  char buffer[32];
  if (all < 60) {
    std::snprintf(buffer, sizeof(buffer), "%ds", static_cast<int>(all));
  } else if (all < 3600) {
    std::snprintf(buffer, sizeof(buffer), "%dm%02ds", static_cast<int>(all / 60), static_cast<int>(all % 60));
  } else if (all < 86400) {
    std::snprintf(buffer, sizeof(buffer), "%dh%02dm", static_cast<int>(all / 3600), static_cast<int>(all / 60 % 60));
  } else {
    std::snprintf(buffer, sizeof(buffer), "%dd%02dh", static_cast<int>(all / 86400), static_cast<int>(all / 3600 % 24));
  }
  return buffer;
}

std::string format_percent(double percent) { return percent < 0 ? "-" : print("%.0f", percent); }

std::string short_command(std::string_view command) {
  constexpr std::string_view kFile = "--file=";
  std::string out;
  for (std::size_t at = 0; at < command.size();) {
    const std::size_t end = std::min(command.find(' ', at), command.size());
    std::string_view word = command.substr(at, end - at);
    at = end + 1;
    if (out.empty()) {
      out = word.substr(word.rfind('/') + 1);
      continue;
    }
    if (word == "--no-echo" || word == "--no-restore" || word == "--no-save" || word == "--args") {
      continue;
    }
    out += ' ';
    out += word.substr(word.rfind(kFile, 0) == 0 ? kFile.size() : 0);
  }
  return out;
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    const auto lead = static_cast<unsigned char>(text[0]);
    const bool control = lead < 0x20 || lead == 0x7F ||
                         (bytes == 2 && lead == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0);  // C1
    if (bytes == 0 || control) {
      out += '?';
      text.remove_prefix(bytes == 0 ? 1 : bytes);
    } else {
      out += text.substr(0, bytes);
      text.remove_prefix(bytes);
    }
  }
  return out;
}

std::string fit(std::string_view text, std::size_t width, bool right) {
  std::string out;
  std::size_t columns = 0;
  while (!text.empty() && columns < width) {
    const std::size_t bytes = character_bytes(text);
    out += bytes == 0 ? std::string_view("?") : text.substr(0, bytes);
    text.remove_prefix(bytes == 0 ? 1 : bytes);
    ++columns;
  }
  const std::string spaces(width - columns, ' ');
  return right ? spaces + out : out + spaces;
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  while (text.size() > width) {
    const std::size_t space = text.rfind(' ', width);
    // A blank before the first word is no place to break.
    const bool found = space != std::string_view::npos && text.find_first_not_of(' ') < space;
    lines.emplace_back(text.substr(0, found ? space : width));
    text.remove_prefix(found ? space + 1 : width);
  }
  lines.emplace_back(text);
  return lines;
}

}  // namespace setsuna::monitor
