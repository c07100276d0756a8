// A clock that is read once for all that happens in a batch, such as the tasks of one harvest.
#pragma once

#include <cstdint>

namespace setsuna::dispatch {

class BatchClock {
 public:
  using Clock = std::uint64_t (*)();
  explicit BatchClock(Clock clock) : clock_(clock) {}

  void begin() { batch_ = true; }
  void end() {
    batch_ = false;
    now_ns_ = 0;
  }

  std::uint64_t read_ns() const { return clock_(); }
  // Of the batch, if there is one; in it read again where that would not be after `past_ns`. In floating point, since a task
  // may have scribbled over that: what is no number is not earlier than anything.
  std::uint64_t now_ns(double past_ns = 0) {
    if (!batch_) {
      return clock_();
    }
    if (now_ns_ == 0 || !(past_ns < static_cast<double>(now_ns_))) {
      now_ns_ = clock_();
    }
    return now_ns_;
  }

 private:
  Clock clock_;
  std::uint64_t now_ns_ = 0;  // 0: not read yet
  bool batch_ = false;
};

}  // namespace setsuna::dispatch
