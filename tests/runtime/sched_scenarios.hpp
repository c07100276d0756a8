// What is explored: small programs of the whole queue, each built so that one part of it matters. Used by the exploration
// tests, by the tests that switch rules off, and by the tool that weakens memory orders.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/runtime/sched_queue.hpp"

namespace queue_test {

// --- Ring: one producer, consumers that try a few times and never sleep ----------------------------------------

class RingProgram : public QueueProgram {
 public:
  RingProgram(const QueueShape& shape, int tries) : QueueProgram(shape), tries_(tries) {}

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      at_point(static_cast<std::uint64_t>(task));
      lock();
      if (!try_place(task, kReadyQueue)) {
        harvest();
        try_place(task, kReadyQueue);  // still full: never submitted then
      }
      unlock();
    }
  }
  void daemon_main(std::uint32_t index, std::uint32_t epoch) override {
    auto* port = new (memory_->ports[index]) Port(view_, index, epoch);
    for (int i = 0; i < tries_; ++i) {
      at_point(sched::mix(0xD0, static_cast<std::uint64_t>(i) << 4 | index));
      bool refill = false;
      const std::optional<Claim> claim = port->claim_ready(&refill);
      if (claim) {
        run_task(*port, *claim);
      }
    }
  }
  void evaluate(std::uint32_t, const Claim&, int) override {}
  void at_end() override {
    Port port(view_, 0, 99);  // whatever nobody has taken
    bool refill = false, signal = false;
    while (const std::optional<Claim> claim = port.claim_ready(&refill)) {
      const int task = slot_task_[claim->slot];
      results_[claim->slot].write(1000 + static_cast<std::uint64_t>(task));
      require(port.complete(*claim, &signal), "a claim of the last one");
    }
    harvest();
    for (int i = 0; i < shape_.tasks; ++i) {
      require(tasks_[i].slot == kNoSlot || tasks_[i].outcome != Outcome::kUnresolved,
              "task " + std::to_string(i) + " was lost");
    }
    for (std::uint32_t i = 0; i < shape_.slots; ++i) {
      require(host_->acquire_slot() != kNoSlot, "a slot never became reusable");
    }
  }

 private:
  int tries_;
};

// A ring with fewer cells than there are slots, as a mailbox is: nothing but its head tells the producer that a cell is free.
class SmallRingProgram : public sched::Program {
 public:
  using Ring = setsuna::runtime::ReadyRing<sched::Atom>;
  static constexpr std::uint32_t kCells = 2, kItems = 4;

  void begin() override {
    for (std::uint32_t i = 0; i < kItems; ++i) {
      slots_[i].word.store(0, std::memory_order_relaxed);
      arguments_[i].reset();
      taken_[i] = 0;
    }
    ring().format();
    pushed_ = 0;
    sched::Engine::get().spawn("producer", [this] { produce(); });
    sched::Engine::get().spawn("consumer", [this] { consume(3); });
  }
  void at_end() override {
    consume(static_cast<int>(kItems));
    for (std::uint32_t i = 0; i < kItems; ++i) {
      if (taken_[i] != (i < pushed_ ? 1 : 0)) {
        sched::Engine::get().fail("an item was lost or taken twice");
      }
    }
  }

 private:
  Ring ring() { return {cells_, kCells, &head_, &tail_, slots_.data()}; }
  void produce() {
    for (std::uint32_t i = 0; i < kItems; ++i) {
      arguments_[i].write(100 + i);
      slots_[i].word.store(SlotWord::make(SlotState::kReady, 0, 0, 1).bits(), std::memory_order_release);
      std::uint64_t ticket = 0;
      Ring to = ring();
      if (!to.push(i, 1, &ticket)) {
        return;
      }
      ++pushed_;
    }
  }
  void consume(int tries) {
    Ring from = ring();
    for (int i = 0; i < tries; ++i) {
      if (const std::optional<Claim> claim = from.claim(0, 1)) {
        ++taken_[claim->slot];
        if (arguments_[claim->slot].read() != 100 + claim->slot) {
          sched::Engine::get().fail("arguments of another item");
        }
      }
    }
  }

  sched::Atom<std::uint64_t> cells_[kCells], head_, tail_;
  std::array<setsuna::runtime::TaskSlot<sched::Atom>, kItems> slots_;
  std::array<sched::Plain, kItems> arguments_;
  std::array<int, kItems> taken_{};
  std::uint32_t pushed_ = 0;
};

// --- The plain path: submit, evaluate, harvest; any of the daemons may be killed -------------------------------

using FlowProgram = QueueProgram;

// All daemons sleep, tasks last for ever. The host submits each task in one go: the first, then the others once daemon 0
// is awake and before it looks for work, but the last when somebody is about to sleep again, or nobody will.
class SleepersProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    const std::function<bool()> all_asleep = [this] { return count_asleep() == shape_.daemons; };
    const std::function<bool()> first_is_awake = [this] { return first_awake_; };
    engine().block_until(all_asleep, "all daemons sleep");
    for (int task = 0; task + 1 < shape_.tasks; ++task) {
      submitted_ = task + 1;
      engine().uninterrupted(true);
      submit(task);
      engine().uninterrupted(false);
      engine().block_until(first_is_awake, "daemon 0 is awake");
    }
    submitted_ = shape_.tasks;
    const auto woken = static_cast<std::uint32_t>(shape_.tasks - 1);
    const std::function<bool()> somebody_goes_back = [this, woken] {
      std::uint32_t busy = 0;
      for (const DaemonLife& life : lives_) {
        busy += life.evaluating;
      }
      const auto idle = static_cast<std::uint32_t>(std::popcount(view_.control->idle[0].peek()));
      return idle > shape_.daemons - woken || busy == woken;
    };
    engine().block_until(somebody_goes_back, "one more task");
    submit(shape_.tasks - 1);
  }
  void begin() override {
    submitted_ = 0;
    first_awake_ = false;
    QueueProgram::begin();
  }
  void before_claim(std::uint32_t daemon) override {
    if (daemon == 0 && submitted_ > 0) {
      first_awake_ = true;
      const std::function<bool()> others_are_out = [this] { return submitted_ == shape_.tasks; };
      engine().block_until(others_are_out, "is awake");
    }
  }
  std::uint32_t count_asleep() {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
      count += engine().asleep(lives_[i].thread);
    }
    return count;
  }
  void evaluate(std::uint32_t daemon, const Claim& /*claim*/, int /*task*/) override {
    lives_[daemon].evaluating = true;
    static const std::function<bool()> kNever = [] { return false; };
    engine().block_until(kNever, "evaluates for ever");
  }
  void at_end() override {
    for (int i = 0; i < shape_.tasks; ++i) {
      const SlotWord word(view_.slots[tasks_[i].slot].word.peek());
      require(word.state() == SlotState::kClaimed, "a task waits beside a daemon");
    }
  }

 private:
  int submitted_ = 0;
  bool first_awake_ = false;
};

// Daemon 1 takes what daemon 0 was woken for, and is slow: its cell is still there when daemon 0 comes too late for it.
class SlowSleeperProgram : public SleepersProgram {
 public:
  using SleepersProgram::SleepersProgram;

 protected:
  void daemon_main(std::uint32_t index, std::uint32_t epoch) override {
    if (index == 1) {
      Port(view_, index, epoch).park(0);
      std::uint64_t ready = SlotWord::make(SlotState::kReady, 0, 0, 1).bits();
      if (view_.slots[0].word.compare_exchange_strong(ready,
                                                      SlotWord::make(SlotState::kClaimed, index, epoch, 1).bits(),
                                                      std::memory_order_acq_rel, std::memory_order_acquire)) {
        evaluate(index, {}, 0);
      }
    }
    SleepersProgram::daemon_main(index, epoch);
  }
};

// --- What the host waits for ---------------------------------------------------------------------------------

// First one task by its slot, then all by their count.
class SlotGateProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit(task);
    }
    const int last = shape_.tasks - 1;
    for (;;) {
      at_point(0x510);
      lock();
      harvest();
      const bool done = tasks_[last].outcome != Outcome::kUnresolved;
      unlock();
      if (done) {
        break;
      }
      host_sleep([this, last] { return GateWord::slot(tasks_[last].slot); },
                 [this, last] { return tasks_[last].outcome != Outcome::kUnresolved; });
      look_out(last);
    }
    wait_for_all();
  }
  virtual void look_out(int /*task*/) {}
};

// The daemon that takes the task which the host waits for wakes it before it evaluates.
class ForetoldProgram : public SlotGateProgram {
 public:
  using SlotGateProgram::SlotGateProgram;

 protected:
  void evaluate(std::uint32_t daemon, const Claim& claim, int task) override {
    port(daemon).foretell(claim);
    SlotGateProgram::evaluate(daemon, claim, task);
  }
  void look_out(int task) override {
    const std::uint32_t slot = tasks_[task].slot;
    if (slot != kNoSlot && host_->foretold(slot, host_->word(slot).generation())) {
      engine().pause("looks");
    }
  }
};

// The R thread goes on; the reactor is told of completions and harvests.
class EventGateProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit(task);
    }
    lock();
    on_reactor();
    unlock();
  }
  void on_reactor() override {
    do {
      harvest();
      if (all_resolved()) {
        return;
      }
      host_->arm_gate(GateWord::event());
    } while (host_->anything_done() && SETSUNA_RULE(host_rechecks));
  }
};

// --- Cancel ----------------------------------------------------------------------------------------------------

// The first `cancelled` tasks are cancelled right after their submission: their cells are in the way for a while.
class CancelQueuedProgram : public QueueProgram {
 public:
  CancelQueuedProgram(const QueueShape& shape, int cancelled) : QueueProgram(shape), cancelled_(cancelled) {}

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit(task);
      if (task < cancelled_) {
        cancel_queued(task);
      }
    }
    wait_for_all();
  }
  int cancelled_;
};

// Tasks that end only when they are interrupted: the first `endless_` ones.
class CancelRunningProgram : public QueueProgram {
 public:
  CancelRunningProgram(const QueueShape& shape, int endless) : QueueProgram(shape), endless_(endless) {
    shape_.publishes_current = true;
  }

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit(task, queue_of(task));
    }
    for (int task = 0; task < endless_; ++task) {
      while (tasks_[task].outcome == Outcome::kUnresolved) {
        at_point(0xCA << 8 | static_cast<std::uint64_t>(task));
        if (!cancel_queued(task)) {
          cancel_running(task);
        }
      }
    }
    wait_for_all();
  }
  virtual std::uint32_t queue_of(int /*task*/) { return kReadyQueue; }
  void evaluate(std::uint32_t daemon, const Claim& claim, int task) override {
    if (task >= endless_) {
      QueueProgram::evaluate(daemon, claim, task);
      return;
    }
    lives_[daemon].evaluating = true;
    const std::function<bool()> interrupted = [this, daemon] { return lives_[daemon].interrupted; };
    engine().block_until(interrupted, "evaluates until interrupted");
    lives_[daemon].evaluating = false;
  }
  int endless_;
};

// The signal's handler runs in another thread of the daemon: the kernel takes any that does not block it.
class CancelElsewhereProgram : public CancelRunningProgram {
 public:
  CancelElsewhereProgram(const QueueShape& shape, std::uint32_t queue)
      : CancelRunningProgram(shape, 1), queue_(queue) {}

 protected:
  std::uint32_t queue_of(int) override { return queue_; }
  void send_cancel_signal(std::uint32_t daemon) override {
    engine().spawn("handler", [this, daemon] { on_cancel_signal(daemon); });
  }
  std::uint32_t queue_;
};

// One daemon holds two claims, one of its mailbox and one of the shared queue; both are cancelled, in either order.
class CancelBothProgram : public CancelRunningProgram {
 public:
  CancelBothProgram(const QueueShape& shape, bool mailbox_first)
      : CancelRunningProgram(shape, 2), mailbox_first_(mailbox_first) {}

 protected:
  std::uint32_t queue_of(int task) override { return (task == 0) == mailbox_first_ ? 0 : kReadyQueue; }
  bool mailbox_first_;
};

class DoomProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit(task);
    }
    if (!cancel_queued(0)) {
      doom(0);  // nothing happens if it is done already
    }
    wait_for_all();
  }
};

// --- Mailboxes -------------------------------------------------------------------------------------------------

// everywhere(): a task to each daemon's mailbox, then tasks for all. Who claims one of those has run its own first.
class MailboxProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
      submit_to(static_cast<int>(i), i);
    }
    for (int task = static_cast<int>(shape_.daemons); task < shape_.tasks; ++task) {
      submit(task);
    }
    wait_for_all();
  }
  void begin() override {
    ran_.fill(false);
    QueueProgram::begin();
  }
  void evaluate(std::uint32_t daemon, const Claim& claim, int task) override {
    if (task == static_cast<int>(daemon)) {
      ran_[daemon] = true;
    }
    require(task < static_cast<int>(shape_.daemons) || ran_[daemon] || tasks_[daemon].outcome == Outcome::kDied,
            "a task was evaluated before what everywhere() had sent");
    QueueProgram::evaluate(daemon, claim, task);
  }
  std::array<bool, kDaemonsMax + 1> ran_{};
};

// A task for all, then one for daemon 0 alone, which may have been woken for the first.
class MailboxLateProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    submit(0);
    submit_to(1, 0);
    for (int task = 2; task < shape_.tasks; ++task) {
      submit(task);
    }
    wait_for_all();
  }
};

// Tasks are announced. Meanwhile the daemon that is woken early may die, or have to leave, or find something else to do.
class AnnouncedProgram : public QueueProgram {
 public:
  enum class Meanwhile : std::uint8_t { kNothing, kMail, kStop, kBusy };
  AnnouncedProgram(const QueueShape& shape, Meanwhile meanwhile) : QueueProgram(shape), meanwhile_(meanwhile) {}

 protected:
  void host_main() override {
    const std::function<bool()> nobody_is_up = [this] {
      for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
        if (!lives_[i].gone && !engine().asleep(lives_[i].thread)) {
          return false;
        }
      }
      return true;
    };
    const std::function<bool()> first_is_busy = [this] {
      return lives_[0].evaluating || lives_[0].gone || completions_[0] > 0;
    };
    engine().block_until(nobody_is_up, "all daemons sleep");
    int task = 0;
    if (meanwhile_ == Meanwhile::kMail) {
      host_->announce();
      submit_to(task++, 0);
    }
    for (; task < shape_.tasks; ++task) {
      at_point(0xA23 << 8 | static_cast<std::uint64_t>(task));
      const bool beside_another = task > 0 && (meanwhile_ == Meanwhile::kStop || meanwhile_ == Meanwhile::kBusy);
      if (beside_another) {
        engine().block_until(first_is_busy, "daemon 0 has something to do");
      }
      host_->announce();
      if (beside_another && meanwhile_ == Meanwhile::kStop) {
        view_.daemon(1).stop.store(1, std::memory_order_release);
        host_->wake_daemon(1);
      }
      submit(task);
    }
    wait_for_all();
  }
  void wake_for(std::uint32_t queue) override {
    require(queue == kReadyQueue, "mail is not announced");
    host_->wake_for_announced();
  }
  bool awaits_announced(Port& port) override {
    if (!port.heard_announcement()) {
      return false;
    }
    if (port.announced() && !port.has_work()) {
      engine().pause("looks");
    }
    port.give_up();
    return true;
  }

 private:
  Meanwhile meanwhile_;
};

// Only mailboxes (dispatcher = FALSE): nobody shares work.
class OwnQueuesProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit_to(task, static_cast<std::uint32_t>(task) % shape_.daemons);
    }
    wait_for_all();
  }
};

// --- Blocks that a result's reader still looks into ------------------------------------------------------------

class HoldProgram : public QueueProgram {
 public:
  explicit HoldProgram(const QueueShape& shape) : QueueProgram(shape) { block_.name("the shared block"); }

 protected:
  void begin() override {
    block_.reset(7);
    freed_ = false;
    QueueProgram::begin();
  }
  void host_main() override {
    block_.write(7);
    submit(0);
    wait_for_all();
    lock();
    free_if_unused();
    unlock();
  }
  void on_reactor() override { free_if_unused(); }
  void free_if_unused() {
    if (all_resolved() && !freed_ && !(host_->held(0) && SETSUNA_RULE(held_blocks_stay))) {
      freed_ = true;
      block_.write(99);  // the next user
    }
  }
  std::uint64_t scenario_state() override { return freed_; }
  void daemon_main(std::uint32_t index, std::uint32_t epoch) override {
    auto* port = new (memory_->ports[index]) Port(view_, index, epoch);
    port->record().state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_release);
    for (;;) {
      at_point(sched::mix(epoch, index));
      const std::optional<Claim> claim = next_claim(*port);
      if (!claim) {
        port->park(0);
        continue;
      }
      port->hold(0);
      if (!run_task(*port, *claim)) {
        return;
      }
      engine().pause("uses its view");
      require(block_.read() == 7, "a view's block was reused");
      port->unhold(0);
      signal_reactor();
    }
  }
  void check_end() override {
    free_if_unused();  // the last look may have seen an old value
    require(freed_, "a block that nobody looks into was never free");
  }
  sched::Plain block_;
  bool freed_ = false;
};

// --- Elements of a map that share a slot ----------------------------------------------------------------------

// While the daemon evaluates them, the host reads what is complete and takes back what has not begun.
class RangeProgram : public QueueProgram {
 public:
  explicit RangeProgram(const QueueShape& shape) : QueueProgram(shape) {
    for (sched::Plain& entry : entries_) {
      entry.name("an element's outcome");
    }
  }

 protected:
  static constexpr std::uint32_t kElements = 2;

  void begin() override {
    for (sched::Plain& entry : entries_) {
      entry.reset(0);
    }
    evaluated_ = taken_back_ = 0;
    QueueProgram::begin();
  }
  void host_main() override {
    submit(0);
    lock();
    const std::uint32_t slot = tasks_[0].slot;
    const std::uint32_t complete = host_->progress(slot);
    for (std::uint32_t i = 0; i < complete; ++i) {
      require(entries_[i].read() != 0, "an outcome was counted before it was written");
    }
    const std::uint64_t all = (std::uint64_t{1} << kElements) - 1;
    taken_back_ = ~host_->take_elements(slot, all) & all;
    require((taken_back_ & evaluated_) == 0, "an element that had begun was taken back");
    unlock();
    wait_for_all();
  }
  void evaluate(std::uint32_t daemon, const Claim& claim, int task) override {
    std::uint32_t count = 0;
    for (std::uint32_t position = 0; position < kElements; ++position) {
      if (port(daemon).take_element(claim, position)) {
        evaluated_ |= std::uint64_t{1} << position;
        require((taken_back_ & evaluated_) == 0, "an element that was taken back was evaluated");
        entries_[count].write(position + 1);
        port(daemon).publish_progress(claim, ++count);
      }
    }
    QueueProgram::evaluate(daemon, claim, task);
  }
  void check_end() override {
    require((evaluated_ | taken_back_) == (std::uint64_t{1} << kElements) - 1, "an element was lost");
  }

  std::array<sched::Plain, kElements> entries_;
  std::uint64_t evaluated_ = 0;
  std::uint64_t taken_back_ = 0;
};

// --- The spill -------------------------------------------------------------------------------------------------

// More tasks than slots, and the R thread computes: the reactor refills. `cancelled_` queued tasks become tombstones.
class RefillProgram : public QueueProgram {
 public:
  RefillProgram(const QueueShape& shape, int cancelled) : QueueProgram(shape), cancelled_(cancelled) {}

 protected:
  void begin() override {
    next_ = 0;
    QueueProgram::begin();
  }
  void host_main() override {
    lock();
    refill();
    unlock();
    wake_placed();
    for (int task = 1; task <= cancelled_; ++task) {
      cancel_queued(task);
    }
  }
  void wake_placed() {
    for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
      host_->wake_for(kReadyQueue);
    }
  }
  void refill() {
    std::uint32_t harvested = 0;
    do {
      while (next_ < shape_.tasks && try_place(next_, kReadyQueue)) {
        ++next_;
      }
      const int before = resolved();
      if (next_ == shape_.tasks || !host_->arm_refill()) {
        return;
      }
      harvest();
      harvested = static_cast<std::uint32_t>(resolved() - before);
    } while (harvested > 0);
  }
  int resolved() const {
    int count = 0;
    for (int i = 0; i < shape_.tasks; ++i) {
      count += tasks_[i].outcome != Outcome::kUnresolved;
    }
    return count;
  }
  void on_reactor() override {
    harvest();
    refill();
    for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
      host_->wake_for(kReadyQueue);
    }
  }
  void at_end() override {
    harvest();
    QueueProgram::at_end();
  }
  std::uint64_t scenario_state() override { return static_cast<std::uint64_t>(next_) << 40; }
  int cancelled_;
  int next_ = 0;
};

// --- Tasks that the host takes itself --------------------------------------------------------------------------

// Beside the daemons, for a remote one that runs one task at a time. The first that it is given comes back: it has not begun.
// With `bound`, the last task is for it alone and goes through no queue.
class HostClaimsProgram : public QueueProgram {
 public:
  HostClaimsProgram(const QueueShape& shape, bool bound) : QueueProgram(shape), bound_(bound) {}

 protected:
  void begin() override {
    in_hand_ = kNoSlot;
    came_back_ = false;
    placed_ = !bound_;
    QueueProgram::begin();
  }
  void host_main() override {
    for (int task = 0; task < shape_.tasks - (bound_ ? 1 : 0); ++task) {
      submit(task);
      signal_reactor();
    }
    wait_for_all();
  }
  bool reactor_has_more() override { return in_hand_ != kNoSlot; }  // its answer
  void on_reactor() override {
    if (in_hand_ != kNoSlot) {
      take_answer(std::exchange(in_hand_, kNoSlot));
    }
    if (!placed_) {
      placed_ = true;
      place_bound(shape_.tasks - 1);
    } else if (const std::optional<Claim> claim = host_->claim_for_host()) {
      const int task = slot_task_[claim->slot];
      require(task >= 0 && tasks_[task].generation == claim->generation, "the host claimed another task");
      require(arguments_[claim->slot].read() == 100 + static_cast<std::uint64_t>(task), "arguments of another task");
      in_hand_ = claim->slot;
    }
  }
  void place_bound(int task) {
    in_hand_ = host_->acquire_slot();
    require(in_hand_ != kNoSlot && slot_task_[in_hand_] == -1, "no slot");
    arguments_[in_hand_].write(100 + static_cast<std::uint64_t>(task));
    slot_task_[in_hand_] = task;
    tasks_[task].slot = in_hand_;
    tasks_[task].generation = host_->place_claimed(in_hand_);
  }
  void take_answer(std::uint32_t slot) {
    const int task = slot_task_[slot];
    const SlotWord word = host_->word(slot);
    require(word.state() == SlotState::kClaimed && word.generation() == tasks_[task].generation, "not the host's now");
    if (!came_back_) {
      came_back_ = true;
      host_pushes_ = true;
      require(host_->requeue(slot, kReadyQueue, &tasks_[task].generation), "not queued again");
      host_pushes_ = false;
      host_->wake_for(kReadyQueue);
      return;
    }
    slot_task_[slot] = -1;
    resolve(task, Outcome::kValue);
    host_->release_claimed(slot);
    wake_host();
  }
  void at_end() override {
    require(all_resolved(), "a task that the host could have taken was left");
    QueueProgram::at_end();
  }
  std::uint64_t scenario_state() override {
    return std::uint64_t{in_hand_ & 0xFF} << 40 | std::uint64_t{came_back_} << 48 | std::uint64_t{placed_} << 49;
  }
  bool bound_;
  std::uint32_t in_hand_ = kNoSlot;
  bool came_back_ = false;
  bool placed_ = false;
};

// --- Leaving ---------------------------------------------------------------------------------------------------

// Daemon 0 is asked to stop while there is work; daemon 1 must get it.
class StopProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    submit(0);
    view_.daemon(0).stop.store(1, std::memory_order_release);
    host_->wake_daemon(0);
    for (int task = 1; task < shape_.tasks; ++task) {
      submit(task);
    }
    wait_for_all();
  }
};

// Daemon 0 leaves when it has been idle: its wait ends by itself, perhaps just when somebody wakes it.
class IdleLeaveProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void daemon_main(std::uint32_t index, std::uint32_t epoch) override {
    if (index != 0) {
      QueueProgram::daemon_main(index, epoch);
      return;
    }
    auto* port = new (memory_->ports[index]) Port(view_, index, epoch);
    port->record().state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_release);
    bool refill = false;
    std::optional<Claim> claim = port->claim_ready(&refill);
    if (!claim) {
      port->park(1);
      if (!port->has_work()) {
        port->leave();
        return;
      }
      claim = port->claim_ready(&refill);
    }
    if (claim) {
      run_task(*port, *claim);
    }
    port->leave();  // maxtasks = 1
  }
};

// The pool closes: every daemon leaves, asleep or not.
class CloseProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    submit(0);
    wait_for_all();
    view_.control->flags.fetch_or(setsuna::runtime::kControlClosing, std::memory_order_acq_rel);
    host_->wake_all();
  }
  void after_step() override {
    if (view_.control->flags.peek() == 0) {
      QueueProgram::after_step();
    }
  }
  void at_end() override {
    for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
      require(!engine().alive(lives_[i].thread), "a daemon sleeps through the end");
    }
  }
};

// --- Generations -----------------------------------------------------------------------------------------------

// Between two rounds every slot is used 65,536 times: generations whose low 16 bits are equal.
class WrapProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  void host_main() override {
    const int half = shape_.tasks / 2;
    for (int task = 0; task < half; ++task) {
      submit(task);
    }
    for (int task = 0; task < half; ++task) {
      wait_for(task);
    }
    lock();
    for (std::uint32_t i = 0; i < shape_.slots; ++i) {
      const SlotWord word = host_->word(i);
      require(word.state() == SlotState::kFree, "not free");
      view_.slots[i].word.store(SlotWord::make(SlotState::kFree, 0, 0, word.generation() + 0xFFFF).bits(),
                                std::memory_order_release);
    }
    unlock();
    for (int task = half; task < shape_.tasks; ++task) {
      submit(task);
    }
    wait_for_all();
  }
  void wait_for(int task) {
    for (;;) {
      at_point(0x3A17 + static_cast<std::uint64_t>(task));
      lock();
      harvest();
      const bool done = tasks_[task].outcome != Outcome::kUnresolved;
      unlock();
      if (done) {
        return;
      }
      host_sleep([] { return GateWord::count(1); },
                 [this, task] { return tasks_[task].outcome != Outcome::kUnresolved; });
    }
  }
};

// The same with consumers that never sleep, small enough for weak memory.
class WrapRingProgram : public RingProgram {
 public:
  using RingProgram::RingProgram;

 protected:
  void host_main() override {
    place(0);
    place(1);
    for (int i = 0; i < 2; ++i) {
      lock();
      harvest();
      unlock();
    }
    if (tasks_[0].outcome == Outcome::kUnresolved || tasks_[1].outcome == Outcome::kUnresolved) {
      return;
    }
    use_many_times(0);
    use_many_times(1);
    place(2);
    place(3);
  }
  void place(int task) {
    at_point(static_cast<std::uint64_t>(task));
    lock();
    try_place(task, kReadyQueue);
    unlock();
  }
  void use_many_times(std::uint32_t slot) {
    lock();
    const SlotWord word = host_->word(slot);
    view_.slots[slot].word.store(SlotWord::make(SlotState::kFree, 0, 0, word.generation() + 0xFFFF).bits(),
                                 std::memory_order_relaxed);
    unlock();
  }
};

// And with the cell of a cancelled task in the way: only the head tells the host that it is gone. Two tasks are queued when
// it starts; daemon 0 only claims once, daemon 1 only clears cells away.
class WrapTombstoneProgram : public WrapRingProgram {
 public:
  using WrapRingProgram::WrapRingProgram;

 protected:
  void start_threads() override {
    try_place(0, kReadyQueue);
    try_place(1, kReadyQueue);
    host_thread_ = engine().spawn("host", [this] { host_main(); });
    spawn_daemon(0);
    spawn_daemon(1);
  }
  void daemon_main(std::uint32_t index, std::uint32_t epoch) override {
    if (index == 0) {
      bool refill = false;
      Port(view_, index, epoch).claim_ready(&refill);
      return;
    }
    setsuna::runtime::ReadyRing<sched::Atom> ring(view_.cells, view_.slot_count, &view_.control->ring_head,
                                                  &view_.control->ring_tail, view_.slots);
    ring.retire_stale();
  }
  void host_main() override {
    if (cancel_queued(0)) {
      use_many_times(tasks_[0].slot);
      place(2);
    }
  }
  void at_end() override {}
};

// --- Coming online ---------------------------------------------------------------------------------------------

// The host waits until the daemon says in its record that it is there.
class OnlineProgram : public QueueProgram {
 public:
  using QueueProgram::QueueProgram;

 protected:
  bool watches_state() override { return true; }
  void host_main() override {
    for (;;) {
      const std::uint32_t seen = view_.host->futex.load(std::memory_order_acquire);
      if (view_.daemon(0).state.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(DaemonState::kLive)) {
        return;
      }
      sched::Futex::wait_until(&view_.host->futex, seen, ~std::uint64_t{0});
    }
  }
  void daemon_main(std::uint32_t index, std::uint32_t epoch) override {
    auto* port = new (memory_->ports[index]) Port(view_, index, epoch);
    port->record().state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_relaxed);
    port->wake_host();
    port->park(0);
  }
};

// --- The list --------------------------------------------------------------------------------------------------

struct Scenario {
  const char* name;
  std::function<std::unique_ptr<sched::Program>()> make;
  sched::Bounds bounds;
};

template <class P, class... A>
std::function<std::unique_ptr<sched::Program>()> program(const A&... arguments) {
  return [=] { return std::make_unique<P>(arguments...); };
}

// Sequentially consistent; with `kills`, a daemon is dropped at every step that it can take.
inline const std::vector<Scenario>& scenarios() {
  using Meanwhile = AnnouncedProgram::Meanwhile;
  static constexpr sched::Bounds kFew{.preemptions = 1, .races = false};
  static constexpr sched::Bounds kMore{.preemptions = 2, .races = false};
  static constexpr sched::Bounds kMost{.preemptions = 3, .races = false};
  static constexpr sched::Bounds kKill{.preemptions = 1, .races = false, .kills = 1};
  static constexpr sched::Bounds kTime{.preemptions = 2, .races = false, .timeouts = 1};
  static constexpr sched::Bounds kTimeKill{.preemptions = 1, .races = false, .kills = 1, .timeouts = 1};
  static constexpr QueueShape kOne{.daemons = 1, .slots = 2, .tasks = 2};
  static constexpr QueueShape kTwo{.daemons = 2, .slots = 2, .tasks = 2};
  static constexpr QueueShape kThree{.daemons = 2, .slots = 2, .tasks = 3};
  static constexpr QueueShape kGiveUp{.daemons = 2, .slots = 2, .tasks = 2, .retry = false};
  static constexpr QueueShape kSingle{.daemons = 2, .slots = 2, .tasks = 1};
  static constexpr QueueShape kWide{.daemons = 2, .slots = 4, .tasks = 3};
  static constexpr QueueShape kWideGiveUp{.daemons = 2, .slots = 4, .tasks = 3, .retry = false};
  static const std::vector<Scenario> all = {
      {"ring_one_consumer",
       program<RingProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 3}, 3),
       {.preemptions = sched::kAny}},
      {"ring_two_consumers", program<RingProgram>(kThree, 2), {.preemptions = 3}},
      {"ring_three_consumers",
       program<RingProgram>(QueueShape{.daemons = 3, .slots = 2, .tasks = 3}, 1),
       {.preemptions = 2}},
      {"one_daemon", program<FlowProgram>(kOne), {.preemptions = 4}},
      {"one_daemon_one_task",
       program<FlowProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}),
       {.preemptions = sched::kAny}},
      {"two_daemons", program<FlowProgram>(kThree), kMore},
      {"three_daemons", program<FlowProgram>(QueueShape{.daemons = 3, .slots = 2, .tasks = 2}), kFew},
      {"death_retried", program<FlowProgram>(kThree), kKill},
      {"death_not_retried", program<FlowProgram>(kGiveUp), kKill},
      {"death_replaced", program<FlowProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 2, .respawn = true}),
       kKill},
      {"death_of_the_only_one", program<FlowProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2, .respawn = true}),
       kKill},
      {"wait_for_a_slot", program<SlotGateProgram>(kTwo), kKill},
      {"wait_for_a_slot_not_retried", program<SlotGateProgram>(kGiveUp), kKill},
      {"foretold", program<ForetoldProgram>(kTwo), kMore},
      {"foretold_and_death", program<ForetoldProgram>(kTwo), kKill},
      {"foretold_not_retried", program<ForetoldProgram>(kGiveUp), kKill},
      {"reactor_harvests", program<EventGateProgram>(kTwo), kKill},
      {"cancel_queued", program<CancelQueuedProgram>(kThree, 1), kMore},
      {"cancel_queued_and_death", program<CancelQueuedProgram>(kThree, 1), kKill},
      {"cancel_all_queued", program<CancelQueuedProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 3}, 2), kMost},
      {"cancel_running", program<CancelRunningProgram>(kOne, 1), kMost},
      {"cancel_running_and_death", program<CancelRunningProgram>(kTwo, 1), kKill},
      {"cancel_both_claims_mailbox_first", program<CancelBothProgram>(kOne, true), kMost},
      {"cancel_both_claims_queue_first", program<CancelBothProgram>(kOne, false), kMost},
      {"doom", program<DoomProgram>(kTwo), kMore},
      {"doom_and_death", program<DoomProgram>(kTwo), kKill},
      {"everywhere", program<MailboxProgram>(kWide), kKill},
      {"everywhere_not_retried", program<MailboxProgram>(kWideGiveUp), kKill},
      {"mailbox_after_queue", program<MailboxLateProgram>(kTwo), kMore},
      {"mailbox_after_queue_and_death", program<MailboxLateProgram>(kTwo), kKill},
      {"own_queues", program<OwnQueuesProgram>(kWide), kKill},
      {"own_queues_not_retried", program<OwnQueuesProgram>(kWideGiveUp), kKill},
      {"held_block", program<HoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}), {.preemptions = 3}},
      {"held_block_and_death", program<HoldProgram>(kSingle), {.preemptions = 1, .kills = 1}},
      {"held_block_and_heir",
       program<HoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1, .retry = false, .respawn = true}),
       {.preemptions = 2, .kills = 1}},
      {"refill", program<RefillProgram>(QueueShape{.daemons = 1, .slots = 4, .tasks = 5}, 0), kMore},
      {"refill_past_tombstones", program<RefillProgram>(QueueShape{.daemons = 1, .slots = 4, .tasks = 5}, 3), kMore},
      {"refill_two_daemons", program<RefillProgram>(QueueShape{.daemons = 2, .slots = 4, .tasks = 6}, 0), kFew},
      {"refill_and_death",
       program<RefillProgram>(QueueShape{.daemons = 2, .slots = 4, .tasks = 5}, 3),
       {.preemptions = 0, .races = false, .kills = 1}},
      {"host_claims", program<HostClaimsProgram>(kOne, false), kMore},
      {"host_claims_and_death", program<HostClaimsProgram>(kSingle, false), kKill},
      {"host_claims_and_death_of_the_only_one", program<HostClaimsProgram>(kOne, false), kKill},
      {"host_claims_what_is_bound", program<HostClaimsProgram>(QueueShape{.daemons = 1, .slots = 4, .tasks = 2}, true),
       kKill},
      {"announced", program<AnnouncedProgram>(kTwo, Meanwhile::kNothing), kMore},
      {"announced_to_one", program<AnnouncedProgram>(kOne, Meanwhile::kNothing), kMost},
      {"announced_and_death", program<AnnouncedProgram>(kTwo, Meanwhile::kNothing), kKill},
      {"announced_beside_another", program<AnnouncedProgram>(kTwo, Meanwhile::kBusy), kKill},
      {"announced_and_mail", program<AnnouncedProgram>(kTwo, Meanwhile::kMail), kMore},
      {"announced_and_stop", program<AnnouncedProgram>(kTwo, Meanwhile::kStop), kMore},
      {"stop", program<StopProgram>(kSingle), kMore},
      {"stop_and_death", program<StopProgram>(kSingle), kKill},
      {"idle_leave", program<IdleLeaveProgram>(kSingle), kTime},
      {"idle_leave_and_death", program<IdleLeaveProgram>(kSingle), kTimeKill},
      {"close", program<CloseProgram>(kSingle), kMore},
      {"generations_wrap", program<WrapProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 4}), kFew},
  };
  return all;
}

// Too large to be explored: random walks.
inline const std::vector<Scenario>& large_scenarios() {
  using Meanwhile = AnnouncedProgram::Meanwhile;
  static constexpr sched::Bounds kWalk{.preemptions = sched::kAny, .races = false, .kills = 2};
  static constexpr sched::Bounds kWeakWalk{.preemptions = sched::kAny, .stale_reads = 6, .kills = 1};
  static constexpr QueueShape kLarge{.daemons = 3, .slots = 4, .tasks = 6};
  static const std::vector<Scenario> all = {
      {"flow", program<FlowProgram>(kLarge), kWalk},
      {"flow_weak", program<FlowProgram>(kLarge), kWeakWalk},
      {"cancel", program<CancelQueuedProgram>(kLarge, 3), kWalk},
      {"cancel_weak", program<CancelQueuedProgram>(kLarge, 3), kWeakWalk},
      {"doom", program<DoomProgram>(kLarge), kWalk},
      {"everywhere", program<MailboxProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 4}), kWalk},
      {"refill", program<RefillProgram>(QueueShape{.daemons = 2, .slots = 4, .tasks = 6}, 1), kWalk},
      {"host_claims", program<HostClaimsProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 4}, true), kWalk},
      {"host_claims_weak", program<HostClaimsProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 4}, true),
       kWeakWalk},
      {"everywhere_weak", program<MailboxProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 4}), kWeakWalk},
      {"mailbox_after_queue_weak", program<MailboxLateProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 5}),
       kWeakWalk},
      {"announced", program<AnnouncedProgram>(kLarge, Meanwhile::kNothing), kWalk},
      {"foretold", program<ForetoldProgram>(kLarge), kWalk},
      {"foretold_weak", program<ForetoldProgram>(kLarge), kWeakWalk},
      {"announced_weak", program<AnnouncedProgram>(kLarge, Meanwhile::kMail), kWeakWalk},
      {"stop_weak", program<StopProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 4}), kWeakWalk},
      {"sleepers_weak",
       program<SleepersProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 3}),
       {.preemptions = sched::kAny, .stale_reads = 6}},
      {"refill_weak", program<RefillProgram>(QueueShape{.daemons = 2, .slots = 4, .tasks = 6}, 1), kWeakWalk},
      {"generations_wrap", program<WrapProgram>(QueueShape{.daemons = 3, .slots = 2, .tasks = 6}), kWalk},
  };
  return all;
}

// Under weak memory: small enough that every old value that a load may return is tried.
inline const std::vector<Scenario>& weak_scenarios() {
  using Meanwhile = AnnouncedProgram::Meanwhile;
  static constexpr sched::Bounds kOne{.preemptions = 1, .stale_reads = 1};
  static constexpr sched::Bounds kTwo{.preemptions = 2, .stale_reads = 1};
  static constexpr sched::Bounds kDeep{.preemptions = 2, .stale_reads = 2};
  static constexpr sched::Bounds kKill{.preemptions = 1, .stale_reads = 1, .kills = 1};
  static const std::vector<Scenario> all = {
      {"online", program<OnlineProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 0}), kDeep},
      {"range", program<RangeProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}), kDeep},
      {"small_ring", program<SmallRingProgram>(), kDeep},
      {"ring_one_consumer", program<RingProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 3}, 3), kDeep},
      {"two_sleepers", program<SleepersProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 2}), kTwo},
      {"cancel_handled_elsewhere",
       program<CancelElsewhereProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}, kReadyQueue), kDeep},
      {"cancel_of_mail_handled_elsewhere",
       program<CancelElsewhereProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}, 0U), kDeep},
      {"cancel_running", program<CancelRunningProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}, 1), kDeep},
      {"doom", program<DoomProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}), kDeep},
      {"death_with_a_held_block",
       program<HoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1, .retry = false}), kKill},
      {"death_retry",
       program<FlowProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 1}),
       {.preemptions = 0, .stale_reads = 1, .kills = 1}},
      {"death_with_mail",
       program<OwnQueuesProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2, .retry = false}),
       {.preemptions = 0, .stale_reads = 1, .kills = 1}},
      {"slow_sleeper",
       program<SlowSleeperProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 3}),
       {.preemptions = 1, .stale_reads = 2}},
      {"host_claims", program<HostClaimsProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2}, false), kOne},
      {"refill_past_tombstones", program<RefillProgram>(QueueShape{.daemons = 1, .slots = 4, .tasks = 5}, 3), kOne},
      {"stop", program<StopProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 1}), kOne},
      {"mailbox_after_queue", program<MailboxLateProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 2}), kOne},
      {"held_block", program<HoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}), kDeep},
      {"announced", program<AnnouncedProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}, Meanwhile::kNothing),
       kDeep},
      {"announced_to_two",
       program<AnnouncedProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 1}, Meanwhile::kNothing), kOne},
      {"announced_and_mail",
       program<AnnouncedProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 2}, Meanwhile::kMail), kOne},
      {"close", program<CloseProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}), kDeep},
      {"reactor_harvests", program<EventGateProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2}), kTwo},
      {"wait_for_a_slot", program<SlotGateProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2}), kTwo},
      {"foretold", program<ForetoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2}), kTwo},
      {"generations_wrap_at_a_tombstone",
       program<WrapTombstoneProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 3}, 1),
       {.preemptions = 3, .stale_reads = 1}},
      {"two_daemons", program<FlowProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 2}), kOne},
      {"ring_two_consumers", program<RingProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 3}, 2), kTwo},
      {"three_sleepers", program<SleepersProgram>(QueueShape{.daemons = 3, .slots = 4, .tasks = 3}), kTwo},
      {"generations_wrap", program<WrapRingProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 4}, 2), kTwo},
      {"one_daemon", program<FlowProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2}), kDeep},
      {"everywhere", program<MailboxProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 2}), kDeep},
      {"cancel_queued", program<CancelQueuedProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 3}, 2), kTwo},
      {"refill", program<RefillProgram>(QueueShape{.daemons = 1, .slots = 4, .tasks = 5}, 0), kTwo},
  };
  return all;
}

}  // namespace queue_test
