// Did the kernel kill a process of ours for memory?
#pragma once

#include <cstdint>

#include "runtime/sysmem.hpp"

namespace setsuna::embed {

// Follows the count of memory kills in our control group: a SIGKILL with the count risen since the last look is one of
// them.
class OomWatch {
 public:
  OomWatch() { rebase(); }
  // Forgets what happened so far.
  void rebase() { seen_ = kills_.read().value_or(0); }
  // True, once, for each kill since the last look.
  bool take_kill() {
    if (kills_.read().value_or(0) <= seen_) return false;
    ++seen_;
    return true;
  }

 private:
  runtime::OomKillCounter kills_;
  std::uint64_t seen_ = 0;
};

}  // namespace setsuna::embed
