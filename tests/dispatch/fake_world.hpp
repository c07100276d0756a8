// A queue, an arena and processes that exist only in memory and do at once what they are told: the pool's whole
// environment, with every transition in the test's hands.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "dispatch/pool.hpp"

namespace setsuna::dispatch {

// When all has resolved: a record for each task that was submitted, and one only.
inline void expect_each_told_once(const Trace& trace) {
  const std::uint64_t submitted = trace.activity() - trace.end();
  EXPECT_EQ(trace.end(), submitted);
  std::set<std::uint64_t> told;
  for (std::uint64_t i = trace.first(); i < trace.end(); ++i) {
    told.insert(trace[i].task);
  }
  EXPECT_EQ(trace.first(), 0U);
  EXPECT_EQ(told.size(), submitted);
  EXPECT_TRUE(told.empty() || *told.rbegin() == submitted);
}

class FakeWorld final : public QueuePort, public ArenaPort, public ProcessPort {
 public:
  explicit FakeWorld(std::uint32_t slot_count, std::uint32_t daemon_max) : slots_(slot_count), daemons_(daemon_max) {
    for (std::uint32_t i = slot_count; i-- > 0;) {
      free_.push_back(i);
    }
  }

  struct Daemon {
    std::uint32_t epoch = 0;
    bool alive = false;
    bool killed = false;       // SIGKILL sent, death not yet told
    bool interrupted = false;  // asked to cancel what it runs
    std::uint32_t running = runtime::kNoSlot;
    std::deque<std::uint32_t> mailbox;
  };
  struct Slot {
    SlotWord word;
    SlotContent content;
    std::vector<std::uint8_t> bytes;
    SlotResult result;
    std::uint32_t queue = runtime::kReadyQueue;
    std::uint64_t taken = 0;  // of a range
    std::uint32_t progress = 0;
    std::uint32_t at = 0;
    std::vector<std::uint8_t> entries = std::vector<std::uint8_t>(runtime::kInlineResultBytes);
  };

  // --- what daemons do ---
  bool claim(std::uint32_t d) {
    Daemon& daemon = daemons_[d];
    if (!daemon.alive || daemon.killed || daemon.running != runtime::kNoSlot) {
      return false;
    }
    std::deque<std::uint32_t>* from = !daemon.mailbox.empty() ? &daemon.mailbox : &ready_;
    while (!from->empty()) {
      const std::uint32_t slot = from->front();
      from->pop_front();
      if (slots_[slot].word.state() == runtime::SlotState::kReady) {
        set(slot, runtime::SlotState::kClaimed, d, daemon.epoch);
        daemon.running = slot;
        return true;
      }
    }
    return false;
  }
  // A result of `bytes` bytes; more than a slot holds goes to the data area.
  bool complete(std::uint32_t d, std::uint64_t bytes, std::uint64_t offset) {
    Daemon& daemon = daemons_[d];
    if (!daemon.alive || daemon.killed || daemon.running == runtime::kNoSlot) {
      return false;
    }
    static const std::uint8_t zeros[runtime::kInlineResultBytes] = {};
    Slot& slot = slots_[daemon.running];
    EXPECT_TRUE(slot.word.owned_by(d, daemon.epoch));
    slot.result.status = runtime::ResultStatus::kValue;
    slot.result.bytes = bytes;
    slot.result.inline_bytes = bytes <= runtime::kInlineResultBytes ? zeros : nullptr;
    slot.result.offset = offset;
    slot.result.element_ns = (slot.content.flags & runtime::kTaskIndexed) != 0 ? 1000 : 0;
    if (slot.result.inline_bytes == nullptr) {
      allocate(offset);
    }
    set(daemon.running, runtime::SlotState::kDone, d, daemon.epoch);
    done_.push_back(daemon.running);
    daemon.running = runtime::kNoSlot;
    return true;
  }
  // --- what daemons do with a range ---
  bool in_range(std::uint32_t d) const {
    const std::uint32_t slot = daemons_[d].running;
    return slot != runtime::kNoSlot && slots_[slot].content.kind == TaskKind::kMapRange;
  }
  std::uint32_t range_count(std::uint32_t d) const {
    return static_cast<std::uint32_t>(slots_[daemons_[d].running].bytes.size() / 4);
  }
  std::uint32_t range_element(std::uint32_t d, std::uint32_t position) const {
    std::uint32_t element = 0;
    std::memcpy(&element, slots_[daemons_[d].running].bytes.data() + 4 * position, 4);
    return element;
  }
  // Begins the next element. False: the host had taken it back, and it was skipped.
  bool begin_element(std::uint32_t d) {
    Slot& slot = slots_[daemons_[d].running];
    const std::uint64_t bit = std::uint64_t{1} << slot.progress;
    if ((slot.taken & bit) != 0) {
      slot.entries[slot.at++] = kEntrySkip;
      ++slot.progress;
      return false;
    }
    slot.taken |= bit;
    return true;
  }
  // `offset` not 0: an outcome in the data area.
  void finish_element(std::uint32_t d, std::uint64_t offset) {
    Slot& slot = slots_[daemons_[d].running];
    std::uint8_t* to = slot.entries.data() + slot.at;
    if (offset == 0) {
      to[0] = 4;
      const std::uint32_t element = range_element(d, slot.progress);
      std::memcpy(to + 1, &element, 4);
      slot.at += 5;
    } else {
      allocate(offset);
      const std::uint64_t bytes = 5000;
      to[0] = kEntryArea;
      to[1] = 0;
      std::memcpy(to + 2, &offset, 8);
      std::memcpy(to + 10, &bytes, 8);
      slot.at += kEntryAreaBytes;
    }
    ++slot.progress;
  }
  void finish_range(std::uint32_t d, std::uint32_t element_ns) {
    Daemon& daemon = daemons_[d];
    slots_[daemon.running].result = SlotResult();
    slots_[daemon.running].result.element_ns = element_ns;
    set(daemon.running, runtime::SlotState::kDone, d, daemon.epoch);
    done_.push_back(daemon.running);
    daemon.running = runtime::kNoSlot;
  }
  Daemon& daemon(std::uint32_t d) { return daemons_[d]; }
  Slot& slot(std::uint32_t s) { return slots_[s]; }
  bool all_free() const {
    return std::all_of(slots_.begin(), slots_.end(),
                       [](const Slot& slot) { return slot.word.state() == runtime::SlotState::kFree; });
  }
  std::uint32_t daemon_max() const { return static_cast<std::uint32_t>(daemons_.size()); }

  // --- books of the data area ---
  void allocate(std::uint64_t offset) { EXPECT_TRUE(blocks_.insert(offset).second) << "block used twice: " << offset; }
  std::size_t blocks() const { return blocks_.size(); }
  bool allocated(std::uint64_t offset) const { return blocks_.contains(offset); }
  std::set<std::uint16_t> held_blocks;

  std::vector<std::pair<std::uint32_t, std::uint32_t>> spawned;  // index, epoch
  std::map<std::uint32_t, StreamState> streams;                  // by slot
  bool closed = false;
  std::uint32_t wakes = 0;

  // --- QueuePort ---
  std::uint32_t acquire_slot() override {
    if (free_.empty()) {
      return runtime::kNoSlot;
    }
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void return_unused(std::uint32_t slot) override { free_.push_back(slot); }
  bool publish(std::uint32_t slot, const SlotContent& content, std::uint32_t queue,
               std::uint32_t* generation) override {
    if (queue != runtime::kReadyQueue && daemons_[queue].mailbox.size() >= kMailbox) {
      return false;
    }
    EXPECT_EQ(slots_[slot].word.state(), runtime::SlotState::kFree);
    fill(slot, content);
    make_ready(slot, queue, generation);
    return true;
  }
  void wake_for(std::uint32_t) override { ++wakes; }
  bool cancel_ready(std::uint32_t slot, std::uint32_t generation) override {
    const SlotWord word = slots_[slot].word;
    if (word.state() != runtime::SlotState::kReady || word.generation() != generation) {
      return false;
    }
    remove_queued(slot);
    release_slot(slot);
    return true;
  }
  std::uint32_t request_cancel(std::uint32_t slot, std::uint32_t generation) override {
    return owner_of(slot, generation);
  }
  std::uint32_t owner_of(std::uint32_t slot, std::uint32_t generation) override {
    const SlotWord word = slots_[slot].word;
    EXPECT_FALSE(held_by_host(slot));
    return word.state() == runtime::SlotState::kClaimed && word.generation() == generation ? word.owner()
                                                                                           : runtime::kNoSlot;
  }
  std::uint32_t current_slot(std::uint32_t daemon) override { return daemons_[daemon].running; }
  bool doom(std::uint32_t slot, std::uint32_t generation) override {
    const SlotWord word = slots_[slot].word;
    EXPECT_FALSE(held_by_host(slot));
    if (owner_of(slot, generation) == runtime::kNoSlot) {
      return false;
    }
    slots_[slot].word = word.with_state(runtime::SlotState::kDoomed);
    return true;
  }
  std::uint32_t harvest(HarvestSink& sink) override {
    std::vector<std::uint32_t> done;
    done.swap(done_);
    for (std::uint32_t slot : done) {
      sink.on_done(slot, slots_[slot].result);
      release_slot(slot);
    }
    return static_cast<std::uint32_t>(done.size());
  }
  bool anything_done() override { return !done_.empty(); }
  bool arm_refill() override { return ready_.size() <= (low_water_ == 0 ? slots_.size() / 4 : low_water_); }
  void arm_gate(GateWord) override {}
  void disarm_gate() override {}
  std::uint32_t admit(std::uint32_t index) override {
    EXPECT_FALSE(daemons_[index].alive);
    const std::uint32_t epoch = daemons_[index].epoch + 1;
    daemons_[index] = Daemon();
    daemons_[index].epoch = epoch;
    return epoch;
  }
  void reap(std::uint32_t index, std::uint32_t epoch, ReapSink& sink) override {
    Daemon& daemon = daemons_[index];
    EXPECT_EQ(daemon.epoch, epoch);
    daemon.alive = false;
    std::vector<std::uint32_t> orphans;
    if (daemon.running != runtime::kNoSlot) {
      orphans.push_back(daemon.running);
      daemon.running = runtime::kNoSlot;
    }
    orphans.insert(orphans.end(), daemon.mailbox.begin(), daemon.mailbox.end());
    daemon.mailbox.clear();
    for (std::uint32_t slot : orphans) {
      if (!sink.on_orphan(slot, slots_[slot].word.state())) {
        release_slot(slot);
      }
    }
  }
  bool requeue(std::uint32_t slot, std::uint32_t queue, std::uint32_t* generation) override {
    if (queue != runtime::kReadyQueue && daemons_[queue].mailbox.size() >= kMailbox) {
      return false;
    }
    make_ready(slot, queue, generation);
    return true;
  }
  void stop_daemon(std::uint32_t) override {}
  void close() override { closed = true; }
  bool anything_ready() override { return !ready_.empty(); }
  bool claim_for_host(std::uint32_t* slot, std::uint32_t* generation) override {
    if (ready_.empty()) {
      return false;
    }
    *slot = ready_.front();
    ready_.pop_front();
    EXPECT_EQ(slots_[*slot].word.state(), runtime::SlotState::kReady);
    *generation = slots_[*slot].word.generation();
    set(*slot, runtime::SlotState::kClaimed, runtime::kHostOwner, 1);
    return true;
  }
  void place_claimed(std::uint32_t slot, const SlotContent& content, std::uint32_t* generation) override {
    EXPECT_EQ(slots_[slot].word.state(), runtime::SlotState::kFree);
    fill(slot, content);
    *generation = slots_[slot].word.generation() + 1;
    slots_[slot].word = SlotWord::make(runtime::SlotState::kClaimed, runtime::kHostOwner, 1, *generation);
  }
  SlotContent content_of(std::uint32_t slot) override {
    SlotContent content = slots_[slot].content;
    content.inline_arg = slots_[slot].bytes.data();
    content.stream = content.stream == nullptr ? nullptr : streams[slot].data();
    return content;
  }
  void release_claimed(std::uint32_t slot) override {
    EXPECT_TRUE(held_by_host(slot));
    release_slot(slot);
  }

  std::uint64_t ready_depth() override { return ready_.size(); }
  void set_low_water(std::uint32_t depth) override { low_water_ = depth; }
  std::uint64_t take_elements(std::uint32_t slot, std::uint64_t bits) override {
    const std::uint64_t before = slots_[slot].taken;
    slots_[slot].taken |= bits;
    return before;
  }
  RangeEntries entries(std::uint32_t slot) override { return {slots_[slot].entries.data(), slots_[slot].progress}; }
  bool plausible(std::uint32_t, std::uint64_t offset, std::uint64_t) override { return blocks_.contains(offset); }
  std::uint32_t cancel_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t) override {
    return owner_of(slot, generation);
  }
  // A trace asks for slots only whose task is the one that it is told of.
  RunStamps run_of(std::uint32_t slot, std::uint32_t generation, bool done) override {
    const SlotWord word = slots_[slot].word;
    EXPECT_EQ(word.generation(), generation);
    EXPECT_TRUE(!done || word.state() == runtime::SlotState::kDone);
    RunStamps run;
    run.daemon = static_cast<std::uint16_t>(word.owner());
    return run;
  }
  RunStamps run_of_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t position, bool done) override {
    EXPECT_TRUE(!done || position < slots_[slot].progress);
    return run_of(slot, generation, false);
  }

  // --- ArenaPort ---
  void release(std::uint64_t offset) override { EXPECT_EQ(blocks_.erase(offset), 1U) << "released twice: " << offset; }
  bool held(std::uint16_t block) override { return held_blocks.contains(block); }
  void reap(std::uint32_t, std::uint32_t, const std::uint64_t* live, std::size_t count) override {
    EXPECT_TRUE(std::is_sorted(live, live + count));
  }

  // --- ProcessPort ---
  void interrupt(std::uint32_t index) override { daemons_[index].interrupted = true; }
  void kill(std::uint32_t index) override { daemons_[index].killed = true; }
  void spawn(std::uint32_t index, std::uint32_t epoch) override { spawned.emplace_back(index, epoch); }

 private:
  static constexpr std::size_t kMailbox = 4;

  void fill(std::uint32_t slot, const SlotContent& content) {
    slots_[slot].content = content;
    slots_[slot].taken = 0;
    slots_[slot].progress = 0;
    slots_[slot].at = 0;
    if (content.inline_arg != nullptr) {
      slots_[slot].bytes.assign(content.inline_arg, content.inline_arg + content.arg_bytes);
    }
    if (content.stream != nullptr) {
      std::copy(content.stream, content.stream + 6, streams[slot].begin());
    }
  }
  bool held_by_host(std::uint32_t slot) const {
    const SlotWord word = slots_[slot].word;
    return word.state() == runtime::SlotState::kClaimed && word.owner() == runtime::kHostOwner;
  }
  void set(std::uint32_t slot, runtime::SlotState state, std::uint32_t owner, std::uint32_t epoch) {
    slots_[slot].word = SlotWord::make(state, owner, epoch, slots_[slot].word.generation());
  }
  void make_ready(std::uint32_t slot, std::uint32_t queue, std::uint32_t* generation) {
    *generation = slots_[slot].word.generation() + 1;
    slots_[slot].word = SlotWord::make(runtime::SlotState::kReady, 0, 0, *generation);
    slots_[slot].queue = queue;
    (queue == runtime::kReadyQueue ? ready_ : daemons_[queue].mailbox).push_back(slot);
  }
  void remove_queued(std::uint32_t slot) {
    auto& from = slots_[slot].queue == runtime::kReadyQueue ? ready_ : daemons_[slots_[slot].queue].mailbox;
    std::erase(from, slot);
  }
  void release_slot(std::uint32_t slot) {
    set(slot, runtime::SlotState::kFree, 0, 0);
    free_.push_back(slot);
  }

  std::vector<Slot> slots_;
  std::vector<Daemon> daemons_;
  std::vector<std::uint32_t> free_;
  std::deque<std::uint32_t> ready_;
  std::vector<std::uint32_t> done_;
  std::set<std::uint64_t> blocks_;
  std::uint32_t low_water_ = 0;
};

}  // namespace setsuna::dispatch
