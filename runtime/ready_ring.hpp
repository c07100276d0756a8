// Helping ring of task references: bounded, lock-free for consumers, one producer at a time (the host, under
// its mutex). A consumer that dies between any two steps leaves only steps that another process can finish:
// taking is a CAS on the *slot word*, the cell and the head are repaired by whoever comes next.
//
// The same ring serves as the ready queue (many consumers) and as a daemon's mailbox (one consumer).
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/assert.hpp"
#include "runtime/layout.hpp"
#include "runtime/rule.hpp"
#include "runtime/slot_word.hpp"

namespace setsuna::runtime {

// What a consumer holds after a successful claim.
struct Claim {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  std::uint64_t ticket = 0;
};

template <template <class> class Atom>
class ReadyRing {
 public:
  // `size` cells (a power of two), tickets and the slots that cells refer to; all in shared memory.
  ReadyRing(Atom<std::uint64_t>* cells, std::uint32_t size, Atom<std::uint64_t>* head, Atom<std::uint64_t>* tail,
            TaskSlot<Atom>* slots)
      : cells_(cells), size_(size), head_(head), tail_(tail), slots_(slots) {
    SETSUNA_ASSERT(size != 0 && (size & (size - 1)) == 0);
  }

  // Host, once, before the segment is shared.
  void format() {
    for (std::uint32_t i = 0; i < size_; ++i) {
      cells_[i].store(RingCell::empty(0).bits(), std::memory_order_relaxed);
    }
    head_->store(0, std::memory_order_relaxed);
    tail_->store(0, std::memory_order_relaxed);
  }

  // Producer (host mutex held). The slot must already be READY(generation). False: no free cell. `ticket` is where the cell
  // went: the slot may be reused only when head() has passed it.
  bool push(std::uint32_t slot, std::uint32_t generation, std::uint64_t* ticket) {
    // ORDERING retire/reuse: acquire: the cell that the head has passed is seen recycled.
    if (tail_->load(std::memory_order_relaxed) - head_->load(std::memory_order_acquire) >= size_) {
      return false;
    }
    put(slot, generation, ticket);
    return true;
  }

  // push() of the ready ring: without a look at the head, which consumers write for each item. A cell is free, as there is
  // one for every slot: of the last `size` tickets either one was of this slot, or one slot had two; and before a slot is
  // used again the host acquires a head beyond its last ticket. So it has acquired one beyond the ticket that had this cell.
  void put(std::uint32_t slot, std::uint32_t generation, std::uint64_t* ticket) {
    const std::uint64_t tail = tail_->load(std::memory_order_relaxed);  // only this side writes it
    Atom<std::uint64_t>& cell = cells_[tail & (size_ - 1)];
    std::uint64_t expected = RingCell::empty(lap_of(tail)).bits();
    // ORDERING push/take: release publishes the slot's payload and READY word to the consumer that acquires this cell.
    const bool placed = cell.compare_exchange_strong(expected, RingCell::make(lap_of(tail), generation, slot).bits(),
                                                     std::memory_order_release, std::memory_order_relaxed);
    SETSUNA_ASSERT(placed);
    *ticket = tail;
    // Relaxed: the tail is a hint for depth(); consumers find items by their cells.
    tail_->store(tail + 1, std::memory_order_relaxed);
  }

  // Consumer. Claims the oldest READY item for (owner, epoch); empty result: nothing queued.
  std::optional<Claim> claim(std::uint32_t owner, std::uint32_t epoch) {
    moved_ = false;
    for (;;) {
      const std::uint64_t head =
          head_->load(std::memory_order_acquire);  // ORDERING retire/reuse: no cell of an older lap
      const RingCell cell = load_cell(head);
      if (!is_current(head, cell)) {
        continue;
      }
      if (cell.is_empty()) {
        return std::nullopt;
      }
      const bool won = try_own(head, cell, owner, epoch);
      if (won || SETSUNA_RULE(retire_what_another_won)) {
        retire(head, cell);
      }
      if (won) {
        return Claim{cell.slot(), slot_generation(cell), head};
      }
    }
  }

  // True when the last claim() shortened the queue, be it by tombstones only.
  bool moved() const { return moved_; }

  // True when something may be claimable. Called after the idle bit is set, before sleeping.
  bool has_work() {
    for (;;) {
      const std::uint64_t head = head_->load(std::memory_order_acquire);
      const RingCell cell = load_cell(head);
      if (!is_current(head, cell)) {
        continue;
      }
      return !cell.is_empty();
    }
  }

  // Any side: finish the steps that dead or slow consumers left at the head. Stops at the first item that is
  // still READY, or at the end of the queue.
  void retire_stale() {
    for (;;) {
      const std::uint64_t head = head_->load(std::memory_order_acquire);
      const RingCell cell = load_cell(head);
      if (!is_current(head, cell)) {
        continue;
      }
      // Equivalent without acquire: the host, which calls this, reads only the state and knows all items, as it pushed them; a
      // READY that is out of date leaves the cell to its claimer.
      if (cell.is_empty() || offers(cell, SlotWord(slots_[cell.slot()].word.load(std::memory_order_acquire)))) {
        return;
      }
      retire(head, cell);
    }
  }

  // Host (mutex held), when no consumer is left (a dead daemon's mailbox): gives every remaining cell to
  // `visit(slot)` in order and empties the ring.
  template <class Visit>
  void drain(Visit&& visit) {
    for (;;) {
      // Equivalent without acquire: the news of the consumer's death came after all that it did.
      const std::uint64_t head = head_->load(std::memory_order_acquire);
      const RingCell cell = load_cell(head);
      if (!is_current(head, cell)) {
        continue;
      }
      if (cell.is_empty()) {
        return;
      }
      // Equivalent without acquire: likewise, and READY was the host's own store.
      const bool offered = offers(cell, SlotWord(slots_[cell.slot()].word.load(std::memory_order_acquire)));
      retire(head, cell);
      if (offered) {
        visit(cell.slot());
      }
    }
  }

  // ORDERING retire/reuse: acquire: what the head has passed is retired, and READY tells the next claimer so: see try_own().
  std::uint64_t head() const { return head_->load(std::memory_order_acquire); }

  // Items between head and tail, stale ones included. A hint.
  std::uint64_t depth() const {
    const std::uint64_t head = head_->load(std::memory_order_relaxed);
    const std::uint64_t tail = tail_->load(std::memory_order_relaxed);
    return tail > head ? tail - head : 0;
  }

  std::uint32_t size() const { return size_; }

 private:
  std::uint32_t lap_of(std::uint64_t ticket) const { return static_cast<std::uint32_t>(ticket / size_); }

  RingCell load_cell(std::uint64_t ticket) const {
    // ORDERING push/take: acquire sees the READY word and payload of the item that the producer released here.
    return RingCell(cells_[ticket & (size_ - 1)].load(std::memory_order_acquire));
  }

  // False: somebody retired this ticket's cell and died, or is slow. The head has been helped along.
  bool is_current(std::uint64_t head, RingCell cell) {
    if (cell.lap() == lap_of(head)) {
      return true;
    }
    if (SETSUNA_RULE(help_the_head)) {
      advance(head);
    }
    return false;
  }

  static bool offers(RingCell cell, SlotWord word) {
    return cell.offers(word) || (!SETSUNA_RULE(own_cell_only) && word.state() == SlotState::kReady);
  }

  bool try_own(std::uint64_t head, RingCell cell, std::uint32_t owner, std::uint32_t epoch) {
    Atom<std::uint64_t>& word = slots_[cell.slot()].word;
    // ORDERING ready/claim: acquire sees the payload, and that the slot's earlier cells are gone.
    // ORDERING claim/miss: acquire, if another has claimed it: see below.
    const SlotWord seen(word.load(std::memory_order_acquire));
    if (!offers(cell, seen)) {
      return false;
    }
    // The cell keeps 16 bits of the generation: `seen` may be 65,536 uses younger than the cell that was read. The slot is
    // not used again before its cell is gone, so a cell that is still there vouches for all 32 bits.
    if (SETSUNA_RULE(cell_vouches) && SETSUNA_RULE(own_cell_only) && load_cell(head).bits() != cell.bits()) {
      return false;
    }
    claimed_generation_ = seen.generation();
    std::uint64_t expected = seen.bits();
    // ORDERING claim/miss: release here, in retire() and in advance(); acquire for whoever comes too late. Two daemons are
    // woken for two items; if one takes the item of the other, the other must see the item that is left for it.
    // Equivalent without acquire: `seen` was acquired from the same store.
    return word.compare_exchange_strong(expected,
                                        SlotWord::make(SlotState::kClaimed, owner, epoch, seen.generation()).bits(),
                                        std::memory_order_acq_rel, std::memory_order_acquire);
  }

  std::uint32_t slot_generation(RingCell) const { return claimed_generation_; }

  // Cell first, then head: whoever sees the new head sees a recycled cell behind it.
  void retire(std::uint64_t head, RingCell cell) {
    std::uint64_t expected = cell.bits();
    // ORDERING retire/reuse: release; claim/miss too. Equivalent without acquire: `cell` was acquired from the same store.
    cells_[head & (size_ - 1)].compare_exchange_strong(expected, RingCell::empty(lap_of(head) + 1).bits(),
                                                       std::memory_order_acq_rel, std::memory_order_relaxed);
    advance(head);
  }

  void advance(std::uint64_t head) {
    moved_ = true;
    // ORDERING retire/reuse: release, so that a head that has passed a ticket means its cell is recycled.
    // Equivalent without acquire: `head` was acquired from the same store.
    head_->compare_exchange_strong(head, head + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  Atom<std::uint64_t>* cells_;
  std::uint32_t size_;
  Atom<std::uint64_t>* head_;
  Atom<std::uint64_t>* tail_;
  TaskSlot<Atom>* slots_;
  std::uint32_t claimed_generation_ = 0;
  bool moved_ = false;
};

}  // namespace setsuna::runtime
