// Threads over one mapping, each with the arena of a daemon of its own, and a host: for ThreadSanitizer, which sees every
// plain access to a block. (That each memory order is needed is shown by arena_sched_test.cpp.)
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "arena_world.hpp"
#include "runtime/futex.hpp"

namespace setsuna::runtime::testing {
namespace {

constexpr std::uint32_t kDaemons = 3;
constexpr std::uint32_t kPosts = 8;

struct Post {
  std::atomic<std::uint64_t> offset{0};
  std::uint64_t bytes = 0;
  std::uint64_t seed = 0;
};

struct Shared {
  World<std::atomic> world{12, kDaemons};
  Post posts[kDaemons][kPosts];
  std::atomic<std::uint32_t> running{kDaemons};
  std::atomic<std::uint32_t> news{0};
  std::atomic<std::uint32_t> room{0};

  // By bare futex, which ThreadSanitizer does not take for synchronisation: nothing here may order accesses to blocks.
  static void tell(std::atomic<std::uint32_t>& word) {
    word.fetch_add(1, std::memory_order_relaxed);
    SharedFutex::wake(&word, kDaemons);
  }
};

std::uint64_t draw_bytes(std::mt19937_64& random) {
  return random() % 8 == 0 ? (1 << 20) + random() % (3 << 20) : 1 + random() % 300'000;
}

// Publishes `target` blocks, each with its content. All waiting is on words that are relaxed: the arena's own orderings and the
// posts' must do.
void run_daemon(Shared& shared, std::uint32_t index, int target) {
  auto arena = shared.world.arena({index, 1});
  std::mt19937_64 random(index);
  for (int done = 0; done < target;) {
    const std::uint32_t room = shared.room.load(std::memory_order_relaxed);
    bool posted = false;
    for (Post& post : shared.posts[index]) {
      if (post.offset.load(std::memory_order_acquire) != 0) {
        continue;
      }
      const std::uint64_t bytes = draw_bytes(random);
      const Block block = arena->alloc(bytes);
      if (!block) {
        continue;
      }
      post.bytes = bytes;
      post.seed = random();
      fill_block(arena->at(block.offset), bytes, post.seed);
      post.offset.store(block.offset, std::memory_order_release);
      posted = true;
      ++done;
    }
    Shared::tell(shared.news);
    if (!posted) {
      SharedFutex::wait(&shared.room, room);
    }
  }
  shared.running.fetch_sub(1, std::memory_order_relaxed);
  Shared::tell(shared.news);
  // The arena goes with what the host has not given back yet: the host reaps it as if it had died.
}

// The posts are emptied before the blocks are read: so it is the arena alone that keeps a block from being written again while
// the host reads it.
std::uint64_t collect(Shared& shared, World<std::atomic>::Arena& host) {
  struct Taken {
    std::uint64_t offset, bytes, seed;
  };
  std::vector<Taken> taken;
  for (auto& posts : shared.posts) {
    for (Post& post : posts) {
      if (const std::uint64_t offset = post.offset.load(std::memory_order_acquire)) {
        taken.push_back({offset, post.bytes, post.seed});
        post.offset.store(0, std::memory_order_release);
      }
    }
  }
  Shared::tell(shared.room);
  for (const Taken& block : taken) {
    EXPECT_TRUE(block_intact(host.at(block.offset), block.bytes, block.seed));
    EXPECT_TRUE(host.host_release(block.offset));
    Shared::tell(shared.room);
  }
  return taken.size();
}

TEST(ArenaThreads, PublishReadRelease) {
  constexpr int kTarget = 2000;
  Shared shared;
  auto host = shared.world.arena(kHost);
  std::vector<std::thread> daemons;
  for (std::uint32_t i = 0; i < kDaemons; ++i) {
    daemons.emplace_back(run_daemon, std::ref(shared), i, kTarget);
  }
  std::uint64_t collected = 0;
  std::mt19937_64 random(99);
  while (true) {
    const std::uint32_t news = shared.news.load(std::memory_order_relaxed);
    const bool last = shared.running.load(std::memory_order_relaxed) == 0;
    const std::uint64_t now = collect(shared, *host);
    collected += now;
    const Block own = host->alloc(draw_bytes(random));  // the host takes and leaves extents too
    if (own) {
      fill_block(host->at(own.offset), own.bytes, collected);
      EXPECT_TRUE(block_intact(host->at(own.offset), own.bytes, collected));
      EXPECT_TRUE(host->host_release(own.offset));
    }
    Shared::tell(shared.room);
    if (last && now == 0) {
      break;
    }
    if (now == 0) {
      SharedFutex::wait(&shared.news, news);
    }
  }
  for (auto& daemon : daemons) {
    daemon.join();
  }
  collected += collect(shared, *host);
  EXPECT_GE(collected, std::uint64_t{kDaemons} * kTarget);
  for (std::uint32_t i = 0; i < kDaemons; ++i) {
    host->reap({i, 1}, {});
  }
  EXPECT_EQ(shared.world.count_free(), 12u);
}

}  // namespace
}  // namespace setsuna::runtime::testing
