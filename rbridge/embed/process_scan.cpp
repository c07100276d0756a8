#include "rbridge/embed/process_scan.hpp"

#include <dirent.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace setsuna::embed {

std::optional<ProcessStat> read_process_stat(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const auto name_end = line.rfind(')');  // the name may hold spaces and parentheses
  ProcessStat stat{};
  if (name_end == std::string::npos || std::sscanf(line.c_str() + name_end + 1, " %c %d %d %d", &stat.state,
                                                   &stat.parent, &stat.group, &stat.session) != 4) {
    return std::nullopt;
  }
  return stat;
}

namespace {

std::vector<pid_t> scan_all_processes(pid_t parent) {
  std::vector<pid_t> found;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return found;
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    const auto stat = read_process_stat(pid);
    if (stat && stat->parent == parent) found.push_back(pid);
  }
  ::closedir(proc);
  return found;
}

}  // namespace

std::vector<pid_t> list_children() {
  const pid_t self = ::getpid();
  const std::string number = std::to_string(self);
  std::ifstream file("/proc/" + number + "/task/" + number + "/children");
  if (!file) return scan_all_processes(self);  // a kernel without CONFIG_PROC_CHILDREN
  return {std::istream_iterator<pid_t>(file), std::istream_iterator<pid_t>()};
}

std::string initial_environment(pid_t pid, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/environ");
  for (std::string entry; std::getline(file, entry, '\0');) {
    if (entry.size() > name.size() && entry.compare(0, name.size(), name) == 0 && entry[name.size()] == '=') {
      return entry.substr(name.size() + 1);
    }
  }
  return {};
}

}  // namespace setsuna::embed
