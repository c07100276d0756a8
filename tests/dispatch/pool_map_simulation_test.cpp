// The pool under a seeded simulator with maps whose elements travel in ranges: among submits, cancels, timeouts, deaths and
// everywhere(), daemons begin, finish and skip elements one by one. No element may be begun twice, or lost.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "dispatch/range_stream.hpp"
#include "fake_links.hpp"
#include "fake_world.hpp"

namespace setsuna::dispatch {
namespace {

struct Shape {
  bool dispatcher = true;
  bool seeded = false;
  bool locals = true;
  std::uint32_t links = 0;
  std::uint32_t prefetch = 0;
};

struct Expectation {
  bool cancelled = false;
  bool timed = false;
  std::uint64_t deadline_ns = 0;
  std::uint8_t retries = 0;
  bool everywhere = false;
  bool element = false;    // of a map that travels by number
  std::uint64_t name = 0;  // of the map and the element
  bool seen_resolved = false;
  ErrorCode outcome = ErrorCode::kNone;
};

class MapSimulation {
 public:
  MapSimulation(std::uint32_t seed, const Shape& shape)
      : shape_(shape), seed_(seed), random_(seed), world_(8, 6), links_(world_) {
    PoolConfig config;
    config.dispatcher = shape.dispatcher;
    config.seeded = shape.seeded;
    config.prefetch = shape.prefetch;
    config.stream = stream_ = stream_from_seed(static_cast<std::int32_t>(seed));
    config.daemon_max = 6;
    config.cancel_grace_ns = 50;
    pool_ = std::make_unique<Pool>(config, world_, world_, world_, &links_);
    pool_->set_trace(&trace_);
    pool_->set_store(
        [](void* self, const std::uint8_t*, std::uint64_t, std::uint64_t* offset) {
          auto* simulation = static_cast<MapSimulation*>(self);
          *offset = simulation->new_block();
          return true;
        },
        this);
  }

  void run(int steps) {
    std::uint32_t epoch = 0;
    for (int i = 0; i < 2 && shape_.locals; ++i) {
      pool_->add_daemon(false, &epoch);
    }
    for (int i = 0; i < steps; ++i) {
      step();
      for (std::uint32_t moves = 3 * shape_.links; moves > 0; --moves) {
        link_step(pick(shape_.links));
      }
      feed();
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
    const std::uint32_t what = pick(30);
    switch (what < 18 ? what : what - 18) {
      case 0:
      case 1:
      case 2: submit(); break;
      case 3: cancel(); break;
      case 4: drop(); break;
      case 5:
        now_ns_ += pick(8) == 0 ? 4'000'000 : pick(40);
        pool_->on_time(now_ns_);
        break;
      case 6:
      case 7: daemon_step(); break;
      case 8: die(); break;
      case 9: start_spawned(); break;
      case 10: everywhere(); break;
      case 11: submit_map(); break;
      case 12:
      case 13:
      case 14:
      case 15:
      case 16:
      case 17: element_step(pick(world_.daemon_max())); break;
      default: pool_->progress(); break;
    }
  }

  void submit() {
    static const std::uint8_t bytes[64] = {};
    SubmitSpec spec;
    spec.bytes = bytes;
    spec.length = 1 + pick(63);
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
    stream_ = spec.kind == TaskKind::kEverywhere ? stream_ : next_stream(stream_);
    tasks_[index] = expected;
  }

  void submit_map() {
    Constant made;
    made.offset = new_block();
    made.bytes = 64;
    const std::uint32_t constant = pool_->add_constant(made);
    const std::uint64_t key = ++maps_;
    keys_[world_key(constant)] = key;
    MapSpec spec;
    spec.constant = constant;
    for (std::uint32_t part = 0; part < 2 && pool_->takes_ranges(); ++part) {
      std::vector<std::uint32_t> tasks(1 + pick(70));
      spec.count = static_cast<std::uint32_t>(tasks.size());
      pool_->submit_map(spec, now_ns_, tasks.data());
      for (std::uint32_t i = 0; i < spec.count; ++i) {
        ASSERT_FALSE(tasks_.contains(tasks[i]));
        Expectation expected;
        expected.element = true;
        expected.name = (key << 32) | (spec.first + i);
        tasks_[tasks[i]] = expected;
        streams_[expected.name] = stream_ = next_stream(stream_);
      }
      spec.first += spec.count;
      if (part == 0 && pick(4) == 0) {
        submit();  // from a finalizer: between two parts R may collect garbage
      }
    }
    pool_->release_constant(constant);
  }

  // Constants of maps are told apart by their block, as daemons see it.
  std::uint64_t world_key(std::uint32_t) const { return next_block_; }

  // A daemon begins or finishes an element of its range, or ends the range early.
  void element_step(std::uint32_t d) {
    if (world_.daemon(d).running == runtime::kNoSlot || !world_.daemon(d).alive || world_.daemon(d).killed ||
        !world_.in_range(d)) {
      return;
    }
    FakeWorld::Slot& slot = world_.slot(world_.daemon(d).running);
    if (element_begun_[d]) {
      const bool large = pick(8) == 0;
      next_block_ += large ? 64 : 0;
      world_.finish_element(d, large ? next_block_ : 0);
      element_begun_[d] = false;
      if (large || slot.at + kEntryAreaBytes > runtime::kInlineResultBytes || pick(30) == 0) {
        world_.finish_range(d, 1 + pick(3) * 100'000);
      }
      return;
    }
    if (slot.progress == world_.range_count(d)) {
      world_.finish_range(d, 1 + pick(2) * 1000);
      return;
    }
    if (world_.begin_element(d)) {
      element_begun_[d] = true;
      const std::uint32_t element = world_.range_element(d, slot.progress);
      RangeStream stream(world_.range_element(d, 0), world_.streams[world_.daemon(d).running]);
      note_begun((keys_[slot.content.const_offset] << 32) | element, stream.of(element));
    }
  }

  // Its stream must be the one that it would have had, had it gone alone.
  void note_begun(std::uint64_t name, const StreamState& stream) {
    begun_.insert(name);
    EXPECT_LE(++runs_[name], 1 + again_[name]) << "an element was begun too often";
    EXPECT_TRUE(!shape_.seeded || stream == streams_[name])
        << "element " << (name & 0xFFFFFFFF) << " of map " << (name >> 32);
  }

  // --- Remote daemons ---

  std::uint64_t name_of(const FakeLinks::Message& message, std::uint32_t position) {
    std::uint64_t element = 0;
    if (message.is_range()) {
      element = message.element(position);
    } else {
      std::memcpy(&element, message.bytes.data(), sizeof(element));
    }
    return (keys_[message.content.const_offset] << 32) | element;
  }
  static bool is_element(const FakeLinks::Message& message) {
    return !message.is_range() && (message.content.flags & runtime::kTaskIndexed) != 0;
  }

  void link_step(std::uint32_t link) {
    if (!links_[link].up) {
      if (pick(20) == 0) {
        links_.join(*pool_);
      }
      return;
    }
    switch (pick(14)) {
      case 0:
      case 1: links_.transmit(link); break;
      case 2:
      case 3: links_.receive_data(link); break;
      case 4: links_.receive_control(link); break;
      case 5: links_.tell_sent(*pool_, link); break;
      case 6:
      case 7: tell_answer(link); break;
      case 8:
        if (pick(60) == 0) {
          links_.leave(link);
        }
        if (pick(60) == 0 || (links_[link].killed && pick(3) == 0)) {
          lose(link);
        }
        break;
      default: run_link(link); break;
    }
  }

  void tell_answer(std::uint32_t link) {
    const bool large = pick(4) == 0;
    next_block_ += large ? 64 : 0;
    links_.tell_answer(*pool_, link, large ? 5000 : pick(100), next_block_);
  }

  // It begins a task, or an element, or ends one.
  void run_link(std::uint32_t link) {
    if (!links_[link].running) {
      const FakeLinks::Message* message = links_.begin(link);
      if (message != nullptr && is_element(*message)) {
        note_begun(name_of(*message, 0), message->stream);
      }
    } else if (!links_.in_range(link)) {
      links_.complete(link);
    } else if (links_[link].range.begun) {
      const bool large = pick(8) == 0;
      links_.finish_element(link, large);
      if (large || pick(30) == 0) {
        links_.finish_range(link, 1 + pick(3) * 100'000, false);
      }
    } else if (links_.range_over(link)) {
      links_.finish_range(link, 1 + pick(2) * 1000, pick(40) == 0);
    } else {
      const std::uint32_t position = links_[link].range.progress;
      if (links_.begin_element(link)) {
        const FakeLinks::Message& message = links_.running(link);
        RangeStream stream(message.element(0), message.stream);
        note_begun(name_of(message, position), stream.of(message.element(position)));
      }
    }
  }

  // The connection ends, and with it what was on its way. Of the oldest unanswered task the pool knows that it may have begun,
  // or all of a range; of a link that has said that it leaves, that none has. What it gives to another may run again.
  void lose(std::uint32_t link) {
    const FakeLinks::Link& it = links_[link];
    const bool leaving = pool_->links()[link].state == LinkInfo::State::kLeaving;
    bool oldest = true;
    for (const FakeLinks::Message& message : it.unanswered) {
      const bool known = oldest && !leaving;
      oldest = oldest && message.content.kind == TaskKind::kReplay;
      for (std::uint32_t i = 0; message.is_range() && i < message.count(); ++i) {
        known ? static_cast<void>(lost_.insert(name_of(message, i))) : static_cast<void>(++again_[name_of(message, i)]);
      }
      if (is_element(message)) {
        known ? static_cast<void>(lost_.insert(name_of(message, 0))) : static_cast<void>(++again_[name_of(message, 0)]);
      }
    }
    links_.die(*pool_, link);
  }

  // The reactor, when it gets to it.
  void feed() {
    if (pool_->links_hungry() && pick(4) != 0) {
      links_.feed(*pool_);
    }
  }

  void run_links_on() {
    for (std::uint32_t link = 0; link < links_.size(); ++link) {
      if (links_[link].up && (links_[link].killed || (links_[link].left && links_[link].answers.empty()))) {
        lose(link);
      }
      if (!links_[link].up) {
        continue;
      }
      links_.settle(*pool_, link);
      for (int i = 0; i < 8; ++i) {
        run_link(link);
        tell_answer(link);
      }
    }
    if (shape_.links > 0 && !pool_->closed()) {
      if (pool_->links_online() == 0) {
        links_.join(*pool_);
      }
      pool_->feed_links();
    }
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
    if (world_.daemon(d).running != runtime::kNoSlot && world_.in_range(d)) {
      element_step(d);
    } else if (!claim(d)) {
      const bool large = pick(4) == 0;
      next_block_ += large ? 64 : 0;
      world_.complete(d, large ? 5000 : pick(100), next_block_);
    }
    if (pick(3) == 0 && !world_.held_blocks.empty()) {
      world_.held_blocks.erase(world_.held_blocks.begin());
    }
  }

  bool claim(std::uint32_t d) {
    if (!world_.claim(d)) {
      return false;
    }
    element_begun_[d] = false;
    const FakeWorld::Slot& slot = world_.slot(world_.daemon(d).running);
    if ((slot.content.flags & runtime::kTaskIndexed) != 0 && slot.content.kind == TaskKind::kMapElement) {
      std::uint64_t element = 0;
      std::memcpy(&element, slot.bytes.data(), sizeof(element));
      note_begun((keys_[slot.content.const_offset] << 32) | element, world_.streams[world_.daemon(d).running]);
    }
    return true;
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
    if (shape_.locals && pool_->alive() == 0) {
      std::uint32_t epoch = 0;
      pool_->add_daemon(false, &epoch);
    }
  }

  // What it became must be something that could have happened to it.
  void judge(std::uint32_t index, const Expectation& expected) {
    const Task& task = pool_->task(index);
    switch (task.error) {
      case ErrorCode::kNone:
        EXPECT_FALSE(expected.cancelled);
        if (expected.element) {
          EXPECT_TRUE(begun_.contains(expected.name)) << "a value of an element that nobody has begun";
        }
        break;
      case ErrorCode::kCancelled: EXPECT_TRUE(expected.cancelled); break;
      case ErrorCode::kTimedOut:
        EXPECT_TRUE(expected.timed);
        EXPECT_LE(expected.deadline_ns, now_ns_);
        break;
      case ErrorCode::kReset:
        EXPECT_FALSE(expected.cancelled);
        // Elements that nobody had begun go to others, unless they waited for this daemon alone.
        EXPECT_TRUE(!expected.element || begun_.contains(expected.name) || !shape_.dispatcher || pool_->gave_up() ||
                    lost_.contains(expected.name));
        break;
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

  void run_on(std::uint32_t d) {
    if (world_.daemon(d).running != runtime::kNoSlot && world_.in_range(d)) {
      for (int i = 0; i < 8; ++i) {
        element_step(d);
      }
    } else if (!claim(d)) {
      world_.complete(d, 8, 0);
    }
  }

  void bury_if_killed(std::uint32_t d) {
    if (world_.daemon(d).killed && world_.daemon(d).alive) {
      pool_->on_dead(d, world_.daemon(d).epoch, DeathNote{}, false);
    }
  }

  // Everything resolves once daemons run on and nothing more happens to them; then every block is back.
  void finish() {
    if (seed_ % 4 == 0) {
      pool_->reset();  // in the middle
    }
    for (int round = 0; round < 8000 && pool_->unfinished() > 0; ++round) {
      start_spawned();
      for (std::uint32_t d = 0; d < world_.daemon_max(); ++d) {
        bury_if_killed(d);
        run_on(d);
      }
      run_links_on();
      pool_->progress();
      if (round % 16 == 0) {
        check();
      }
    }
    EXPECT_EQ(pool_->unfinished(), 0U) << "tasks that nobody runs";
    world_.held_blocks.clear();
    for (int i = 0; i < 800; ++i) {  // abandoned tasks end too
      for (std::uint32_t d = 0; d < world_.daemon_max(); ++d) {
        bury_if_killed(d);
        run_on(d);
      }
      run_links_on();
      pool_->progress();
    }
    for (std::uint32_t link = 0; link < links_.size(); ++link) {
      if (links_[link].up) {
        EXPECT_TRUE(links_[link].unanswered.empty()) << "link " << link << " has not answered all";
        links_.die(*pool_, link);
      }
    }
    if (!pool_->closed()) {
      pool_->reset();
    }
    for (const auto& [index, epoch] : world_.spawned) {  // too late
      pool_->on_dead(index, epoch, DeathNote{}, false);
    }
    world_.spawned.clear();
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
    expect_each_told_once(trace_);
  }

  const Shape shape_;
  const std::uint32_t seed_;
  std::mt19937 random_;
  FakeWorld world_;
  FakeLinks links_;
  Trace trace_{+[]() -> std::uint64_t { return 1; }, 16 * Trace::kChunk};
  std::unique_ptr<Pool> pool_;
  std::map<std::uint32_t, Expectation> tasks_;
  StreamState stream_{};                          // of the last task
  std::map<std::uint64_t, StreamState> streams_;  // by the name of an element
  std::uint64_t now_ns_ = 1;
  std::uint64_t next_block_ = 0;
  std::uint64_t maps_ = 0;
  std::map<std::uint64_t, std::uint64_t> keys_;  // maps by the block of their constant
  std::set<std::uint64_t> begun_;
  std::map<std::uint64_t, int> runs_, again_;    // how often an element has begun, and may more than once
  std::set<std::uint64_t> lost_;                 // may have been: their link died
  std::map<std::uint32_t, bool> element_begun_;  // by daemon
};

class PoolMapSimulation : public testing::TestWithParam<Shape> {};

TEST_P(PoolMapSimulation, EveryElementResolvesOnceAndIsBegunOnce) {
  const std::uint32_t seeds = GetParam().links > 0 ? 60 : 150;
  for (std::uint32_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    MapSimulation simulation(seed, GetParam());
    simulation.run(400);
    if (testing::Test::HasFailure()) {
      return;
    }
  }
}

constexpr Shape kShapes[] = {
    {false, false, true, 0, 0},  {false, true, true, 0, 0},  {true, false, true, 0, 0},
    {true, true, true, 0, 0},    {true, false, false, 3, 0}, {true, true, false, 3, 4},
    {true, false, false, 2, 16}, {true, true, true, 2, 4},   {false, true, true, 2, 4},
};

std::string name_of(const testing::TestParamInfo<Shape>& info) {
  const Shape& shape = info.param;
  return std::string(shape.dispatcher ? "Shared" : "RoundRobin") + (shape.seeded ? "Seeded" : "") +
         (shape.locals ? "Locals" : "") + std::to_string(shape.links) + "Links" + std::to_string(shape.prefetch) +
         "Ahead";
}

INSTANTIATE_TEST_SUITE_P(Shapes, PoolMapSimulation, testing::ValuesIn(kShapes), name_of);

}  // namespace
}  // namespace setsuna::dispatch
