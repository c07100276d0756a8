// Futex on memory shared between processes.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::runtime {

enum class FutexResult : std::uint8_t {
  kWoken,         // by wake(); as with every futex, look at the word again: it may be spurious
  kValueChanged,  // the word was not `expected` when the kernel looked
  kTimedOut,      // the deadline has passed
  kInterrupted,   // a signal handler ran (Ctrl-C, our cancel signal): the caller decides whether to wait again
};

// Futex on memory shared between processes. Never std::atomic::wait: libstdc++ makes it process-private.
struct SharedFutex {
  // Far enough for ever, near enough for ktime_t.
  static constexpr std::uint64_t kNever_ns = 4'000'000'000 * kNanosPerSecond;

  static FutexResult wait(std::atomic<std::uint32_t>* word, std::uint32_t expected) noexcept {
    return wait_until(word, expected, kNever_ns);
  }

  // deadline_ns: absolute, CLOCK_MONOTONIC. Always timed: the kernel restarts an untimed wait after a signal handler
  // (SA_RESTART) without returning, and Ctrl-C would not end it.
  static FutexResult wait_until(std::atomic<std::uint32_t>* word, std::uint32_t expected,
                                std::uint64_t deadline_ns) noexcept {
    const timespec deadline = to_timespec(deadline_ns < kNever_ns ? deadline_ns : kNever_ns);
    const long rc =
        ::syscall(SYS_futex, raw(word), FUTEX_WAIT_BITSET, expected, &deadline, nullptr, FUTEX_BITSET_MATCH_ANY);
    if (rc == 0) {
      return FutexResult::kWoken;
    }
    switch (errno) {
      case EAGAIN: return FutexResult::kValueChanged;
      case ETIMEDOUT: return FutexResult::kTimedOut;
      case EINTR: return FutexResult::kInterrupted;
      default: SETSUNA_ASSERT(false && "futex wait: bad word address"); return FutexResult::kValueChanged;
    }
  }

  // Wakes at most `count` waiters; returns how many were woken.
  static int wake(std::atomic<std::uint32_t>* word, int count) noexcept {
    const long rc = ::syscall(SYS_futex, raw(word), FUTEX_WAKE, count, nullptr, nullptr, 0);
    SETSUNA_ASSERT(rc >= 0);
    return static_cast<int>(rc);
  }

 private:
  static std::uint32_t* raw(std::atomic<std::uint32_t>* word) noexcept {
    static_assert(sizeof(*word) == sizeof(std::uint32_t) && std::atomic<std::uint32_t>::is_always_lock_free);
    return reinterpret_cast<std::uint32_t*>(word);
  }
};

}  // namespace setsuna::runtime
