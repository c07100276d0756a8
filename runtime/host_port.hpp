// The host's side of the queue: slots, publish, cancel, harvest, and the reaper. One per segment. Every method
// that says so must be called under the host's mutex (R thread and reactor thread share it); daemons take none.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/announcement.hpp"
#include "runtime/gate.hpp"
#include "runtime/parking.hpp"
#include "runtime/ready_ring.hpp"

namespace setsuna::runtime {

inline constexpr std::uint32_t kNoSlot = 0xFFFFFFFF;
inline constexpr std::uint32_t kReadyQueue = 0xFFFFFFFF;  // queue number of the shared ready ring; others: daemon index

template <template <class> class Atom, class Futex>
class HostPort {
 public:
  using Slot = TaskSlot<Atom>;

  explicit HostPort(const QueueView<Atom>& view)
      : view_(view),
        ring_(view.cells, view.slot_count, &view.control->ring_head, &view.control->ring_tail, view.slots),
        parking_(view),
        announcement_(&view.control->announced),
        host_gate_(&view.control->host_gate),
        refill_gate_(&view.control->refill_gate),
        places_(view.slot_count) {
    free_.reserve(view.slot_count);
    for (std::uint32_t i = view.slot_count; i-- > 0;) {
      free_.push_back(i);  // lowest on top: a light load stays in few cache lines
    }
  }

  // Once, before the segment is shared with anyone.
  void format() {
    ring_.format();
    for (std::uint32_t i = 0; i < view_.daemon_max; ++i) {
      mailbox(i).format();
    }
    // Relaxed, all of them: whoever shares the segment afterwards orders that.
    view_.control->low_water.store(view_.slot_count / 4, std::memory_order_relaxed);
    view_.control->inline_bytes.store(kInlineResultBytes, std::memory_order_relaxed);
    view_.control->growth_extents.store(kGrowthExtents, std::memory_order_relaxed);
  }

  // --- Slots (mutex) ---------------------------------------------------------------------------------------

  // A FREE slot whose last cell is out of every ring, or kNoSlot. The caller fills it and calls publish().
  std::uint32_t acquire_slot() {
    if (free_.empty()) {
      reclaim_pinned();
    }
    if (free_.empty()) {
      return kNoSlot;
    }
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void return_unused(std::uint32_t slot) { free_.push_back(slot); }
  bool has_free_slot() {
    if (free_.empty()) {
      reclaim_pinned();
    }
    return !free_.empty();
  }

  Slot& slot(std::uint32_t index) const { return view_.slots[index]; }
  // ORDERING complete/harvest: acquire. Equivalent without acquire: harvest() has acquired the done bit, and what the dead did
  // is seen by the news of their death; but the word is the truth, the bit a hint.
  SlotWord word(std::uint32_t index) const { return SlotWord(view_.slots[index].word.load(std::memory_order_acquire)); }

  // FREE -> READY with a new generation and into `queue`. False: that mailbox is full; the slot stays the caller's.
  // `generation` receives the new generation. Does not wake: see wake_for().
  bool publish(std::uint32_t slot, std::uint32_t queue, std::uint32_t* generation) {
    const SlotWord before = word(slot);
    SETSUNA_ASSERT(before.state() == SlotState::kFree);
    return make_ready(slot, before.generation() + 1, queue, generation);
  }

  // After publish(), outside or inside the mutex.
  void wake_for(std::uint32_t queue) {
    if (queue == kReadyQueue) {
      parking_.wake_one();
    } else {
      parking_.wake_daemon(queue);
    }
  }
  void wake_daemon(std::uint32_t index) { parking_.wake_daemon(index); }

  // A task for the shared queue is about to come: wakes a daemon early, if one sleeps and nothing else waits. R thread only,
  // inside the mutex or outside. If the task does not come, nothing is owed.
  void announce() {
    if (announced_ || ring_.depth() != 0 || !anybody_sleeps()) {
      return;
    }
    announcement_.set();
    announced_ = parking_.wake_one();
    if (!announced_) {
      announcement_.clear();
    }
  }
  bool anybody_sleeps() const { return parking_.anybody_sleeps(); }
  // wake_for(kReadyQueue) for the task that was announced. True if it had to wake nobody: the one woken early still looks.
  bool wake_for_announced() {
    const bool stood = announced_ && announcement_.clear();
    announced_ = false;
    if (!stood) {
      parking_.wake_one();
    }
    return stood;
  }
  void wake_all() { parking_.wake_all(); }

  // READY -> CANCELLED -> free. False: a daemon has it (or had it) already. (mutex)
  bool cancel_ready(std::uint32_t slot, std::uint32_t generation) {
    const SlotWord seen = word(slot);
    if (seen.state() != SlotState::kReady || seen.generation() != generation) {
      return false;
    }
    std::uint64_t expected = seen.bits();
    // Equivalent without any: READY was the host's own store, nothing is read through CANCELLED, and who loses the race reads
    // only that it has.
    if (!view_.slots[slot].word.compare_exchange_strong(expected, seen.with_state(SlotState::kCancelled).bits(),
                                                        std::memory_order_acq_rel, std::memory_order_acquire)) {
      return false;
    }
    release(slot);
    return true;
  }

  // Asks the daemon that runs (slot, generation) to interrupt it. Returns the daemon's index for the signal, or
  // kNoSlot if the task is not running any more. (mutex)
  std::uint32_t request_cancel(std::uint32_t slot, std::uint32_t generation, std::uint64_t element = 0) {
    const SlotWord seen = word(slot);
    if (seen.state() != SlotState::kClaimed || seen.generation() != generation) {
      return kNoSlot;
    }
    SETSUNA_ASSERT(seen.owner() != kHostOwner);
    DaemonRecord<Atom>& record = view_.daemon(seen.owner());
    const bool mailed = places_[slot].queue != kReadyQueue && SETSUNA_RULE(a_cancel_for_each_claim);
    // ORDERING current/cancel: acquire pairs with the release of the daemon's reread in cancelled().
    // Equivalent without release: nothing is read through the request.
    (mailed ? record.cancel_mailed : record.cancel)
        .exchange(element | task_key(slot, generation), std::memory_order_acq_rel);
    return seen.owner();
  }

  // --- Elements of a range (mutex) -------------------------------------------------------------------------

  // The bits that were set before: their elements are not the caller's (again).
  std::uint64_t take_elements(std::uint32_t slot, std::uint64_t bits) {
    // ORDERING take/take: as in DaemonPort::take_element().
    // Equivalent without either: the bit alone decides, nothing is read through it.
    return view_.slots[slot].taken.fetch_or(bits, std::memory_order_acq_rel);
  }
  std::uint32_t progress(std::uint32_t slot) const {
    // ORDERING entry/progress: acquire sees the entries that the owner completed.
    return view_.slots[slot].progress.load(std::memory_order_acquire);
  }
  // Like request_cancel(), for the element that the owner has taken and not finished.
  std::uint32_t request_cancel_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t position) {
    return request_cancel(slot, generation, std::uint64_t{position + 1} << 52);
  }

  // CLAIMED -> DOOMED: the caller must now kill the owner. False: it finished first; no kill. (mutex)
  bool doom(std::uint32_t slot, std::uint32_t generation) {
    const SlotWord seen = word(slot);
    if (seen.state() != SlotState::kClaimed || seen.generation() != generation) {
      return false;
    }
    std::uint64_t expected = seen.bits();
    // Equivalent without any: nothing is read through DOOMED, nor here through what the daemon made of it.
    return view_.slots[slot].word.compare_exchange_strong(expected, seen.with_state(SlotState::kDoomed).bits(),
                                                          std::memory_order_acq_rel, std::memory_order_acquire);
  }

  // Gives every DONE slot to `visit(slot_index, word)`, which takes the result out, and frees the slot. (mutex)
  template <class Visit>
  std::uint32_t harvest(Visit&& visit) {
    std::uint32_t count = 0;
    const std::uint32_t words = (highest_used_ + 64) / 64;
    for (std::uint32_t w = 0; w < words && w < view_.done_words(); ++w) {
      if (view_.done_bits[w].load(std::memory_order_relaxed) == 0) {
        continue;
      }
      // ORDERING bit/word: acquire: the word is seen DONE, or the bit would be lost.
      std::uint64_t bits = view_.done_bits[w].exchange(0, std::memory_order_acquire);
      for (; bits != 0; bits &= bits - 1) {
        const std::uint32_t slot = w * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
        // ORDERING complete/harvest: acquire sees the result that the completer released with DONE.
        const SlotWord seen = word(slot);
        if (seen.state() != SlotState::kDone) {
          continue;  // already harvested through a repaired bit
        }
        visit(slot, seen);
        release(slot);
        ++count;
      }
    }
    return count;
  }

  // After arm_gate() it sees what completers did before they passed (ORDERING done/gate).
  bool anything_done() const {
    const std::uint32_t words = (highest_used_ + 64) / 64;
    for (std::uint32_t w = 0; w < words && w < view_.done_words(); ++w) {
      // Equivalent without acquire: harvest() acquires.
      if (view_.done_bits[w].load(std::memory_order_acquire) != 0) {
        return true;
      }
    }
    return false;
  }

  // --- Sleeping (host thread) ------------------------------------------------------------------------------

  void arm_gate(GateWord target) { host_gate_.arm(target); }
  void disarm_gate() { host_gate_.disarm(); }

  // Ask for a signal of the refill event when the ready queue runs low. True: it is low already.
  bool arm_refill() {
    refill_gate_.arm(GateWord::count(1));
    return ring_.depth() <= view_.control->low_water.load(std::memory_order_relaxed);
  }

  // What "low" is: `depth` ready tasks, or 0 for a quarter of the slots.
  void set_low_water(std::uint32_t depth) {
    view_.control->low_water.store(depth == 0 ? view_.slot_count / 4 : depth, std::memory_order_relaxed);
  }

  // The daemon that runs this task has foretold its end, which has not come yet.
  bool foretold(std::uint32_t slot, std::uint32_t generation) const {
    const SlotWord seen = word(slot);
    return seen.state() == SlotState::kClaimed && seen.generation() == generation && seen.owner() != kHostOwner &&
           view_.daemon(seen.owner()).foretold.load(std::memory_order_relaxed) == task_key(slot, generation);
  }

  // --- Death of a daemon (mutex) ---------------------------------------------------------------------------

  // Repairs what daemon (index, epoch), now surely dead, left behind. `visit(slot, word)` is called for each slot
  // that it had claimed (state kClaimed or kDoomed) or that waited in its mailbox (state kReady) and must either
  // requeue() the slot or abandon it with release_dead(). DONE slots become harvestable. Wakes every daemon; the
  // caller wakes the host thread.
  // Mostly relaxed: the news of the death came after all that the dead did; its record is read under the mutex, or by its
  // successor, which is started after this.
  template <class Visit>
  void reap(std::uint32_t index, std::uint32_t epoch, Visit&& visit) {
    DaemonRecord<Atom>& record = view_.daemon(index);
    if (SETSUNA_RULE(reap_clears_the_idle_bit)) {
      // Equivalent without either: wake_all() below modifies the same word.
      view_.control->idle[index / 64].fetch_and(~(std::uint64_t{1} << (index % 64)), std::memory_order_acq_rel);
    }
    record.state.store(static_cast<std::uint32_t>(DaemonState::kDead), std::memory_order_relaxed);
    if (SETSUNA_RULE(reap_clears_the_announcement)) {
      announcement_.clear();  // it may have been made to the dead
    }
    for (std::uint32_t slot = 0; slot <= highest_used_ && slot < view_.slot_count; ++slot) {
      const SlotWord seen = word(slot);
      if (!seen.owned_by(index, epoch)) {
        continue;
      }
      if (seen.state() == SlotState::kDone && SETSUNA_RULE(reap_sets_done_bits)) {
        view_.done_bits[slot / 64].fetch_or(std::uint64_t{1} << (slot % 64), std::memory_order_relaxed);
      } else if (seen.state() == SlotState::kClaimed || seen.state() == SlotState::kDoomed) {
        if (SETSUNA_RULE(retire_before_requeue)) {
          finish_cell(slot);
        }
        visit(slot, seen);
      }
    }
    if (SETSUNA_RULE(reap_drains_the_mailbox)) {
      mailbox(index).drain([&](std::uint32_t slot) { visit(slot, word(slot)); });
    }
    if (SETSUNA_RULE(reap_drops_the_holds)) {
      for (auto& bits : record.hold) {
        bits.store(0, std::memory_order_relaxed);
      }
    }
    record.handback.store(0, std::memory_order_relaxed);
    record.current.store(0, std::memory_order_relaxed);
    record.cancel.store(0, std::memory_order_relaxed);
    record.cancel_mailed.store(0, std::memory_order_relaxed);
    if (SETSUNA_RULE(reap_wakes_all)) {
      parking_.wake_all();
    }
  }

  // From inside reap()'s visit, or for a slot claimed by the host: it is to run on another daemon. False: that mailbox is
  // full.
  bool requeue(std::uint32_t slot, std::uint32_t queue, std::uint32_t* generation) {
    return make_ready(slot, word(slot).generation() + (SETSUNA_RULE(retry_has_a_new_generation) ? 1 : 0), queue,
                      generation);
  }
  // From inside reap()'s visit: give the task up.
  void release_dead(std::uint32_t slot) { release(slot); }

  // --- Daemons ---------------------------------------------------------------------------------------------

  DaemonRecord<Atom>& daemon(std::uint32_t index) const { return view_.daemon(index); }

  // A new incarnation moves in at `index`; returns its epoch (never 0). (mutex)
  std::uint32_t admit(std::uint32_t index) {
    DaemonRecord<Atom>& record = view_.daemon(index);
    std::uint32_t epoch = (record.epoch.load(std::memory_order_relaxed) + 1) & 0xFFFFU;
    if (epoch == 0) {
      epoch = 1;
    }
    record.epoch.store(epoch, std::memory_order_relaxed);
    record.pid.store(0, std::memory_order_relaxed);
    record.stop.store(0, std::memory_order_relaxed);
    record.exit_code.store(0, std::memory_order_relaxed);
    record.assigned.store(0, std::memory_order_relaxed);
    record.completed.store(0, std::memory_order_relaxed);
    record.state.store(static_cast<std::uint32_t>(DaemonState::kStarting), std::memory_order_relaxed);
    return epoch;
  }

  // Does a live daemon still have a view into this block? (mutex)
  bool held(std::uint32_t block) const {
    for (std::uint32_t i = 0; i < view_.daemon_max; ++i) {
      DaemonRecord<Atom>& record = view_.daemon(i);
      // Relaxed: vacant and dead are the host's own words, all else means to look.
      const auto state = static_cast<DaemonState>(record.state.load(std::memory_order_relaxed));
      if (state == DaemonState::kVacant || state == DaemonState::kDead) {
        continue;
      }
      // ORDERING hold/free: acquire pairs with the release of unhold().
      if ((record.hold[block / 64].load(std::memory_order_acquire) >> (block % 64)) & 1U) {
        return true;
      }
    }
    return false;
  }

  // --- Tasks that the host takes itself, for remote daemons (mutex) ----------------------------------------

  // The oldest READY task of the shared queue becomes CLAIMED by kHostOwner. The refill gate is not told: the caller refills.
  std::optional<Claim> claim_for_host() { return ring_.claim(kHostOwner, kHostEpoch); }
  bool anything_ready() { return ring_.has_work(); }

  // FREE -> CLAIMED by the host, through no queue. The caller has filled the slot.
  std::uint32_t place_claimed(std::uint32_t slot) {
    const SlotWord before = word(slot);
    SETSUNA_ASSERT(before.state() == SlotState::kFree);
    const std::uint32_t generation = before.generation() + 1;
    // Relaxed: no daemon looks into this slot before it is READY.
    view_.slots[slot].word.store(SlotWord::make(SlotState::kClaimed, kHostOwner, kHostEpoch, generation).bits(),
                                 std::memory_order_relaxed);
    places_[slot].used = false;
    return generation;
  }

  // CLAIMED by the host -> free. Instead of it, requeue() gives the task to the daemons.
  void release_claimed(std::uint32_t slot) {
    SETSUNA_ASSERT(word(slot).state() == SlotState::kClaimed && word(slot).owned_by(kHostOwner, kHostEpoch));
    release(slot);
  }

  std::uint64_t ready_depth() const { return ring_.depth(); }
  const QueueView<Atom>& view() const { return view_; }

 private:
  struct Place {
    std::uint64_t ticket = 0;
    std::uint32_t queue = kReadyQueue;
    bool used = false;
  };

  ReadyRing<Atom> mailbox(std::uint32_t index) {
    DaemonRecord<Atom>& record = view_.daemon(index);
    return ReadyRing<Atom>(record.mailbox.data(), kMailboxCells, &record.mailbox_head, &record.mailbox_tail,
                           view_.slots);
  }

  bool make_ready(std::uint32_t slot, std::uint32_t generation, std::uint32_t queue, std::uint32_t* out) {
    ReadyRing<Atom> ring = queue == kReadyQueue ? ring_ : mailbox(queue);
    if (queue != kReadyQueue && ring.depth() >= ring.size()) {
      return false;  // checked first: READY must not be visible without a cell to come
    }
    // ORDERING ready/claim: release: whoever claims through the word's value sees the payload.
    view_.slots[slot].word.store(SlotWord::make(SlotState::kReady, 0, 0, generation).bits(), std::memory_order_release);
    if (slot > highest_used_) {
      highest_used_ = slot;
    }
    if (queue == kReadyQueue) {
      ring.put(slot, generation, &places_[slot].ticket);
    } else {
      const bool pushed = ring.push(slot, generation, &places_[slot].ticket);
      SETSUNA_ASSERT(pushed);
    }
    places_[slot].queue = queue;
    places_[slot].used = true;
    *out = generation;
    return true;
  }

  // The slot's task is over: reusable as soon as its cell is out of its ring (a stale cell must not meet a new READY).
  void release(std::uint32_t slot) {
    const std::uint32_t generation = word(slot).generation();
    // Relaxed: nothing is read through FREE; the next to publish the slot is the host itself.
    view_.slots[slot].word.store(SlotWord::make(SlotState::kFree, 0, 0, generation).bits(), std::memory_order_relaxed);
    if (cell_gone(slot) || !SETSUNA_RULE(pin_until_the_cell_is_gone)) {
      free_.push_back(slot);
    } else {
      pinned_.push_back(slot);
    }
  }

  bool cell_gone(std::uint32_t slot) {
    const Place& place = places_[slot];
    if (!place.used) {
      return true;
    }
    // ORDERING retire/reuse: acquire of the head that passed our ticket.
    if (place.queue != kReadyQueue) {
      return mailbox(place.queue).head() > place.ticket;
    }
    if (seen_head_ <= place.ticket) {
      seen_head_ = ring_.head();
    }
    return seen_head_ > place.ticket;
  }

  // Before the host gives up on a free slot it retires stale cells itself: their claimers may be dead or slow.
  void reclaim_pinned() {
    if (pinned_.empty()) {
      return;
    }
    if (SETSUNA_RULE(host_retires_stale_cells)) {
      ring_.retire_stale();
    }
    std::size_t kept = 0;
    for (std::uint32_t slot : pinned_) {
      if (!cell_gone(slot) && places_[slot].queue != kReadyQueue && SETSUNA_RULE(host_retires_stale_cells)) {
        mailbox(places_[slot].queue).retire_stale();
      }
      if (cell_gone(slot)) {
        free_.push_back(slot);
      } else {
        pinned_[kept++] = slot;
      }
    }
    pinned_.resize(kept);
  }

  // A claimed slot's cell can only be at the head: finish the steps its dead claimer owed.
  void finish_cell(std::uint32_t slot) {
    if (cell_gone(slot)) {
      return;
    }
    if (places_[slot].queue == kReadyQueue) {
      ring_.retire_stale();
    } else {
      mailbox(places_[slot].queue).retire_stale();
    }
    SETSUNA_ASSERT(cell_gone(slot));
  }

  QueueView<Atom> view_;
  ReadyRing<Atom> ring_;
  Parking<Atom, Futex> parking_;
  Announcement<Atom> announcement_;
  bool announced_ = false;  // R thread: since the last wake_for_announced()
  Gate<Atom> host_gate_;
  Gate<Atom> refill_gate_;
  std::vector<Place> places_;          // where each slot was last pushed
  std::vector<std::uint32_t> free_;    // reusable now
  std::vector<std::uint32_t> pinned_;  // FREE, but a cell still names them
  std::uint32_t highest_used_ = 0;
  std::uint64_t seen_head_ = 0;  // of the ready ring: to look again takes the line from who claims
};

}  // namespace setsuna::runtime
