#include "rbridge/monitor/view/discover.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "rbridge/monitor/monitor_wire.hpp"
#include "rbridge/monitor/view/read_file.hpp"

namespace setsuna::monitor {
namespace {

// The number up to '-', which goes as well. False: there is none.
bool take_number(std::string_view* text, std::uint32_t* out) {
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), *out);
  const auto length = static_cast<std::size_t>(end - text->data());
  if (error != std::errc() || length == text->size() || *end != '-') {
    return false;
  }
  text->remove_prefix(length + 1);
  return true;
}

}  // namespace

std::vector<HostAddress> parse_sockets(std::string_view text, std::uint32_t uid) {
  std::vector<HostAddress> found;
  const std::string mark = std::string("@") + kMonitorPrefix;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    // Connected sockets carry the listener's name as well: the flag 0x10000 says which one listens.
    const std::size_t at = line.rfind(mark);
    if (at == std::string_view::npos || line.find(" 00010000 ") == std::string_view::npos) {
      continue;
    }
    std::string_view rest = line.substr(at + mark.size());
    std::uint32_t owner = 0, pid = 0;
    if (take_number(&rest, &owner) && take_number(&rest, &pid) && owner == uid) {
      found.push_back({static_cast<std::int32_t>(pid), std::string(line.substr(at + 1))});
    }
  }
  std::sort(found.begin(), found.end(), [](const HostAddress& a, const HostAddress& b) {
    return a.pid != b.pid ? a.pid < b.pid : a.name < b.name;
  });
  return found;
}

std::vector<HostAddress> find_hosts(std::string* error) {
  std::string text;
  if (!read_file("/proc/net/unix", &text)) {
    *error = std::string("the list of sockets, /proc/net/unix, cannot be read: ") + std::strerror(errno);
    return {};
  }
  return parse_sockets(text, ::geteuid());
}

}  // namespace setsuna::monitor
