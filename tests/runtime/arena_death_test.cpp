// A daemon dies at every access to shared memory that its arena makes, for every k, alone and while another process is in the
// middle of an operation of its own; then the reaper runs. Afterwards: no block lost, none twice, no published byte changed.
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "arena_world.hpp"

namespace setsuna::runtime::testing {
namespace {

struct Killed {};

// Runs `action` before the k-th access from now on (1: the next).
struct AccessHook {
  static inline std::uint64_t countdown = 0;  // 0: off
  static inline std::function<void()> action;

  static void at(std::uint64_t k, std::function<void()> what) {
    countdown = k;
    action = std::move(what);
  }
  static void off() { countdown = 0; }
  static void step() {
    if (countdown != 0 && --countdown == 0) {
      const auto now = std::move(action);  // it may set the hook again
      now();
    }
  }
};

// std::atomic that calls the hook before each access.
template <class T>
class HookedAtomic {
 public:
  T load(std::memory_order order) const {
    AccessHook::step();
    return value_.load(order);
  }
  void store(T value, std::memory_order order) {
    AccessHook::step();
    value_.store(value, order);
  }
  T exchange(T value, std::memory_order order) {
    AccessHook::step();
    return value_.exchange(value, order);
  }
  bool compare_exchange_strong(T& expected, T wanted, std::memory_order ok, std::memory_order failed) {
    AccessHook::step();
    return value_.compare_exchange_strong(expected, wanted, ok, failed);
  }

 private:
  std::atomic<T> value_{};
};

constexpr ExtentOwner kVictim{0, 5};
constexpr ExtentOwner kBystander{1, 5};
constexpr std::uint32_t kExtents = 8;
constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;

// The processes of one execution, and what has been published by whom.
struct Scene {
  using Arena = World<HookedAtomic>::Arena;
  struct Published {
    ExtentOwner by;
    std::uint64_t bytes;
    std::uint64_t seed;
  };

  World<HookedAtomic> world{kExtents};
  std::unique_ptr<Arena> host = world.arena(kHost);
  std::unique_ptr<Arena> victim = world.arena(kVictim);
  std::unique_ptr<Arena> bystander = world.arena(kBystander);
  std::map<std::uint64_t, Published> published;  // by offset
  std::uint64_t next_seed = 1;

  // Allocates, fills and publishes. Between these steps the process may die: then nobody knows of the block.
  std::uint64_t publish(Arena& arena, std::uint64_t bytes) {
    const Block block = arena.alloc(bytes);
    if (!block) {
      return 0;
    }
    const std::uint64_t seed = next_seed++;
    fill_block(arena.at(block.offset), bytes, seed);
    for (const auto& [offset, other] : published) {
      EXPECT_TRUE(offset + other.bytes <= block.offset || block.offset + bytes <= offset) << "a block was given twice";
    }
    published[block.offset] = {arena.owner(), bytes, seed};
    return block.offset;
  }

  void check_content() {
    for (const auto& [offset, block] : published) {
      EXPECT_TRUE(block_intact(world.base() + offset, block.bytes, block.seed)) << "a published block was overwritten";
    }
  }

  // The host has read it and lets it go.
  void release(std::uint64_t offset) {
    const Published block = published.at(offset);
    EXPECT_TRUE(block_intact(world.base() + offset, block.bytes, block.seed));
    published.erase(offset);
    EXPECT_TRUE(host->host_release(offset));
  }

  void reap(ExtentOwner dead) {
    std::vector<std::uint64_t> live;
    for (const auto& [offset, block] : published) {
      live.push_back(offset);
    }
    host->reap(dead, live);
    for (std::uint32_t i = 0; i < kExtents; ++i) {
      EXPECT_FALSE(world.table().word(i).owned_by(dead)) << "extent " << i;
    }
  }

  // Nobody died: the victim gets back all that it ever had, block by block.
  void settle_alive() {
    AccessHook::off();
    check_content();
    while (!published.empty()) {
      release(published.begin()->first);
    }
    for (Arena* arena : {host.get(), victim.get(), bystander.get()}) {
      arena->trim();
      EXPECT_TRUE(arena->heap().check());
      EXPECT_EQ(arena->use().bytes_owned, 0u) << "owner " << arena->owner().index << " lost a block";
    }
    EXPECT_EQ(world.count_free(), kExtents);
  }

  // Everything still published is readable and can be released, and then all of the memory is there again.
  void settle() {
    AccessHook::off();
    reap(kVictim);
    check_content();
    // What is free now can be allocated without touching what is published.
    const ExtentOwner next{kVictim.index, kVictim.epoch + 1};
    auto heir = world.arena(next);
    std::vector<std::uint64_t> filled;
    while (const std::uint64_t offset = publish(*heir, 700'000)) {
      filled.push_back(offset);
    }
    check_content();
    for (const std::uint64_t offset : filled) {
      published.erase(offset);
      heir->free_own(offset);
    }
    while (!published.empty()) {
      release(published.begin()->first);
    }
    bystander->drain();
    for (Arena* arena : {host.get(), bystander.get(), heir.get()}) {
      EXPECT_TRUE(arena->heap().check());
      EXPECT_EQ(arena->use().bytes_owned, 0u) << "owner " << arena->owner().index;
    }
    EXPECT_EQ(world.count_free(), kExtents);
  }
};

// A life of a daemon: every operation at least once, with blocks that the host hands back in between.
void live(Scene& scene) {
  Scene::Arena& me = *scene.victim;
  const std::uint64_t small = scene.publish(me, 1000);
  const std::uint64_t run = scene.publish(me, 3 * kMegabyte);
  scene.publish(me, 900 * 1024);
  const Block dropped = me.alloc(5000);
  if (dropped) {
    me.free_own(dropped.offset);
  }
  if (small != 0) {
    scene.release(small);  // in truth another process; the dying one may be anywhere when it happens
  }
  scene.publish(me, 900 * 1024);
  const Block large = me.alloc(2 * kMegabyte);
  if (large) {
    me.free_own(large.offset);
  }
  if (run != 0) {
    scene.release(run);
  }
  me.drain();
  scene.publish(me, 5 * kMegabyte);
  scene.publish(me, 64);
}

// Runs `body` with a death at its k-th access; false when it ends before.
bool dies_at(std::uint64_t k, const std::function<void()>& body) {
  bool died = false;
  AccessHook::at(k, [] { throw Killed{}; });
  try {
    body();
  } catch (const Killed&) {
    died = true;
  }
  AccessHook::off();
  return died;
}

TEST(ArenaDeath, AtEveryAccess) {
  std::uint64_t k = 1;
  for (bool died = true; died; ++k) {
    Scene scene;
    const std::uint64_t kept = scene.publish(*scene.bystander, 2000);
    ASSERT_NE(kept, 0u);
    died = dies_at(k, [&] { live(scene); });
    scene.settle();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "death at access " << k;
  }
  EXPECT_GT(k, 100u) << "the scenario makes accesses";
}

// The operations that the other processes carry out while the victim stands still at an access.
using Operation = std::function<void(Scene&)>;
std::vector<std::pair<const char*, Operation>> interruptions() {
  return {
      {"bystander takes a small extent", [](Scene& s) { s.publish(*s.bystander, 800'000); }},
      {"bystander takes a run", [](Scene& s) { s.publish(*s.bystander, 3 * kMegabyte); }},
      {"bystander takes and gives back",
       [](Scene& s) {
         const Block block = s.bystander->alloc(3 * kMegabyte);
         if (block) {
           s.bystander->free_own(block.offset);
         }
       }},
      {"host takes all it can get",
       [](Scene& s) {
         while (s.publish(*s.host, 2 * kMegabyte) != 0) {
         }
       }},
      {"host gives pages ahead", [](Scene& s) { s.host->prewarm(kExtents); }},
      {"host releases what is published",
       [](Scene& s) {
         while (!s.published.empty()) {
           s.release(s.published.begin()->first);
         }
       }},
  };
}

// What the victim does, one operation each, so that every access of every operation is a place to stand still.
std::vector<std::pair<const char*, Operation>> operations() {
  return {
      {"small block", [](Scene& s) { s.publish(*s.victim, 1000); }},
      {"large block", [](Scene& s) { s.publish(*s.victim, 4 * kMegabyte); }},
      {"larger block", [](Scene& s) { s.publish(*s.victim, 9 * kMegabyte); }},
      {"take and drop",
       [](Scene& s) {
         for (const std::uint64_t bytes : {std::uint64_t{100}, 4 * kMegabyte}) {
           const Block block = s.victim->alloc(bytes);
           if (block) {
             s.victim->free_own(block.offset);
           }
         }
       }},
      {"drain", [](Scene& s) { s.victim->drain(); }},
  };
}

void set_up(Scene& scene) {
  scene.publish(*scene.bystander, 500);
  scene.publish(*scene.victim, 3000);
  const std::uint64_t handed_back = scene.publish(*scene.victim, 3000);
  scene.release(handed_back);
}

// The victim stands still before access k, another process carries out a whole operation, the victim goes on. With `deaths`, it
// dies at every later access too.
void explore(bool deaths) {
  std::uint64_t executions = 0;
  for (const auto& [name, operation] : operations()) {
    for (const auto& [other_name, other] : interruptions()) {
      bool interrupted = true;
      for (std::uint64_t k = 1; interrupted; ++k) {
        bool died = true;
        for (std::uint64_t j = deaths ? 1 : 1000; died; ++j) {
          Scene scene;
          set_up(scene);
          interrupted = died = false;
          AccessHook::at(k, [&, now = other] {
            interrupted = true;
            now(scene);
            AccessHook::at(j, [] { throw Killed{}; });
          });
          try {
            operation(scene);
          } catch (const Killed&) {
            died = true;
          }
          ++executions;
          if (!deaths) {
            scene.settle_alive();
          }
          scene.settle();
          ASSERT_FALSE(::testing::Test::HasFailure())
              << name << " / " << other_name << " at access " << k << ", death " << j << " accesses later";
        }
      }
    }
  }
  EXPECT_GT(executions, 200u);
}

TEST(ArenaDeath, OtherOperationAtEveryAccess) { explore(false); }
TEST(ArenaDeath, OtherOperationAtEveryAccessThenDeath) { explore(true); }

// Giving pages to free extents takes none of them away from anybody, at whatever instant.
TEST(ArenaDeath, PagesAheadNeverCostAnybodyAnExtent) {
  for (const std::uint64_t bytes : {std::uint64_t{100}, 16 * kMegabyte}) {
    bool interrupted = true;
    for (std::uint64_t k = 1; interrupted; ++k) {
      Scene scene;
      interrupted = false;
      AccessHook::at(k, [&] {
        interrupted = true;
        scene.host->prewarm(kExtents);
      });
      EXPECT_NE(scene.publish(*scene.victim, bytes), 0u) << "at access " << k;
      scene.settle_alive();
    }
  }
}

TEST(ArenaDeath, PagesAheadInTheMiddleOfAClaimOfTheOnlyExtent) {
  bool interrupted = true;
  for (std::uint64_t k = 1; interrupted; ++k) {
    World<HookedAtomic> world(1);
    auto host = world.arena(kHost);
    auto victim = world.arena(kVictim);
    interrupted = false;
    AccessHook::at(k, [&] {
      interrupted = true;
      host->prewarm(1);
    });
    EXPECT_TRUE(victim->alloc(100)) << "at access " << k;
  }
}

TEST(ArenaDeath, ClaimInTheMiddleOfPagesAhead) {
  bool interrupted = true;
  for (std::uint64_t k = 1; interrupted; ++k) {
    Scene scene;
    interrupted = false;
    AccessHook::at(k, [&] {
      interrupted = true;
      scene.publish(*scene.victim, 4 * kMegabyte);
      scene.publish(*scene.bystander, 900'000);
    });
    scene.host->prewarm(kExtents);
    AccessHook::off();
    scene.publish(*scene.host, 8 * kMegabyte);
    scene.settle_alive();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "at access " << k;
  }
}

// The other way round: a victim dies in the middle of an operation that began and ended inside one of the bystander's.
TEST(ArenaDeath, DeathInsideAnotherOperation) {
  for (const auto& [name, operation] : operations()) {
    bool interrupted = true;
    for (std::uint64_t k = 1; interrupted; ++k) {
      bool died = true;
      for (std::uint64_t j = 1; died; ++j) {
        Scene scene;
        set_up(scene);
        interrupted = died = false;
        AccessHook::at(k, [&, now = operation] {
          interrupted = true;
          died = dies_at(j, [&] { now(scene); });
          if (died) {
            scene.reap(kVictim);  // at once, while the bystander is still in the middle
          }
        });
        const std::uint64_t run = scene.publish(*scene.bystander, 5 * kMegabyte);
        AccessHook::off();
        scene.publish(*scene.bystander, 900'000);
        if (run != 0 && scene.published.count(run) != 0) {
          scene.release(run);
        }
        scene.settle();
        ASSERT_FALSE(::testing::Test::HasFailure()) << name << " inside access " << k << ", dying at " << j;
      }
    }
  }
}

}  // namespace
}  // namespace setsuna::runtime::testing
