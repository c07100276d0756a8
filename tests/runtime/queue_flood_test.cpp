// A flood over real processes: daemons with a native evaluator are killed every few milliseconds and replaced, some tasks are
// cancelled, and every task resolves exactly once. Three parties as in the product: the host (this process), a zygote that
// forks and buries daemons and alone can wait for them, and the daemons.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <random>
#include <vector>

#include "runtime/futex.hpp"
#include "tests/runtime/queue_invariants.hpp"
#include "tests/runtime/queue_memory.hpp"

namespace {

using namespace setsuna::runtime;
using Host = HostPort<std::atomic, SharedFutex>;
using Port = DaemonPort<std::atomic, SharedFutex>;

constexpr std::uint32_t kDaemons = 4;
constexpr std::uint32_t kSlots = 256;

struct Life {
  std::uint32_t index, epoch;
  std::int32_t pid;
};

std::uint64_t next_random(std::uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

// The task: 32 numbers from a seed, stirred for a while; their sum is the value. Slow enough to be caught in the middle.
struct Argument {
  std::uint64_t task, seed, rounds;
};
struct Result {
  std::uint64_t task, sum;
};
Result evaluate(const Argument& argument) {
  std::uint64_t state = argument.seed, sum = 0;
  for (std::uint64_t i = 0; i < argument.rounds; ++i) {
    sum += next_random(&state);
  }
  return {argument.task, sum};
}
Argument argument_of(std::uint64_t task) {
  std::uint64_t state = task * 0x9E3779B97F4A7C15ULL + 1;
  const std::uint64_t seed = next_random(&state) | 1;
  return {task, seed, 200 + next_random(&state) % 20'000};
}

// --- A daemon --------------------------------------------------------------------------------------------------

[[noreturn]] void daemon_main(const QueueView<std::atomic>& view, std::uint32_t index, std::uint32_t epoch) {
  Port port(view, index, epoch);
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
    auto& slot = port.slot(*claim);
    Argument argument;
    std::memcpy(&argument, slot.arg, sizeof argument);
    port.set_current(*claim);
    const Result result = evaluate(argument);
    port.clear_current();
    std::memcpy(slot.result, &result, sizeof result);
    slot.result_bytes = sizeof result;
    if (!port.complete(*claim, &signal)) {
      ::_exit(3);
    }
  }
  port.leave();
  ::_exit(0);
}

// --- The zygote: forks on request, kills one of its children now and then, reports deaths ------------------------------

class Zygote {
 public:
  Zygote(const QueueView<std::atomic>& view, int requests, int reports, long kill_every_us, std::uint64_t seed)
      : view_(view), requests_(requests), reports_(reports), random_(seed) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    children_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    const timespec every{kill_every_us / 1'000'000, kill_every_us % 1'000'000 * 1000};
    const itimerspec spec{every, every};
    ::timerfd_settime(timer_, 0, &spec, nullptr);
  }

  [[noreturn]] void run() {
    pollfd wait[] = {{requests_, POLLIN, 0}, {children_, POLLIN, 0}, {timer_, POLLIN, 0}};
    for (;;) {
      ::poll(wait, 3, -1);
      if ((wait[0].revents & (POLLIN | POLLHUP)) != 0 && !take_request()) {
        end();
      }
      signalfd_siginfo info;
      std::uint64_t ticks;
      while (::read(children_, &info, sizeof info) > 0) {
      }
      bury();
      if (::read(timer_, &ticks, sizeof ticks) > 0 && !lives_.empty()) {
        ::kill(lives_[random_() % lives_.size()].pid, SIGKILL);
      }
    }
  }

 private:
  bool take_request() {
    Life life{};
    if (::read(requests_, &life, sizeof life) != sizeof life) {
      return false;
    }
    life.pid = ::fork();
    if (life.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      daemon_main(view_, life.index, life.epoch);
    }
    lives_.push_back(life);
    return true;
  }
  void bury() {
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      for (std::size_t i = 0; i < lives_.size(); ++i) {
        if (lives_[i].pid == pid) {
          const Life life = lives_[i];
          lives_.erase(lives_.begin() + static_cast<std::ptrdiff_t>(i));
          if (::write(reports_, &life, sizeof life) != sizeof life) {
            end();
          }
          view_.host->futex.fetch_add(1, std::memory_order_release);
          SharedFutex::wake(&view_.host->futex, 1);
          break;
        }
      }
    }
  }
  [[noreturn]] void end() {
    for (const Life& life : lives_) {
      ::kill(life.pid, SIGKILL);
    }
    ::_exit(0);
  }

  QueueView<std::atomic> view_;
  int requests_, reports_, children_ = -1, timer_ = -1;
  std::mt19937_64 random_;
  std::vector<Life> lives_;
};

// --- The host --------------------------------------------------------------------------------------------------

struct FloodShape {
  std::uint64_t tasks = 50'000;
  long kill_every_us = 20'000;
  bool retry = true;
  unsigned cancel_one_in = 0;  // queued tasks, of those in slots
};

class Flood {
 public:
  explicit Flood(const FloodShape& shape)
      : shape_(shape), memory_(kSlots, kDaemons), view_(memory_.view()), host_(view_), outcomes_(shape.tasks, 0) {
    host_.format();
    slot_task_.fill(-1);
  }

  void run() {
    start_zygote();
    for (std::uint32_t i = 0; i < kDaemons; ++i) {
      fork_daemon(i);
    }
    while (resolved_ < shape_.tasks && !::testing::Test::HasFatalFailure()) {
      const std::uint32_t seen = view_.host->futex.load(std::memory_order_acquire);
      take_reports();
      submit_what_fits();
      harvest();
      if (resolved_ == shape_.tasks) {
        break;
      }
      host_.arm_gate(GateWord::count(std::min<std::uint64_t>(in_slots_, kSlots / 2)));
      const bool stay = host_.anything_done() || (next_ < shape_.tasks && host_.has_free_slot());
      if (!stay) {
        SharedFutex::wait(&view_.host->futex, seen);
      }
      host_.disarm_gate();
    }
    finish();
  }

  std::uint64_t deaths() const { return deaths_; }
  std::uint64_t values() const { return count(1); }
  std::uint64_t cancelled() const { return count(2); }
  std::uint64_t died() const { return count(3); }

 private:
  std::uint64_t count(std::uint8_t outcome) const {
    return static_cast<std::uint64_t>(std::count(outcomes_.begin(), outcomes_.end(), outcome));
  }

  void start_zygote() {
    int requests[2], reports[2];
    ASSERT_EQ(::pipe2(requests, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(reports, O_CLOEXEC), 0);
    zygote_ = ::fork();
    ASSERT_GE(zygote_, 0);
    if (zygote_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(requests[1]);
      ::close(reports[0]);
      Zygote(view_, requests[0], reports[1], shape_.kill_every_us, 42).run();
    }
    ::close(requests[0]);
    ::close(reports[1]);
    requests_ = requests[1];
    reports_ = reports[0];
    ::fcntl(reports_, F_SETFL, O_NONBLOCK);
  }
  void fork_daemon(std::uint32_t index) {
    const Life life{index, host_.admit(index), 0};
    ASSERT_EQ(::write(requests_, &life, sizeof life), static_cast<ssize_t>(sizeof life));
  }

  void submit_what_fits() {
    while (next_ < shape_.tasks) {
      host_.announce();
      const std::uint32_t slot = host_.acquire_slot();
      if (slot == kNoSlot) {
        return;
      }
      const Argument argument = argument_of(next_);
      std::memcpy(host_.slot(slot).arg, &argument, sizeof argument);
      host_.slot(slot).arg_bytes = sizeof argument;
      ASSERT_EQ(slot_task_[slot], -1);
      slot_task_[slot] = static_cast<std::int64_t>(next_++);
      ++in_slots_;
      ASSERT_TRUE(host_.publish(slot, kReadyQueue, &generation_[slot]));
      host_.wake_for_announced();
      if (shape_.cancel_one_in != 0 && random_() % shape_.cancel_one_in == 0) {
        cancel_some();
      }
    }
  }
  void cancel_some() {
    const auto slot = static_cast<std::uint32_t>(random_() % kSlots);
    if (slot_task_[slot] >= 0 && host_.cancel_ready(slot, generation_[slot])) {
      resolve(slot, 2);
    }
  }
  void resolve(std::uint32_t slot, std::uint8_t outcome) {
    std::uint8_t& place = outcomes_[static_cast<std::size_t>(slot_task_[slot])];
    ASSERT_EQ(place, 0) << "task " << slot_task_[slot] << " resolved twice";
    place = outcome;
    ++resolved_;
    --in_slots_;
    slot_task_[slot] = -1;
  }

  void harvest() {
    host_.harvest([&](std::uint32_t slot, SlotWord word) {
      ASSERT_GE(slot_task_[slot], 0);
      ASSERT_EQ(word.generation(), generation_[slot]);
      Result result;
      std::memcpy(&result, host_.slot(slot).result, sizeof result);
      const auto task = static_cast<std::uint64_t>(slot_task_[slot]);
      ASSERT_EQ(result.task, task);
      ASSERT_EQ(result.sum, evaluate(argument_of(task)).sum);
      resolve(slot, 1);
    });
  }

  void take_reports() {
    Life life{};
    while (::read(reports_, &life, sizeof life) == sizeof life) {
      ++deaths_;
      host_.reap(life.index, life.epoch, [&](std::uint32_t slot, SlotWord) {
        ASSERT_GE(slot_task_[slot], 0);
        if (shape_.retry) {
          ASSERT_TRUE(host_.requeue(slot, kReadyQueue, &generation_[slot]));
        } else {
          host_.release_dead(slot);
          resolve(slot, 3);
        }
      });
      fork_daemon(life.index);
    }
  }

  void finish() {
    ::close(requests_);  // the zygote kills its daemons and ends
    int status = 0;
    ::waitpid(zygote_, &status, 0);
    ::close(reports_);
    if (::testing::Test::HasFatalFailure()) {
      return;
    }
    for (std::uint64_t task = 0; task < shape_.tasks; ++task) {
      ASSERT_NE(outcomes_[task], 0) << "task " << task << " never resolved";
    }
    for (std::uint32_t i = 0; i < kSlots; ++i) {
      ASSERT_NE(host_.acquire_slot(), kNoSlot) << "a slot never became reusable";
    }
    ASSERT_EQ(queue_test::check_ring(view_, queue_test::ready_ring(view_), "ready ring", &cells_), "");
  }

  FloodShape shape_;
  queue_test::QueueMemory memory_;
  QueueView<std::atomic> view_;
  Host host_;
  std::vector<std::uint8_t> outcomes_;  // 0 unresolved, 1 value, 2 cancelled, 3 its daemon died
  std::array<std::int64_t, kSlots> slot_task_{};
  std::array<std::uint32_t, kSlots> generation_{};
  queue_test::SlotCells cells_;
  std::mt19937_64 random_{7};
  std::uint64_t next_ = 0, resolved_ = 0, in_slots_ = 0, deaths_ = 0;
  pid_t zygote_ = -1;
  int requests_ = -1, reports_ = -1;
};

void run(const FloodShape& shape, std::uint64_t deaths_at_least) {
  Flood flood(shape);
  flood.run();
  std::printf("    %llu tasks: %llu values, %llu cancelled, %llu died; %llu daemons killed\n",
              static_cast<unsigned long long>(shape.tasks), static_cast<unsigned long long>(flood.values()),
              static_cast<unsigned long long>(flood.cancelled()), static_cast<unsigned long long>(flood.died()),
              static_cast<unsigned long long>(flood.deaths()));
  EXPECT_GE(flood.deaths(), deaths_at_least);
  EXPECT_EQ(flood.values() + flood.cancelled() + flood.died(), shape.tasks);
  EXPECT_TRUE(!shape.retry || flood.died() == 0);
}

TEST(QueueFlood, ADaemonKilledEvery20msRetried) { run({}, 3); }
TEST(QueueFlood, ADaemonKilledEvery20msNotRetried) { run({.retry = false}, 3); }
TEST(QueueFlood, ADaemonKilledEveryMillisecond) {
  run({.tasks = 20'000, .kill_every_us = 1'000, .cancel_one_in = 50}, 10);
}
TEST(QueueFlood, ADaemonKilledEvery200usNotRetriedAndCancelled) {
  run({.tasks = 20'000, .kill_every_us = 200, .retry = false, .cancel_one_in = 20}, 10);
}

}  // namespace
