#include "rbridge/embed/process_scan.hpp"

#include <dirent.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

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
  std::vector<pid_t> found;
  DIR* tasks = ::opendir("/proc/self/task");
  bool known = tasks != nullptr;
  while (known) {  // of each thread; there is one but for threads of preloaded packages
    const dirent* entry = ::readdir(tasks);
    if (entry == nullptr) break;
    if (entry->d_name[0] == '.') continue;
    std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/children");
    known = static_cast<bool>(file);  // not in a kernel without CONFIG_PROC_CHILDREN
    found.insert(found.end(), std::istream_iterator<pid_t>(file), std::istream_iterator<pid_t>());
  }
  if (tasks != nullptr) ::closedir(tasks);
  return known ? found : scan_all_processes(::getpid());
}

std::vector<pid_t> list_descendants() {
  std::multimap<pid_t, pid_t> children;  // by parent
  DIR* proc = ::opendir("/proc");
  while (const dirent* entry = proc != nullptr ? ::readdir(proc) : nullptr) {
    const pid_t pid = std::atoi(entry->d_name);
    if (const auto stat = pid > 0 ? read_process_stat(pid) : std::nullopt) children.emplace(stat->parent, pid);
  }
  if (proc != nullptr) ::closedir(proc);
  std::vector<pid_t> found{::getpid()};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [first, last] = children.equal_range(found[i]);
    for (auto child = first; child != last; ++child) found.push_back(child->second);
  }
  found.erase(found.begin());
  return found;
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
