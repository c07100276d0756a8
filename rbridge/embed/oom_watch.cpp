#include "rbridge/embed/oom_watch.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "runtime/unique_fd.hpp"

namespace setsuna::embed {
namespace {

// Files of the group that this process is in, most specific first; a container may see its own group at the root.
std::string counter_path() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    std::string root, file;
    if (controllers.empty()) {
      root = "/sys/fs/cgroup", file = "/memory.events";
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      root = "/sys/fs/cgroup/memory", file = "/memory.oom_control";
    } else {
      continue;
    }
    for (const std::string& path : {root + group + file, root + file}) {
      if (::access(path.c_str(), R_OK) == 0) return path;
    }
  }
  return {};
}

}  // namespace

OomWatch::OomWatch() : path_(counter_path()) { rebase(); }

void OomWatch::rebase() { seen_ = count(); }

bool OomWatch::take_kill() {
  if (count() <= seen_) return false;
  ++seen_;
  return true;
}

std::uint64_t OomWatch::count() const {
  if (path_.empty()) return 0;
  const runtime::UniqueFd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t got = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (got <= 0) return 0;
  text[got] = '\0';
  const char* at = std::strstr(text, "oom_kill ");
  return at == nullptr ? 0 : std::strtoull(at + 9, nullptr, 10);
}

}  // namespace setsuna::embed
