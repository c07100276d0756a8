// How long tasks take from submit to harvest: the time from mirai() until the session has the result. Tasks that no daemon
// answered (cancelled, timed out, lost) are not counted. Under the pool's mutex, but for histogram(), which anyone may read.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "dispatch/batch_clock.hpp"
#include "runtime/histogram.hpp"

namespace setsuna::dispatch {

class LatencyMeter {
 public:
  using Clock = BatchClock::Clock;
  explicit LatencyMeter(Clock clock) : clock_(clock) {}

  void submitted(std::uint32_t task, std::uint64_t now_ns) {
    while (stamps_.size() <= task / kChunk) {
      stamps_.push_back(std::make_unique<std::array<std::uint64_t, kChunk>>());
    }
    (*stamps_[task / kChunk])[task % kChunk] = now_ns;
  }

  void answered(std::uint32_t task) {
    const std::uint64_t now = clock_.now_ns();
    const std::uint64_t since = (*stamps_[task / kChunk])[task % kChunk];
    histogram_.record(now > since ? now - since : 0);
  }

  // All that is answered in between has one time: the clock is read once, if at all.
  void begin_batch() { clock_.begin(); }
  void end_batch() { clock_.end(); }

  const runtime::Histogram& histogram() const { return histogram_; }

 private:
  static constexpr std::uint32_t kChunk = 4096;

  BatchClock clock_;
  std::vector<std::unique_ptr<std::array<std::uint64_t, kChunk>>> stamps_;  // by task
  runtime::Histogram histogram_;
};

}  // namespace setsuna::dispatch
