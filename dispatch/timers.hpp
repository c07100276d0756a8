// Deadlines of one pool, earliest first. An entry is not removed when its task resolves: it is recognised as stale
// when it fires.
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

namespace setsuna::dispatch {

enum class TimerKind : std::uint8_t {
  kTimeout,  // the task's own `.timeout`
  kDoom,     // a cancelled task that still runs: kill its daemon
};

struct Timer {
  std::uint64_t deadline_ns;
  std::uint64_t serial;  // task serial for kTimeout; slot generation for kDoom
  std::uint32_t index;   // task index for kTimeout; slot for kDoom
  TimerKind kind;
  bool operator>(const Timer& other) const { return deadline_ns > other.deadline_ns; }
};

class Timers {
 public:
  void add(const Timer& timer) { heap_.push(timer); }
  std::uint64_t next_ns() const { return heap_.empty() ? 0 : heap_.top().deadline_ns; }
  bool pop_due(std::uint64_t now_ns, Timer* timer) {
    if (heap_.empty() || heap_.top().deadline_ns > now_ns) {
      return false;
    }
    *timer = heap_.top();
    heap_.pop();
    return true;
  }

 private:
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> heap_;
};

}  // namespace setsuna::dispatch
