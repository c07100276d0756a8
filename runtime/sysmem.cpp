#include "runtime/sysmem.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

namespace setsuna::runtime {
namespace {

struct CgroupMount {
  bool v2 = false;
  std::string root;   // the cgroup that is mounted there
  std::string point;  // where
};

struct Membership {
  std::string v1_memory;  // path in the hierarchy that holds the memory controller; empty: none
  std::string v2;
};

// Directories of one hierarchy, the process's own first, then its ancestors as far as they are visible.
struct Lineage {
  bool v2 = false;
  std::vector<std::string> directories;
};

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) {
    if (item == word) {
      return true;
    }
  }
  return false;
}

// mountinfo writes blanks and backslashes in octal.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

Membership read_membership(const std::string& root) {
  Membership out;
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      out.v2 = path;
    } else if (has_word(controllers, "memory")) {
      out.v1_memory = path;
    }
  }
  return out;
}

std::vector<CgroupMount> read_mounts(const std::string& root) {
  std::vector<CgroupMount> out;
  std::ifstream in(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) {
      continue;
    }
    std::istringstream left(line), right(line.substr(dash + 3));
    std::string id, parent, device, mount_root, point, type, source, options;
    left >> id >> parent >> device >> mount_root >> point;
    right >> type >> source >> options;
    if (type == "cgroup2" || (type == "cgroup" && has_word(options, "memory"))) {
      out.push_back({type == "cgroup2", unescape(mount_root), unescape(point)});
    }
  }
  return out;
}

bool is_directory(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// The part of a cgroup path below the mounted cgroup. Where the path lies outside of the mount (a container that sees the
// host's names), the mount point itself is the process's cgroup as far as it can know.
std::string below_mount(const std::string& path, const std::string& mount_root) {
  if (mount_root == "/") {
    return path.rfind("/..", 0) == 0 ? "" : path;
  }
  const bool inside =
      path.rfind(mount_root, 0) == 0 && (path.size() == mount_root.size() || path[mount_root.size()] == '/');
  return inside ? path.substr(mount_root.size()) : "";
}

Lineage lineage_of(const std::string& root, const CgroupMount& mount, const std::string& path) {
  Lineage out{mount.v2, {}};
  const std::string top = root + mount.point;
  std::string below = below_mount(path, mount.root);
  while (!below.empty() && below != "/") {
    if (is_directory(top + below)) {
      out.directories.push_back(top + below);
    }
    below.erase(below.find_last_of('/'));
  }
  out.directories.push_back(top);
  return out;
}

std::vector<Lineage> read_lineages(const std::string& root) {
  std::vector<Lineage> out;
  const Membership member = read_membership(root);
  for (const CgroupMount& mount : read_mounts(root)) {
    const std::string& path = mount.v2 ? member.v2 : member.v1_memory;
    if (!path.empty() && path.front() == '/') {
      out.push_back(lineage_of(root, mount, path));
    }
  }
  return out;
}

std::string read_text(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::optional<std::uint64_t> read_number(const std::string& file) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  if (in >> value) {  // fails for "max" and for a missing file
    return value;
  }
  return std::nullopt;
}

// The number after `key` in a file of "key value" lines.
std::optional<std::uint64_t> read_keyed(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  std::string name;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::uint64_t value = 0;
    if (words >> name >> value && name == key) {
      return value;
    }
  }
  return std::nullopt;
}

std::uint64_t physical_memory(const std::string& root) {
  if (const auto kilobytes = read_keyed(root + "/proc/meminfo", "MemTotal:")) {
    return *kilobytes * 1024;
  }
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void lower(MemoryCeiling* ceiling, std::optional<std::uint64_t> limit, const std::string& reason) {
  if (limit && *limit < ceiling->bytes) {
    *ceiling = {*limit, reason};
  }
}

}  // namespace

MemoryCeiling memory_ceiling(const std::string& root) {
  MemoryCeiling ceiling{physical_memory(root), "physical memory"};
  for (const Lineage& line : read_lineages(root)) {
    const std::string name = line.v2 ? "/memory.max" : "/memory.limit_in_bytes";
    for (const std::string& directory : line.directories) {
      lower(&ceiling, read_number(directory + name), directory + name);
    }
    if (!line.v2) {  // also tells of ancestors that a cgroup namespace hides
      const std::string file = line.directories.front() + "/memory.stat";
      lower(&ceiling, read_keyed(file, "hierarchical_memory_limit"), file);
    }
  }
  return ceiling;
}

std::optional<std::uint64_t> OomKillCounter::read() {
  std::string membership = read_text(root_ + "/proc/self/cgroup");
  if (membership_ == membership) {
    if (file_.empty()) {
      return std::nullopt;
    }
    if (const auto count = read_keyed(file_, "oom_kill")) {
      return count;
    }
  }
  membership_ = std::move(membership);
  file_.clear();
  for (const Lineage& line : read_lineages(root_)) {
    const std::string file = line.directories.front() + (line.v2 ? "/memory.events" : "/memory.oom_control");
    if (const auto count = read_keyed(file, "oom_kill")) {
      file_ = file;
      return count;
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> soft_limit(int resource) {
  rlimit limit;
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(limit.rlim_cur);
}

AddressUse address_use() {
  AddressUse out;
  std::ifstream in("/proc/self/statm");
  std::uint64_t total = 0, resident = 0, shared = 0, text = 0, library = 0, data = 0;
  if (in >> total >> resident >> shared >> text >> library >> data) {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    out.total = total * page;
    out.data = data * page;
  }
  return out;
}

}  // namespace setsuna::runtime
