// Did the kernel kill a process of ours for memory?
#pragma once

#include <cstdint>
#include <string>

namespace setsuna::embed {

// Follows the count of memory kills in our control group: a SIGKILL with the count risen since the last look is one of
// them. Works with control groups version 2 (memory.events) and 1 (memory.oom_control).
class OomWatch {
 public:
  OomWatch();
  // Forgets what happened so far.
  void rebase();
  // True, once, for each kill since the last look.
  bool take_kill();

 private:
  std::uint64_t count() const;
  std::string path_;  // empty: no such group, never a kill
  std::uint64_t seen_ = 0;
};

}  // namespace setsuna::embed
