// The pool under a seeded simulator, against a sequential oracle that knows what each task may become: submit, cancel,
// timeouts, drops, deaths, respawns, everywhere(), reset, in any order. After every step the pool's own books must agree.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "fake_world.hpp"

namespace setsuna::dispatch {
namespace {

struct Expectation {
  bool cancelled = false;
  bool timed = false;
  std::uint64_t deadline_ns = 0;
  std::uint8_t retries = 0;
  bool everywhere = false;
  bool seen_resolved = false;
  ErrorCode outcome = ErrorCode::kNone;
};

class Simulation {
 public:
  Simulation(std::uint32_t seed, bool dispatcher, bool seeded) : random_(seed), world_(8, 6) {
    PoolConfig config;
    config.dispatcher = dispatcher;
    config.seeded = seeded;
    config.stream = stream_from_seed(static_cast<std::int32_t>(seed));
    config.daemon_max = 6;
    config.cancel_grace_ns = 50;
    pool_ = std::make_unique<Pool>(config, world_, world_, world_);
    pool_->set_store(
        [](void* self, const std::uint8_t*, std::uint64_t, std::uint64_t* offset) {
          auto* simulation = static_cast<Simulation*>(self);
          *offset = simulation->new_block();
          return true;
        },
        this);
  }

  void run(int steps) {
    std::uint32_t epoch = 0;
    for (int i = 0; i < 2; ++i) {
      pool_->add_daemon(false, &epoch);
    }
    for (int i = 0; i < steps; ++i) {
      step();
      check();
    }
    finish();
  }

 private:
  std::uint32_t pick(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  std::uint64_t new_block() {
    next_block_ += 64;
    world_.allocate(next_block_);
    return next_block_;
  }

  void step() {
    switch (pick(12)) {
      case 0:
      case 1:
      case 2: submit(); break;
      case 3: cancel(); break;
      case 4: drop(); break;
      case 5:
        now_ns_ += pick(40);
        pool_->on_time(now_ns_);
        break;
      case 6:
      case 7: daemon_step(); break;
      case 8: die(); break;
      case 9: start_spawned(); break;
      case 10: everywhere(); break;
      default: pool_->progress(); break;
    }
  }

  void submit() {
    static const std::uint8_t bytes[64] = {};
    SubmitSpec spec;
    spec.bytes = bytes;
    spec.length = pick(64);
    if (pick(4) == 0) {
      spec.in_area = true;
      spec.area_offset = new_block();
      spec.length = 1000;
      spec.block = pool_->new_block_id();
      if (pick(2) == 0) {
        world_.held_blocks.insert(spec.block);
      }
    }
    Expectation expected;
    spec.retries = static_cast<std::uint8_t>(pick(3));
    expected.retries = spec.retries;
    if (pick(3) == 0) {
      spec.deadline_ns = now_ns_ + 1 + pick(100);
      expected.timed = true;
      expected.deadline_ns = spec.deadline_ns;
    }
    spec.notify = pick(4) == 0;
    std::uint32_t constant = kNoConstant;
    if (pick(5) == 0) {
      Constant made;
      made.offset = new_block();
      made.bytes = 64;
      constant = pool_->add_constant(made);
      spec.constant = constant;
    }
    add(spec, expected);
    if (constant != kNoConstant) {
      pool_->release_constant(constant);
    }
  }

  void add(const SubmitSpec& spec, const Expectation& expected) {
    bool wake = false;
    std::uint32_t queue = 0;
    const std::uint32_t index = pool_->submit(spec, now_ns_, &wake, &queue);
    ASSERT_FALSE(tasks_.contains(index)) << "a task index in use was given out again";
    tasks_[index] = expected;
  }

  void everywhere() {
    static const std::uint8_t bytes[8] = {};
    for (std::uint32_t d = 0; d < pool_->daemons().size(); ++d) {
      if (pool_->daemons()[d].state == DaemonInfo::State::kLive) {
        SubmitSpec spec;
        spec.kind = TaskKind::kEverywhere;
        spec.bytes = bytes;
        spec.length = sizeof(bytes);
        spec.queue = d;
        Expectation expected;
        expected.everywhere = true;
        add(spec, expected);
      }
    }
    pool_->log_everywhere(bytes, sizeof(bytes));
  }

  std::map<std::uint32_t, Expectation>::iterator any_task() {
    if (tasks_.empty()) {
      return tasks_.end();
    }
    auto it = tasks_.begin();
    std::advance(it, pick(static_cast<std::uint32_t>(tasks_.size())));
    return it;
  }

  void cancel() {
    const auto it = any_task();
    if (it == tasks_.end()) {
      return;
    }
    const bool was_open = !pool_->resolved(it->first);
    const bool cancelled = pool_->cancel(it->first, ErrorCode::kCancelled, now_ns_);
    EXPECT_TRUE(was_open || !cancelled);
    EXPECT_TRUE(pool_->resolved(it->first));
    it->second.cancelled = it->second.cancelled || cancelled;
  }

  void drop() {
    const auto it = any_task();
    if (it != tasks_.end() && pool_->resolved(it->first)) {
      judge(it->first, it->second);
      pool_->drop(it->first);
      tasks_.erase(it);
    }
  }

  void daemon_step() {
    const std::uint32_t d = pick(world_.daemon_max());
    if (!world_.claim(d)) {
      const bool large = pick(4) == 0;
      next_block_ += large ? 64 : 0;
      world_.complete(d, large ? 5000 : pick(100), next_block_);
    }
    if (pick(3) == 0 && !world_.held_blocks.empty()) {
      world_.held_blocks.erase(world_.held_blocks.begin());
    }
  }

  void die() {
    const std::uint32_t d = pick(world_.daemon_max());
    const FakeWorld::Daemon& daemon = world_.daemon(d);
    if (daemon.alive && (daemon.killed || pick(4) == 0)) {
      DeathNote note;
      note.pid = static_cast<std::int32_t>(d) + 1;
      note.wait_status = 9;
      pool_->on_dead(d, daemon.epoch, note, pick(5) == 0);
    }
  }

  void start_spawned() {
    for (const auto& [index, epoch] : world_.spawned) {
      world_.daemon(index).alive = true;
      pool_->on_forked(index, epoch, static_cast<std::int32_t>(index) + 1);
      pool_->on_online(index, epoch);
    }
    world_.spawned.clear();
    if (pool_->alive() == 0) {
      std::uint32_t epoch = 0;
      pool_->add_daemon(false, &epoch);
    }
  }

  // What it became must be something that could have happened to it.
  void judge(std::uint32_t index, const Expectation& expected) {
    const Task& task = pool_->task(index);
    switch (task.error) {
      case ErrorCode::kNone: EXPECT_FALSE(expected.cancelled); break;
      case ErrorCode::kCancelled: EXPECT_TRUE(expected.cancelled); break;
      case ErrorCode::kTimedOut:
        EXPECT_TRUE(expected.timed);
        EXPECT_LE(expected.deadline_ns, now_ns_);
        break;
      case ErrorCode::kReset: EXPECT_FALSE(expected.cancelled); break;
      case ErrorCode::kClosed: EXPECT_TRUE(pool_->closed()); break;
    }
  }

  void check() {
    pool_->sanity_check();
    for (auto& [index, expected] : tasks_) {
      const bool resolved = pool_->resolved(index);
      ASSERT_TRUE(resolved || !expected.seen_resolved) << "a resolved task became unresolved";
      if (resolved && expected.seen_resolved) {
        ASSERT_EQ(pool_->task(index).error, expected.outcome) << "an outcome changed";
      }
      expected.seen_resolved = resolved;
      expected.outcome = pool_->task(index).error;
    }
    for (std::uint32_t index : pool_->take_notifications()) {
      EXPECT_TRUE(pool_->resolved(index));
    }
  }

  // Everything resolves once daemons run on and nothing more happens to them; then every block is back.
  void finish() {
    for (int round = 0; round < 4000 && pool_->unfinished() > 0; ++round) {
      start_spawned();
      for (std::uint32_t d = 0; d < world_.daemon_max(); ++d) {
        if (world_.daemon(d).killed && world_.daemon(d).alive) {
          pool_->on_dead(d, world_.daemon(d).epoch, DeathNote{}, false);
        }
        if (!world_.claim(d)) {
          world_.complete(d, 8, 0);
        }
      }
      pool_->progress();
      check();
    }
    EXPECT_EQ(pool_->unfinished(), 0U) << "tasks that nobody runs";
    world_.held_blocks.clear();
    for (int i = 0; i < 200; ++i) {  // abandoned tasks end too
      for (std::uint32_t d = 0; d < world_.daemon_max(); ++d) {
        world_.claim(d);
        world_.complete(d, 8, 0);
      }
      pool_->progress();
    }
    pool_->reset();
    for (const auto& [index, expected] : tasks_) {
      judge(index, expected);
      pool_->drop(index);
    }
    pool_->progress();
    pool_->sweep_blocks();
    EXPECT_EQ(pool_->handles(), 0U);
    EXPECT_EQ(pool_->used_bytes(), 0U);
    EXPECT_EQ(world_.blocks(), 0U) << "blocks that were never released";
    EXPECT_TRUE(world_.closed);
  }

  std::mt19937 random_;
  FakeWorld world_;
  std::unique_ptr<Pool> pool_;
  std::map<std::uint32_t, Expectation> tasks_;
  std::uint64_t now_ns_ = 1;
  std::uint64_t next_block_ = 0;
};

class PoolSimulation : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(PoolSimulation, EveryTaskResolvesOnceAndNothingLeaks) {
  const auto [dispatcher, seeded] = GetParam();
  for (std::uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed, dispatcher, seeded);
    simulation.run(400);
    if (testing::Test::HasFailure()) {
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, PoolSimulation, testing::Combine(testing::Bool(), testing::Bool()));

}  // namespace
}  // namespace setsuna::dispatch
