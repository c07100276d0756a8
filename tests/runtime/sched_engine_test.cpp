// The scheduler itself: litmus tests say that it finds what the memory model allows, and nothing that it forbids.
#include "tests/runtime/sched.hpp"

#include <gtest/gtest.h>

#include <set>

namespace {

using sched::Atom;
using sched::Bounds;
using sched::Engine;
using sched::Plain;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;

Engine& engine() { return Engine::get(); }

// Two to four threads over a few variables; collects every combination of results.
struct Litmus : sched::Program {
  Atom<std::uint64_t> x, y, z;
  Atom<std::uint32_t> futex;
  Plain data;
  int r[4] = {};
  std::set<std::vector<int>> results;
  std::vector<std::function<void()>> threads;
  std::function<void()> end;
  int victims = 0, deaths = 0;

  void begin() override {
    for (auto* atom : {&x, &y, &z}) {
      atom->store(0, memory_order_relaxed);
    }
    futex.store(0, memory_order_relaxed);
    data.reset();
    deaths = 0;
    std::fill(std::begin(r), std::end(r), -1);
    for (std::size_t i = 0; i < threads.size(); ++i) {
      engine().spawn("thread", threads[i], static_cast<int>(i) < victims);
    }
  }
  void on_kill(int) override { ++deaths; }
  void at_end() override {
    results.insert({r[0], r[1], r[2], r[3]});
    if (end) {
      end();
    }
  }
  bool saw(std::vector<int> wanted) const {
    wanted.resize(4, -1);
    return results.count(wanted) == 1;
  }
};

sched::Report run(Litmus& litmus, Bounds bounds) {
  litmus.results.clear();
  sched::Report report = explore(litmus, bounds);
  EXPECT_TRUE(report.complete || report.failed);
  return report;
}
constexpr Bounds kStrong{.preemptions = sched::kAny};
constexpr Bounds kWeak{.preemptions = sched::kAny, .stale_reads = 4};

TEST(Sched, SequentialConsistencyForbidsStoreBuffering) {
  Litmus t;
  t.threads = {[&] { t.x.store(1, memory_order_relaxed), t.r[0] = static_cast<int>(t.y.load(memory_order_relaxed)); },
               [&] { t.y.store(1, memory_order_relaxed), t.r[1] = static_cast<int>(t.x.load(memory_order_relaxed)); }};
  run(t, kStrong);
  EXPECT_EQ(t.results.size(), 3U);
  EXPECT_FALSE(t.saw({0, 0}));
  run(t, kWeak);
  EXPECT_TRUE(t.saw({0, 0})) << "allowed by weak memory";
}

TEST(Sched, ReadModifyWritesOfOneWordForbidStoreBuffering) {
  Litmus t;
  const auto side = [&t](Atom<std::uint64_t>& mine, Atom<std::uint64_t>& other, int i) {
    mine.store(1, memory_order_relaxed);
    t.z.fetch_or(0, memory_order_acq_rel);
    t.r[i] = static_cast<int>(other.load(memory_order_relaxed));
  };
  t.threads = {[&] { side(t.x, t.y, 0); }, [&] { side(t.y, t.x, 1); }};
  run(t, kWeak);
  EXPECT_EQ(t.results.size(), 3U);
  EXPECT_FALSE(t.saw({0, 0}));
}

TEST(Sched, MessagePassingNeedsReleaseAndAcquire) {
  for (const auto& [store, load] :
       {std::pair{memory_order_release, memory_order_acquire}, std::pair{memory_order_relaxed, memory_order_acquire},
        std::pair{memory_order_release, memory_order_relaxed}}) {
    Litmus t;
    t.threads = {[&] { t.x.store(1, memory_order_relaxed), t.y.store(1, store); },
                 [&] {
                   t.r[0] = static_cast<int>(t.y.load(load));
                   t.r[1] = static_cast<int>(t.x.load(memory_order_relaxed));
                 }};
    run(t, kWeak);
    EXPECT_EQ(t.saw({1, 0}), store == memory_order_relaxed || load == memory_order_relaxed);
    EXPECT_TRUE(t.saw({1, 1}) && t.saw({0, 0}) && t.saw({0, 1}));
  }
}

TEST(Sched, ReadsOfOneLocationNeverGoBack) {
  Litmus t;
  t.threads = {[&] { t.x.store(1, memory_order_relaxed), t.x.store(2, memory_order_relaxed); },
               [&] {
                 t.r[0] = static_cast<int>(t.x.load(memory_order_relaxed));
                 t.r[1] = static_cast<int>(t.x.load(memory_order_relaxed));
               }};
  run(t, kWeak);
  EXPECT_EQ(t.results.size(), 6U);
  EXPECT_FALSE(t.saw({2, 1}) || t.saw({1, 0}) || t.saw({2, 0}));
}

TEST(Sched, ReadModifyWriteContinuesAReleaseSequenceAndAStoreEndsIt) {
  for (const bool modifies : {true, false}) {
    Litmus t;
    t.threads = {[&] { t.data.write(7), t.x.store(1, memory_order_release); },
                 [&] {
                   if (modifies) {
                     t.x.fetch_add(1, memory_order_relaxed);
                   } else if (t.x.load(memory_order_relaxed) == 1) {
                     t.x.store(2, memory_order_relaxed);
                   }
                 },
                 [&] {
                   if (t.x.load(memory_order_acquire) == 2) {
                     t.r[0] = static_cast<int>(t.data.read());
                   }
                 }};
    const sched::Report report = run(t, kWeak);
    EXPECT_EQ(report.failed, !modifies) << report.summary();
  }
}

TEST(Sched, FindsRacesOnPlainData) {
  for (const auto order : {memory_order_release, memory_order_relaxed}) {
    Litmus t;
    t.threads = {[&] { t.data.write(1), t.x.store(1, order); },
                 [&] {
                   if (t.x.load(memory_order_acquire) == 1) {
                     t.data.write(2);
                   }
                 }};
    const sched::Report report = run(t, kStrong);
    EXPECT_EQ(report.failed, order == memory_order_relaxed);
    EXPECT_EQ(report.failed, report.message.find("data race") != std::string::npos);
  }
}

// The sleeper clears its word, then says that it sleeps; the waker looks for that, then sets the word. Only release and
// acquire forbid that the clearing store arrives after the setting one.
TEST(Sched, AStoreMayArriveAfterOneThatDidNotSeeIt) {
  for (const auto& [store, load] :
       {std::pair{memory_order_release, memory_order_acquire}, std::pair{memory_order_relaxed, memory_order_acquire},
        std::pair{memory_order_release, memory_order_relaxed}}) {
    Litmus t;
    t.threads = {[&] { t.x.store(1, memory_order_relaxed), t.y.fetch_or(1, store); },
                 [&] {
                   if (t.y.fetch_and(0, load) == 1) {
                     t.x.store(2, memory_order_relaxed);
                     t.r[0] = 1;
                   }
                 }};
    bool overwritten = false;
    t.end = [&] { overwritten = overwritten || (t.r[0] == 1 && t.x.peek() == 1); };
    run(t, kWeak);
    EXPECT_EQ(overwritten, store == memory_order_relaxed || load == memory_order_relaxed);
  }
}

TEST(Sched, ReadModifyWritesAreAtomic) {
  Litmus t;
  t.threads = {[&] { t.x.fetch_add(1, memory_order_relaxed); }, [&] { t.x.fetch_add(1, memory_order_relaxed); }};
  t.end = [&] { t.x.peek() == 2 ? void() : engine().fail("an increment was lost"); };
  EXPECT_FALSE(run(t, kWeak).failed);
  const auto torn = [&] { t.x.store(t.x.load(memory_order_relaxed) + 1, memory_order_relaxed); };
  t.threads = {torn, torn};
  EXPECT_TRUE(run(t, kStrong).failed);
  EXPECT_FALSE(run(t, {.preemptions = 0}).failed) << "needs one preemption";
  EXPECT_TRUE(run(t, {.preemptions = 1}).failed);
}

TEST(Sched, SeesALostWake) {
  Litmus t;
  const auto sleeper = [&](bool rechecks) {
    if (t.x.load(memory_order_acquire) == 0) {
      if (rechecks) {
        sched::Futex::wait_until(&t.futex, 0, ~std::uint64_t{0});
      } else {
        const std::uint32_t now = t.futex.load(memory_order_relaxed);
        sched::Futex::wait_until(&t.futex, now, ~std::uint64_t{0});
      }
    }
    t.r[0] = 1;
  };
  const auto waker = [&] {
    t.x.store(1, memory_order_release);
    t.futex.store(1, memory_order_release);
    sched::Futex::wake(&t.futex, 1);
  };
  t.end = [&] { t.r[0] == 1 ? void() : engine().fail("sleeps for ever"); };
  t.threads = {[&] { sleeper(true); }, waker};
  EXPECT_FALSE(run(t, kStrong).failed);
  t.threads = {[&] { sleeper(false); }, waker};
  const sched::Report report = run(t, kStrong);
  EXPECT_TRUE(report.failed);
  EXPECT_NE(report.trace.find("futex wait"), std::string::npos) << report.trace;
}

TEST(Sched, DropsAVictimAtEveryAccess) {
  Litmus t;
  t.victims = 1;
  t.threads = {[&] {
    for (int i = 1; i <= 5; ++i) {
      t.x.store(static_cast<std::uint64_t>(i), memory_order_relaxed);
    }
  }};
  std::set<std::uint64_t> reached;
  t.end = [&] { reached.insert(t.deaths * 10 + t.x.peek()); };
  EXPECT_FALSE(run(t, {.kills = 1}).failed);
  EXPECT_EQ(reached, (std::set<std::uint64_t>{5, 10, 11, 12, 13, 14}));
}

TEST(Sched, SeesALivelock) {
  Litmus t;
  t.threads = {[&] {
    while (t.x.load(memory_order_relaxed) == 0) {
    }
  }};
  EXPECT_TRUE(run(t, {.executions = 1}).failed);
}

TEST(Sched, SignalInterruptsASleeper) {
  Litmus t;
  t.threads = {[&] {
                 const auto reason = sched::Futex::wait_until(&t.futex, 0, ~std::uint64_t{0});
                 t.r[0] = static_cast<int>(reason == sched::WakeReason::kInterrupted);
               },
               [&] {
                 t.x.store(1, memory_order_relaxed);
                 engine().signal(0, [&] { t.r[1] = static_cast<int>(t.x.load(memory_order_relaxed)); });
               }};
  run(t, kStrong);
  EXPECT_TRUE(t.saw({1, 1}));
  for (const auto& result : t.results) {
    EXPECT_EQ(result[1], 1) << "the handler runs, and sees what its sender did";
  }
}

TEST(Sched, RandomWalkFindsTheSameAndItsSeedRepeatsIt) {
  Litmus t;
  const auto torn = [&] { t.x.store(t.x.load(memory_order_relaxed) + 1, memory_order_relaxed); };
  t.threads = {torn, torn};
  t.end = [&] { t.x.peek() == 2 ? void() : engine().fail("an increment was lost"); };
  const sched::Report report = sample(t, kStrong, 1, 1000);
  ASSERT_TRUE(report.failed);
  const std::uint64_t seed = std::stoull(report.message.substr(report.message.find("seed ") + 5));
  const sched::Report again = sample(t, kStrong, seed, 1);
  EXPECT_TRUE(again.failed);
  EXPECT_EQ(again.trace, report.trace);
}

}  // namespace
