// When the host sleeps it says what it waits for, so that most completions cost no wake: "slot k is done",
// "n more completions", or "any completion, told to the reactor" (when the R thread is not waiting itself but
// something, say a promise, is to run on completion). The gate is one word that both sides read-modify-write. A slot's gate
// may also be passed a moment before the slot is done.
#pragma once

#include <cstdint>

#include "runtime/layout.hpp"

namespace setsuna::runtime {

// mode:2 (top) | value:62
class GateWord {
 public:
  enum class Mode : std::uint64_t { kClosed = 0, kSlot = 1, kCount = 2, kEvent = 3 };

  constexpr explicit GateWord(std::uint64_t bits) : bits_(bits) {}
  static constexpr GateWord closed() { return GateWord(0); }
  static constexpr GateWord slot(std::uint32_t index) { return make(Mode::kSlot, index); }
  static constexpr GateWord count(std::uint64_t completions) { return make(Mode::kCount, completions); }
  static constexpr GateWord event() { return make(Mode::kEvent, 0); }

  constexpr Mode mode() const { return static_cast<Mode>(bits_ >> 62); }
  constexpr std::uint64_t value() const { return bits_ & ((std::uint64_t{1} << 62) - 1); }
  constexpr std::uint64_t bits() const { return bits_; }

 private:
  static constexpr GateWord make(Mode mode, std::uint64_t value) {
    return GateWord((static_cast<std::uint64_t>(mode) << 62) | value);
  }
  std::uint64_t bits_;
};

enum class GatePass { kNothing, kWakeHost, kSignalReactor };

template <template <class> class Atom>
class Gate {
 public:
  explicit Gate(Atom<std::uint64_t>* word) : word_(word) {}

  // Host. After arming it MUST look once more for what it waits for before it sleeps.
  // ORDERING done/gate: arming and passing are read-modify-writes of the same word: either the completer sees
  // the armed gate, or the host's recheck sees the done bit that the completer set before (release there, acquire here).
  void arm(GateWord target) { word_->exchange(target.bits(), std::memory_order_acquire); }
  // Relaxed: nothing is read through a closed gate. No plain store: that would end the release sequences of completers.
  void disarm() { word_->exchange(GateWord::closed().bits(), std::memory_order_relaxed); }

  // Completer, after setting the done bit of `slot`. Not kNothing: this completion is the one the host waits for; the
  // gate is closed again and the caller wakes the host thread or signals the reactor.
  GatePass pass(std::uint32_t slot) {
    // ORDERING done/gate: release. Equivalent without acquire: the host acquires all completers' releases when it arms again.
    // Kept, here and below: who wakes the host for n completions has seen the other n - 1, so it finds them at once.
    std::uint64_t bits = word_->fetch_or(0, std::memory_order_acq_rel);
    for (;;) {
      const GateWord seen(bits);
      std::uint64_t next = GateWord::closed().bits();
      if (seen.mode() == GateWord::Mode::kClosed) {
        return GatePass::kNothing;
      }
      if (seen.mode() == GateWord::Mode::kSlot && seen.value() != slot) {
        return GatePass::kNothing;
      }
      if (seen.mode() == GateWord::Mode::kCount && seen.value() > 1) {
        next = GateWord::count(seen.value() - 1).bits();
      }
      // Equivalent without any: the fetch_or above has released; for acquire see there.
      if (word_->compare_exchange_weak(bits, next, std::memory_order_acq_rel, std::memory_order_acquire)) {
        if (next != GateWord::closed().bits()) {
          return GatePass::kNothing;
        }
        return seen.mode() == GateWord::Mode::kEvent ? GatePass::kSignalReactor : GatePass::kWakeHost;
      }
    }
  }

  // Before the done bit of `slot` is set. True: the host waits for that and nothing else. The gate is closed, the caller wakes
  // the host, which looks, and arms it again if it is too early.
  bool take_slot(std::uint32_t slot) {
    std::uint64_t bits = GateWord::slot(slot).bits();
    // Relaxed: as disarm().
    return word_->load(std::memory_order_relaxed) == bits &&
           word_->compare_exchange_strong(bits, GateWord::closed().bits(), std::memory_order_relaxed,
                                          std::memory_order_relaxed);
  }

  // A hint, relaxed.
  bool armed() const { return word_->load(std::memory_order_relaxed) != GateWord::closed().bits(); }

  // A one-shot flag on the same protocol (the refill gate): True for exactly one caller per arm().
  bool take() {
    // ORDERING done/gate: release, so that the host's recheck after arm() sees the queue as short as the caller made it. All
    // else is relaxed: the taker reads nothing of the host's, it signals the reactor.
    std::uint64_t bits = word_->fetch_or(0, std::memory_order_release);
    return bits != GateWord::closed().bits() &&
           word_->compare_exchange_strong(bits, GateWord::closed().bits(), std::memory_order_relaxed,
                                          std::memory_order_relaxed);
  }

 private:
  Atom<std::uint64_t>* word_;
};

}  // namespace setsuna::runtime
