// How much memory this process may use, as the machine, its cgroups (version 1 and 2) and its resource limits say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace setsuna::runtime {

struct MemoryCeiling {
  std::uint64_t bytes = 0;
  std::string reason;  // "physical memory", or the file whose limit it is
};

// The smallest of physical memory and the limit of every cgroup from the process's own to the root. `root` is put before
// every path that is read: tests give a directory that looks like a machine.
MemoryCeiling memory_ceiling(const std::string& root = "");

// Number of processes of this process's own cgroup that the kernel has killed for memory; none where it does not say.
// A count that rose explains a SIGKILL that nobody sent. Finding the file takes ten times as long as reading it, and is done
// again only when the process was moved to another cgroup.
class OomKillCounter {
 public:
  explicit OomKillCounter(std::string root = "") : root_(std::move(root)) {}
  std::optional<std::uint64_t> read();

 private:
  std::string root_;
  std::optional<std::string> membership_;  // when the file was looked for
  std::string file_;                       // empty: there is none
};

// Soft limit of RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_DATA ... in bytes; none if unlimited.
std::optional<std::uint64_t> soft_limit(int resource);

// Address space in use (counts against RLIMIT_AS), and the private writable part (RLIMIT_DATA), in bytes.
struct AddressUse {
  std::uint64_t total = 0;
  std::uint64_t data = 0;
};
AddressUse address_use();

}  // namespace setsuna::runtime
