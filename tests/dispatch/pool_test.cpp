// Transitions of the pool, one at a time.

#include <gtest/gtest.h>

#include "fake_world.hpp"

namespace setsuna::dispatch {
namespace {

const std::uint8_t kBytes[16] = {1, 2, 3};

class PoolTest : public testing::Test {
 protected:
  void make(PoolConfig config, std::uint32_t slots = 8) {
    config.daemon_max = 4;
    world_ = std::make_unique<FakeWorld>(slots, 4);
    pool_ = std::make_unique<Pool>(config, *world_, *world_, *world_);
  }
  void start_daemons() {
    for (const auto& [index, epoch] : std::vector<std::pair<std::uint32_t, std::uint32_t>>(world_->spawned)) {
      world_->daemon(index).alive = true;
      pool_->on_online(index, epoch);
    }
    world_->spawned.clear();
  }
  void add_daemons(int n) {
    std::uint32_t epoch = 0;
    for (int i = 0; i < n; ++i) {
      ASSERT_NE(pool_->add_daemon(false, &epoch), runtime::kNoSlot);
    }
    start_daemons();
  }
  std::uint32_t submit(std::uint8_t retries = 0, std::uint64_t deadline_ns = 0) {
    SubmitSpec spec;
    spec.bytes = kBytes;
    spec.length = sizeof(kBytes);
    spec.retries = retries;
    spec.deadline_ns = deadline_ns;
    bool wake = false;
    std::uint32_t queue = 0;
    return pool_->submit(spec, 1, &wake, &queue);
  }
  void die(std::uint32_t d, bool leaving = false) {
    DeathNote note;
    note.pid = 77;
    note.wait_status = 11;
    pool_->on_dead(d, world_->daemon(d).epoch, note, leaving);
  }

  std::unique_ptr<FakeWorld> world_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(PoolTest, FirstInFirstOutThroughTheSpill) {
  make({}, 2);
  add_daemons(1);
  std::vector<std::uint32_t> tasks;
  for (int i = 0; i < 7; ++i) {
    tasks.push_back(submit());
  }
  for (std::uint32_t expected : tasks) {
    ASSERT_TRUE(world_->claim(0));
    EXPECT_EQ(world_->slot(world_->daemon(0).running).content.task, expected);
    world_->complete(0, 8, 0);
    pool_->progress();
  }
}

TEST_F(PoolTest, AHostThatWaitsForAllIsWokenByTheBatch) {
  PoolConfig config;
  config.wake_batch = 3;
  make(config);
  add_daemons(1);
  submit();
  submit();
  EXPECT_EQ(pool_->gate_for(kNoTask).bits(), GateWord::count(2).bits());
  for (int i = 0; i < 4; ++i) {
    submit();
  }
  EXPECT_EQ(pool_->gate_for(kNoTask).bits(), GateWord::count(3).bits());
}

TEST_F(PoolTest, DeathWithoutRetryTellsWho) {
  make({});
  add_daemons(1);
  const std::uint32_t task = submit();
  world_->claim(0);
  die(0);
  EXPECT_EQ(pool_->task(task).error, ErrorCode::kReset);
  EXPECT_EQ(pool_->task(task).death.pid, 77);
  EXPECT_EQ(pool_->task(task).death.wait_status, 11);
}

TEST_F(PoolTest, RetryRunsAgainAsOftenAsAsked) {
  make({});
  add_daemons(1);
  const std::uint32_t task = submit(2);
  for (int death = 0; death < 2; ++death) {
    ASSERT_TRUE(world_->claim(0));
    die(0);
    EXPECT_FALSE(pool_->resolved(task));
    start_daemons();
  }
  ASSERT_TRUE(world_->claim(0));
  die(0);
  EXPECT_EQ(pool_->task(task).error, ErrorCode::kReset);
}

TEST_F(PoolTest, DeadDaemonIsReplacedOneThatLeftIsNot) {
  make({});
  add_daemons(2);
  die(0);
  EXPECT_EQ(world_->spawned.size(), 1U);
  world_->spawned.clear();
  die(1, true);
  EXPECT_TRUE(world_->spawned.empty());
}

TEST_F(PoolTest, DaemonsThatCannotStartFailTheirTasks) {
  make({});
  std::uint32_t epoch = 0;
  pool_->add_daemon(false, &epoch);
  const std::uint32_t task = submit();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(pool_->resolved(task));
    die(0);
  }
  EXPECT_TRUE(pool_->gave_up());
  EXPECT_EQ(pool_->task(task).error, ErrorCode::kReset);
}

TEST_F(PoolTest, TimeoutOfAQueuedTask) {
  make({});
  const std::uint32_t task = submit(0, 100);
  pool_->on_time(99);
  EXPECT_FALSE(pool_->resolved(task));
  pool_->on_time(100);
  EXPECT_EQ(pool_->task(task).error, ErrorCode::kTimedOut);
}

TEST_F(PoolTest, CancelOfARunningTaskInterruptsThenKills) {
  PoolConfig config;
  config.cancel_grace_ns = 1000;
  make(config);
  add_daemons(1);
  const std::uint32_t task = submit(3);
  world_->claim(0);
  EXPECT_TRUE(pool_->cancel(task, ErrorCode::kCancelled, 10));
  EXPECT_EQ(pool_->task(task).error, ErrorCode::kCancelled);
  EXPECT_TRUE(world_->daemon(0).interrupted);
  pool_->on_time(1009);
  EXPECT_FALSE(world_->daemon(0).killed);
  pool_->on_time(1010);
  EXPECT_TRUE(world_->daemon(0).killed);
  die(0);  // cancelled: not run again whatever its retries
  EXPECT_EQ(pool_->unfinished(), 0U);
  EXPECT_FALSE(world_->claim(0));
}

TEST_F(PoolTest, CancelledTaskThatEndsInTimeKeepsItsDaemon) {
  PoolConfig config;
  config.cancel_grace_ns = 1000;
  make(config);
  add_daemons(1);
  const std::uint32_t task = submit();
  world_->claim(0);
  pool_->cancel(task, ErrorCode::kCancelled, 10);
  world_->complete(0, 8, 0);
  pool_->progress();
  const std::uint32_t next = submit();
  world_->claim(0);  // the same slot may serve the next task when the old timer fires
  pool_->on_time(5000);
  EXPECT_FALSE(world_->daemon(0).killed);
  world_->complete(0, 8, 0);
  pool_->progress();
  EXPECT_EQ(pool_->task(next).error, ErrorCode::kNone);
}

TEST_F(PoolTest, RoundRobinWithoutDispatcher) {
  PoolConfig config;
  config.dispatcher = false;
  make(config);
  add_daemons(2);
  for (int i = 0; i < 4; ++i) {
    submit();
  }
  EXPECT_EQ(world_->daemon(0).mailbox.size(), 2U);
  EXPECT_EQ(world_->daemon(1).mailbox.size(), 2U);
}

TEST_F(PoolTest, QueuedTasksOfADeadDaemonWithoutDispatcher) {
  PoolConfig config;
  config.dispatcher = false;
  make(config, 32);
  add_daemons(2);
  const std::uint32_t lost = submit();
  submit();
  const std::uint32_t moved = submit(1);
  die(0);
  EXPECT_EQ(pool_->task(lost).error, ErrorCode::kReset);
  EXPECT_FALSE(pool_->resolved(moved));
}

TEST_F(PoolTest, LateDaemonReplaysEverywhereFirst) {
  make({});
  pool_->log_everywhere(kBytes, sizeof(kBytes));
  std::uint32_t epoch = 0;
  pool_->add_daemon(false, &epoch);
  start_daemons();
  submit();
  ASSERT_TRUE(world_->claim(0));
  EXPECT_EQ(world_->slot(world_->daemon(0).running).content.kind, TaskKind::kReplay);
  EXPECT_EQ(world_->slot(world_->daemon(0).running).content.arg_bytes, sizeof(std::uint64_t) + sizeof(kBytes));
}

TEST_F(PoolTest, FreshProcessForEachTask) {
  PoolConfig config;
  config.ephemeral = true;
  config.ephemeral_max = 3;
  make(config);
  for (int i = 0; i < 5; ++i) {
    submit();
  }
  EXPECT_EQ(world_->spawned.size(), 3U);  // the bound; the others wait their turn
  start_daemons();
  world_->claim(0);
  world_->complete(0, 8, 0);
  die(0, true);
  EXPECT_EQ(world_->spawned.size(), 1U);
}

TEST_F(PoolTest, BudgetAdmitsOnePayloadToAnEmptyQueue) {
  PoolConfig config;
  config.budget_bytes = 20;
  make(config);
  EXPECT_TRUE(pool_->admits(1000));
  submit();
  EXPECT_FALSE(pool_->admits(16));
  EXPECT_TRUE(pool_->admits(4));
}

TEST_F(PoolTest, ConstantsCountInTheBudgetButNotAgainstTheirOwnTasks) {
  PoolConfig config;
  config.budget_bytes = 200;
  make(config);
  submit();
  Constant made;
  world_->allocate(64);
  made.offset = 64;
  made.bytes = 1000;
  const std::uint32_t constant = pool_->add_constant(made);
  EXPECT_FALSE(pool_->admits(4));
  EXPECT_TRUE(pool_->admits(4, constant));
  pool_->pin_constant(constant);
  EXPECT_TRUE(pool_->admits(4)) << "nobody but a cache refers to it";
  pool_->unpin_constant(constant);
}

TEST_F(PoolTest, StreamsFollowTheOrderOfSubmission) {
  PoolConfig config;
  config.seeded = true;
  config.stream = stream_from_seed(123);
  make(config, 1);
  add_daemons(1);
  submit();
  submit();
  StreamState expected = next_stream(stream_from_seed(123));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(world_->claim(0));
    EXPECT_EQ(world_->streams[world_->daemon(0).running], expected);
    expected = next_stream(expected);
    world_->complete(0, 8, 0);
    pool_->progress();
  }
}

TEST_F(PoolTest, ResetResolvesEverything) {
  make({}, 2);
  add_daemons(1);
  std::vector<std::uint32_t> tasks;
  for (int i = 0; i < 6; ++i) {
    tasks.push_back(submit());
  }
  world_->claim(0);
  pool_->reset();
  for (std::uint32_t task : tasks) {
    EXPECT_EQ(pool_->task(task).error, ErrorCode::kClosed);
  }
}

TEST_F(PoolTest, ATaskForADaemonThatHasJustDiedResolvesAtOnce) {
  PoolConfig config;
  config.respawn = false;
  make(config);
  add_daemons(2);
  die(1);
  SubmitSpec spec;
  spec.bytes = kBytes;
  spec.length = sizeof(kBytes);
  spec.kind = TaskKind::kEverywhere;
  spec.queue = 1;
  bool wake = true;
  std::uint32_t queue = 0;
  const std::uint32_t task = pool_->submit(spec, 1, &wake, &queue);
  EXPECT_TRUE(pool_->resolved(task));
  EXPECT_EQ(pool_->task(task).error, ErrorCode::kReset);
  EXPECT_FALSE(wake);
  EXPECT_EQ(pool_->used_bytes(), 0U);
  pool_->sanity_check();
}

TEST_F(PoolTest, ANewDaemonReplaysTheLogAlsoWhenTasksFillAllSlots) {
  make({}, 4);
  add_daemons(1);
  pool_->log_everywhere(kBytes, sizeof(kBytes));
  for (int i = 0; i < 9; ++i) {
    submit();
  }
  std::uint32_t epoch = 0;
  ASSERT_EQ(pool_->add_daemon(false, &epoch), 1U);
  ASSERT_EQ(world_->daemon(1).mailbox.size(), 1U);
  // The next one finds nothing set aside: it is not started before there is room.
  world_->spawned.clear();
  ASSERT_EQ(pool_->add_daemon(false, &epoch), 2U);
  EXPECT_TRUE(world_->spawned.empty());
  ASSERT_TRUE(world_->claim(0));
  ASSERT_TRUE(world_->complete(0, 8, 0));
  pool_->progress();
  EXPECT_EQ(world_->daemon(2).mailbox.size(), 1U);
  ASSERT_EQ(world_->spawned.size(), 1U);
  EXPECT_EQ(world_->spawned[0].first, 2U);
  pool_->sanity_check();
}

TEST_F(PoolTest, ADaemonThatWaitsForRoomDoesNotOutliveTheReset) {
  make({}, 2);
  add_daemons(1);
  for (int i = 0; i < 9; ++i) {
    submit();
  }
  pool_->log_everywhere(kBytes, sizeof(kBytes));
  std::uint32_t epoch = 0;
  ASSERT_EQ(pool_->add_daemon(false, &epoch), 1U);
  pool_->reset();
  die(0);
  EXPECT_EQ(pool_->alive(), 0U);
}

TEST_F(PoolTest, AReplayThatKillsItsDaemonIsNotTriedForEver) {
  make({});
  add_daemons(1);
  pool_->log_everywhere(kBytes, sizeof(kBytes));
  die(0);
  int incarnations = 0;
  while (!world_->spawned.empty() && incarnations < 20) {
    start_daemons();
    ++incarnations;
    ASSERT_TRUE(world_->claim(0));
    die(0);
  }
  EXPECT_EQ(incarnations, 3);
  EXPECT_TRUE(pool_->gave_up());
}

TEST_F(PoolTest, TimersOfTasksThatHaveResolvedDoNotPileUp) {
  make({});
  add_daemons(1);
  for (int i = 0; i < 20000; ++i) {
    const std::uint32_t task = submit(0, 1'000'000'000'000);
    ASSERT_TRUE(world_->claim(0));
    ASSERT_TRUE(world_->complete(0, 8, 0));
    pool_->progress();
    pool_->drop(task);
  }
  const std::uint32_t late = submit(0, 1'000'000'000'001);
  EXPECT_LT(pool_->timers(), 3000U);
  pool_->on_time(1'000'000'000'002);
  EXPECT_EQ(pool_->task(late).error, ErrorCode::kTimedOut);
}

TEST(ConstantsTest, OneThatNoTaskCouldNameIsRefused) {
  Constants constants;
  Constant one;
  for (std::uint32_t i = 0; i < Constants::kMax; i += 1) {
    if (constants.add(one) == kNoConstant) {
      FAIL() << i;
    }
  }
  EXPECT_EQ(constants.add(one), kNoConstant);
}

}  // namespace
}  // namespace setsuna::dispatch
