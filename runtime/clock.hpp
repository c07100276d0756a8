// The one clock of the runtime: CLOCK_MONOTONIC in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

namespace setsuna::runtime {

inline constexpr std::uint64_t kNanosPerSecond = 1'000'000'000;
inline constexpr std::uint64_t kNanosPerMilli = 1'000'000;
inline constexpr std::uint64_t kNanosPerMicro = 1'000;

// CLOCK_MONOTONIC in nanoseconds: the same clock in every process of the machine, so stamps may cross the segment.
inline std::uint64_t monotonic_ns() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kNanosPerSecond + static_cast<std::uint64_t>(now.tv_nsec);
}

inline timespec to_timespec(std::uint64_t ns) noexcept {
  timespec out;
  out.tv_sec = static_cast<time_t>(ns / kNanosPerSecond);
  out.tv_nsec = static_cast<long>(ns % kNanosPerSecond);
  return out;
}

}  // namespace setsuna::runtime
