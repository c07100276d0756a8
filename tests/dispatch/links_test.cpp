// Remote daemons in the pool, one rule at a time.

#include <gtest/gtest.h>

#include <numeric>

#include "fake_links.hpp"

namespace setsuna::dispatch {
namespace {

class LinksTest : public testing::Test {
 protected:
  void make(PoolConfig config = {}, std::uint32_t slots = 16) {
    config.daemon_max = 4;
    config.cancel_grace_ns = 1000;
    world_ = std::make_unique<FakeWorld>(slots, 4);
    links_ = std::make_unique<FakeLinks>(*world_);
    pool_ = std::make_unique<Pool>(config, *world_, *world_, *world_, links_.get());
  }
  void make_prefetching(std::uint32_t prefetch, std::uint32_t slots = 16) {
    PoolConfig config;
    config.prefetch = prefetch;
    make(config, slots);
  }
  void make_round_robin() {
    PoolConfig config;
    config.dispatcher = false;
    make(config);
  }
  void TearDown() override {
    if (pool_) {
      pool_->sanity_check();
    }
  }

  std::uint32_t join(std::int32_t pid = 0) {
    const std::uint32_t link = links_->join(*pool_, pid);
    pool_->feed_links();
    return link;
  }
  void add_daemon() {
    std::uint32_t epoch = 0;
    const std::uint32_t index = pool_->add_daemon(false, &epoch);
    world_->daemon(index).alive = true;
    pool_->on_online(index, epoch);
  }
  SubmitSpec spec() {
    SubmitSpec out;
    bytes_[0] = static_cast<std::uint8_t>(bytes_[0] + 1);
    out.bytes = bytes_;
    out.length = sizeof(bytes_);
    return out;
  }
  std::uint32_t submit(const SubmitSpec& what) {
    bool wake = false;
    std::uint32_t queue = 0;
    const std::uint32_t task = pool_->submit(what, 1, &wake, &queue);
    feed_if_hungry();
    return task;
  }
  std::uint32_t submit(std::uint8_t retries = 0) {
    SubmitSpec what = spec();
    what.retries = retries;
    return submit(what);
  }
  std::uint32_t submit_everywhere(std::uint32_t link) {
    const std::uint32_t task = submit_everywhere_unfed(link);
    feed_if_hungry();
    return task;
  }
  std::uint32_t submit_everywhere_unfed(std::uint32_t link) {
    SubmitSpec what = spec();
    what.kind = TaskKind::kEverywhere;
    what.queue = kLinkQueueBase + link;
    bool wake = false;
    std::uint32_t queue = 0;
    return pool_->submit(what, 1, &wake, &queue);
  }
  // As the host does.
  void feed_if_hungry() {
    if (pool_->links_hungry()) {
      pool_->feed_links();
    }
  }
  // The tasks in a link's hands, in the order in which they were sent.
  std::vector<std::uint64_t> in_hand(std::uint32_t link) {
    links_->settle(*pool_, link);
    std::vector<std::uint64_t> tasks;
    for (const FakeLinks::Message& message : (*links_)[link].held) {
      tasks.push_back(message.content.task);
    }
    return tasks;
  }
  ErrorCode error(std::uint32_t task) { return pool_->task(task).error; }
  bool is_value(std::uint32_t task) { return pool_->resolved(task) && error(task) == ErrorCode::kNone; }
  using Tasks = std::vector<std::uint64_t>;

  std::uint8_t bytes_[40] = {};
  std::unique_ptr<FakeWorld> world_;
  std::unique_ptr<FakeLinks> links_;
  std::unique_ptr<Pool> pool_;
};

// --- Feeding -----------------------------------------------------------------------------------------------

TEST_F(LinksTest, ATaskGoesThereAndItsResultResolvesIt) {
  make();
  const std::uint32_t link = join(77);
  EXPECT_FALSE(pool_->links_hungry());
  const std::uint32_t task = submit();
  EXPECT_EQ(in_hand(link), Tasks{task});
  EXPECT_EQ(pool_->links()[link].in_flight, 1U);
  EXPECT_EQ(pool_->links()[link].pid, 77);
  EXPECT_EQ(pool_->counts(0).executing, 1U);
  EXPECT_EQ(pool_->counts(0).connections, 1U);
  EXPECT_EQ(pool_->counts(0).cumulative, 1U);
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_TRUE(is_value(task));
  EXPECT_EQ(pool_->links()[link].completed, 1U);
  EXPECT_EQ(pool_->counts(0).executing, 0U);
  EXPECT_EQ(pool_->counts(0).completed, 1U);
  EXPECT_EQ(pool_->used_bytes(), 0U);
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, NothingWaitsBehindABusyLink) {
  make();
  const std::uint32_t first = join();
  const std::uint32_t a = submit();
  const std::uint32_t b = submit();
  const std::uint32_t c = submit();
  EXPECT_EQ(in_hand(first), Tasks{a});
  EXPECT_FALSE(pool_->links_hungry());
  const std::uint32_t second = join();
  EXPECT_EQ(in_hand(second), Tasks{b});
  add_daemon();
  ASSERT_TRUE(world_->claim(0));
  EXPECT_EQ(world_->slot(world_->daemon(0).running).content.task, c);
}

// What any thread may send at once: nothing else would go with it, and nobody else could take it.
TEST_F(LinksTest, OneTaskForAnIdleLink) {
  make(PoolConfig(), 2);
  const auto queue_one = [this] {
    bool wake = false;
    std::uint32_t queue = 0;
    return pool_->submit(spec(), 1, &wake, &queue);
  };
  queue_one();
  EXPECT_FALSE(pool_->one_for_idle_link());  // there is no link
  const std::uint32_t first = links_->join(*pool_);
  EXPECT_TRUE(pool_->one_for_idle_link());
  pool_->feed_links();
  EXPECT_EQ(in_hand(first).size(), 1U);
  EXPECT_FALSE(pool_->one_for_idle_link());  // neither a task
  queue_one();
  EXPECT_FALSE(pool_->one_for_idle_link());  // nor is it idle
  const std::uint32_t second = links_->join(*pool_);
  EXPECT_TRUE(pool_->one_for_idle_link());
  queue_one();
  EXPECT_FALSE(pool_->one_for_idle_link());  // no slot for it: it waits behind the other
  pool_->feed_links();
  EXPECT_TRUE(links_->run_one(*pool_, first));
  EXPECT_TRUE(links_->run_one(*pool_, second));
  while (links_->run_one(*pool_, first) || links_->run_one(*pool_, second)) {
  }
  submit_everywhere_unfed(first);
  queue_one();
  EXPECT_FALSE(pool_->one_for_idle_link());  // that goes first
  feed_if_hungry();
  while (links_->run_one(*pool_, first) || links_->run_one(*pool_, second)) {
  }
  queue_one();
  EXPECT_TRUE(pool_->one_for_idle_link());
  add_daemon();
  EXPECT_FALSE(pool_->one_for_idle_link());  // the daemon may run it
  pool_->reset();
  EXPECT_FALSE(pool_->one_for_idle_link());
}

TEST_F(LinksTest, FirstInFirstOutThroughTheSpill) {
  make({}, 2);
  const std::uint32_t link = join();
  Tasks tasks;
  for (int i = 0; i < 9; ++i) {
    tasks.push_back(submit());
  }
  while (links_->run_one(*pool_, link)) {
  }
  Tasks ran;
  for (const FakeLinks::Message& message : (*links_)[link].begun) {
    ran.push_back(message.content.task);
  }
  EXPECT_EQ(ran, tasks);
  EXPECT_EQ(pool_->unfinished(), 0U);
}

TEST_F(LinksTest, TheLongestIdleIsNext) {
  make();
  const std::uint32_t a = join(), b = join(), c = join();
  for (const std::uint32_t expected : {a, b, c, a, b}) {
    submit();
    EXPECT_TRUE(links_->run_one(*pool_, expected));
  }
}

TEST_F(LinksTest, WhatATaskIsGoesWithIt) {
  PoolConfig config;
  config.seeded = true;
  config.stream = stream_from_seed(5);
  make(config);
  const std::uint32_t link = join();
  SubmitSpec what = spec();
  what.kind = TaskKind::kMapElement;
  what.spread = true;
  submit(what);
  const FakeLinks::Message& message = (*links_)[link].outbox.front();
  EXPECT_EQ(message.content.kind, TaskKind::kMapElement);
  EXPECT_EQ(message.content.flags, runtime::kTaskSpread | runtime::kTaskHasStream);
  const StreamState expected = next_stream(stream_from_seed(5));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), message.content.stream));
  EXPECT_EQ(message.bytes, std::vector<std::uint8_t>(bytes_, bytes_ + sizeof(bytes_)));
}

// --- Queues of their own -----------------------------------------------------------------------------------

TEST_F(LinksTest, RoundRobinOverDaemonsAndLinks) {
  make_round_robin();
  add_daemon();
  const std::uint32_t first = join(), second = join();
  Tasks tasks;
  for (int i = 0; i < 6; ++i) {
    tasks.push_back(submit());
  }
  EXPECT_EQ(world_->daemon(0).mailbox.size(), 2U);
  EXPECT_EQ(in_hand(first), Tasks{tasks[1]});
  EXPECT_EQ(in_hand(second), Tasks{tasks[2]});
  ASSERT_TRUE(links_->run_one(*pool_, first));
  EXPECT_EQ(in_hand(first), Tasks{tasks[4]});
  EXPECT_EQ(in_hand(second), Tasks{tasks[2]});
}

TEST_F(LinksTest, WhatWasSentEverywhereIsRunBeforeLaterTasks) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t running = submit();
  const std::uint32_t waits = submit();
  const std::uint32_t setup = submit_everywhere(link);
  EXPECT_EQ(in_hand(link), Tasks{running});
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ(in_hand(link), Tasks{setup});
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ(in_hand(link), Tasks{waits});
}

TEST_F(LinksTest, WhatWaitsInEverySlotMakesRoomForWhatIsBoundForALink) {
  make({}, 2);
  const std::uint32_t first = submit();
  const std::uint32_t second = submit();
  const std::uint32_t third = submit();
  const std::uint32_t link = links_->join(*pool_);
  const std::uint32_t setup = submit_everywhere(link);
  EXPECT_EQ(in_hand(link), Tasks{setup});
  Tasks ran;
  while (links_->run_one(*pool_, link)) {
    ran.push_back((*links_)[link].begun.back().content.task);
  }
  EXPECT_EQ(ran, (Tasks{setup, second, first, third}));
}

TEST_F(LinksTest, ATaskForALinkThatHasJustGoneResolvesAtOnce) {
  make();
  const std::uint32_t link = join();
  links_->die(*pool_, link);
  const std::uint32_t task = submit_everywhere(link);
  EXPECT_EQ(error(task), ErrorCode::kReset);
  EXPECT_EQ(pool_->used_bytes(), 0U);
}

TEST_F(LinksTest, ALateLinkReplaysTheLogBeforeAnyTask) {
  make();
  pool_->log_everywhere(bytes_, sizeof(bytes_));
  const std::uint32_t task = submit();
  const std::uint32_t link = links_->join(*pool_);
  EXPECT_TRUE((*links_)[link].outbox.empty());  // the host learns its number first
  // Sent to all that are online, and so to this one: not part of what it replays.
  const std::uint32_t setup = submit_everywhere(link);
  pool_->log_everywhere(bytes_, sizeof(bytes_));
  feed_if_hungry();
  links_->settle(*pool_, link);
  ASSERT_EQ((*links_)[link].held.size(), 1U);
  const FakeLinks::Message replay = (*links_)[link].held.front();
  EXPECT_EQ(replay.content.kind, TaskKind::kReplay);
  EXPECT_EQ(replay.bytes.size(), sizeof(std::uint64_t) + sizeof(bytes_));
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ(in_hand(link), Tasks{setup});
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ(in_hand(link), Tasks{task});
}

TEST_F(LinksTest, ALogLargerThanASlotAndNoSlotFree) {
  make({}, 2);
  for (int i = 0; i < 5; ++i) {
    submit();
  }
  std::vector<std::uint8_t> large(5000, 3);
  pool_->log_everywhere(large.data(), large.size());
  const std::uint32_t link = join();
  ASSERT_EQ((*links_)[link].outbox.size(), 1U);
  EXPECT_EQ((*links_)[link].outbox.front().bytes.size(), sizeof(std::uint64_t) + large.size());
  while (links_->run_one(*pool_, link)) {
  }
  EXPECT_EQ(pool_->unfinished(), 0U);
}

// --- Death -------------------------------------------------------------------------------------------------

TEST_F(LinksTest, DeathWithoutRetryTellsWho) {
  make();
  const std::uint32_t link = join(4711);
  const std::uint32_t task = submit();
  const std::uint32_t other = submit();
  links_->die(*pool_, link, 4711);
  EXPECT_EQ(error(task), ErrorCode::kReset);
  EXPECT_EQ(pool_->task(task).death.pid, 4711);
  EXPECT_EQ(pool_->task(task).death.wait_status, -1);
  EXPECT_FALSE(pool_->resolved(other));
  EXPECT_EQ(pool_->links_online(), 0U);
  EXPECT_EQ(pool_->links()[link].state, LinkInfo::State::kVacant);
}

TEST_F(LinksTest, RetryRunsAgainAsOftenAsAskedAndOnWhoeverIsThere) {
  make();
  const std::uint32_t task = submit(2);
  const std::uint32_t first = join();
  EXPECT_EQ(in_hand(first), Tasks{task});
  links_->die(*pool_, first);
  const std::uint32_t second = join();
  EXPECT_EQ(second, first);  // the number is used again
  EXPECT_EQ(pool_->links()[second].epoch, 2U);
  EXPECT_EQ(in_hand(second), Tasks{task});
  add_daemon();
  links_->die(*pool_, second);
  ASSERT_TRUE(world_->claim(0));
  EXPECT_EQ(world_->slot(world_->daemon(0).running).content.task, task);
  pool_->on_dead(0, world_->daemon(0).epoch, DeathNote{}, false);
  EXPECT_EQ(error(task), ErrorCode::kReset);
}

TEST_F(LinksTest, ARetryOfADeadDaemonMayGoToALinkOfItsOwnQueue) {
  PoolConfig config;
  config.dispatcher = false;
  config.respawn = false;
  make(config);
  add_daemon();
  const std::uint32_t link = join();
  const std::uint32_t task = submit(1);
  const std::vector<std::uint8_t> bytes(bytes_, bytes_ + sizeof(bytes_));
  ASSERT_TRUE(world_->claim(0));
  pool_->on_dead(0, world_->daemon(0).epoch, DeathNote{}, false);
  feed_if_hungry();
  ASSERT_EQ(in_hand(link), Tasks{task});
  EXPECT_EQ((*links_)[link].held.front().bytes, bytes);
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_TRUE(is_value(task));
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, QueuedTasksOfADeadLinkWithoutDispatcher) {
  make_round_robin();
  const std::uint32_t first = join(), second = join();
  const std::uint32_t running = submit();
  submit();
  const std::uint32_t lost = submit();
  submit();
  const std::uint32_t moved = submit(1);
  const std::uint32_t setup = submit_everywhere(first);
  links_->die(*pool_, first);
  for (const std::uint32_t task : {running, lost, setup}) {
    EXPECT_EQ(error(task), ErrorCode::kReset);
  }
  while (links_->run_one(*pool_, second)) {
  }
  EXPECT_TRUE(is_value(moved));
  EXPECT_EQ(pool_->unfinished(), 0U);
}

TEST_F(LinksTest, WhatALeavingLinkHadNotBegunGoesToOthersWithoutARetry) {
  make();
  const std::uint32_t link = join();
  links_->settle(*pool_, link);
  ASSERT_TRUE(links_->leave(link));
  const std::uint32_t task = submit();  // crosses it
  ASSERT_TRUE(links_->tell_answer(*pool_, link));
  EXPECT_EQ(pool_->links()[link].state, LinkInfo::State::kLeaving);
  EXPECT_EQ(pool_->links_online(), 0U);
  const std::uint32_t next = submit();
  links_->die(*pool_, link);
  const std::uint32_t other = join();
  EXPECT_EQ(in_hand(other).size(), 1U);
  while (links_->run_one(*pool_, other)) {
  }
  EXPECT_TRUE(is_value(task) && is_value(next));
}

TEST_F(LinksTest, TheQueueOfALeavingLinkMovesOn) {
  make_round_robin();
  const std::uint32_t leaver = join(5);
  Tasks tasks{submit(), submit(), submit()};
  const std::uint32_t setup = submit_everywhere(leaver);
  ASSERT_TRUE(links_->run_one(*pool_, leaver));
  const std::uint32_t other = join();
  links_->settle(*pool_, leaver);
  ASSERT_TRUE(links_->leave(leaver));
  while (links_->tell_answer(*pool_, leaver)) {
  }
  links_->die(*pool_, leaver);
  EXPECT_EQ(error(setup), ErrorCode::kReset);  // meant for that one alone
  EXPECT_EQ(pool_->task(setup).death.pid, 5);
  while (links_->run_one(*pool_, other)) {
  }
  for (const std::uint64_t task : tasks) {
    EXPECT_TRUE(is_value(static_cast<std::uint32_t>(task)));
  }
}

TEST_F(LinksTest, DaemonsThatCannotStartDoNotFailWhatALinkCanRun) {
  make();
  const std::uint32_t link = join();
  std::uint32_t epoch = 0;
  pool_->add_daemon(false, &epoch);
  const std::uint32_t first = submit(), second = submit();
  for (int i = 0; i < 3; ++i) {
    pool_->on_dead(0, world_->daemon(0).epoch, DeathNote{}, false);
  }
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_TRUE(is_value(first));
  links_->die(*pool_, link);
  EXPECT_TRUE(pool_->gave_up());
  EXPECT_EQ(error(second), ErrorCode::kReset);
  EXPECT_EQ(pool_->unfinished(), 0U);
}

// --- Prefetch ----------------------------------------------------------------------------------------------

TEST_F(LinksTest, PrefetchOnlyWhenNobodyIdles) {
  make_prefetching(1);
  const std::uint32_t first = join(), second = join();
  const std::uint32_t a = submit(), b = submit(), c = submit(), d = submit(), e = submit();
  EXPECT_EQ(in_hand(first), (Tasks{a, c}));
  EXPECT_EQ(in_hand(second), (Tasks{b, d}));
  const std::uint32_t third = join();
  EXPECT_EQ(in_hand(third), Tasks{e});
}

TEST_F(LinksTest, AnIdleLinkGetsThePrefetchedTaskThatHasWaitedLongest) {
  make_prefetching(2);
  const std::uint32_t busy = join();
  const std::uint32_t a = submit(), b = submit(), c = submit();
  ASSERT_EQ(in_hand(busy), (Tasks{a, b, c}));
  ASSERT_NE(links_->begin(busy), nullptr);
  const std::uint32_t idle = join();
  EXPECT_TRUE((*links_)[idle].outbox.empty());  // not before it is given back
  EXPECT_EQ(in_hand(busy), (Tasks{a, c}));
  ASSERT_TRUE(links_->tell_answer(*pool_, busy));
  EXPECT_EQ(in_hand(idle), Tasks{b});
  ASSERT_TRUE(links_->run_one(*pool_, idle));
  links_->settle(*pool_, busy);
  ASSERT_TRUE(links_->tell_answer(*pool_, busy));
  EXPECT_EQ(in_hand(idle), Tasks{c});
  EXPECT_EQ(pool_->links()[busy].assigned, 1U);
}

TEST_F(LinksTest, ARetractionThatComesTooLate) {
  make_prefetching(1);
  const std::uint32_t busy = join();
  const std::uint32_t a = submit(), b = submit();
  ASSERT_EQ(in_hand(busy), (Tasks{a, b}));
  ASSERT_NE(links_->begin(busy), nullptr);
  ASSERT_TRUE(links_->complete(busy));
  ASSERT_NE(links_->begin(busy), nullptr);
  const std::uint32_t idle = join();
  links_->settle(*pool_, busy);  // b runs: not given back
  ASSERT_TRUE(links_->complete(busy));
  while (links_->tell_answer(*pool_, busy)) {
  }
  EXPECT_TRUE(is_value(a) && is_value(b));
  EXPECT_TRUE((*links_)[idle].outbox.empty());
  submit();
  submit();
  EXPECT_EQ(in_hand(idle).size(), 1U);  // nothing is still thought to be on its way back
  EXPECT_EQ(in_hand(busy).size(), 1U);
}

TEST_F(LinksTest, ARetractionThatComesTooLateDoesNotKeepOthersBehindTheTask) {
  make_prefetching(2);
  const std::uint32_t busy = join();
  const std::uint32_t a = submit(), b = submit(), c = submit();
  ASSERT_EQ(in_hand(busy), (Tasks{a, b, c}));
  ASSERT_NE(links_->begin(busy), nullptr);
  ASSERT_TRUE(links_->complete(busy));
  ASSERT_NE(links_->begin(busy), nullptr);  // b: it runs on
  const std::uint32_t idle = join();
  links_->settle(*pool_, busy);                // b was asked for
  while (links_->tell_answer(*pool_, busy)) {  // a's result: now the pool knows that b has begun
  }
  links_->settle(*pool_, busy);
  while (links_->tell_answer(*pool_, busy)) {
  }
  EXPECT_TRUE(is_value(a));
  EXPECT_EQ(in_hand(busy), Tasks{b});
  EXPECT_EQ(in_hand(idle), Tasks{c});
}

TEST_F(LinksTest, TasksThatWaitedBehindAnotherOnADeadLinkAreNext) {
  make_prefetching(2);
  const std::uint32_t first = join();
  const std::uint32_t a = submit(), b = submit(), c = submit();
  const std::uint32_t second = join();
  links_->settle(*pool_, second);
  const std::uint32_t d = submit(), e = submit();
  ASSERT_EQ(in_hand(second).front(), d);
  const std::uint32_t f = submit();
  static_cast<void>(e);
  static_cast<void>(f);
  links_->die(*pool_, first);
  EXPECT_EQ(error(a), ErrorCode::kReset);
  for (const std::uint32_t task : {b, c}) {
    EXPECT_FALSE(pool_->resolved(task));
  }
  Tasks ran;
  while (links_->run_one(*pool_, second)) {
    ran.push_back((*links_)[second].begun.back().content.task);
  }
  EXPECT_LT(std::find(ran.begin(), ran.end(), b), std::find(ran.begin(), ran.end(), c));
  EXPECT_EQ(pool_->unfinished(), 0U);
  EXPECT_TRUE(is_value(b) && is_value(c));
}

TEST_F(LinksTest, ReturnedTasksGoBeforeAllOthers) {
  make_prefetching(1);
  const std::uint32_t first = join();
  const std::uint32_t a = submit(), b = submit();
  const std::uint32_t later = submit();
  links_->die(*pool_, first);
  static_cast<void>(a);
  const std::uint32_t second = join();
  // With nobody there they went back to the shared queue, where they are last.
  EXPECT_EQ(in_hand(second), (Tasks{later, b}));
  const std::uint32_t c = submit();
  const std::uint32_t third = join();
  EXPECT_EQ(in_hand(third), Tasks{c});
  const std::uint32_t d = submit(), e = submit();
  ASSERT_EQ(in_hand(third), (Tasks{c, d}));
  links_->die(*pool_, second);  // later: error; b waits for the next that has room
  ASSERT_TRUE(links_->run_one(*pool_, third));
  EXPECT_EQ(in_hand(third), (Tasks{d, b}));
  ASSERT_TRUE(links_->run_one(*pool_, third));
  EXPECT_EQ(in_hand(third), (Tasks{b, e}));
}

TEST_F(LinksTest, NoPrefetchBesideLocalDaemonsWhoGetWhatWasPrefetched) {
  make_prefetching(3);
  const std::uint32_t link = join();
  const std::uint32_t a = submit(), b = submit(), c = submit();
  ASSERT_EQ(in_hand(link), (Tasks{a, b, c}));
  ASSERT_NE(links_->begin(link), nullptr);
  add_daemon();
  EXPECT_TRUE(pool_->links_hungry());
  feed_if_hungry();
  links_->settle(*pool_, link);
  while (links_->tell_answer(*pool_, link)) {
  }
  for (const std::uint32_t expected : {b, c}) {
    ASSERT_TRUE(world_->claim(0));
    EXPECT_EQ(world_->slot(world_->daemon(0).running).content.task, expected);
    ASSERT_TRUE(world_->complete(0, 8, 0));
    pool_->progress();
  }
  submit();
  EXPECT_EQ(in_hand(link), Tasks{a});
  EXPECT_FALSE(pool_->links_hungry());
}

TEST_F(LinksTest, WhatIsBoundIsPrefetchedAndNotAskedBack) {
  PoolConfig config;
  config.dispatcher = false;
  config.prefetch = 1;
  make(config);
  const std::uint32_t first = join();
  const std::uint32_t a = submit(), b = submit();
  EXPECT_EQ(in_hand(first), (Tasks{a, b}));
  join();
  links_->settle(*pool_, first);
  EXPECT_TRUE((*links_)[first].answers.empty());
  EXPECT_EQ(in_hand(first), (Tasks{a, b}));
}

// --- Cancel ------------------------------------------------------------------------------------------------

TEST_F(LinksTest, CancelOfARunningTaskInterruptsThenKills) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t task = submit(3);
  links_->settle(*pool_, link);
  ASSERT_NE(links_->begin(link), nullptr);
  EXPECT_TRUE(pool_->cancel(task, ErrorCode::kCancelled, 10));
  EXPECT_EQ(error(task), ErrorCode::kCancelled);
  links_->settle(*pool_, link);
  EXPECT_TRUE((*links_)[link].interrupted);
  submit();
  EXPECT_EQ(in_hand(link).size(), 1U);  // its slot, and its link, are in use
  pool_->on_time(1009);
  EXPECT_FALSE((*links_)[link].killed);
  pool_->on_time(1010);
  EXPECT_TRUE((*links_)[link].killed);
  EXPECT_EQ(pool_->links_online(), 0U);
  links_->die(*pool_, link);  // cancelled: not run again whatever its retries
  EXPECT_EQ(pool_->unfinished(), 1U);
}

TEST_F(LinksTest, CancelledTaskThatEndsInTimeKeepsItsLink) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t task = submit();
  links_->settle(*pool_, link);
  ASSERT_NE(links_->begin(link), nullptr);
  pool_->cancel(task, ErrorCode::kCancelled, 10);
  world_->allocate(64);  // the host has received a large result
  SlotResult result;
  result.bytes = 5000;
  result.offset = 64;
  pool_->on_link_result(link, (*links_)[link].held.front().id, result);
  EXPECT_EQ(world_->blocks(), 0U);
  ASSERT_TRUE(links_->complete(link));
  (*links_)[link].answers.clear();
  const std::uint32_t next = submit();
  links_->settle(*pool_, link);
  ASSERT_NE(links_->begin(link), nullptr);
  pool_->on_time(5000);
  EXPECT_FALSE((*links_)[link].killed);
  ASSERT_TRUE(links_->complete(link));
  links_->tell_answer(*pool_, link);
  EXPECT_TRUE(is_value(next));
}

TEST_F(LinksTest, ACancelDoesNotOvertakeItsTask) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t task = submit();
  pool_->cancel(task, ErrorCode::kCancelled, 10);
  EXPECT_TRUE((*links_)[link].control.empty());
  pool_->on_time(1'000'000);  // on its way: nothing runs that must be killed
  EXPECT_FALSE((*links_)[link].killed);
  ASSERT_TRUE(links_->transmit(link));
  ASSERT_TRUE(links_->tell_sent(*pool_, link));
  links_->settle(*pool_, link);
  EXPECT_EQ((*links_)[link].answers.size(), 1U);  // it found the task, which had not begun
  links_->tell_answer(*pool_, link);
  EXPECT_TRUE(world_->all_free());
}

// A small task is "sent" once it is copied: all that was to be said of it by then goes behind the copy.
TEST_F(LinksTest, ACancelDoesNotOvertakeACopyOfItsTask) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t task = submit();
  pool_->cancel(task, ErrorCode::kCancelled, 10);
  ASSERT_TRUE(links_->copy(*pool_, link));
  EXPECT_TRUE((*links_)[link].control.empty());
  links_->settle(*pool_, link);
  EXPECT_EQ(links_->begin(link), nullptr);
  EXPECT_EQ((*links_)[link].answers.size(), 1U);
  links_->tell_answer(*pool_, link);
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, ARetractionDoesNotOvertakeACopyOfItsTask) {
  make_prefetching(1);
  const std::uint32_t first = join();
  const std::uint32_t a = submit(), b = submit();
  const std::uint32_t second = join();  // idle: b is asked back
  while (links_->copy(*pool_, first)) {
  }
  EXPECT_TRUE((*links_)[first].control.empty());
  links_->settle(*pool_, first);
  ASSERT_EQ((*links_)[first].answers.size(), 1U);
  links_->tell_answer(*pool_, first);
  feed_if_hungry();
  EXPECT_EQ(in_hand(second), Tasks{b});
  EXPECT_EQ(in_hand(first), Tasks{a});
}

TEST_F(LinksTest, ACancelledTaskThatWaitsBehindAnotherKillsNobody) {
  make_prefetching(1);
  const std::uint32_t link = join();
  const std::uint32_t a = submit(), b = submit();
  links_->settle(*pool_, link);
  ASSERT_NE(links_->begin(link), nullptr);
  pool_->cancel(b, ErrorCode::kCancelled, 10);
  pool_->on_time(5000);
  EXPECT_FALSE((*links_)[link].killed);
  ASSERT_TRUE(links_->complete(link));
  links_->settle(*pool_, link);
  while (links_->tell_answer(*pool_, link)) {
  }
  EXPECT_TRUE(is_value(a));
  EXPECT_EQ((*links_)[link].begun.size(), 1U);
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, ATaskThatIsCancelledBetweenTwoLinks) {
  make_prefetching(1);
  const std::uint32_t first = join();
  submit();
  const std::uint32_t b = submit();
  const std::uint32_t second = join();
  submit();
  submit();
  links_->settle(*pool_, first);
  links_->settle(*pool_, second);
  links_->die(*pool_, first);  // b waits for room on the second
  EXPECT_TRUE(pool_->cancel(b, ErrorCode::kCancelled, 10));
  pool_->sanity_check();
  while (links_->run_one(*pool_, second)) {
  }
  for (const FakeLinks::Message& message : (*links_)[second].begun) {
    EXPECT_NE(message.content.task, b);
  }
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, TimeoutOfATaskThatALinkRuns) {
  make();
  const std::uint32_t link = join();
  SubmitSpec what = spec();
  what.deadline_ns = 100;
  const std::uint32_t task = submit(what);
  links_->settle(*pool_, link);
  pool_->on_time(100);
  EXPECT_EQ(error(task), ErrorCode::kTimedOut);
  EXPECT_EQ((*links_)[link].control.size(), 1U);
}

// --- What is retained --------------------------------------------------------------------------------------

TEST_F(LinksTest, ArgumentsStayUntilTheyHaveLeftEvenWhenTheResultIsThere) {
  make();
  const std::uint32_t link = join();
  SubmitSpec what;
  what.in_area = true;
  what.area_offset = 64;
  what.length = 5000;
  world_->allocate(64);
  const std::uint32_t task = submit(what);
  ASSERT_TRUE(links_->transmit(link));
  ASSERT_TRUE(links_->receive_data(link));
  ASSERT_NE(links_->begin(link), nullptr);
  ASSERT_TRUE(links_->complete(link));
  ASSERT_TRUE(links_->tell_answer(*pool_, link));
  EXPECT_TRUE(is_value(task));
  EXPECT_TRUE(world_->allocated(64));
  EXPECT_EQ(pool_->used_bytes(), 5000U);
  const std::uint32_t next = submit();  // the link is free for it all the same
  EXPECT_EQ((*links_)[link].outbox.size(), 1U);
  ASSERT_TRUE(links_->tell_sent(*pool_, link));
  EXPECT_FALSE(world_->allocated(64));
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_TRUE(is_value(next));
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, AStaleResultIsReleased) {
  make();
  const std::uint32_t link = join(), other = join();
  const std::uint32_t task = submit();
  links_->settle(*pool_, link);
  const std::uint64_t id = (*links_)[link].held.front().id;
  links_->tell_result(*pool_, other, id, 5000, 64);  // from one that never had it
  EXPECT_FALSE(pool_->resolved(task));
  ASSERT_TRUE(links_->run_one(*pool_, link));
  links_->tell_result(*pool_, link, id, 5000, 128);
  links_->tell_result(*pool_, 4000, id, 5000, 192);
  EXPECT_EQ(world_->blocks(), 0U);
}

TEST_F(LinksTest, NothingIsSentAheadBehindManyBytes) {
  make_prefetching(3);
  const std::uint32_t link = join();
  SubmitSpec bulk;
  bulk.in_area = true;
  bulk.area_offset = 1 << 20;
  bulk.length = kBulkBytes;
  world_->allocate(bulk.area_offset);
  submit(bulk);
  submit();
  submit();
  EXPECT_EQ(pool_->links()[link].in_flight, 1U) << "behind a line that is stuck they could never be had back";
  ASSERT_TRUE(links_->transmit(link));
  ASSERT_TRUE(links_->tell_sent(*pool_, link));
  feed_if_hungry();
  EXPECT_EQ(pool_->links()[link].in_flight, 3U);
}

TEST_F(LinksTest, TheBudgetCountsWhatLinksHave) {
  PoolConfig config;
  config.budget_bytes = 50;
  make(config);
  const std::uint32_t link = join();
  submit();
  EXPECT_FALSE(pool_->admits(40));
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_TRUE(pool_->admits(40));
}

// --- Constants ---------------------------------------------------------------------------------------------

class LinkConstantsTest : public LinksTest {
 protected:
  std::uint32_t add_constant() {
    Constant made;
    made.offset = next_offset_ += 64;
    made.bytes = 64;
    world_->allocate(made.offset);
    return pool_->add_constant(made);
  }
  std::uint32_t submit_with(std::uint32_t constant) {
    SubmitSpec what = spec();
    what.constant = constant;
    return submit(what);
  }
  std::uint64_t next_offset_ = 1 << 20;
};

TEST_F(LinkConstantsTest, GoOnceToEachLink) {
  make();
  const std::uint32_t first = join(), second = join();
  const std::uint32_t constant = add_constant();
  for (int i = 0; i < 3; ++i) {
    submit_with(constant);
    submit_with(constant);
    ASSERT_TRUE(links_->run_one(*pool_, first));
    ASSERT_TRUE(links_->run_one(*pool_, second));
  }
  EXPECT_EQ((*links_)[first].constants_received, 1U);
  EXPECT_EQ((*links_)[second].constants_received, 1U);
  pool_->release_constant(constant);
  for (const std::uint32_t link : {first, second}) {
    links_->settle(*pool_, link);
    EXPECT_TRUE((*links_)[link].constants.empty());
  }
  EXPECT_EQ(world_->blocks(), 0U);
}

TEST_F(LinkConstantsTest, ALinkKeepsSixtyFourAndForgetsTheLeastRecentlyUsed) {
  make();
  const std::uint32_t link = join();
  std::vector<std::uint32_t> constants;
  for (std::uint32_t i = 0; i < 64; ++i) {
    constants.push_back(add_constant());
    submit_with(constants.back());
    ASSERT_TRUE(links_->run_one(*pool_, link));
  }
  submit_with(constants[0]);  // now the second is the oldest
  ASSERT_TRUE(links_->run_one(*pool_, link));
  constants.push_back(add_constant());
  submit_with(constants.back());
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ((*links_)[link].constants.size(), 64U);
  submit_with(constants[0]);
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ((*links_)[link].constants_received, 65U);
  submit_with(constants[1]);
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ((*links_)[link].constants_received, 66U);
  for (const std::uint32_t constant : constants) {
    pool_->release_constant(constant);
  }
  links_->settle(*pool_, link);
  EXPECT_TRUE((*links_)[link].constants.empty());
  EXPECT_EQ(world_->blocks(), 0U);
}

TEST_F(LinkConstantsTest, StayUntilTheyHaveLeftAndWhileATaskNeedsThem) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t constant = add_constant();
  submit_with(constant);
  pool_->release_constant(constant);
  ASSERT_TRUE(links_->transmit(link) && links_->transmit(link));
  ASSERT_TRUE(links_->receive_data(link) && links_->receive_data(link));
  ASSERT_NE(links_->begin(link), nullptr);
  ASSERT_TRUE(links_->complete(link));
  ASSERT_TRUE(links_->tell_answer(*pool_, link));
  EXPECT_EQ(world_->blocks(), 1U);
  ASSERT_TRUE(links_->tell_sent(*pool_, link));  // the constant; the task's own bytes are still to go
  EXPECT_EQ(world_->blocks(), 1U);
  ASSERT_TRUE(links_->tell_sent(*pool_, link));
  EXPECT_EQ(world_->blocks(), 0U);
}

TEST_F(LinkConstantsTest, OfADeadLinkAreReleasedAndSentAgainToTheNext) {
  make();
  const std::uint32_t link = join();
  const std::uint32_t constant = add_constant();
  const std::uint32_t task = submit_with(constant);
  pool_->release_constant(constant);
  links_->die(*pool_, link);
  EXPECT_EQ(error(task), ErrorCode::kReset);
  EXPECT_EQ(world_->blocks(), 0U);
  const std::uint32_t second = add_constant();
  join();
  submit_with(second);
  ASSERT_TRUE(links_->run_one(*pool_, link));
  EXPECT_EQ((*links_)[link].constants_received, 1U);
}

// --- End ---------------------------------------------------------------------------------------------------

TEST_F(LinksTest, ResetResolvesEverythingAndLateResultsLeakNothing) {
  make_prefetching(1, 4);
  const std::uint32_t first = join(), second = join();
  std::vector<std::uint32_t> tasks;
  for (int i = 0; i < 9; ++i) {
    tasks.push_back(submit());
  }
  tasks.push_back(submit_everywhere(first));
  links_->settle(*pool_, first);
  ASSERT_NE(links_->begin(first), nullptr);
  pool_->reset();
  for (const std::uint32_t task : tasks) {
    EXPECT_EQ(error(task), ErrorCode::kClosed);
    pool_->drop(task);
  }
  EXPECT_TRUE((*links_)[first].stopped && (*links_)[second].stopped);
  EXPECT_EQ(pool_->add_link(1), kNoLink);
  EXPECT_FALSE(pool_->links_hungry());
  ASSERT_TRUE(links_->complete(first));
  ASSERT_TRUE(links_->tell_answer(*pool_, first, 5000, 64));
  EXPECT_EQ(world_->blocks(), 0U);
  EXPECT_EQ(pool_->alive(), 2U);
  links_->die(*pool_, first);
  links_->die(*pool_, second);
  EXPECT_EQ(pool_->alive(), 0U);
  EXPECT_EQ(pool_->handles(), 0U);
  EXPECT_EQ(pool_->used_bytes(), 0U);
  EXPECT_TRUE(world_->all_free());
}

TEST_F(LinksTest, WithoutAPortThereAreNone) {
  FakeWorld world(4, 4);
  PoolConfig config;
  config.daemon_max = 4;
  Pool pool(config, world, world, world);
  EXPECT_EQ(pool.add_link(1), kNoLink);
  EXPECT_FALSE(pool.links_hungry());
}

TEST_F(LinksTest, AsManyAsThereAreNumbers) {
  make();
  for (std::uint32_t i = 0; i < kMaxLinks; ++i) {
    ASSERT_EQ(links_->join(*pool_), i);
  }
  EXPECT_EQ(pool_->add_link(1), kNoLink);
  EXPECT_EQ(pool_->links_online(), kMaxLinks);
  std::vector<std::uint32_t> tasks;
  for (std::uint32_t i = 0; i < 16; ++i) {
    tasks.push_back(submit_everywhere(kMaxLinks - 1 - i));
    EXPECT_EQ((*links_)[kMaxLinks - 1 - i].outbox.size(), 1U);
  }
  for (std::uint32_t i = 0; i < kMaxLinks; ++i) {
    links_->die(*pool_, i);
  }
  EXPECT_EQ(pool_->links_online(), 0U);
  EXPECT_EQ(pool_->unfinished(), 0U);
  EXPECT_NE(links_->join(*pool_), kNoLink);
}

}  // namespace
}  // namespace setsuna::dispatch
