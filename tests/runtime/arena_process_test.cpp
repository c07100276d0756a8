// Real processes over a real segment: daemons allocate and publish as fast as they can and are killed with SIGKILL
// wherever they happen to be; the parent plays the host. Every published block must be whole, and in the end all memory
// is free.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "arena_world.hpp"
#include "runtime/futex.hpp"
#include "runtime/segment.hpp"

namespace setsuna::runtime::testing {
namespace {

constexpr std::uint32_t kDaemons = 3;
constexpr std::uint32_t kPosts = 16;  // published blocks per daemon
constexpr BuildId kBuild{1, 2};

// What stands in for the task slots. A post belongs to the daemon while 0 and to the host while it holds an offset.
struct Post {
  std::atomic<std::uint64_t> offset;
  std::uint64_t bytes;
  std::uint64_t seed;
};
struct Board {
  Post posts[kDaemons][kPosts];
  std::atomic<std::uint32_t> bell;  // for the host: something was published, or a daemon has nothing to do
  std::atomic<std::uint32_t> go[kDaemons];
};

std::uint64_t draw_bytes(std::mt19937_64& random) {
  switch (random() % 4) {
    case 0: return 1 + random() % 2000;
    case 1: return 1 + random() % 200'000;
    case 2: return 1 + random() % (1 << 20);
    default: return 1 + random() % (7 << 20);
  }
}

[[noreturn]] void run_daemon(int segment_fd, Board* board, ExtentOwner me, std::uint64_t seed) {
  std::string error;
  auto segment = Segment::attach(UniqueFd(segment_fd), kBuild, &error);
  if (!segment) {
    ::_exit(3);
  }
  SegmentArena arena(*segment, me);
  std::mt19937_64 random(seed);
  for (;;) {
    const std::uint32_t go = board->go[me.index].load(std::memory_order_acquire);
    bool posted = false;
    for (Post& post : board->posts[me.index]) {
      if (post.offset.load(std::memory_order_acquire) != 0) {
        continue;
      }
      const std::uint64_t bytes = draw_bytes(random);
      const Block block = arena.alloc(bytes);
      if (!block) {
        continue;
      }
      post.bytes = bytes;
      post.seed = random();
      fill_block(arena.at(block.offset), bytes, post.seed);
      if (random() % 8 == 0) {
        arena.free_own(block.offset);  // revoked after all
        continue;
      }
      post.offset.store(block.offset, std::memory_order_release);
      posted = true;
    }
    board->bell.fetch_add(1, std::memory_order_acq_rel);
    SharedFutex::wake(&board->bell, 1);
    if (!posted) {
      SharedFutex::wait(&board->go[me.index], go);
    }
  }
}

class Host {
 public:
  Host(std::uint64_t data_bytes, std::uint64_t seed) : random_(seed) {
    SegmentRequest request;
    request.slot_count = 64;
    request.daemon_max = kDaemons;
    request.data_bytes = data_bytes;
    request.build_id = kBuild;
    std::string error;
    segment_ = Segment::create(request, &error);
    EXPECT_TRUE(segment_) << error;
    void* raw = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    board_ = new (raw) Board{};
    arena_ = std::make_unique<SegmentArena>(*segment_, kHost);
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      start(d);
    }
  }
  ~Host() {
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      kill_and_reap(d);
    }
    ::munmap(board_, sizeof(Board));
  }

  void start(std::uint32_t d) {
    const std::uint64_t seed = random_();
    const ExtentOwner me{d, ++epochs_[d]};
    pids_[d] = ::fork();
    if (pids_[d] == 0) {
      run_daemon(segment_->fd(), board_, me, seed);
    }
    ASSERT_GT(pids_[d], 0);
  }

  // What the dead one had published is the host's now, and live like everything in its hands.
  void kill_and_reap(std::uint32_t d) {
    ::kill(pids_[d], SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(pids_[d], &status, 0), pids_[d]);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "daemon ended by itself: " << status;
    std::vector<std::uint64_t> live;
    for (Post& post : board_->posts[d]) {
      if (const std::uint64_t offset = post.offset.load(std::memory_order_acquire)) {
        ASSERT_TRUE(arena_->plausible(offset, post.bytes, {d, epochs_[d]}));
        held_.push_back({offset, post.bytes, post.seed});
        post.offset.store(0, std::memory_order_release);
      }
    }
    for (const Held& held : held_) {
      live.push_back(held.offset);
    }
    std::sort(live.begin(), live.end());
    arena_->reap({d, epochs_[d]}, live);
  }

  // Takes what is published into its hands, then lets half of what it has in hand go, and wakes who waits for room.
  void collect() {
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      for (Post& post : board_->posts[d]) {
        if (const std::uint64_t offset = post.offset.load(std::memory_order_acquire)) {
          held_.push_back({offset, post.bytes, post.seed});
          post.offset.store(0, std::memory_order_release);
          ++collected_;
        }
      }
    }
    std::shuffle(held_.begin(), held_.end(), random_);
    let_go(held_.size() / 2);
    if (random_() % 4 == 0) {
      const std::uint64_t bytes = draw_bytes(random_);
      if (const Block block = arena_->alloc(bytes)) {
        const std::uint64_t seed = random_();
        fill_block(arena_->at(block.offset), bytes, seed);
        held_.push_back({block.offset, bytes, seed});
      }
    }
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      board_->go[d].fetch_add(1, std::memory_order_acq_rel);
      SharedFutex::wake(&board_->go[d], 1);
    }
  }

  void let_go(std::size_t keep) {
    for (; held_.size() > keep; held_.pop_back()) {
      const Held& held = held_.back();
      ASSERT_TRUE(block_intact(segment_->view() + held.offset, held.bytes, held.seed))
          << "read through the private view";
      ASSERT_TRUE(block_intact(arena_->at(held.offset), held.bytes, held.seed));
      ASSERT_TRUE(arena_->host_release(held.offset));
    }
  }

  void wait_for_news() {
    SharedFutex::wait(&board_->bell, heard_);
    heard_ = board_->bell.load();
  }

  std::uint64_t collected() const { return collected_; }
  std::mt19937_64& random() { return random_; }
  SegmentArena& arena() { return *arena_; }

  void expect_all_free() {
    arena_->trim();
    const ExtentCensus census = segment_->extents().census(kHost);
    EXPECT_EQ(census.free, census.total);
    EXPECT_EQ(arena_->use().bytes_owned, 0u);
  }

 private:
  struct Held {
    std::uint64_t offset;
    std::uint64_t bytes;
    std::uint64_t seed;
  };

  std::mt19937_64 random_;
  std::optional<Segment> segment_;
  std::unique_ptr<SegmentArena> arena_;
  Board* board_ = nullptr;
  pid_t pids_[kDaemons] = {};
  std::uint32_t epochs_[kDaemons] = {};
  std::vector<Held> held_;
  std::uint64_t collected_ = 0;
  std::uint32_t heard_ = 0;
};

void kill_in_a_loop(std::uint64_t data_bytes, int kills) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  {
    Host host(data_bytes, seed);
    for (int k = 0; k < kills; ++k) {
      // After some rounds of work each death hits a daemon wherever it is: allocating, filling, publishing, asleep.
      const std::uint64_t rounds = host.random()() % 6;
      for (std::uint64_t r = 0; r < rounds; ++r) {
        host.wait_for_news();
        host.collect();
        ASSERT_FALSE(::testing::Test::HasFailure());
      }
      const auto victim = static_cast<std::uint32_t>(host.random()() % kDaemons);
      host.kill_and_reap(victim);
      host.start(victim);
      ASSERT_FALSE(::testing::Test::HasFailure());
    }
    EXPECT_GT(host.collected(), static_cast<std::uint64_t>(kills));
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      host.kill_and_reap(d);
    }
    host.collect();
    host.let_go(0);
    host.expect_all_free();
    for (std::uint32_t d = 0; d < kDaemons; ++d) {
      host.start(d);  // for the destructor to kill
    }
  }
}

#ifdef __SANITIZE_THREAD__
constexpr int kKills = 10;  // a fork is slow there, and a single-threaded one has nothing to show it
#else
constexpr int kKills = 200;
#endif

TEST(ArenaProcesses, KilledInALoopWithRoom) { kill_in_a_loop(std::uint64_t{256} << 20, kKills); }
TEST(ArenaProcesses, KilledInALoopWithHardlyAnyRoom) { kill_in_a_loop(std::uint64_t{16} << 20, kKills); }

}  // namespace
}  // namespace setsuna::runtime::testing
