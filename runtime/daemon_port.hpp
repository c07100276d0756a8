// A daemon's side of the queue: claim, park, complete. No locks; may be killed at any instruction.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/announcement.hpp"
#include "runtime/gate.hpp"
#include "runtime/parking.hpp"
#include "runtime/ready_ring.hpp"

namespace setsuna::runtime {

template <template <class> class Atom, class Futex>
class DaemonPort {
 public:
  using Slot = TaskSlot<Atom>;

  DaemonPort(const QueueView<Atom>& view, std::uint32_t index, std::uint32_t epoch)
      : view_(view),
        index_(index),
        epoch_(epoch),
        record_(view.daemon(index)),
        ring_(view.cells, view.slot_count, &view.control->ring_head, &view.control->ring_tail, view.slots),
        mailbox_(record_.mailbox.data(), kMailboxCells, &record_.mailbox_head, &record_.mailbox_tail, view.slots),
        parking_(view),
        announcement_(&view.control->announced),
        host_gate_(&view.control->host_gate),
        refill_gate_(&view.control->refill_gate) {}

  // The daemon's own queue: everywhere(), and all tasks of a profile without dispatcher. *refill as in claim_ready().
  std::optional<Claim> claim_mailbox(bool* refill) {
    std::optional<Claim> claim = mailbox_.claim(index_, epoch_);
    // The wake that brought us here may have been meant for the shared queue: pass it on before a long mailbox task.
    answer_announcement(claim);
    if (claim && SETSUNA_RULE(mailbox_task_passes_the_wake) && ring_.has_work()) {
      parking_.wake_one();
    }
    // A claim or not: its last items may have been tombstones.
    if (mailbox_.moved() && mailbox_.depth() <= kMailboxCells / 4) {
      *refill = refill_gate_.take() || *refill;
    }
    return claim;
  }

  // The shared queue. Sets *refill when the queue has run low and the caller must signal the reactor.
  std::optional<Claim> claim_ready(bool* refill) {
    std::optional<Claim> claim = ring_.claim(index_, epoch_);
    answer_announcement(claim);
    // Who takes something looks at the gate without touching it, and at the tail, which the host writes for each task, only if
    // it is armed. A gate that was armed just now may be missed so; but not by who finds the queue empty, and somebody will.
    const bool low = claim ? refill_gate_.armed() && ring_.depth() <= low_water() : SETSUNA_RULE(an_empty_queue_is_low);
    if (low) {
      *refill = refill_gate_.take() || *refill;
    }
    return claim;
  }

  // Sleeps until woken, `deadline_ns` or a signal, unless work appeared meanwhile. Callers loop.
  // A waker may have claimed this sleeper although it found work by itself. Nothing is owed for that: an item that was there
  // before its bit was set is seen by the recheck of whoever else would sleep. Only who leaves, or turns to its mailbox,
  // passes a wake on.
  // False: work was there before it slept.
  bool park(std::uint64_t deadline_ns) {
    parking_.announce(index_);
    const bool sleeps = !(SETSUNA_RULE(recheck_mailbox) && mailbox_.has_work()) &&
                        !(SETSUNA_RULE(recheck_ring) && ring_.has_work()) &&
                        !(SETSUNA_RULE(recheck_stop) && must_leave());
    sleeps ? parking_.sleep(index_, deadline_ns) : parking_.cancel_park(index_);
    // At once: the first that it finds may be other work, see answer_announcement().
    heard_ = announcement_.stands();
    return sleeps;
  }

  // Since park() a task is announced, and no other was claimed. The caller looks for work for a while, as long as announced(),
  // and then calls give_up().
  bool heard_announcement() const { return heard_; }
  bool announced() const { return announcement_.still_stands(); }
  // It has taken too long. Work that comes from now on has a wake of its own; what came before is there to be seen.
  void give_up() {
    heard_ = false;
    if (SETSUNA_RULE(giving_up_clears_the_announcement)) {
      announcement_.clear();
    }
  }

  // Before the process exits of its own will: a wake token that it holds is passed on.
  void leave() {
    parking_.cancel_park(index_);
    if (SETSUNA_RULE(leaving_clears_the_announcement)) {
      announcement_.clear();
    }
    if (SETSUNA_RULE(leaving_passes_the_wake)) {
      parking_.wake_one();
    }
  }

  bool must_leave() const {
    // Equivalent without acquire: nothing is read through these. That a daemon which would sleep sees them: publish/park.
    return record_.stop.load(std::memory_order_acquire) != 0 ||
           (view_.control->flags.load(std::memory_order_acquire) & kControlClosing) != 0;
  }

  Slot& slot(const Claim& claim) const { return view_.slots[claim.slot]; }

  // Publishes what runs, for cancel(); the caller rereads cancelled() afterwards, before it evaluates.
  void set_current(const Claim& claim) {
    bump(record_.assigned);
    // ORDERING current/cancel: before the daemon's reread of the request, which releases it.
    // Equivalent without either: nothing is read through `current` but its value.
    record_.current.exchange(pack(claim), std::memory_order_acq_rel);
  }
  // Equivalent without either: a handler that still sees the task finds it cancelled or not, as it was.
  void clear_current() { record_.current.exchange(0, std::memory_order_acq_rel); }

  // True when the host asked to cancel exactly this task.
  bool cancelled(const Claim& claim) const {
    // ORDERING current/cancel: both sides read-modify-write the request. If the host's exchange comes second, its acquire and
    // this release let the handler of its signal see `current`, in whichever thread of the daemon it runs; else this sees
    // the request. Equivalent without acquire: nothing is read through the request.
    return record_.cancel.fetch_or(0, std::memory_order_acq_rel) == pack(claim) ||
           record_.cancel_mailed.fetch_or(0, std::memory_order_acq_rel) == pack(claim);
  }
  // For the handler of the host's signal: what runs now is what it asked to cancel. Async-signal-safe.
  bool cancel_wanted(std::uint64_t current) const {
    // Equivalent without acquire: the signal comes after the request, and nothing else is read through it.
    return current != 0 && (record_.cancel.load(std::memory_order_acquire) == current ||
                            record_.cancel_mailed.load(std::memory_order_acquire) == current);
  }

  // --- Elements of a range ---------------------------------------------------------------------------------

  // False: the host has taken this element back; it must not be evaluated.
  bool take_element(const Claim& claim, std::uint32_t position) {
    const std::uint64_t bit = std::uint64_t{1} << position;
    // ORDERING take/take: one read-modify-write decides between this daemon and the host; whoever sets the bit has it.
    // Equivalent without either: the bit alone decides, nothing is read through it.
    return (slot(claim).taken.fetch_or(bit, std::memory_order_acq_rel) & bit) == 0;
  }
  // `count` entries are complete in the result area.
  void publish_progress(const Claim& claim, std::uint32_t count) {
    // ORDERING entry/progress: release, after the entry's bytes; the host acquires the count before it reads them.
    slot(claim).progress.store(count, std::memory_order_release);
    if (count > 1) {  // set_current() and complete() count one
      bump(record_.assigned);
      bump(record_.completed);
    }
  }
  // The request that a cancel of this element of a range makes.
  static std::uint64_t pack_element(std::uint64_t current, std::uint32_t position) {
    return current | (std::uint64_t{position + 1} << 52);
  }
  bool mailbox_waits() { return mailbox_.has_work(); }

  // The result fields of the slot are written. False: the claim was doomed or revoked; the result must be
  // dropped and the process must exit without claiming again. *signal: the caller must signal the reactor.
  bool complete(const Claim& claim, bool* signal) {
    std::uint64_t expected = SlotWord::make(SlotState::kClaimed, index_, epoch_, claim.generation).bits();
    // ORDERING complete/harvest: release publishes the result to the host, who acquires the word.
    // Equivalent without any: the done bit below publishes too (the word is the truth, the bit a hint); and what the daemon
    // itself claimed, or the host doomed, has nothing to be read through it.
    if (!view_.slots[claim.slot].word.compare_exchange_strong(
            expected, SlotWord::make(SlotState::kDone, index_, epoch_, claim.generation).bits(),
            std::memory_order_acq_rel, std::memory_order_acquire)) {
      return false;
    }
    bump(record_.completed);
    // ORDERING bit/word: release: a host that takes the bit sees the word DONE, or it would drop the bit. ORDERING done/gate:
    // before the gate's read-modify-write.
    view_.done_bits[claim.slot / 64].fetch_or(std::uint64_t{1} << (claim.slot % 64), std::memory_order_release);
    const GatePass pass = host_gate_.pass(claim.slot);
    *signal = pass == GatePass::kSignalReactor;
    if (pass == GatePass::kWakeHost) {
      wake_host();
    }
    return true;
  }

  // Before the task is evaluated, if it will be done in a moment. A host that is about to sleep until then looks out instead.
  // One that sleeps is woken now: its way back to a CPU, the longest part of a short round trip, passes meanwhile; it looks
  // out, and sleeps again if that was too early. What wakes it after this daemon's death wakes it here, too.
  void foretell(const Claim& claim) {
    // Relaxed: a hint. A host that sleeps nevertheless has its wake, now or from complete().
    record_.foretold.store(pack(claim), std::memory_order_relaxed);
    if (host_gate_.take_slot(claim.slot) && SETSUNA_RULE(foretelling_wakes_the_host)) {
      wake_host();
    }
  }

  void wake_host() {
    // ORDERING host/sleep: release; pairs with the acquire load before the host's wait.
    view_.host->futex.fetch_add(1, std::memory_order_release);
    Futex::wake(&view_.host->futex, 1);
  }

  // A block that a view points into must not be reused: set between CLAIMED and DONE, cleared with the last view.
  void hold(std::uint32_t block) {
    // ORDERING hold/free: before DONE, which the host acquires before it looks.
    // Equivalent without release: complete() releases.
    record_.hold[block / 64].fetch_or(std::uint64_t{1} << (block % 64), std::memory_order_release);
  }
  void unhold(std::uint32_t block) {
    // ORDERING hold/free: release, so that the last read of the block happens before the host reuses it.
    record_.hold[block / 64].fetch_and(~(std::uint64_t{1} << (block % 64)), std::memory_order_release);
  }

  DaemonRecord<Atom>& record() const { return record_; }
  std::uint32_t index() const { return index_; }
  std::uint32_t epoch() const { return epoch_; }
  const QueueView<Atom>& view() const { return view_; }
  bool has_work() { return mailbox_.has_work() || ring_.has_work(); }

  static std::uint64_t pack(const Claim& claim) { return task_key(claim.slot, claim.generation); }

 private:
  // The first task after an announcement may be another than the announced one, which then has the host's wake or, if the host
  // has relied on us already, ours.
  void answer_announcement(const std::optional<Claim>& claim) {
    if (!heard_ || !claim || !SETSUNA_RULE(other_work_passes_the_wake)) {
      return;
    }
    heard_ = false;
    announcement_.clear();
    if (ring_.has_work()) {
      parking_.wake_one();
    }
  }

  std::uint64_t low_water() const { return view_.control->low_water.load(std::memory_order_relaxed); }

  // Statistics with one writer: no locked instruction needed.
  static void bump(Atom<std::uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  QueueView<Atom> view_;
  std::uint32_t index_;
  std::uint32_t epoch_;
  DaemonRecord<Atom>& record_;
  ReadyRing<Atom> ring_;
  ReadyRing<Atom> mailbox_;
  Parking<Atom, Futex> parking_;
  Announcement<Atom> announcement_;
  bool heard_ = false;  // woken for an announcement, and no task claimed since
  Gate<Atom> host_gate_;
  Gate<Atom> refill_gate_;
};

}  // namespace setsuna::runtime
