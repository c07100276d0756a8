// Every state that a daemon killed between two of its stores can leave behind, built by hand, and its repair: by a peer
// that comes by, by the host that wants the slot, and by the reaper.
#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <vector>

#include "tests/runtime/queue_invariants.hpp"
#include "tests/runtime/queue_memory.hpp"

namespace {

using namespace setsuna::runtime;
using queue_test::check_invariants;

// Nobody sleeps here; who was woken is on record.
struct Wakes {
  static inline std::multiset<const void*> woken;
  static void wait_until(std::atomic<std::uint32_t>*, std::uint32_t, std::uint64_t) { FAIL() << "a test would block"; }
  static int wake(std::atomic<std::uint32_t>* word, int) {
    woken.insert(word);
    return 1;
  }
};
using Host = HostPort<std::atomic, Wakes>;
using Daemon = DaemonPort<std::atomic, Wakes>;

constexpr std::uint32_t kSlots = 8;

class HalfWritten : public ::testing::Test {
 protected:
  HalfWritten() : memory_(kSlots, 3), view_(memory_.view()), host_(view_) {
    Wakes::woken.clear();
    host_.format();
    for (std::uint32_t i = 0; i < 3; ++i) {
      epoch_[i] = host_.admit(i);
      record(i).state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_relaxed);
    }
  }
  void TearDown() override { EXPECT_EQ(check_invariants(view_, false), ""); }

  DaemonRecord<std::atomic>& record(std::uint32_t daemon) { return view_.daemon(daemon); }
  std::atomic<std::uint64_t>& word(std::uint32_t slot) { return view_.slots[slot].word; }
  SlotState state(std::uint32_t slot) { return SlotWord(word(slot).load(std::memory_order_relaxed)).state(); }
  Daemon daemon(std::uint32_t index) { return Daemon(view_, index, epoch_[index]); }

  // A task in the shared queue (or a mailbox); its generation is in generation_.
  std::uint32_t submit(std::uint32_t queue = kReadyQueue) {
    const std::uint32_t slot = host_.acquire_slot();
    EXPECT_NE(slot, kNoSlot);
    EXPECT_TRUE(host_.publish(slot, queue, &generation_));
    return slot;
  }
  std::optional<Claim> claim(std::uint32_t index) {
    bool refill = false;
    return daemon(index).claim_ready(&refill);
  }
  bool complete(std::uint32_t index, const Claim& claim) {
    bool signal = false;
    return daemon(index).complete(claim, &signal);
  }
  void run_one(std::uint32_t index) {
    const std::optional<Claim> claimed = claim(index);
    ASSERT_TRUE(claimed);
    EXPECT_TRUE(complete(index, *claimed));
  }

  // --- What the victim, daemon 0, has done when it dies ------------------------------------------------------
  void set_word(std::uint32_t slot, SlotState next, std::uint32_t owner) {
    word(slot).store(SlotWord::make(next, owner, epoch_[owner], generation_of(slot)).bits(), std::memory_order_relaxed);
  }
  std::uint32_t generation_of(std::uint32_t slot) {
    return SlotWord(word(slot).load(std::memory_order_relaxed)).generation();
  }
  void retire_cell_only() {
    const std::uint64_t head = view_.control->ring_head.load(std::memory_order_relaxed);
    view_.cells[head % kSlots].store(RingCell::empty(static_cast<std::uint32_t>(head / kSlots) + 1).bits(),
                                     std::memory_order_relaxed);
  }

  struct Reaped {
    std::vector<std::uint32_t> slots;
    std::vector<SlotState> states;
  };
  Reaped reap(std::uint32_t index, bool retry = true) {
    Reaped out;
    host_.reap(index, epoch_[index], [&](std::uint32_t slot, SlotWord seen) {
      out.slots.push_back(slot);
      out.states.push_back(seen.state());
      std::uint32_t generation = 0;
      if (!retry || !host_.requeue(slot, kReadyQueue, &generation)) {
        host_.release_dead(slot);
      }
    });
    return out;
  }
  std::vector<std::uint32_t> harvest() {
    std::vector<std::uint32_t> out;
    host_.harvest([&](std::uint32_t slot, SlotWord) { out.push_back(slot); });
    return out;
  }
  // All slots can be used again: nothing is left half done.
  void expect_all_reusable() {
    for (std::uint32_t i = 0; i < kSlots; ++i) {
      EXPECT_NE(host_.acquire_slot(), kNoSlot) << "slot number " << i;
    }
    EXPECT_EQ(view_.control->ring_head.load(std::memory_order_relaxed),
              view_.control->ring_tail.load(std::memory_order_relaxed));
  }
  bool was_woken(std::uint32_t daemon) { return Wakes::woken.count(&record(daemon).futex) > 0; }
  void park(std::uint32_t daemon) {
    view_.control->idle[0].fetch_or(std::uint64_t{1} << daemon, std::memory_order_relaxed);
  }

  queue_test::QueueMemory memory_;
  QueueView<std::atomic> view_;
  Host host_;
  std::uint32_t epoch_[3] = {};
  std::uint32_t generation_ = 0;
};

using Slots = std::vector<std::uint32_t>;

// --- Claim: the word, the cell, the head ---------------------------------------------------------------------------

TEST_F(HalfWritten, ClaimedButItsCellIsStillThere_APeerPassesOver) {
  const std::uint32_t first = submit();
  const std::uint32_t second = submit();
  set_word(first, SlotState::kClaimed, 0);
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->slot, second);
  EXPECT_EQ(state(first), SlotState::kClaimed) << "not the peer's business";
  EXPECT_FALSE(claim(1));
}

TEST_F(HalfWritten, ClaimedButItsCellIsStillThere_TheReaperFinishesItAndRequeues) {
  const std::uint32_t first = submit();
  submit();
  set_word(first, SlotState::kClaimed, 0);
  const Reaped reaped = reap(0);
  EXPECT_EQ(reaped.slots, Slots{first});
  EXPECT_EQ(generation_of(first), 2U);
  run_one(1);
  run_one(1);
  EXPECT_EQ(harvest().size(), 2U);
  expect_all_reusable();
}

TEST_F(HalfWritten, ClaimedAndTheCellRecycledButNotTheHead_APeerHelps) {
  const std::uint32_t first = submit();
  const std::uint32_t second = submit();
  set_word(first, SlotState::kClaimed, 0);
  retire_cell_only();
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->slot, second);
}

TEST_F(HalfWritten, ClaimedAndTheCellRecycledButNotTheHead_TheReaperHelps) {
  const std::uint32_t first = submit();
  set_word(first, SlotState::kClaimed, 0);
  retire_cell_only();
  EXPECT_EQ(reap(0, false).slots, Slots{first});
  EXPECT_EQ(state(first), SlotState::kFree);
  expect_all_reusable();
}

TEST_F(HalfWritten, ClaimedAtTheLastCellOfALap) {
  for (std::uint32_t i = 0; i + 1 < kSlots; ++i) {
    submit();
    run_one(1);
    EXPECT_EQ(harvest().size(), 1U);
  }
  for (const bool recycled : {false, true}) {
    const std::uint32_t slot = submit();
    set_word(slot, SlotState::kClaimed, 0);
    if (recycled) {
      retire_cell_only();
    }
    EXPECT_EQ(reap(0).slots, Slots{slot});
    run_one(1);
    EXPECT_EQ(harvest(), Slots{slot});
    epoch_[0] = host_.admit(0);
  }
  expect_all_reusable();
}

TEST_F(HalfWritten, ClaimedWithAFullRing) {
  std::uint32_t first = submit();
  for (std::uint32_t i = 1; i < kSlots; ++i) {
    submit();
  }
  set_word(first, SlotState::kClaimed, 0);
  EXPECT_EQ(reap(0).slots, Slots{first}) << "pushed into the cell that it left";
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    run_one(1);
  }
  EXPECT_EQ(harvest().size(), kSlots);
  expect_all_reusable();
}

TEST_F(HalfWritten, AConsumerTookAnItemThatTheTailHasNotPassed) {
  const std::uint32_t slot = submit();
  view_.control->ring_tail.store(0, std::memory_order_relaxed);  // the host stands between cell and tail
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->slot, slot);
  EXPECT_EQ(host_.ready_depth(), 0U);
  EXPECT_EQ(check_invariants(view_, false), "");
  view_.control->ring_tail.store(1, std::memory_order_relaxed);
}

TEST_F(HalfWritten, AnOldClaimersStepsDoNothing) {
  submit();
  const std::uint64_t old_cell = view_.cells[0].load(std::memory_order_relaxed);
  run_one(1);
  EXPECT_EQ(harvest().size(), 1U);
  submit();
  // A loser of the first item, stopped before it retires: its compare-exchanges find another lap and another head.
  std::uint64_t expected = old_cell;
  EXPECT_FALSE(view_.cells[0].compare_exchange_strong(expected, RingCell::empty(1).bits(), std::memory_order_relaxed));
  std::uint64_t head = 0;
  EXPECT_FALSE(view_.control->ring_head.compare_exchange_strong(head, 1, std::memory_order_relaxed));
  run_one(1);
}

// --- Complete: the word, the done bit, the gate, the wake ----------------------------------------------------------

TEST_F(HalfWritten, DoneWithoutItsBit) {
  const std::uint32_t slot = submit();
  ASSERT_TRUE(claim(0));
  set_word(slot, SlotState::kDone, 0);
  EXPECT_FALSE(host_.anything_done());
  EXPECT_TRUE(reap(0).slots.empty()) << "it is finished, not orphaned";
  EXPECT_TRUE(host_.anything_done());
  EXPECT_EQ(harvest(), Slots{slot});
  EXPECT_TRUE(harvest().empty());
  expect_all_reusable();
}

TEST_F(HalfWritten, DoneWithItsBitButTheGateNotPassed) {
  const std::uint32_t slot = submit();
  ASSERT_TRUE(claim(0));
  host_.arm_gate(GateWord::count(1));
  set_word(slot, SlotState::kDone, 0);
  view_.done_bits[0].fetch_or(1ULL << slot, std::memory_order_relaxed);
  reap(0);
  EXPECT_EQ(harvest(), Slots{slot});
  EXPECT_TRUE(harvest().empty());
  expect_all_reusable();
}

TEST_F(HalfWritten, HarvestedAndThenItsBitIsSetAgain) {
  const std::uint32_t slot = submit();
  run_one(0);
  EXPECT_EQ(harvest(), Slots{slot});
  const auto stale_bit = [&] { view_.done_bits[0].fetch_or(1ULL << slot, std::memory_order_relaxed); };
  stale_bit();
  EXPECT_TRUE(harvest().empty()) << "free";
  EXPECT_EQ(submit(), slot);
  stale_bit();
  EXPECT_TRUE(harvest().empty()) << "queued again";
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  stale_bit();
  EXPECT_TRUE(harvest().empty()) << "running again";
  EXPECT_TRUE(complete(1, *claimed));
  EXPECT_EQ(harvest(), Slots{slot});
}

TEST_F(HalfWritten, DeadOwnersDoneSlotWasHarvestedBeforeTheReaperCame) {
  const std::uint32_t slot = submit();
  run_one(0);
  EXPECT_EQ(harvest(), Slots{slot});
  EXPECT_EQ(submit(), slot);
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  EXPECT_TRUE(reap(0).slots.empty());
  EXPECT_TRUE(harvest().empty());
  EXPECT_TRUE(complete(1, *claimed));
  EXPECT_EQ(harvest(), Slots{slot});
}

TEST_F(HalfWritten, RevokedClaimCannotComplete) {
  const std::uint32_t slot = submit();
  const std::optional<Claim> claimed = claim(0);
  ASSERT_TRUE(claimed);
  EXPECT_TRUE(host_.doom(slot, generation_));
  EXPECT_FALSE(complete(0, *claimed));
  EXPECT_FALSE(host_.anything_done());
  const Reaped reaped = reap(0, false);
  EXPECT_EQ(reaped.slots, Slots{slot});
  EXPECT_EQ(reaped.states, std::vector<SlotState>{SlotState::kDoomed});
  expect_all_reusable();
}

TEST_F(HalfWritten, DoomedWithItsCellStillThere) {
  const std::uint32_t slot = submit();
  const std::uint32_t next = submit();
  set_word(slot, SlotState::kClaimed, 0);
  EXPECT_TRUE(host_.doom(slot, generation_of(slot)));
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->slot, next);
  EXPECT_EQ(reap(0, false).slots, Slots{slot});
}

TEST_F(HalfWritten, DoomComesTooLate) {
  const std::uint32_t slot = submit();
  run_one(0);
  EXPECT_FALSE(host_.doom(slot, generation_)) << "finished: no kill";
  EXPECT_FALSE(host_.doom(slot, generation_ + 1));
  EXPECT_EQ(harvest(), Slots{slot});
}

// --- Cancel: tombstones ----------------------------------------------------------------------------------------

TEST_F(HalfWritten, TombstoneAtTheHead_APeerClearsIt) {
  const std::uint32_t first = submit();
  EXPECT_TRUE(host_.cancel_ready(first, generation_));
  const std::uint32_t second = submit();
  EXPECT_NE(first, second) << "its cell is still in the ring";
  const std::optional<Claim> claimed = claim(1);
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->slot, second);
}

TEST_F(HalfWritten, TombstonesFillTheRing_TheHostClearsThemBeforeItGivesUp) {
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    const std::uint32_t slot = submit();
    EXPECT_TRUE(host_.cancel_ready(slot, generation_));
  }
  EXPECT_TRUE(host_.has_free_slot());
  expect_all_reusable();
}

TEST_F(HalfWritten, TombstoneBehindAClaimedCellOfTheDead) {
  const std::uint32_t first = submit();
  const std::uint32_t second = submit();
  EXPECT_TRUE(host_.cancel_ready(second, generation_));
  set_word(first, SlotState::kClaimed, 0);
  EXPECT_EQ(reap(0).slots, Slots{first});
  run_one(1);
  EXPECT_EQ(harvest(), Slots{first});
  expect_all_reusable();
}

TEST_F(HalfWritten, TombstoneBehindAWaitingItemStaysUntilThatIsTaken) {
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    const std::uint32_t slot = submit();
    if (i > 0) {
      EXPECT_TRUE(host_.cancel_ready(slot, generation_));
    }
  }
  EXPECT_FALSE(host_.has_free_slot());
  run_one(1);
  EXPECT_TRUE(host_.has_free_slot());
}

TEST_F(HalfWritten, CancelOfAnotherGenerationDoesNothing) {
  const std::uint32_t slot = submit();
  EXPECT_FALSE(host_.cancel_ready(slot, generation_ - 1));
  ASSERT_TRUE(claim(0));
  EXPECT_FALSE(host_.cancel_ready(slot, generation_));
  EXPECT_EQ(host_.request_cancel(slot, generation_ + 1), kNoSlot);
  EXPECT_EQ(host_.request_cancel(slot, generation_), 0U);
}

// --- Parking: the bit, the word, the wake --------------------------------------------------------------------------

TEST_F(HalfWritten, TheDeadWasParked_ItsTokenIsNotGivenAgain) {
  park(0);
  reap(0);
  EXPECT_EQ(view_.control->idle[0].load(std::memory_order_relaxed), 0U);
  park(1);
  submit();
  host_.wake_for(kReadyQueue);
  EXPECT_TRUE(was_woken(1));
}

TEST_F(HalfWritten, TheDeadHeldAWakeForAnItem) {
  park(0);
  park(1);
  submit();
  host_.wake_for(kReadyQueue);  // the token goes to daemon 0
  EXPECT_TRUE(was_woken(0) && !was_woken(1));
  reap(0);
  EXPECT_TRUE(was_woken(1));
  EXPECT_EQ(record(1).futex.load(std::memory_order_relaxed), 1U);
}

TEST_F(HalfWritten, TheDeadHadClearedASleepersBitButNotSetItsWord) {
  park(1);
  view_.control->idle[0].fetch_and(~(1ULL << 1), std::memory_order_relaxed);  // daemon 0, waking daemon 1
  reap(0);
  EXPECT_TRUE(was_woken(1));
  EXPECT_EQ(record(1).futex.load(std::memory_order_relaxed), 1U);
}

TEST_F(HalfWritten, TheDeadHadSetASleepersWordButNotWokenIt) {
  record(1).futex.store(1, std::memory_order_relaxed);
  reap(0);
  EXPECT_TRUE(was_woken(1));
}

TEST_F(HalfWritten, TheReaperWakesOnlyWhoLivesHere) {
  record(2).state.store(static_cast<std::uint32_t>(DaemonState::kVacant), std::memory_order_relaxed);
  reap(0);
  EXPECT_TRUE(was_woken(1) && !was_woken(0) && !was_woken(2));
}

TEST_F(HalfWritten, ALateWakeOnlyWakesEarly) {
  // A waker that had claimed this sleeper in its last sleep sets the word now that it is about to sleep again.
  Parking<std::atomic, Wakes> parking(view_);
  parking.announce(1);
  record(1).futex.store(1, std::memory_order_relaxed);
  parking.sleep(1, 0);  // does not block
  EXPECT_EQ(view_.control->idle[0].load(std::memory_order_relaxed), 0U);
}

// --- The gates -------------------------------------------------------------------------------------------------

TEST_F(HalfWritten, RefillGateTakenButNobodySignalled) {
  submit();
  host_.arm_refill();
  bool refill = false;
  ASSERT_TRUE(daemon(0).claim_ready(&refill));
  EXPECT_TRUE(refill);  // it dies before it writes the event
  reap(0, false);
  EXPECT_TRUE(host_.arm_refill()) << "whoever reaps looks again, and it is low";
}

TEST_F(HalfWritten, OneSignalForOneArming) {
  submit();
  submit();
  host_.arm_refill();
  bool first = false, second = false;
  ASSERT_TRUE(daemon(0).claim_ready(&first));
  ASSERT_TRUE(daemon(1).claim_ready(&second));
  EXPECT_TRUE(first != second);
}

TEST_F(HalfWritten, ClearingTombstonesSignalsToo) {
  const std::uint32_t slot = submit();
  host_.arm_refill();
  EXPECT_TRUE(host_.cancel_ready(slot, generation_));
  bool refill = false;
  EXPECT_FALSE(daemon(0).claim_ready(&refill));
  EXPECT_TRUE(refill);
}

TEST_F(HalfWritten, GateOfASlotOpensForThatSlotOnly) {
  const std::uint32_t first = submit();
  const std::uint32_t second = submit();
  host_.arm_gate(GateWord::slot(second));
  run_one(0);
  EXPECT_EQ(view_.host->futex.load(std::memory_order_relaxed), 0U);
  run_one(0);
  EXPECT_EQ(view_.host->futex.load(std::memory_order_relaxed), 1U);
  EXPECT_EQ(harvest(), (Slots{first, second}));
}

TEST_F(HalfWritten, GateOfACountOpensOnce) {
  for (int i = 0; i < 4; ++i) {
    submit();
  }
  host_.arm_gate(GateWord::count(2));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(view_.host->futex.load(std::memory_order_relaxed), i < 2 ? 0U : 1U);
    run_one(0);
  }
}

TEST_F(HalfWritten, GateOfTheEventTellsTheReactor) {
  submit();
  host_.arm_gate(GateWord::event());
  const std::optional<Claim> claimed = claim(0);
  ASSERT_TRUE(claimed);
  bool signal = false;
  EXPECT_TRUE(daemon(0).complete(*claimed, &signal));
  EXPECT_TRUE(signal);
  EXPECT_EQ(view_.host->futex.load(std::memory_order_relaxed), 0U);
}

// --- Mailboxes -------------------------------------------------------------------------------------------------

TEST_F(HalfWritten, TheMailboxOfTheDeadIsGivenOut) {
  const std::uint32_t claimed = submit(0);
  set_word(claimed, SlotState::kClaimed, 0);
  const std::uint32_t cancelled = submit(0);
  EXPECT_TRUE(host_.cancel_ready(cancelled, generation_));
  const std::uint32_t waiting = submit(0);
  const std::uint32_t other = submit(1);
  const Reaped reaped = reap(0);
  EXPECT_EQ(reaped.slots, (Slots{claimed, waiting}));
  EXPECT_EQ(reaped.states, (std::vector<SlotState>{SlotState::kClaimed, SlotState::kReady}));
  run_one(2);
  run_one(2);
  bool refill = false;
  const std::optional<Claim> mailed = daemon(1).claim_mailbox(&refill);
  ASSERT_TRUE(mailed);
  EXPECT_EQ(mailed->slot, other);
  EXPECT_TRUE(complete(1, *mailed));
  EXPECT_EQ(harvest().size(), 3U);
  expect_all_reusable();
}

TEST_F(HalfWritten, TheMailboxCellOfTheDeadIsRecycledButNotItsHead) {
  const std::uint32_t slot = submit(0);
  set_word(slot, SlotState::kClaimed, 0);
  record(0).mailbox[0].store(RingCell::empty(1).bits(), std::memory_order_relaxed);
  EXPECT_EQ(reap(0, false).slots, Slots{slot});
  EXPECT_EQ(record(0).mailbox_head.load(std::memory_order_relaxed), 1U);
  epoch_[0] = host_.admit(0);
  const std::uint32_t again = submit(0);
  bool refill = false;
  const std::optional<Claim> claimed = daemon(0).claim_mailbox(&refill);
  ASSERT_TRUE(claimed) << "the next incarnation uses the same mailbox";
  EXPECT_EQ(claimed->slot, again);
}

TEST_F(HalfWritten, TwoClaimsOfOneDaemon) {
  const std::uint32_t shared = submit();
  const std::uint32_t shared_generation = generation_;
  const std::uint32_t mailed = submit(0);
  bool refill = false;
  const std::optional<Claim> first = daemon(0).claim_ready(&refill);
  const std::optional<Claim> second = daemon(0).claim_mailbox(&refill);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(host_.request_cancel(shared, shared_generation), 0U);
  EXPECT_EQ(host_.request_cancel(mailed, generation_), 0U);
  EXPECT_TRUE(daemon(0).cancelled(*first) && daemon(0).cancelled(*second));
  EXPECT_TRUE(daemon(0).cancel_wanted(Daemon::pack(*first)) && daemon(0).cancel_wanted(Daemon::pack(*second)));
  EXPECT_FALSE(daemon(0).cancel_wanted(0));
  EXPECT_EQ(reap(0).slots, (Slots{shared, mailed}));
  EXPECT_EQ(record(0).cancel.load(std::memory_order_relaxed), 0U);
  EXPECT_EQ(record(0).cancel_mailed.load(std::memory_order_relaxed), 0U);
}

TEST(HalfWrittenMailbox, AFullMailboxTakesNoMoreAndLeavesTheSlotFree) {
  queue_test::QueueMemory memory(512, 1);
  Host host(memory.view());
  host.format();
  host.admit(0);
  std::uint32_t generation = 0;
  for (std::uint32_t i = 0; i < kMailboxCells; ++i) {
    ASSERT_TRUE(host.publish(host.acquire_slot(), 0, &generation));
  }
  const std::uint32_t slot = host.acquire_slot();
  EXPECT_FALSE(host.publish(slot, 0, &generation));
  EXPECT_EQ(host.word(slot).state(), SlotState::kFree);
  EXPECT_TRUE(host.publish(slot, kReadyQueue, &generation)) << "still the caller's";
}

// --- Records ---------------------------------------------------------------------------------------------------

TEST_F(HalfWritten, TheDeadHoldsNothing) {
  daemon(0).hold(70);
  daemon(1).hold(70);
  daemon(1).hold(3);
  record(0).handback.store(4096, std::memory_order_relaxed);
  record(0).current.store(99, std::memory_order_relaxed);
  EXPECT_TRUE(host_.held(70) && host_.held(3) && !host_.held(4));
  reap(0);
  EXPECT_TRUE(host_.held(70)) << "by the other";
  reap(1);
  EXPECT_FALSE(host_.held(70) || host_.held(3));
  EXPECT_EQ(record(0).handback.load(std::memory_order_relaxed), 0U);
  EXPECT_EQ(record(0).current.load(std::memory_order_relaxed), 0U);
}

TEST_F(HalfWritten, ReapingAnOldIncarnationLeavesTheNewOneAlone) {
  const std::uint32_t old_epoch = epoch_[0];
  reap(0);
  epoch_[0] = host_.admit(0);
  EXPECT_NE(epoch_[0], old_epoch);
  const std::uint32_t slot = submit();
  ASSERT_TRUE(claim(0));
  host_.reap(0, old_epoch, [](std::uint32_t, SlotWord) { FAIL() << "it lives"; });
  EXPECT_EQ(state(slot), SlotState::kClaimed);
}

TEST_F(HalfWritten, AnEpochIsNeverZero) {
  record(0).epoch.store(0xFFFF, std::memory_order_relaxed);
  epoch_[0] = host_.admit(0);
  EXPECT_EQ(epoch_[0], 1U);
}

TEST_F(HalfWritten, TheReaperMayBeInterruptedAndRunAgain) {
  const std::uint32_t slot = submit();
  set_word(slot, SlotState::kClaimed, 0);
  EXPECT_EQ(reap(0).slots, Slots{slot});
  EXPECT_TRUE(reap(0).slots.empty()) << "nothing is left the second time";
  run_one(1);
  EXPECT_EQ(harvest(), Slots{slot});
}

}  // namespace
