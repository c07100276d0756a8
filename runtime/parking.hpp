// Parking with claimed sleepers: an idle bit per daemon and a futex word per daemon. A waker clears one bit
// (and so owns that wake alone), sets the word, wakes one. As many wake calls as there are sleeps.
#pragma once

#include <bit>
#include <cstdint>

#include "runtime/queue_view.hpp"
#include "runtime/rule.hpp"

namespace setsuna::runtime {

template <template <class> class Atom, class Futex>
class Parking {
 public:
  explicit Parking(const QueueView<Atom>& view) : view_(view) {}

  // Any side, after publishing work: wakes one parked daemon, if there is one. True if it did.
  bool wake_one() {
    for (std::uint32_t w = 0; w < view_.idle_words(); ++w) {
      // ORDERING publish/park: a read-modify-write on the word that the parking daemon also modifies, so one of the two
      // comes second and sees the other: either this sees the bit, or that daemon's recheck sees the item (release here,
      // acquire there). Nobody writes the word but by read-modify-writes: a store would end the release sequences.
      // Equivalent without acquire: try_wake() acquires before the sleeper's word is touched.
      std::uint64_t bits = view_.control->idle[w].fetch_or(0, std::memory_order_acq_rel);
      while (bits != 0) {
        const auto bit = static_cast<std::uint32_t>(std::countr_zero(bits));
        if (try_wake(w * 64 + bit)) {
          return true;
        }
        bits &= bits - 1;
      }
    }
    return false;
  }

  // A hint: relaxed.
  bool anybody_sleeps() const {
    for (std::uint32_t w = 0; w < view_.idle_words(); ++w) {
      if (view_.control->idle[w].load(std::memory_order_relaxed) != 0) {
        return true;
      }
    }
    return false;
  }

  // Wakes this daemon if it is parked (its mailbox, a stop request).
  bool wake_daemon(std::uint32_t index) { return try_wake(index); }

  // Every daemon looks again. After a death, because wake tokens die with their holder: it may have been woken for an
  // item, or have cleared a sleeper's bit and not yet set its word. So all words are set, whatever the bits say.
  void wake_all() {
    for (std::uint32_t w = 0; w < view_.idle_words(); ++w) {
      const std::uint64_t present = present_in(w);
      if (present == 0) {
        continue;
      }
      // ORDERING publish/park: as in wake_one, and before the words are set: the 0 of a daemon that announces itself now comes
      // before our 1, or its recheck sees what was published.
      const std::uint64_t parked = view_.control->idle[w].fetch_and(~present, std::memory_order_acq_rel);
      for (std::uint64_t bits = SETSUNA_RULE(wake_all_whatever_the_bits) ? present : present & parked; bits != 0;
           bits &= bits - 1) {
        set_and_wake(w * 64 + static_cast<std::uint32_t>(std::countr_zero(bits)));
      }
    }
  }

  // Daemon. First half of parking: afterwards the caller MUST look for work once more, then call either
  // cancel_park() or sleep().
  void announce(std::uint32_t index) {
    // Relaxed: ordered before the bit by the release below; a late store of 1 by an old waker only wakes early.
    view_.daemon(index).futex.store(0, std::memory_order_relaxed);
    // ORDERING publish/park: acquire, see wake_one. ORDERING clear/wake: release, so that the 1 of a waker that has seen the
    // bit comes after our 0.
    view_.control->idle[index / 64].fetch_or(bit_of(index), std::memory_order_acq_rel);
  }

  // Found work after announcing.
  void cancel_park(std::uint32_t index) {
    // ORDERING publish/park: acquire, so that who was woken sees what for. It must not have to announce itself again to see
    // it: the next item's wake may then be spent on it, and another sleeps beside that item.
    // Equivalent without release: nothing is read through a bit that is gone.
    view_.control->idle[index / 64].fetch_and(~bit_of(index), std::memory_order_acq_rel);
  }

  // Sleeps until woken, or until `deadline_ns` (CLOCK_MONOTONIC, 0: none), or a signal. Leaves the bit clear.
  void sleep(std::uint32_t index, std::uint64_t deadline_ns) {
    Atom<std::uint32_t>& futex = view_.daemon(index).futex;
    // ORDERING wake/sleep: acquire pairs with the waker's release store of 1.
    // Equivalent without acquire: cancel_park() acquires the idle word, which the waker modified before it stored.
    if (futex.load(std::memory_order_acquire) == 0) {
      Futex::wait_until(&futex, 0, deadline_ns == 0 ? ~std::uint64_t{0} : deadline_ns);
    }
    cancel_park(index);
  }

 private:
  static std::uint64_t bit_of(std::uint32_t index) { return std::uint64_t{1} << (index % 64); }

  // Daemons of idle word `w` that may be asleep. Relaxed: the host set the state when it admitted them.
  std::uint64_t present_in(std::uint32_t w) const {
    std::uint64_t bits = 0;
    for (std::uint32_t i = w * 64; i < view_.daemon_max && i < (w + 1) * 64; ++i) {
      const auto state = static_cast<DaemonState>(view_.daemon(i).state.load(std::memory_order_relaxed));
      if (state != DaemonState::kVacant && state != DaemonState::kDead) {
        bits |= bit_of(i);
      }
    }
    return bits;
  }

  bool try_wake(std::uint32_t index) {
    const std::uint64_t bit = bit_of(index);
    // ORDERING publish/park: release, as in wake_one. ORDERING clear/wake: acquire.
    if ((view_.control->idle[index / 64].fetch_and(~bit, std::memory_order_acq_rel) & bit) == 0) {
      return false;  // another waker claimed it, or it found work itself
    }
    set_and_wake(index);
    return true;
  }

  void set_and_wake(std::uint32_t index) {
    Atom<std::uint32_t>& futex = view_.daemon(index).futex;
    // ORDERING wake/sleep. Equivalent without release: see sleep(). The system call comes after the store for the kernel too.
    futex.store(1, std::memory_order_release);
    Futex::wake(&futex, 1);
  }

  QueueView<Atom> view_;
};

}  // namespace setsuna::runtime
