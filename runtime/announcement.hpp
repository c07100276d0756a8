// A task announced: the host wakes a daemon while it still encodes the task, so that a sleeper's way back to a CPU, the longest
// part of a short round trip, passes meanwhile. The word is 1 from then on until whoever comes first clears it:
// - the host, once the task is published: the woken daemon has not looked for work since, and it will. Nobody else is woken;
// - the woken daemon, which has waited long enough (the host may have died, or met an error), found other work, or leaves;
// - the reaper: that daemon may be the dead one.
// Where the host does not clear it, it wakes somebody as if nothing had been announced.
#pragma once

#include <atomic>
#include <cstdint>

namespace setsuna::runtime {

template <template <class> class Atom>
class Announcement {
 public:
  explicit Announcement(Atom<std::uint32_t>* word) : word_(word) {}

  // Host. Relaxed: the idle bit of whoever is woken for it is cleared after this (ORDERING publish/park).
  void set() { word_->store(1, std::memory_order_relaxed); }

  // Daemon, just awake. ORDERING announced/published: acquire: one that was woken early and finds the word cleared already sees
  // the task when it looks once more before it sleeps; no wake would follow.
  bool stands() const { return word_->load(std::memory_order_acquire) != 0; }
  // Relaxed: a hint; who asks calls clear() in the end.
  bool still_stands() const { return word_->load(std::memory_order_relaxed) != 0; }

  // True if it stood: the caller is the first.
  bool clear() {
    // ORDERING announced/published: the host's release comes after its publish, so a daemon that finds the word cleared, and
    // looks for work again, sees the task; if the daemon is the first, the host knows, and wakes somebody.
    return word_->exchange(0, std::memory_order_acq_rel) != 0;
  }

 private:
  Atom<std::uint32_t>* word_;
};

}  // namespace setsuna::runtime
