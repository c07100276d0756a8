// The arena under the deterministic scheduler with weak memory: every interleaving within bounds, a daemon dropped at every
// access, and each memory order weakened in turn.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/runtime/sched.hpp"
// After it: the scheduler takes over the assertions.
#include "arena_world.hpp"

namespace setsuna::runtime::testing {
namespace {

using sched::Atom;
using sched::Bounds;
using sched::Engine;
using sched::Plain;

Engine& engine() { return Engine::get(); }

constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;
constexpr std::uint32_t kDaemons = 2;

// Daemons that allocate, write and post, and a host that reads, releases and reaps.
class ArenaProgram : public sched::Program {
 public:
  using Arena = World<Atom>::Arena;

  explicit ArenaProgram(std::uint32_t extents) : extents_(extents) {}

  void begin() override {
    world_.emplace(extents_, kDaemons);
    host_ = world_->arena(kHost);
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      daemons_[d] = world_->arena(owner(d));
      posts_[d].store(0, std::memory_order_relaxed);
    }
    for (auto& [offset, content] : contents_) {
      content.reset();
    }
    held_.clear();
    set_up();
  }

  std::string name_of(const void* address) override {
    for (std::uint32_t i = 0; i < extents_; ++i) {
      if (address == world_->raw_word(i).address()) {
        return "extent " + std::to_string(i);
      }
    }
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      if (address == posts_[d].address()) {
        return "post " + std::to_string(d);
      }
      if (address == world_->heads().of(d).address()) {
        return "hand-back " + std::to_string(d);
      }
    }
    return "link";
  }

 protected:
  virtual void set_up() = 0;

  static ExtentOwner owner(std::uint32_t d) { return {d, 5}; }

  // Allocates and writes; 0 if there is no room. Nobody else may have what it gets.
  std::uint64_t make(Arena& arena, std::uint64_t bytes) {
    const Block block = arena.alloc(bytes);
    if (!block) {
      return 0;
    }
    const std::uint64_t end = block.offset + std::max<std::uint64_t>(bytes, 1);
    for (const auto& [offset, other] : held_) {
      if (block.offset < other.end && offset < end) {
        engine().fail("a block was given twice");
      }
    }
    held_[block.offset] = {arena.owner(), end};
    content(block.offset).write(block.offset);
    return block.offset;
  }

  void post(std::uint32_t d, std::uint64_t offset) {
    if (offset != 0) {
      posts_[d].store(offset, std::memory_order_release);
    }
  }

  // Host: what the daemon has posted, if anything; read.
  std::uint64_t take(std::uint32_t d) {
    const std::uint64_t offset = posts_[d].load(std::memory_order_acquire);
    if (offset != 0) {
      posts_[d].store(0, std::memory_order_relaxed);
      if (content(offset).read() != offset) {
        engine().fail("a posted block was overwritten");
      }
    }
    return offset;
  }

  void release(std::uint64_t offset) {
    held_.erase(offset);
    if (!host_->host_release(offset)) {
      engine().fail("a posted block is unknown");
    }
  }

  void drop(Arena& arena, std::uint64_t offset) {
    if (offset != 0) {
      held_.erase(offset);
      arena.free_own(offset);
    }
  }

  // Host: what it knows of is live; what the dead one held besides is nobody's.
  void reap(std::uint32_t d) {
    std::vector<std::uint64_t> live;
    if (const std::uint64_t posted = posts_[d].load(std::memory_order_acquire)) {
      live.push_back(posted);
    }
    for (auto it = held_.begin(); it != held_.end();) {
      const bool gone = it->second.by == owner(d) && (live.empty() || it->first != live[0]);
      it = gone ? held_.erase(it) : std::next(it);
    }
    host_->reap(owner(d), live);
  }

  // Everything is given back; then no extent may be missing. Called when nothing runs any more.
  void expect_nothing_lost() {
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      if (const std::uint64_t offset = posts_[d].peek()) {
        host_->host_release(offset);
      }
      daemons_[d]->trim();
    }
    host_->trim();
    for (std::uint32_t i = 0; i < extents_; ++i) {
      if (!ExtentWord(world_->raw_word(i).peek()).is_free()) {
        engine().fail("extent " + std::to_string(i) + " was lost");
      }
    }
  }

  // By offset: what stands for a block's bytes. The map's nodes stay where they are from execution to execution.
  Plain& content(std::uint64_t offset) {
    Plain& plain = contents_[offset];
    plain.name("block content");
    return plain;
  }

  struct Holder {
    ExtentOwner by;
    std::uint64_t end;
  };
  std::uint32_t extents_;
  std::optional<World<Atom>> world_;
  std::unique_ptr<Arena> host_;
  std::unique_ptr<Arena> daemons_[kDaemons];
  Atom<std::uint64_t> posts_[kDaemons];
  std::map<std::uint64_t, Plain> contents_;
  std::map<std::uint64_t, Holder> held_;
};

// A small block goes to the host and comes back by the stack, to be written again.
class HandBack : public ArenaProgram {
 public:
  HandBack() : ArenaProgram(2) {}

 private:
  void set_up() override {
    engine().spawn("daemon", [this] {
      Arena& me = *daemons_[0];
      post(0, make(me, 1000));
      for (int i = 0; i < 2; ++i) {
        drop(me, make(me, 1000));
      }
    });
    engine().spawn("host", [this] {
      if (const std::uint64_t offset = take(0)) {
        release(offset);
      }
    });
  }
  void at_end() override { expect_nothing_lost(); }
};

// Two blocks on the stack, pushed while the owner takes it.
class HandBackTwo : public ArenaProgram {
 public:
  HandBackTwo() : ArenaProgram(2) {}

 private:
  void set_up() override {
    first_ = make(*daemons_[0], 1000);
    second_ = make(*daemons_[0], 1000);
    engine().spawn("daemon", [this] {
      daemons_[0]->drain();
      drop(*daemons_[0], make(*daemons_[0], 1000));
    });
    engine().spawn("host", [this] {
      for (const std::uint64_t offset : {first_, second_}) {
        content(offset).read();
        release(offset);
      }
    });
  }
  void at_end() override { expect_nothing_lost(); }

  std::uint64_t first_ = 0, second_ = 0;
};

// A large block that the host frees becomes another daemon's; so does one that its owner frees.
class HandOver : public ArenaProgram {
 public:
  HandOver() : ArenaProgram(1) {}

 private:
  void set_up() override {
    engine().spawn("first", [this] {
      drop(*daemons_[0], make(*daemons_[0], 2 * kMegabyte));
      post(0, make(*daemons_[0], 2 * kMegabyte));
    });
    engine().spawn("second", [this] {
      for (int i = 0; i < 2; ++i) {
        drop(*daemons_[1], make(*daemons_[1], i == 0 ? 2 * kMegabyte : 100));
      }
    });
    engine().spawn("host", [this] {
      if (const std::uint64_t offset = take(0)) {
        release(offset);
      }
    });
  }
  void at_end() override { expect_nothing_lost(); }
};

// Runs that overlap: the loser rolls back. The host gives pages ahead meanwhile.
class Contention : public ArenaProgram {
 public:
  Contention() : ArenaProgram(3) {}

 private:
  void set_up() override {
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      engine().spawn(d == 0 ? "first" : "second", [this, d] { drop(*daemons_[d], make(*daemons_[d], 4 * kMegabyte)); });
    }
    engine().spawn("host", [this] { host_->prewarm(2); });
  }
  void at_end() override { expect_nothing_lost(); }
};

// A daemon dies anywhere; the host reaps it while the other one goes on.
class Death : public ArenaProgram {
 public:
  Death() : ArenaProgram(3) {}

 private:
  void set_up() override {
    engine().spawn(
        "victim",
        [this] {
          post(0, make(*daemons_[0], 1000));
          drop(*daemons_[0], make(*daemons_[0], 4 * kMegabyte));
        },
        true);
    engine().spawn("bystander", [this] { drop(*daemons_[1], make(*daemons_[1], 3 * kMegabyte)); });
    engine().spawn("host", [this] {
      const std::uint64_t before = take(0);
      engine().block_until([] { return !engine().alive(0); }, "the victim is gone");
      engine().observe(0);
      if (before != 0) {
        release(before);
      }
      reap(0);
      if (const std::uint64_t after = take(0)) {
        release(after);
      }
    });
  }
  void at_end() override {
    daemons_[0] = world_->arena({0, 6});  // the dead one's books died with it
    expect_nothing_lost();
  }
};

struct Scenario {
  const char* name;
  std::unique_ptr<ArenaProgram> program;
  Bounds bounds;
};

std::vector<Scenario> scenarios() {
  std::vector<Scenario> out;
  const Bounds weak{.preemptions = 3, .stale_reads = 1};
  out.push_back({"hand-back", std::make_unique<HandBack>(), weak});
  out.push_back({"hand-back of two", std::make_unique<HandBackTwo>(), weak});
  out.push_back({"hand-over", std::make_unique<HandOver>(), weak});
  out.push_back({"contention", std::make_unique<Contention>(), {.preemptions = 3}});
  out.push_back({"death", std::make_unique<Death>(), {.preemptions = 2, .kills = 1}});
  return out;
}

TEST(ArenaSched, EveryInterleavingWithinBounds) {
  for (Scenario& scenario : scenarios()) {
    const sched::Report report = explore(*scenario.program, scenario.bounds);
    EXPECT_FALSE(report.failed) << scenario.name << ": " << report.summary();
    EXPECT_TRUE(report.complete) << scenario.name;
    EXPECT_GT(report.executions, 100u) << scenario.name;
    std::printf("[ %-17s] %s\n", scenario.name, report.summary().c_str());
  }
}

TEST(ArenaSched, EveryOrderIsNeeded) {
  std::map<sched::OrderSite, std::memory_order> sites;
  sched::mutation().record(&sites);
  for (Scenario& scenario : scenarios()) {
    explore(*scenario.program, scenario.bounds);
  }
  sched::mutation().clear();
  int tried = 0;
  for (const auto& [site, order] : sites) {
    const bool ours = site.file.find("runtime/arena.hpp") != std::string::npos ||
                      site.file.find("runtime/extent_table.hpp") != std::string::npos;
    if (!ours || order == std::memory_order_relaxed) {
      continue;
    }
    ++tried;
    sched::mutation().weaken(site, std::memory_order_relaxed);
    bool noticed = false;
    for (Scenario& scenario : scenarios()) {
      noticed = noticed || explore(*scenario.program, scenario.bounds).failed;
    }
    sched::mutation().clear();
    EXPECT_TRUE(noticed) << site.file << ":" << site.line << " may be relaxed and no scenario fails";
  }
  EXPECT_EQ(tried, 4) << "claim and release of an extent, push and drain of the stack";
}

}  // namespace
}  // namespace setsuna::runtime::testing
