// The queue between real threads over one mapping: ThreadSanitizer sees every access. Daemon threads die at random accesses to
// shared atomics (an exception takes them out between any two), are joined, reaped and replaced.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "runtime/futex.hpp"
#include "tests/runtime/queue_invariants.hpp"

#include "runtime/daemon_port.hpp"
#include "runtime/host_port.hpp"

namespace {

using namespace setsuna::runtime;

struct Death {};
thread_local std::int64_t accesses_left = -1;  // < 0: immortal

void one_access() {
  if (accesses_left > 0 && --accesses_left == 0) {
    throw Death{};
  }
}

// std::atomic whose every access may be a thread's last.
template <class T>
class Mortal : public std::atomic<T> {
 public:
  using Base = std::atomic<T>;
  using Order = std::memory_order;

  T load(Order order) const { return one_access(), Base::load(order); }
  void store(T value, Order order) { one_access(), Base::store(value, order); }
  T exchange(T value, Order order) { return one_access(), Base::exchange(value, order); }
  T fetch_add(T value, Order order) { return one_access(), Base::fetch_add(value, order); }
  T fetch_or(T value, Order order) { return one_access(), Base::fetch_or(value, order); }
  T fetch_and(T value, Order order) { return one_access(), Base::fetch_and(value, order); }
  bool compare_exchange_strong(T& expected, T desired, Order success, Order failure) {
    return one_access(), Base::compare_exchange_strong(expected, desired, success, failure);
  }
  bool compare_exchange_weak(T& expected, T desired, Order success, Order failure) {
    return one_access(), Base::compare_exchange_weak(expected, desired, success, failure);
  }
};

struct MortalFutex {
  static FutexResult wait_until(Mortal<std::uint32_t>* word, std::uint32_t expected, std::uint64_t deadline_ns) {
    one_access();
    return SharedFutex::wait_until(word, expected, deadline_ns);
  }
  static int wake(Mortal<std::uint32_t>* word, int count) {
    one_access();
    return SharedFutex::wake(word, count);
  }
};

using Host = HostPort<Mortal, MortalFutex>;
using Port = DaemonPort<Mortal, MortalFutex>;

constexpr std::uint32_t kDaemons = 3;
constexpr std::uint32_t kSlots = 32;

struct Memory {
  Control<Mortal> control{};
  HostPage<Mortal> page{};
  std::array<DaemonRecord<Mortal>, kDaemons> daemons{};
  std::array<Mortal<std::uint64_t>, kSlots> cells{};
  std::array<Mortal<std::uint64_t>, 1> done_bits{};
  std::array<TaskSlot<Mortal>, kSlots> slots{};

  QueueView<Mortal> view() {
    QueueView<Mortal> out;
    out.control = &control;
    out.daemons = daemons.data();
    out.daemon_stride = sizeof(daemons[0]);
    out.cells = cells.data();
    out.done_bits = done_bits.data();
    out.slots = slots.data();
    out.host = &page;
    out.slot_count = kSlots;
    out.daemon_max = kDaemons;
    return out;
  }
};

class Threads {
 public:
  Threads(std::uint64_t tasks, std::int64_t longest_life)
      : tasks_(tasks),
        longest_life_(longest_life),
        memory_(new Memory),
        view_(memory_->view()),
        host_(view_),
        outcomes_(tasks, 0) {
    host_.format();
    slot_task_.fill(-1);
  }

  void run() {
    for (std::uint32_t i = 0; i < kDaemons; ++i) {
      start_daemon(i);
    }
    std::thread reactor([this] { reactor_main(); });
    host_main();
    {
      std::lock_guard lock(deaths_mutex_);
      closing_ = true;
    }
    deaths_changed_.notify_one();
    reactor.join();
    view_.control->flags.fetch_or(kControlClosing, std::memory_order_acq_rel);
    host_.wake_all();
    for (std::thread& thread : threads_) {
      thread.join();
    }
    for (std::uint64_t task = 0; task < tasks_; ++task) {
      ASSERT_NE(outcomes_[task], 0) << "task " << task;
    }
  }
  std::uint64_t deaths() const { return deaths_count_; }

 private:
  // --- Daemons -----------------------------------------------------------------------------------------------
  void start_daemon(std::uint32_t index) {
    const std::uint32_t epoch = host_.admit(index);
    epoch_[index] = epoch;
    const std::int64_t life = longest_life_ == 0 ? -1 : 1 + static_cast<std::int64_t>(random_() % longest_life_);
    threads_[index] = std::thread([this, index, epoch, life] {
      try {
        accesses_left = life;
        daemon_main(index, epoch);
      } catch (const Death&) {
        accesses_left = -1;
        std::lock_guard lock(deaths_mutex_);
        dead_.push_back(index);
        deaths_changed_.notify_one();
      }
    });
  }
  void daemon_main(std::uint32_t index, std::uint32_t epoch) {
    Port port(view_, index, epoch);
    port.record().state.store(static_cast<std::uint32_t>(DaemonState::kLive), std::memory_order_release);
    while (!port.must_leave()) {
      bool refill = false, signal = false;
      std::optional<Claim> claim = port.claim_mailbox(&refill);
      if (!claim) {
        claim = port.claim_ready(&refill);
      }
      if (!claim) {
        if (port.heard_announcement()) {
          for (int looks = 0; looks < 100 && port.announced() && !port.has_work(); ++looks) {
          }
          port.give_up();
          continue;
        }
        port.park(0);
        continue;
      }
      port.foretell(*claim);
      auto& slot = port.slot(*claim);
      std::uint64_t task = 0;
      std::memcpy(&task, slot.arg, sizeof task);
      port.set_current(*claim);
      port.hold(static_cast<std::uint32_t>(task % 64));
      const std::uint64_t result = port.cancelled(*claim) ? ~task : task * 3;
      port.clear_current();
      std::memcpy(slot.result, &result, sizeof result);
      slot.result_bytes = sizeof result;
      port.complete(*claim, &signal);
      port.unhold(static_cast<std::uint32_t>(task % 64));
    }
    port.leave();
  }

  // --- Reactor -----------------------------------------------------------------------------------------------
  void reactor_main() {
    for (;;) {
      std::uint32_t index = 0;
      {
        std::unique_lock lock(deaths_mutex_);
        deaths_changed_.wait(lock, [this] { return !dead_.empty() || closing_; });
        if (dead_.empty()) {
          return;
        }
        index = dead_.back();
        dead_.pop_back();
      }
      threads_[index].join();
      {
        std::lock_guard lock(mutex_);
        ++deaths_count_;
        host_.reap(index, epoch_[index], [&](std::uint32_t slot, SlotWord) {
          const std::int64_t task = slot_task_[slot];
          const bool abandoned = task < 0;
          if (abandoned || !host_.requeue(slot, kReadyQueue, &generation_[slot])) {
            host_.release_dead(slot);
            slot_busy_[slot] = false;
          }
        });
        start_daemon(index);
      }
      view_.host->futex.fetch_add(1, std::memory_order_release);
      SharedFutex::wake(&view_.host->futex, 1);
    }
  }

  // --- Host --------------------------------------------------------------------------------------------------
  void host_main() {
    while (resolved_ < tasks_ && !::testing::Test::HasFatalFailure()) {
      const std::uint32_t seen = view_.host->futex.load(std::memory_order_acquire);
      bool stay = false;
      {
        std::lock_guard lock(mutex_);
        submit_what_fits();
        harvest();
        // From what is out now, or the last ones would be waited for in vain.
        const auto out = static_cast<std::uint64_t>(std::count(slot_busy_.begin(), slot_busy_.end(), true));
        const auto busy = std::find(slot_busy_.begin(), slot_busy_.end(), true);
        host_.arm_gate(out == 1 ? GateWord::slot(static_cast<std::uint32_t>(busy - slot_busy_.begin()))
                                : GateWord::count(std::min<std::uint64_t>(out, kSlots / 2)));
        stay = host_.anything_done() || (next_ < tasks_ && host_.has_free_slot()) || resolved_ == tasks_;
      }
      if (!stay) {
        SharedFutex::wait(&view_.host->futex, seen);
      }
      host_.disarm_gate();
    }
  }
  void submit_what_fits() {
    while (next_ < tasks_) {
      host_.announce();
      const std::uint32_t slot = host_.acquire_slot();
      if (slot == kNoSlot) {
        return;
      }
      const std::uint64_t task = next_++;
      std::memcpy(host_.slot(slot).arg, &task, sizeof task);
      host_.slot(slot).arg_bytes = sizeof task;
      ASSERT_FALSE(slot_busy_[slot]);
      slot_busy_[slot] = true;
      slot_task_[slot] = static_cast<std::int64_t>(task);
      const std::uint32_t daemon = static_cast<std::uint32_t>(random_() % (kDaemons * 4));
      const std::uint32_t queue = daemon < kDaemons ? daemon : kReadyQueue;
      ASSERT_TRUE(host_.publish(slot, queue, &generation_[slot]));
      if (queue == kReadyQueue) {
        host_.wake_for_announced();
      } else {
        host_.wake_for(queue);  // announced in vain
      }
      if (random_() % 8 == 0) {
        cancel(static_cast<std::uint32_t>(random_() % kSlots));
      }
    }
  }
  void cancel(std::uint32_t slot) {
    if (slot_task_[slot] < 0) {
      return;
    }
    if (host_.cancel_ready(slot, generation_[slot])) {
      slot_busy_[slot] = false;
      resolve(slot);
    } else if (host_.request_cancel(slot, generation_[slot]) != kNoSlot) {
      resolve(slot);  // for the user: its slot is in use until its daemon is done or dead
    }
  }
  void resolve(std::uint32_t slot) {
    std::uint8_t& outcome = outcomes_[static_cast<std::size_t>(slot_task_[slot])];
    ASSERT_EQ(outcome, 0) << "resolved twice";
    outcome = 1;
    ++resolved_;
    slot_task_[slot] = -1;
  }
  void harvest() {
    host_.harvest([this](std::uint32_t slot, SlotWord word) {
      ASSERT_EQ(word.generation(), generation_[slot]);
      std::uint64_t result = 0, task = 0;
      std::memcpy(&result, host_.slot(slot).result, sizeof result);
      std::memcpy(&task, host_.slot(slot).arg, sizeof task);
      ASSERT_TRUE(result == task * 3 || result == ~task);
      slot_busy_[slot] = false;
      if (slot_task_[slot] >= 0) {
        ASSERT_EQ(slot_task_[slot], static_cast<std::int64_t>(task));
        resolve(slot);
      }
    });
  }

  std::uint64_t tasks_;
  std::int64_t longest_life_;
  std::unique_ptr<Memory> memory_;
  QueueView<Mortal> view_;
  Host host_;
  std::mutex mutex_;
  std::vector<std::uint8_t> outcomes_;
  std::array<std::int64_t, kSlots> slot_task_{};
  std::array<bool, kSlots> slot_busy_{};
  std::array<std::uint32_t, kSlots> generation_{};
  std::array<std::uint32_t, kDaemons> epoch_{};
  std::array<std::thread, kDaemons> threads_;
  std::mt19937_64 random_{11};
  std::uint64_t next_ = 0, resolved_ = 0, deaths_count_ = 0;

  std::mutex deaths_mutex_;
  std::condition_variable deaths_changed_;
  std::vector<std::uint32_t> dead_;
  bool closing_ = false;
};

TEST(QueueThreads, NobodyDies) {
  Threads threads(20'000, 0);
  threads.run();
}

TEST(QueueThreads, DaemonsDieAtAnyAccess) {
  Threads threads(20'000, 2'000);
  threads.run();
  EXPECT_GT(threads.deaths(), 100U);
}

TEST(QueueThreads, DaemonsDieYoung) {
  Threads threads(3'000, 60);
  threads.run();
  EXPECT_GT(threads.deaths(), 300U);
}

}  // namespace
