// A whole queue under the deterministic scheduler: host thread, reactor thread (which reaps), daemons, each with the loop that
// the product has, over one segment. Scenarios derive from QueueProgram and say what the host does.
#pragma once

#include "tests/runtime/sched.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "runtime/daemon_port.hpp"
#include "runtime/host_port.hpp"
#include "tests/runtime/queue_invariants.hpp"

namespace queue_test {

using setsuna::runtime::Claim;
using setsuna::runtime::DaemonState;
using setsuna::runtime::GateWord;
using setsuna::runtime::kNoSlot;
using setsuna::runtime::kReadyQueue;
using Host = setsuna::runtime::HostPort<sched::Atom, sched::Futex>;
using Port = setsuna::runtime::DaemonPort<sched::Atom, sched::Futex>;
using View = QueueView<sched::Atom>;

inline constexpr std::uint32_t kDaemonsMax = 3;
inline constexpr std::uint32_t kSlotsMax = 4;
inline constexpr int kTasksMax = 6;

struct SchedSegment {
  setsuna::runtime::Control<sched::Atom> control;
  setsuna::runtime::HostPage<sched::Atom> page;
  std::array<DaemonRecord<sched::Atom>, kDaemonsMax> daemons;
  sched::Atom<std::uint64_t> cells[kSlotsMax];
  sched::Atom<std::uint64_t> done_bits[1];
  std::array<setsuna::runtime::TaskSlot<sched::Atom>, kSlotsMax> slots;
  sched::Atom<std::uint32_t> reactor_event;  // stands for the eventfd

  View view(std::uint32_t slot_count, std::uint32_t daemon_count) {
    View out;
    out.control = &control;
    out.daemons = daemons.data();
    out.daemon_stride = sizeof(daemons[0]);
    out.cells = cells;
    out.done_bits = done_bits;
    out.slots = slots.data();
    out.host = &page;
    out.slot_count = slot_count;
    out.daemon_max = daemon_count;
    return out;
  }
};

// The host's private members, for hashing: a friend declared in the class would do, were it not the product's.
template <class Tag, auto Member>
struct Reveal {
  friend auto& reveal(Tag, typename Tag::Class& object) { return object.*Member; }
};
#define QUEUE_TEST_REVEAL(type, member) \
  struct Tag##member {                  \
    using Class = type;                 \
  };                                    \
  auto& reveal(Tag##member, type&);     \
  template struct Reveal<Tag##member, &type::member>
QUEUE_TEST_REVEAL(Host, free_);
QUEUE_TEST_REVEAL(Host, pinned_);
QUEUE_TEST_REVEAL(Host, places_);
QUEUE_TEST_REVEAL(Host, highest_used_);
QUEUE_TEST_REVEAL(Host, seen_head_);
QUEUE_TEST_REVEAL(Host, announced_);
QUEUE_TEST_REVEAL(Port, heard_);
#undef QUEUE_TEST_REVEAL

enum class Outcome : std::uint8_t { kUnresolved, kValue, kCancelled, kDied };

// Host-private, under the mutex.
struct TaskRecord {
  Outcome outcome = Outcome::kUnresolved;
  bool abandoned = false;  // resolved for the user, its slot is still in use
  std::uint32_t slot = kNoSlot;
  std::uint32_t generation = 0;
};

struct QueueShape {
  std::uint32_t daemons = 2;
  std::uint32_t slots = 2;
  int tasks = 3;
  bool retry = true;               // tasks of a dead daemon run again, else they resolve to kDied
  bool publishes_current = false;  // set_current, cancelled: when something may be cancelled while it runs
  bool respawn = false;            // a daemon that died is replaced, once
};

class QueueProgram : public sched::Program {
 public:
  explicit QueueProgram(const QueueShape& shape) : shape_(shape), memory_(new Memory) {
    view_ = memory_->segment.view(shape.slots, shape.daemons);
    Host(view_).format();
    std::memcpy(static_cast<void*>(&memory_->formatted), &memory_->segment, sizeof(SchedSegment));
    for (std::uint32_t i = 0; i < kSlotsMax; ++i) {
      arguments_[i].name("arguments");
      results_[i].name("result");
    }
  }

  void begin() override;
  void after_step() override;
  void at_end() override;
  void on_kill(int thread) override;
  std::string name_of(const void* address) override;

 protected:
  static sched::Engine& engine() { return sched::Engine::get(); }
  static void require(bool holds, const std::string& what) {
    if (!holds) {
      engine().fail(what);
    }
  }

  // --- What a scenario may change ----------------------------------------------------------------------------
  virtual void host_main() {
    for (int task = 0; task < shape_.tasks; ++task) {
      submit(task);
    }
    wait_for_all();
  }
  virtual void evaluate(std::uint32_t daemon, const Claim& claim, int task);
  virtual void daemon_main(std::uint32_t index, std::uint32_t epoch);
  virtual bool reactor_has_more() { return false; }  // besides deaths and its event
  virtual void on_reactor() {}                       // mutex held
  virtual void start_threads();
  virtual void before_claim(std::uint32_t /*daemon*/) {}
  virtual bool awaits_announced(Port& /*port*/) { return false; }  // true: looks for work again before it parks
  virtual void check_end() {}
  virtual bool watches_state() { return false; }
  virtual std::uint64_t scenario_state() { return 0; }  // what it keeps under the mutex

  // --- Host thread -------------------------------------------------------------------------------------------
  void lock() { SETSUNA_RULE(host_mutex) ? mutex_.lock() : void(); }
  void unlock() { SETSUNA_RULE(host_mutex) ? mutex_.unlock() : void(); }

  void submit(int task, std::uint32_t queue = kReadyQueue);
  virtual void wake_for(std::uint32_t queue) { host_->wake_for(queue); }
  // To a mailbox, unless its daemon's death has been noticed. There is a free slot.
  void submit_to(int task, std::uint32_t daemon);
  bool try_place(int task, std::uint32_t queue);  // mutex held; does not wake
  void wait_for_all();
  void harvest();  // mutex held
  // Sleeps until the event of `gate`, unless something is done already or `ready`; both are called with the mutex held.
  template <class MakeGate, class Ready>
  void host_sleep(MakeGate&& gate, Ready&& ready);
  bool cancel_queued(int task);
  // Resolves a task that runs, for the user, and asks its daemon to stop it.
  void cancel_running(int task);
  void doom(int task);
  void resolve(int task, Outcome outcome);
  bool all_resolved() const;
  virtual GateWord gate_for_all() {
    int waiting = 0;
    for (int i = 0; i < shape_.tasks; ++i) {
      waiting += tasks_[i].outcome == Outcome::kUnresolved;
    }
    return GateWord::count(static_cast<std::uint64_t>(std::max(waiting, 1)));
  }

  std::uint64_t host_state();
  // At a point between two critical sections where the thread remembers nothing but where it is.
  void at_point(std::uint64_t where) { engine().forget_history(where); }

  // --- Reactor thread ----------------------------------------------------------------------------------------
  void reactor_main();
  void reap(std::uint32_t daemon);
  void wake_host() {
    view_.host->futex.fetch_add(1, std::memory_order_release);
    sched::Futex::wake(&view_.host->futex, 1);
  }
  void spawn_daemon(std::uint32_t index);
  void signal_reactor() { memory_->segment.reactor_event.fetch_add(1, std::memory_order_relaxed); }

  // --- Daemon ------------------------------------------------------------------------------------------------
  Port& port(std::uint32_t daemon) { return *std::launder(reinterpret_cast<Port*>(memory_->ports[daemon])); }
  // False: the process must exit.
  bool run_task(Port& port, const Claim& claim);
  std::optional<Claim> next_claim(Port& port);
  virtual void send_cancel_signal(std::uint32_t daemon) {
    engine().signal(lives_[daemon].thread, [this, daemon] { on_cancel_signal(daemon); });
  }
  void on_cancel_signal(std::uint32_t daemon);

  struct Memory {
    SchedSegment segment;
    SchedSegment formatted;
    alignas(64) char ports[kDaemonsMax + 1][sizeof(Port)];
  };
  // A daemon as the test knows it.
  struct DaemonLife {
    int thread = -1;
    std::uint32_t epoch = 0;
    bool gone = false;  // dead, not yet reaped
    bool reaped = false;
    bool evaluating = false;
    Claim pending;
    bool has_pending = false;
    bool interrupted = false;
  };

  QueueShape shape_;
  std::unique_ptr<Memory> memory_;
  View view_;
  std::optional<Host> host_;
  sched::Mutex mutex_;
  std::array<TaskRecord, kTasksMax> tasks_;
  std::array<int, kSlotsMax> slot_task_{};
  std::array<DaemonLife, kDaemonsMax + 1> lives_;
  std::array<int, kTasksMax> completions_{};
  std::array<sched::Plain, kSlotsMax> arguments_, results_;
  int host_thread_ = -1, reactor_thread_ = -1;
  bool host_pushes_ = false;
  bool respawned_ = false;
};

// --- Set-up ----------------------------------------------------------------------------------------------------

inline void QueueProgram::begin() {
  std::memcpy(static_cast<void*>(&memory_->segment), &memory_->formatted, sizeof(SchedSegment));
  std::memset(memory_->ports, 0, sizeof memory_->ports);
  SchedSegment& segment = memory_->segment;
  sched::Engine& sched = engine();
  sched.quiet(&segment.control.low_water, &segment.control.flags);  // constants here
  for (auto& record : segment.daemons) {
    sched.quiet(&record.assigned, &record.completed + 1);  // statistics
    sched.quiet(&record.hold[1], &record.hold[record.hold.size()]);
    if (!watches_state()) {
      sched.quiet(&record.state, &record.exit_code + 1);  // ordered by the mutex, or by fork
    }
    if (!shape_.publishes_current) {
      sched.quiet(&record.current, &record.cancel + 1);
      sched.quiet(&record.cancel_mailed, &record.cancel_mailed + 1);
    }
  }
  host_.emplace(view_);
  mutex_.reset([this] { return host_state(); });
  tasks_.fill({});
  slot_task_.fill(-1);
  lives_.fill({});
  completions_.fill(0);
  for (std::uint32_t i = 0; i < kSlotsMax; ++i) {
    arguments_[i].reset();
    results_[i].reset();
  }
  host_pushes_ = false;
  respawned_ = false;
  start_threads();
}

inline void QueueProgram::start_threads() {
  host_thread_ = engine().spawn("host", [this] { host_main(); });
  reactor_thread_ = engine().spawn("reactor", [this] { reactor_main(); });
  for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
    spawn_daemon(i);
  }
}

inline void QueueProgram::spawn_daemon(std::uint32_t index) {
  static const char* const kNames[] = {"daemon 0", "daemon 1", "daemon 2"};
  const std::uint32_t epoch = host_->admit(index);
  DaemonLife& life = lives_[index];
  life = DaemonLife{};
  life.epoch = epoch;
  life.thread = engine().spawn(
      kNames[index],
      [this, index] {
        const std::uint32_t mine = lives_[index].epoch;
        daemon_main(index, mine);
        lives_[index].evaluating = true;  // the end of a process may take long: others must not wait for it
        engine().pause("exits");
        lives_[index].evaluating = false;
        lives_[index].gone = true;
      },
      true);
}

// --- Host ------------------------------------------------------------------------------------------------------

inline bool QueueProgram::try_place(int task, std::uint32_t queue) {
  const std::uint32_t slot = host_->acquire_slot();
  if (slot == kNoSlot) {
    return false;
  }
  require(slot_task_[slot] == -1, "a slot was given out while its task was in it");
  arguments_[slot].write(100 + static_cast<std::uint64_t>(task));
  slot_task_[slot] = task;
  tasks_[task].slot = slot;
  host_pushes_ = true;
  const bool placed = host_->publish(slot, queue, &tasks_[task].generation);
  host_pushes_ = false;
  require(placed, "the mailbox was full");
  return true;
}

inline void QueueProgram::submit(int task, std::uint32_t queue) {
  at_point(0x5B << 8 | static_cast<std::uint64_t>(task));
  lock();
  while (!try_place(task, queue)) {
    harvest();
    if (try_place(task, queue)) {
      break;
    }
    unlock();
    host_sleep([] { return GateWord::count(1); }, [this] { return host_->has_free_slot(); });
    at_point(0x5B << 8 | static_cast<std::uint64_t>(task));
    lock();
  }
  unlock();
  if (SETSUNA_RULE(publisher_wakes)) {
    wake_for(queue);
  }
}

inline void QueueProgram::submit_to(int task, std::uint32_t daemon) {
  at_point(0x5C << 8 | static_cast<std::uint64_t>(task));
  lock();
  const bool placed = !lives_[daemon].reaped;
  if (placed) {
    require(try_place(task, daemon), "no slot");
  } else {
    resolve(task, Outcome::kDied);
  }
  unlock();
  if (placed) {
    host_->wake_for(daemon);
  }
}

template <class MakeGate, class Ready>
void QueueProgram::host_sleep(MakeGate&& gate, Ready&& ready) {
  // ORDERING host/sleep: as in the host's own wait.
  const std::uint32_t seen = view_.host->futex.load(std::memory_order_acquire);
  lock();
  host_->arm_gate(gate());
  const bool stay = (host_->anything_done() || ready()) && SETSUNA_RULE(host_rechecks);
  unlock();
  if (!stay) {
    sched::Futex::wait_until(&view_.host->futex, seen, ~std::uint64_t{0});
  }
  host_->disarm_gate();
}

inline void QueueProgram::wait_for_all() {
  for (;;) {
    at_point(0xA11);
    lock();
    harvest();
    const bool done = all_resolved();
    unlock();
    if (done) {
      return;
    }
    host_sleep([this] { return gate_for_all(); }, [this] { return all_resolved(); });
  }
}

inline std::uint64_t QueueProgram::host_state() {
  std::uint64_t hash =
      reveal(Taghighest_used_{}, *host_) | (reveal(Tagannounced_{}, *host_) ? std::uint64_t{1} << 32 : 0);
  const auto add = [&hash](std::uint64_t value) { hash = sched::mix(hash, value); };
  add(reveal(Tagseen_head_{}, *host_));
  for (const std::uint32_t slot : reveal(Tagfree_{}, *host_)) {
    add(slot);
  }
  for (const std::uint32_t slot : reveal(Tagpinned_{}, *host_)) {
    add(0x100 + slot);
  }
  for (const auto& place : reveal(Tagplaces_{}, *host_)) {
    add(place.ticket << 32 ^ place.queue << 1 ^ place.used);
  }
  for (int i = 0; i < shape_.tasks; ++i) {
    const TaskRecord& task = tasks_[i];
    add(static_cast<std::uint64_t>(task.outcome) << 60 | std::uint64_t{task.abandoned} << 59 |
        std::uint64_t{task.slot & 0xFFFF} << 32 | task.generation);
  }
  for (const int task : slot_task_) {
    add(static_cast<std::uint64_t>(task));
  }
  for (const DaemonLife& life : lives_) {
    add(std::uint64_t{life.epoch} << 1 | life.reaped);
  }
  return hash + scenario_state();
}

inline void QueueProgram::harvest() {
  host_->harvest([this](std::uint32_t slot, SlotWord word) {
    const int task = slot_task_[slot];
    require(task >= 0, "a result from a slot without a task");
    require(word.generation() == tasks_[task].generation, "a result of another generation");
    require(results_[slot].read() == 1000 + static_cast<std::uint64_t>(task), "a result of another task");
    slot_task_[slot] = -1;
    if (!tasks_[task].abandoned) {
      resolve(task, Outcome::kValue);
    }
  });
}

inline void QueueProgram::resolve(int task, Outcome outcome) {
  require(tasks_[task].outcome == Outcome::kUnresolved, "task " + std::to_string(task) + " resolved twice");
  tasks_[task].outcome = outcome;
}

inline bool QueueProgram::all_resolved() const {
  for (int i = 0; i < shape_.tasks; ++i) {
    if (tasks_[i].outcome == Outcome::kUnresolved) {
      return false;
    }
  }
  return true;
}

inline bool QueueProgram::cancel_queued(int task) {
  lock();
  TaskRecord& record = tasks_[task];
  const bool cancelled = record.outcome == Outcome::kUnresolved && record.slot != kNoSlot &&
                         slot_task_[record.slot] == task && host_->cancel_ready(record.slot, record.generation);
  if (cancelled) {
    slot_task_[record.slot] = -1;
    resolve(task, Outcome::kCancelled);
  }
  unlock();
  return cancelled;
}

inline void QueueProgram::cancel_running(int task) {
  lock();
  TaskRecord& record = tasks_[task];
  if (record.outcome == Outcome::kUnresolved && slot_task_[record.slot] == task) {
    const std::uint32_t daemon = host_->request_cancel(record.slot, record.generation);
    if (daemon != kNoSlot) {
      record.abandoned = true;
      resolve(task, Outcome::kCancelled);
      send_cancel_signal(daemon);
    }
  }
  unlock();
}

inline void QueueProgram::doom(int task) {
  lock();
  TaskRecord& record = tasks_[task];
  if (record.outcome == Outcome::kUnresolved && slot_task_[record.slot] == task &&
      host_->doom(record.slot, record.generation)) {
    const SlotWord word = host_->word(record.slot);
    record.abandoned = true;
    resolve(task, Outcome::kCancelled);
    engine().pause("sends SIGKILL");
    engine().kill(lives_[word.owner()].thread);
  }
  unlock();
}

// --- Reactor ---------------------------------------------------------------------------------------------------

inline void QueueProgram::on_kill(int thread) {
  for (DaemonLife& life : lives_) {
    if (life.thread == thread) {
      life.gone = true;
    }
  }
}

inline void QueueProgram::reactor_main() {
  const std::function<bool()> something = [this] {
    for (const DaemonLife& life : lives_) {
      if (life.gone && !life.reaped) {
        return true;
      }
    }
    return memory_->segment.reactor_event.peek() != 0 || reactor_has_more();
  };
  for (;;) {
    at_point(0x4EAC);
    engine().block_until(something, "reactor wakes");
    if (memory_->segment.reactor_event.peek() != 0) {
      memory_->segment.reactor_event.exchange(0, std::memory_order_relaxed);
    }
    lock();
    bool deaths = false;
    for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
      if (lives_[i].gone && !lives_[i].reaped) {
        engine().observe(lives_[i].thread);
        reap(i);
        deaths = true;
      }
    }
    on_reactor();
    unlock();
    if (deaths && SETSUNA_RULE(reaper_wakes_the_host)) {
      wake_host();
    }
  }
}

inline void QueueProgram::reap(std::uint32_t daemon) {
  lives_[daemon].reaped = true;
  host_pushes_ = true;
  host_->reap(daemon, lives_[daemon].epoch, [this](std::uint32_t slot, SlotWord word) {
    const int task = slot_task_[slot];
    require(task >= 0, "an orphan in a slot without a task");
    TaskRecord& record = tasks_[task];
    const bool again = shape_.retry && !record.abandoned && word.state() != SlotState::kDoomed;
    if (again && host_->requeue(slot, kReadyQueue, &record.generation)) {
      return;
    }
    slot_task_[slot] = -1;
    host_->release_dead(slot);
    if (!record.abandoned) {
      resolve(task, Outcome::kDied);
    }
  });
  host_pushes_ = false;
  if (shape_.respawn && !respawned_) {
    respawned_ = true;
    spawn_daemon(daemon);
  }
}

// --- Daemon ----------------------------------------------------------------------------------------------------

inline void QueueProgram::daemon_main(std::uint32_t index, std::uint32_t epoch) {
  auto* port = new (memory_->ports[index]) Port(view_, index, epoch);
  port->record().state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_release);
  for (;;) {
    before_claim(index);
    at_point(sched::mix(epoch << 4 | index, lives_[index].has_pending | (reveal(Tagheard_{}, *port) ? 2U : 0U)) +
             lives_[index].pending.slot);
    if (port->must_leave() && !lives_[index].has_pending) {
      port->leave();
      return;
    }
    if (const std::optional<Claim> claim = next_claim(*port)) {
      if (!run_task(*port, *claim)) {
        return;
      }
      continue;
    }
    if (awaits_announced(*port)) {
      continue;
    }
    port->park(0);
  }
}

inline std::optional<Claim> QueueProgram::next_claim(Port& port) {
  DaemonLife& life = lives_[port.index()];
  bool refill = false;
  std::optional<Claim> claim = port.claim_mailbox(&refill);
  if (!claim && life.has_pending) {
    life.has_pending = false;
    claim = life.pending;
  } else if (!claim) {
    const std::optional<Claim> ready = port.claim_ready(&refill);
    claim = ready && SETSUNA_RULE(mailbox_before_evaluation) ? port.claim_mailbox(&refill) : std::nullopt;
    if (claim) {
      life.pending = *ready;
      life.has_pending = true;
    } else {
      claim = ready;
    }
  }
  if (refill) {
    signal_reactor();
  }
  return claim;
}

inline bool QueueProgram::run_task(Port& port, const Claim& claim) {
  DaemonLife& life = lives_[port.index()];
  const auto task = static_cast<int>(arguments_[claim.slot].read()) - 100;
  require(task >= 0 && slot_task_[claim.slot] == task, "a daemon read arguments of another task");
  bool cancelled = false;
  if (shape_.publishes_current) {
    life.interrupted = false;
    port.set_current(claim);
    cancelled = port.cancelled(claim);
  }
  if (!cancelled) {
    evaluate(port.index(), claim, task);
  }
  if (shape_.publishes_current) {
    port.clear_current();
  }
  results_[claim.slot].write(1000 + static_cast<std::uint64_t>(task));
  bool signal = false;
  if (!port.complete(claim, &signal)) {
    return false;  // doomed
  }
  ++completions_[task];
  if (signal) {
    signal_reactor();
  }
  return true;
}

inline void QueueProgram::evaluate(std::uint32_t daemon, const Claim& /*claim*/, int /*task*/) {
  lives_[daemon].evaluating = true;
  engine().pause("evaluates");
  lives_[daemon].evaluating = false;
}

inline void QueueProgram::on_cancel_signal(std::uint32_t daemon) {
  DaemonRecord<sched::Atom>& record = view_.daemon(daemon);
  if (port(daemon).cancel_wanted(record.current.load(std::memory_order_acquire))) {
    lives_[daemon].interrupted = true;
  }
}

// --- Checks ----------------------------------------------------------------------------------------------------

inline void QueueProgram::after_step() {
  const std::string wrong = check_invariants(view_, host_pushes_);
  if (!wrong.empty()) {
    engine().fail(wrong);
  }
  bool asleep = false;
  for (std::uint32_t i = 0; i < shape_.slots; ++i) {
    const int task = slot_task_[i];
    if (task >= 0 && arguments_[i].peek() != 100 + static_cast<std::uint64_t>(task)) {
      engine().fail("arguments changed before their slot was free");
    }
  }
  for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
    asleep = asleep || (lives_[i].thread >= 0 && engine().asleep(lives_[i].thread));
  }
  if (!asleep) {
    return;
  }
  // A daemon may sleep beside work only while somebody is on the way to wake it: evaluations last for ever, say.
  for (int i = 0; i < sched::kMaxThreads; ++i) {
    if (!engine().can_go_on(i)) {
      continue;
    }
    bool evaluates = false;
    for (const DaemonLife& life : lives_) {
      evaluates = evaluates || (life.thread == i && life.evaluating);
    }
    if (!evaluates) {
      return;
    }
  }
  for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
    if (lives_[i].thread >= 0 && engine().asleep(lives_[i].thread) && work_for(view_, i)) {
      engine().fail("daemon " + std::to_string(i) + " sleeps while work is available");
    }
  }
}

inline void QueueProgram::at_end() {
  bool anyone = false;
  for (std::uint32_t i = 0; i < shape_.daemons; ++i) {
    const DaemonLife& life = lives_[i];
    require(!life.gone || life.reaped, "a death was not noticed");
    if (life.thread < 0 || !engine().alive(life.thread)) {
      continue;
    }
    anyone = true;
    require(view_.daemon(i).stop.peek() == 0, "a daemon sleeps though it was asked to stop");
    require(engine().asleep(life.thread), "daemon " + std::to_string(i) + " is stuck");
    require((view_.control->idle[0].peek() >> i & 1U) != 0,
            "daemon " + std::to_string(i) + " sleeps and nobody can know");
  }
  if (!anyone) {
    return;  // nobody is left to do the work
  }
  for (int i = 0; i < shape_.tasks; ++i) {
    require(tasks_[i].outcome != Outcome::kUnresolved, "task " + std::to_string(i) + " never resolved");
    require(completions_[i] <= 1, "task " + std::to_string(i) + " was completed twice");
  }
  require(host_thread_ < 0 || !engine().alive(host_thread_), "the host is stuck");
  host_->harvest([this](std::uint32_t slot, SlotWord) { slot_task_[slot] = -1; });  // of tasks resolved before
  for (const int task : slot_task_) {
    require(task < 0, "an abandoned task never ended");
  }
  check_end();
  for (std::uint32_t i = 0; i < shape_.slots; ++i) {
    require(host_->acquire_slot() != kNoSlot, "a slot never became reusable");
  }
}

inline std::string QueueProgram::name_of(const void* address) {
  const SchedSegment& s = memory_->segment;
  const auto in = [address](const auto& member) {
    return address >= static_cast<const void*>(&member) && address < static_cast<const void*>(&member + 1);
  };
  const auto index = [address](const auto& array) {
    return std::to_string(static_cast<const std::remove_reference_t<decltype(array[0])>*>(address) - &array[0]);
  };
  if (in(s.control.ring_head)) return "head";
  if (in(s.control.ring_tail)) return "tail";
  if (in(s.control.host_gate)) return "host gate";
  if (in(s.control.refill_gate)) return "refill gate";
  if (in(s.control.idle)) return "idle bits";
  if (in(s.control.flags)) return "flags";
  if (in(s.page.futex)) return "host futex";
  if (in(s.cells)) return "cell " + index(s.cells);
  if (in(s.done_bits)) return "done bits";
  if (in(s.reactor_event)) return "reactor event";
  for (std::uint32_t i = 0; i < kSlotsMax; ++i) {
    if (in(s.slots[i].word)) return "word " + std::to_string(i);
  }
  for (std::uint32_t i = 0; i < kDaemonsMax; ++i) {
    const auto& d = s.daemons[i];
    const std::string of = " of daemon " + std::to_string(i);
    if (in(d.futex)) return "futex" + of;
    if (in(d.stop)) return "stop" + of;
    if (in(d.state)) return "state" + of;
    if (in(d.current)) return "current" + of;
    if (in(d.cancel)) return "cancel" + of;
    if (in(d.cancel_mailed)) return "cancel (mailed)" + of;
    if (in(d.mailbox_head)) return "mailbox head" + of;
    if (in(d.mailbox_tail)) return "mailbox tail" + of;
    if (in(d.hold)) return "hold bits" + of;
    if (in(d.handback)) return "handback" + of;
    if (in(d.mailbox)) return "mailbox cell " + index(d.mailbox) + of;
  }
  return {};
}

}  // namespace queue_test
