// Bounded spinning before a sleep: opt-in (`spin`), or for what is known to be a moment away (kLookOutUs). It pays only
// while the peer runs on another CPU and usually answers within the budget; naive spinning on a shared core makes everything
// slower. So: not if the peer was last seen on this CPU, not while spins keep missing, and stop as soon as the peer moves
// here. After the budget the caller parks: idle costs nothing.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

#include "runtime/clock.hpp"

namespace setsuna::runtime {

// For an announced task, or one whose end is foretold: about two wake-ups. More is not saved by being awake.
inline constexpr std::uint32_t kLookOutUs = 20;

class Spinner {
 public:
  // Spins until `ready()` or `budget_us` is over. `peer_cpu`: where the peer said it runs, 1-based; 0: unknown.
  // True: ready.
  template <class Ready>
  bool spin(std::uint32_t budget_us, const std::atomic<std::uint32_t>& peer_cpu, Ready&& ready) {
    return budget_us != 0 && worth_it() && look(budget_us, peer_cpu, ready);
  }

  // Its two halves, for who has to say beforehand whether it will look. worth_it(): once for each chance.
  bool worth_it() {
    if (score_ >= 0) {
      return true;
    }
    if (++skipped_ < kRetryAfter) {
      return false;
    }
    skipped_ = 0;
    return true;
  }
  template <class Ready>
  bool look(std::uint32_t budget_us, const std::atomic<std::uint32_t>& peer_cpu, Ready&& ready) {
    const std::uint32_t mine = current_cpu();
    const std::uint64_t deadline_ns = monotonic_ns() + std::uint64_t{budget_us} * 1000;
    // Relaxed: a hint.
    while (peer_cpu.load(std::memory_order_relaxed) != mine) {
      for (int i = 0; i < kLooksPerRound; ++i) {
        if (ready()) {
          score_ = score_ < kScoreMax ? score_ + 1 : score_;
          return true;
        }
        pause();
      }
      if (monotonic_ns() >= deadline_ns) {
        score_ = score_ > -kScoreMax ? score_ - 1 : score_;
        return false;
      }
    }
    return false;
  }

  // For the peer to read; 1-based, so that 0 is unknown.
  static std::uint32_t current_cpu() { return static_cast<std::uint32_t>(::sched_getcpu()) + 1; }

 private:
  static constexpr int kLooksPerRound = 32;
  static constexpr int kScoreMax = 8;
  static constexpr int kRetryAfter = 64;  // skipped chances until one more try

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  int score_ = 0;
  int skipped_ = 0;
};

}  // namespace setsuna::runtime
