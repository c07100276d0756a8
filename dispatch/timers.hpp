// Deadlines of one pool, earliest first. An entry is not removed when its task resolves: it is recognised as stale
// when it fires.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace setsuna::dispatch {

enum class TimerKind : std::uint8_t {
  kTimeout,  // the task's own `.timeout`
  kDoom,     // a cancelled task that still runs: kill its daemon
  kRanges,   // look at the ranges of maps that daemons have in hand
};

struct Timer {
  std::uint64_t deadline_ns;
  std::uint64_t serial;  // task serial for kTimeout; slot generation for kDoom (position + 1 of an element above it)
  std::uint32_t index;   // task index for kTimeout; slot for kDoom
  TimerKind kind;
  bool operator>(const Timer& other) const { return deadline_ns > other.deadline_ns; }
};

class Timers {
 public:
  void add(const Timer& timer) {
    heap_.push_back(timer);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  std::uint64_t next_ns() const { return heap_.empty() ? 0 : heap_.front().deadline_ns; }
  bool pop_due(std::uint64_t now_ns, Timer* timer) {
    if (heap_.empty() || heap_.front().deadline_ns > now_ns) {
      return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    *timer = heap_.back();
    heap_.pop_back();
    return true;
  }

  // An entry has become stale. When most have, those that `keep` refuses go: a long `.timeout` on many short tasks would
  // fill the memory.
  template <class Keep>
  void note_stale(Keep&& keep) {
    constexpr std::size_t kFew = 1024;
    if (++stale_ < kFew || stale_ * 2 < heap_.size()) {
      return;
    }
    stale_ = 0;
    std::erase_if(heap_, [&](const Timer& timer) { return !keep(timer); });
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  std::size_t size() const { return heap_.size(); }

 private:
  std::vector<Timer> heap_;
  std::size_t stale_ = 0;  // at least; those that have fired count on
};

}  // namespace setsuna::dispatch
