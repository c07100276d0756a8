// A daemon's real instructions, one at a time: a victim process is single-stepped through claim, complete, park and
// leave. At every stop the segment is as a kill there would leave it, so the reaper, a peer and the host do their
// work on it, everything is checked, and then the segment is put back for the next step. For a sample of the stops
// the victim is really killed.
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "runtime/futex.hpp"
#include "tests/runtime/queue_invariants.hpp"
#include "tests/runtime/queue_memory.hpp"

namespace {

using namespace setsuna::runtime;
using queue_test::check_invariants;

// The host's side wakes nobody really: the victim is stopped, the peer is played by this process.
struct Wakes {
  static inline std::set<const void*> woken;
  static void wait_until(std::atomic<std::uint32_t>*, std::uint32_t, std::uint64_t) {
    FAIL() << "the peer would block";
  }
  static int wake(std::atomic<std::uint32_t>* word, int) {
    woken.insert(word);
    return 1;
  }
};
using Host = HostPort<std::atomic, Wakes>;
using Peer = DaemonPort<std::atomic, Wakes>;
using Victim = DaemonPort<std::atomic, SharedFutex>;

constexpr std::uint32_t kSlots = 16;
constexpr std::uint32_t kVictim = 0, kPeer = 1;

std::uint64_t value_of(std::uint64_t task) { return task * 2 + 1; }

// A task's argument is its number; its result, value_of() of that, must come from whole memory.
template <class Port>
void evaluate(Port& port, const Claim& claim) {
  auto& slot = port.slot(claim);
  std::uint64_t task = 0;
  std::memcpy(&task, slot.arg, sizeof task);
  const std::uint64_t value = value_of(task);
  std::memcpy(slot.result, &value, sizeof value);
  slot.result_bytes = sizeof value;
}

// The segment and what the host knows about it; both can be put back to an earlier moment.
class World {
 public:
  World() : memory_(kSlots, 3), view_(memory_.view()), host_(view_) {
    host_.format();
    for (std::uint32_t i = 0; i < 3; ++i) {
      epoch_[i] = host_.admit(i);
      view_.daemon(i).state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_relaxed);
    }
  }

  const QueueView<std::atomic>& view() const { return view_; }
  Host& host() { return host_; }
  Victim victim() { return Victim(view_, kVictim, epoch_[kVictim]); }

  // --- Before the victim starts ------------------------------------------------------------------------------
  std::uint32_t submit(std::uint32_t queue = kReadyQueue) {
    const std::uint32_t slot = host_.acquire_slot();
    const std::uint64_t task = next_task_++;
    std::memcpy(host_.slot(slot).arg, &task, sizeof task);
    host_.slot(slot).arg_bytes = sizeof task;
    EXPECT_TRUE(host_.publish(slot, queue, &generation_[slot]));
    task_in_[slot] = task;
    return slot;
  }
  void cancel(std::uint32_t slot) {
    EXPECT_TRUE(host_.cancel_ready(slot, generation_[slot]));
    task_in_.erase(slot);
  }
  void doom(std::uint32_t slot) { dooms_.push_back(slot); }
  void put_to_sleep(std::uint32_t daemon) {
    sleeps_.insert(daemon);
    view_.daemon(daemon).futex.store(0, std::memory_order_relaxed);
    view_.control->idle[0].fetch_or(std::uint64_t{1} << daemon, std::memory_order_relaxed);
  }
  std::uint32_t generation(std::uint32_t slot) const { return generation_.at(slot); }

  // --- At every stop -----------------------------------------------------------------------------------------
  // What a kill here would need, done and checked on the segment itself, which is then put back.
  void check_a_death_here() {
    std::vector<char> saved(static_cast<char*>(memory_.base()), static_cast<char*>(memory_.base()) + memory_.bytes());
    const Host saved_host = host_;
    const std::map<std::uint32_t, std::uint64_t> saved_tasks = task_in_;
    const std::map<std::uint32_t, std::uint32_t> saved_generations = generation_;
    recover();
    std::memcpy(memory_.base(), saved.data(), saved.size());
    host_ = saved_host;
    task_in_ = saved_tasks;
    generation_ = saved_generations;
  }

  // The victim is dead: reap, let the peer do what is left, harvest; every task exactly once, every slot free again.
  void recover() {
    Wakes::woken.clear();
    ASSERT_EQ(check_invariants(view_, false), "");
    std::multiset<std::uint64_t> resolved;
    for (const std::uint32_t slot : dooms_) {
      if (host_.doom(slot, generation_[slot])) {
        resolved.insert(task_in_[slot]);  // for the user; the slot follows
      }
    }
    host_.reap(kVictim, epoch_[kVictim], [&](std::uint32_t slot, SlotWord word) {
      ASSERT_TRUE(task_in_.count(slot)) << "an orphan without a task";
      if (word.state() == SlotState::kDoomed) {
        task_in_.erase(slot);
        host_.release_dead(slot);
      } else {
        ASSERT_TRUE(host_.requeue(slot, kReadyQueue, &generation_[slot]));
      }
    });
    ASSERT_EQ(check_invariants(view_, false), "");
    for (const std::uint32_t daemon : sleeps_) {
      ASSERT_TRUE(Wakes::woken.count(&view_.daemon(daemon).futex)) << "a sleeper that nobody woke";
      ASSERT_EQ(view_.daemon(daemon).futex.load(std::memory_order_relaxed), 1U);
    }
    harvest(&resolved);
    let_the_peer_work();
    harvest(&resolved);
    for (std::uint64_t task = 0; task < next_task_; ++task) {
      ASSERT_EQ(resolved.count(task), was_cancelled(task) ? 0U : 1U) << "task " << task;
    }
    for (std::uint32_t i = 0; i < kSlots; ++i) {
      ASSERT_NE(host_.acquire_slot(), kNoSlot) << "a slot that never comes back";
    }
    ASSERT_FALSE(host_.held(0));
  }
  void note_cancelled(std::uint64_t task) { cancelled_.insert(task); }

 private:
  bool was_cancelled(std::uint64_t task) const { return cancelled_.count(task) > 0; }

  void let_the_peer_work() {
    Peer peer(view_, kPeer, epoch_[kPeer]);
    bool refill = false, signal = false;
    for (;;) {
      std::optional<Claim> claim = peer.claim_mailbox(&refill);
      if (!claim) {
        claim = peer.claim_ready(&refill);
      }
      if (!claim) {
        return;
      }
      evaluate(peer, *claim);
      ASSERT_TRUE(peer.complete(*claim, &signal));
    }
  }
  void harvest(std::multiset<std::uint64_t>* resolved) {
    host_.harvest([&](std::uint32_t slot, SlotWord word) {
      ASSERT_EQ(word.generation(), generation_[slot]);
      ASSERT_TRUE(task_in_.count(slot)) << "a result without a task";
      std::uint64_t value = 0;
      std::memcpy(&value, host_.slot(slot).result, sizeof value);
      ASSERT_EQ(value, value_of(task_in_[slot])) << "a result from half-written memory";
      resolved->insert(task_in_[slot]);
      task_in_.erase(slot);
    });
  }

  queue_test::QueueMemory memory_;
  QueueView<std::atomic> view_;
  Host host_;
  std::uint32_t epoch_[3] = {};
  std::map<std::uint32_t, std::uint64_t> task_in_;
  std::map<std::uint32_t, std::uint32_t> generation_;
  std::set<std::uint32_t> sleeps_;
  std::set<std::uint64_t> cancelled_;
  std::vector<std::uint32_t> dooms_;
  std::uint64_t next_task_ = 0;
};

// A child that runs `body` and can be stepped through it.
class Stepped {
 public:
  explicit Stepped(const std::function<void()>& body) {
    pid_ = ::fork();
    if (pid_ == 0) {
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
        ::_exit(77);
      }
      ::raise(SIGSTOP);
      body();
      ::_exit(0);
    }
    ::waitpid(pid_, &status_, 0);
  }
  ~Stepped() {
    if (pid_ > 0 && !ended()) {
      kill();
    }
  }
  Stepped(const Stepped&) = delete;
  Stepped& operator=(const Stepped&) = delete;

  bool refused() const { return WIFEXITED(status_) && WEXITSTATUS(status_) == 77; }
  bool ended() const { return WIFEXITED(status_) || WIFSIGNALED(status_); }
  bool ended_well() const { return WIFEXITED(status_) && WEXITSTATUS(status_) == 0; }
  void step() {
    ::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr);
    ::waitpid(pid_, &status_, 0);
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, &status_, 0);
  }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

constexpr int kStepsMax = 20'000;
constexpr int kKillEvery = 97;  // a prime: samples fall on every part of a loop

struct Case {
  std::function<void(World&)> prepare;
  std::function<void(World&, Victim&)> act;  // in the victim; no allocation, tiny payload
};

// Returns the number of stops.
int step_through(const Case& test) {
  World world;
  test.prepare(world);
  Stepped victim([&] {
    Victim port = world.victim();
    test.act(world, port);
  });
  if (victim.refused()) {
    return -1;
  }
  int stops = 0;
  for (; !victim.ended() && stops < kStepsMax; ++stops) {
    world.check_a_death_here();
    if (::testing::Test::HasFatalFailure()) {
      ADD_FAILURE() << "after " << stops << " instructions";
      return stops;
    }
    victim.step();
  }
  EXPECT_TRUE(victim.ended_well());
  return stops;
}

// The victim really dies after `instructions`.
void kill_after(const Case& test, int instructions) {
  World world;
  test.prepare(world);
  Stepped victim([&] {
    Victim port = world.victim();
    test.act(world, port);
  });
  for (int i = 0; i < instructions && !victim.ended(); ++i) {
    victim.step();
  }
  if (!victim.ended()) {
    victim.kill();
  }
  world.recover();
}

void run(const Case& test) {
  const int stops = step_through(test);
  if (stops < 0) {
    GTEST_SKIP() << "ptrace is not allowed here";
  }
  ::testing::Test::RecordProperty("stops", stops);
  std::printf("    %d instructions\n", stops);
  for (int at = kKillEvery / 2; at < stops && !::testing::Test::HasFatalFailure(); at += kKillEvery) {
    kill_after(test, at);
  }
}

void claim_and_complete(Victim& port) {
  bool refill = false, signal = false;
  if (const std::optional<Claim> claim = port.claim_ready(&refill)) {
    port.set_current(*claim);
    if (!port.cancelled(*claim)) {
      evaluate(port, *claim);
    }
    port.clear_current();
    port.complete(*claim, &signal);
  }
}

TEST(PtraceQueue, ClaimAndComplete) {
  run({[](World& world) {
         for (int i = 0; i < 3; ++i) {
           world.submit();
         }
         world.host().arm_gate(GateWord::count(1));
         world.host().arm_refill();
       },
       [](World&, Victim& port) { claim_and_complete(port); }});
}

TEST(PtraceQueue, ForetellAndComplete) {
  run({[](World& world) {
         world.submit();
         world.host().arm_gate(GateWord::slot(0));
       },
       [](World&, Victim& port) {
         bool refill = false, signal = false;
         const std::optional<Claim> claim = port.claim_ready(&refill);
         port.foretell(*claim);
         const bool gate_closed = port.view().control->host_gate.load(std::memory_order_relaxed) == 0;
         if (!gate_closed || port.view().host->futex.load(std::memory_order_relaxed) == 0 ||
             port.record().foretold.load(std::memory_order_relaxed) != task_key(claim->slot, claim->generation)) {
           ::_exit(1);
         }
         evaluate(port, *claim);
         port.complete(*claim, &signal);
       }});
}

TEST(PtraceQueue, ClaimTheLastOfAFullRing) {
  run({[](World& world) {
         for (std::uint32_t i = 0; i < kSlots; ++i) {
           world.submit();
         }
       },
       [](World&, Victim& port) {
         claim_and_complete(port);
         claim_and_complete(port);
       }});
}

TEST(PtraceQueue, ClaimPastTombstones) {
  run({[](World& world) {
         world.cancel(world.submit());
         world.cancel(world.submit());
         world.note_cancelled(0);
         world.note_cancelled(1);
         world.submit();
         world.host().arm_refill();
       },
       [](World&, Victim& port) {
         claim_and_complete(port);
         claim_and_complete(port);  // nothing there
       }});
}

TEST(PtraceQueue, ClaimHelpsAHeadThatSomebodyLeftBehind) {
  run({[](World& world) {
         world.cancel(world.submit());
         world.note_cancelled(0);
         world.submit();
         world.view().cells[0].store(RingCell::empty(1).bits(), std::memory_order_relaxed);
       },
       [](World&, Victim& port) { claim_and_complete(port); }});
}

TEST(PtraceQueue, MailboxTaskPassesTheWakeOn) {
  run({[](World& world) {
         world.submit(kVictim);
         world.submit(kVictim);
         world.submit();
         world.put_to_sleep(kPeer);
       },
       [](World&, Victim& port) {
         bool refill = false, signal = false;
         const std::optional<Claim> claim = port.claim_mailbox(&refill);
         evaluate(port, *claim);
         port.complete(*claim, &signal);
       }});
}

TEST(PtraceQueue, TwoClaimsAtOnce) {
  run({[](World& world) {
         world.submit();
         world.submit(kVictim);
       },
       [](World&, Victim& port) {
         bool refill = false, signal = false;
         const std::optional<Claim> shared = port.claim_ready(&refill);
         const std::optional<Claim> mailed = port.claim_mailbox(&refill);
         evaluate(port, *mailed);
         port.complete(*mailed, &signal);
         evaluate(port, *shared);
         port.complete(*shared, &signal);
       }});
}

TEST(PtraceQueue, ParkAndSleepUntilADeadline) {
  run({[](World& world) { world.put_to_sleep(kPeer); }, [](World&, Victim& port) { port.park(1); }});
}

TEST(PtraceQueue, ParkFindsWork) {
  run({[](World& world) { world.submit(); },
       [](World&, Victim& port) {
         port.park(0);
         claim_and_complete(port);
       }});
}

TEST(PtraceQueue, LeavePassesTheWakeOn) {
  run({[](World& world) {
         world.submit();
         world.put_to_sleep(kPeer);
         world.put_to_sleep(2);
       },
       [](World&, Victim& port) { port.leave(); }});
}

TEST(PtraceQueue, HoldAndUnhold) {
  run({[](World& world) { world.submit(); },
       [](World&, Victim& port) {
         bool refill = false, signal = false;
         const std::optional<Claim> claim = port.claim_ready(&refill);
         port.hold(0);
         evaluate(port, *claim);
         port.complete(*claim, &signal);
         port.unhold(0);
       }});
}

TEST(PtraceQueue, DoomedAtAnyInstruction) {
  run({[](World& world) {
         world.doom(world.submit());
         world.submit();
       },
       [](World&, Victim& port) { claim_and_complete(port); }});
}

}  // namespace
