// The pool under a seeded simulator, against a sequential oracle that knows what each task may become: submit, cancel,
// timeouts, drops, deaths, respawns, everywhere(), reset, in any order; daemons of this machine, and remote ones whose
// messages take their time, cross each other and are lost. After every step the pool's own books must agree.

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>

#include "fake_links.hpp"
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
  std::uint64_t serial = 0;
};

struct Shape {
  bool dispatcher = true;
  bool seeded = false;
  bool locals = true;
  std::uint32_t links = 0;
  std::uint32_t prefetch = 0;
  bool sudden_end = false;  // reset() while tasks are in hand
};

// How often a task may begin and how often it did, by its serial.
struct Runs {
  int allowed = 1;
  int begun = 0;
};

class Simulation {
 public:
  Simulation(std::uint32_t seed, const Shape& shape) : shape_(shape), random_(seed), world_(8, 6), links_(world_) {
    PoolConfig config;
    config.dispatcher = shape.dispatcher;
    config.seeded = shape.seeded;
    config.prefetch = shape.prefetch;
    config.stream = stream_from_seed(static_cast<std::int32_t>(seed));
    config.daemon_max = 6;
    config.cancel_grace_ns = 50;
    pool_ = std::make_unique<Pool>(config, world_, world_, world_, &links_);
    pool_->set_trace(&trace_);
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
    for (int i = 0; i < 2 && shape_.locals; ++i) {
      pool_->add_daemon(false, &epoch);
    }
    for (int i = 0; i < steps; ++i) {
      step();
      for (std::uint32_t moves = shape_.links; moves > 0; --moves) {
        link_step(pick(shape_.links));
      }
      feed();
      check();
    }
    shape_.sudden_end ? end_suddenly() : finish();
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
    SubmitSpec spec;
    spec.bytes = named();
    spec.length = kNameBytes + pick(56);
    if (pick(4) == 0) {
      spec.in_area = true;
      spec.area_offset = new_block();
      spec.length = 1000;
      area_serials_[spec.area_offset] = serial_;
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
    if (pick(5) == 0) {
      Constant made;
      made.offset = new_block();
      made.bytes = 64;
      constants_.push_back(pool_->add_constant(made));
    }
    if (!constants_.empty() && pick(3) == 0) {
      spec.constant = constants_[pick(static_cast<std::uint32_t>(constants_.size()))];
    }
    add(spec, expected);
    if (!constants_.empty() && pick(8) == 0) {
      pool_->release_constant(constants_.front());
      constants_.erase(constants_.begin());
    }
  }

  // Bytes that say which task it is.
  const std::uint8_t* named() {
    ++serial_;
    std::memcpy(bytes_, &serial_, kNameBytes);
    return bytes_;
  }
  std::uint64_t name_in(const std::uint8_t* bytes) const {
    std::uint64_t serial = 0;
    std::memcpy(&serial, bytes, kNameBytes);
    return serial;
  }

  void add(const SubmitSpec& spec, const Expectation& expected) {
    bool wake = false;
    std::uint32_t queue = 0;
    const std::uint32_t index = pool_->submit(spec, now_ns_, &wake, &queue);
    ASSERT_FALSE(tasks_.contains(index)) << "a task index in use was given out again";
    tasks_[index] = expected;
    tasks_[index].serial = serial_;
    runs_[serial_].allowed += spec.retries;
  }

  void everywhere() {
    std::vector<std::uint32_t> queues;
    for (std::uint32_t d = 0; d < pool_->daemons().size(); ++d) {
      if (pool_->daemons()[d].state == DaemonInfo::State::kLive) {
        queues.push_back(d);
      }
    }
    for (std::uint32_t link = 0; link < links_.size(); ++link) {
      if (links_[link].up && pool_->links()[link].state == LinkInfo::State::kOnline) {
        queues.push_back(kLinkQueueBase + link);
      }
    }
    for (const std::uint32_t queue : queues) {
      SubmitSpec spec;
      spec.kind = TaskKind::kEverywhere;
      spec.bytes = named();
      spec.length = kNameBytes;
      spec.queue = queue;
      Expectation expected;
      expected.everywhere = true;
      add(spec, expected);
      if (is_link_queue(queue)) {
        setups_[queue - kLinkQueueBase].insert(serial_);
      }
    }
    pool_->log_everywhere(bytes_, kNameBytes);
  }

  // --- Remote daemons ---

  void link_step(std::uint32_t link) {
    if (!links_[link].up) {
      if (pick(20) == 0) {
        setups_[links_.join(*pool_)].clear();
      }
      return;
    }
    switch (pick(12)) {
      case 0:
      case 1: links_.transmit(link); break;
      case 2:
      case 3: links_.receive_data(link); break;
      case 4: links_.receive_control(link); break;
      case 5: links_.tell_sent(*pool_, link); break;
      case 6: begin(link); break;
      case 7: links_.complete(link); break;
      case 8:
      case 9: tell_answer(link); break;
      case 10: tell_stale_result(link); break;
      default:
        if (pick(30) == 0) {
          links_.leave(link);
        }
        if (pick(20) == 0 || (links_[link].killed && pick(3) == 0)) {
          lose(link);
        }
        break;
    }
  }

  void begin(std::uint32_t link) {
    const FakeLinks::Message* message = links_.begin(link);
    if (message == nullptr) {
      return;
    }
    const bool first = links_[link].begun.size() == 1;
    if (first && links_[link].replay_bytes > 0) {
      EXPECT_EQ(message->content.kind, TaskKind::kReplay) << "a task before the replay";
      EXPECT_EQ(message->bytes.size(), links_[link].replay_bytes);
    }
    EXPECT_EQ(message->content.kind == TaskKind::kReplay, first && links_[link].replay_bytes > 0);
    if (message->content.kind == TaskKind::kReplay) {
      return;
    }
    const std::uint64_t serial = message->area ? area_serials_.at(*message->area) : name_in(message->bytes.data());
    begun(serial);
    std::set<std::uint64_t>& setups = setups_[link];
    if (message->content.kind == TaskKind::kEverywhere) {
      EXPECT_EQ(setups.erase(serial), 1U) << "sent everywhere, to another";
    }
    for (const std::uint64_t setup : setups) {
      EXPECT_TRUE(setup > serial || !is_open(setup)) << "a task before what everywhere() had sent";
    }
  }

  bool is_open(std::uint64_t serial) const {
    for (const auto& [index, expected] : tasks_) {
      if (expected.serial == serial) {
        return !pool_->resolved(index);
      }
    }
    return false;
  }

  void begun(std::uint64_t serial) {
    Runs& runs = runs_[serial];
    EXPECT_LE(++runs.begun, runs.allowed) << "task " << serial << " was begun too often";
  }

  void tell_answer(std::uint32_t link) {
    const bool large = pick(4) == 0;
    next_block_ += large ? 64 : 0;
    const std::uint64_t offset = next_block_;
    if (const auto answer = links_.tell_answer(*pool_, link, large ? 5000 : pick(100), offset)) {
      if (answer->type == LinkMessage::kResult) {
        old_ids_.push_back(answer->id);
      }
    }
  }

  void tell_stale_result(std::uint32_t link) {
    if (!old_ids_.empty()) {
      next_block_ += 64;
      links_.tell_result(*pool_, link, old_ids_[pick(static_cast<std::uint32_t>(old_ids_.size()))], 5000, next_block_);
    }
  }

  // The connection ends, and with it what was on its way. Only of the oldest unanswered task does the pool know that it may
  // have begun; of a link that has said that it leaves, that none has.
  void lose(std::uint32_t link) {
    const FakeLinks::Link& it = links_[link];
    const bool leaving = pool_->links()[link].state == LinkInfo::State::kLeaving;
    bool oldest = true;
    for (const FakeLinks::Message& message : it.unanswered) {
      const bool known = oldest && !leaving;
      oldest = oldest && message.content.kind == TaskKind::kReplay;
      if (!known && it.begun_ids.contains(message.id) && message.content.kind != TaskKind::kReplay) {
        ++runs_[message.area ? area_serials_.at(*message.area) : name_in(message.bytes.data())].allowed;
      }
    }
    setups_[link].clear();
    links_.die(*pool_, link);
  }

  // The reactor, when it gets to it.
  void feed() {
    if (pool_->links_hungry() && pick(4) != 0) {
      links_.feed(*pool_);
    }
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
    if (!claim(d)) {
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
    const FakeWorld::Slot& slot = world_.slot(world_.daemon(d).running);
    if (slot.content.kind != TaskKind::kReplay) {
      begun(slot.content.inline_arg == nullptr ? area_serials_.at(slot.content.arg_offset)
                                               : name_in(slot.bytes.data()));
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
    if (pool_->alive() == 0 && shape_.locals) {
      std::uint32_t epoch = 0;
      pool_->add_daemon(false, &epoch);
    }
  }

  // Everything that is under way with links comes to its end.
  void run_links() {
    for (std::uint32_t link = 0; link < links_.size(); ++link) {
      if (links_[link].killed || links_[link].left) {
        while (links_.tell_answer(*pool_, link)) {
        }
        lose(link);
      } else if (links_[link].up) {
        links_.settle(*pool_, link);
        begin(link);
        links_.complete(link);
        while (links_.tell_answer(*pool_, link)) {
        }
      }
    }
    if (!pool_->closed() && pool_->alive() == 0) {
      setups_[links_.join(*pool_)].clear();
    }
    pool_->feed_links();
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

  void run_daemons() {
    for (std::uint32_t d = 0; d < world_.daemon_max(); ++d) {
      if (world_.daemon(d).killed && world_.daemon(d).alive) {
        pool_->on_dead(d, world_.daemon(d).epoch, DeathNote{}, false);
      }
      if (!claim(d)) {
        world_.complete(d, 8, 0);
      }
    }
  }

  // Everything resolves once daemons run on and nothing more happens to them; then every block is back.
  void finish() {
    for (int round = 0; round < 4000 && pool_->unfinished() > 0; ++round) {
      start_spawned();
      run_daemons();
      run_links();
      pool_->progress();
      check();
    }
    EXPECT_EQ(pool_->unfinished(), 0U) << "tasks that nobody runs";
    for (int i = 0; i < 200; ++i) {  // abandoned tasks end too
      run_daemons();
      run_links();
      pool_->progress();
    }
    pool_->reset();
    check_end();
  }

  void end_suddenly() {
    pool_->reset();
    check();
    for (int i = 0; i < 50; ++i) {
      for (std::uint32_t link = 0; link < shape_.links; ++link) {
        if (links_[link].up) {
          link_step(link);
        }
      }
      run_daemons();
      pool_->progress();
      check();
    }
    check_end();
  }

  void check_end() {
    for (std::uint32_t d = 0; d < pool_->daemons().size(); ++d) {
      pool_->on_dead(d, world_.daemon(d).epoch, DeathNote{}, true);
    }
    for (const std::uint32_t constant : constants_) {
      pool_->release_constant(constant);
    }
    bool in_hand = false;  // somewhere: its constant is known elsewhere as well
    for (std::uint32_t link = 0; link < links_.size(); ++link) {
      in_hand = in_hand || !links_[link].unanswered.empty();
      links_.settle(*pool_, link);
    }
    for (std::uint32_t link = 0; link < links_.size(); ++link) {
      if (links_[link].up) {
        links_.settle(*pool_, link);
        EXPECT_TRUE(in_hand || links_[link].constants.empty()) << "constants that nobody needs";
        EXPECT_TRUE(links_[link].stopped || pool_->links()[link].state == LinkInfo::State::kLeaving);
        lose(link);
      }
    }
    world_.held_blocks.clear();
    for (const auto& [index, expected] : tasks_) {
      judge(index, expected);
      pool_->drop(index);
    }
    pool_->progress();
    pool_->sweep_blocks();
    pool_->sanity_check();
    EXPECT_EQ(pool_->handles(), 0U);
    EXPECT_EQ(pool_->used_bytes(), 0U);
    EXPECT_EQ(world_.blocks(), 0U) << "blocks that were never released";
    EXPECT_TRUE(world_.closed);
    EXPECT_TRUE(world_.all_free()) << "slots that were never freed";
    expect_each_told_once(trace_);
  }

  static constexpr std::size_t kNameBytes = sizeof(std::uint64_t);

  Shape shape_;
  std::mt19937 random_;
  FakeWorld world_;
  FakeLinks links_;
  Trace trace_{+[]() -> std::uint64_t { return 1; }, 16 * Trace::kChunk};
  std::unique_ptr<Pool> pool_;
  std::map<std::uint32_t, Expectation> tasks_;
  std::uint64_t now_ns_ = 1;
  std::uint64_t next_block_ = 0;
  std::uint64_t serial_ = 0;
  std::uint8_t bytes_[64] = {};
  std::map<std::uint64_t, Runs> runs_;
  std::map<std::uint64_t, std::uint64_t> area_serials_;      // by block
  std::map<std::uint32_t, std::set<std::uint64_t>> setups_;  // by link: sent by everywhere(), not begun
  std::vector<std::uint64_t> old_ids_;
  std::vector<std::uint32_t> constants_;
};

class PoolSimulation : public testing::TestWithParam<Shape> {};

TEST_P(PoolSimulation, EveryTaskResolvesOnceAndNothingLeaks) {
  const char* only = std::getenv("SETSUNA_SEED");
  const std::uint32_t first = only == nullptr ? 1 : static_cast<std::uint32_t>(std::strtoul(only, nullptr, 10));
  const std::uint32_t last = only == nullptr ? 200 : first;
  for (std::uint32_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Shape shape = GetParam();
    shape.sudden_end = seed % 4 == 0;
    Simulation simulation(seed, shape);
    simulation.run(400);
    if (testing::Test::HasFailure()) {
      return;
    }
  }
}

constexpr Shape kShapes[] = {
    {.dispatcher = true},
    {.dispatcher = false},
    {.dispatcher = true, .seeded = true},
    {.dispatcher = false, .seeded = true},
    {.dispatcher = true, .locals = false, .links = 4},
    {.dispatcher = true, .seeded = true, .locals = false, .links = 4, .prefetch = 2},
    {.dispatcher = false, .locals = false, .links = 3},
    {.dispatcher = false, .seeded = true, .locals = false, .links = 3, .prefetch = 1},
    {.dispatcher = true, .links = 3},
    {.dispatcher = true, .links = 3, .prefetch = 2},
    {.dispatcher = false, .links = 3},
};

std::string name_of(const testing::TestParamInfo<Shape>& info) {
  const Shape& shape = info.param;
  return std::string(shape.dispatcher ? "Shared" : "RoundRobin") + (shape.seeded ? "Seeded" : "") +
         (shape.locals ? "Daemons" : "") + (shape.links > 0 ? "Links" + std::to_string(shape.links) : "") +
         (shape.prefetch > 0 ? "Prefetch" + std::to_string(shape.prefetch) : "");
}

INSTANTIATE_TEST_SUITE_P(Shapes, PoolSimulation, testing::ValuesIn(kShapes), name_of);

}  // namespace
}  // namespace setsuna::dispatch
