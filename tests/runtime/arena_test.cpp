// The arena in one process: placement, reuse, hand-back, the reaper, and states that a death leaves half-written.
#include "runtime/arena.hpp"

#include <atomic>
#include <map>
#include <random>

#include "arena_world.hpp"

namespace setsuna::runtime::testing {
namespace {

using PlainWorld = World<std::atomic>;
constexpr ExtentOwner kDaemon{3, 7};
constexpr ExtentOwner kOther{2, 7};

TEST(ExtentWord, KeepsItsParts) {
  const auto word = ExtentWord::make(ExtentKind::kRunHead, {0xABC, 0xFEDC}, true, 32768);
  EXPECT_EQ(word.kind(), ExtentKind::kRunHead);
  EXPECT_EQ(word.owner(), (ExtentOwner{0xABC, 0xFEDC}));
  EXPECT_TRUE(word.backed());
  EXPECT_EQ(word.run(), 32768u);
  EXPECT_TRUE(word.owned_by({0xABC, 0x1FEDC})) << "16 bits of the epoch count";
  EXPECT_FALSE(ExtentWord::free(true).owned_by({0, 0})) << "owner 0 does not own what is free";
  EXPECT_EQ(ExtentWord().bits(), ExtentWord::free(false).bits()) << "zeroed memory is a table of free extents";
}

TEST(ExtentHeap, RandomWorkloadKeepsItsBooks) {
  ExtentHeap heap(16);
  std::mt19937 random(7);
  std::vector<ExtentHeap::Place> blocks;
  std::uint32_t next_extent = 0;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0 || blocks.empty()) {
      const std::uint32_t granules = 1 + static_cast<std::uint32_t>(random() % (1u << (random() % 13)));
      auto place = heap.alloc(granules);
      if (place.count == 0 && next_extent < 16) {
        ASSERT_TRUE(heap.add_extent(next_extent++));
        place = heap.alloc(granules);
      }
      if (place.count != 0) {
        ASSERT_EQ(place.count, granules);
        blocks.push_back(place);
      }
    } else {
      const std::size_t victim = random() % blocks.size();
      ASSERT_EQ(heap.find(blocks[victim].extent, blocks[victim].granule).count, blocks[victim].count);
      heap.free(blocks[victim]);
      EXPECT_EQ(heap.find(blocks[victim].extent, blocks[victim].granule).count, 0u);
      blocks[victim] = blocks.back();
      blocks.pop_back();
    }
    if (step % 97 == 0) {
      ASSERT_TRUE(heap.check()) << "step " << step;
    }
  }
  std::map<std::uint64_t, std::uint64_t> spans;
  for (const auto& block : blocks) {
    spans[std::uint64_t{block.extent} * ExtentHeap::kGranules + block.granule] = block.count;
  }
  std::uint64_t end = 0;
  for (const auto& [start, count] : spans) {
    EXPECT_GE(start, end) << "two blocks overlap";
    end = start + count;
  }
  for (const auto& block : blocks) {
    heap.free(block);
  }
  EXPECT_TRUE(heap.check());
  EXPECT_EQ(heap.used_bytes(), 0u);
  EXPECT_EQ(heap.empty_extents(), heap.extents());
  while (heap.empty_extents() > 0) {
    heap.remove_extent(heap.find_empty());
  }
  EXPECT_TRUE(heap.check());
}

TEST(ExtentHeap, UsesTheLastFittingBlockOfABin) {
  ExtentHeap heap(1);
  ASSERT_TRUE(heap.add_extent(0));
  // Twenty free blocks of 65 granules and one of 70 behind them, all in the bin of 64-71; then ask for 70.
  std::vector<ExtentHeap::Place> holes;
  const auto wanted = heap.alloc(70);
  heap.alloc(1);
  for (int i = 0; i < 20; ++i) {
    holes.push_back(heap.alloc(65));
    heap.alloc(1);
  }
  while (heap.alloc(72).count != 0) {
  }
  while (heap.alloc(8).count != 0) {
  }
  heap.free(wanted);
  for (const auto& hole : holes) {
    heap.free(hole);
  }
  EXPECT_EQ(heap.alloc(70).count, 70u);
  EXPECT_TRUE(heap.check());
}

TEST(Arena, BlocksAreAlignedDisjointAndInside) {
  PlainWorld world(8);
  auto arena = world.arena(kHost);
  std::map<std::uint64_t, std::uint64_t> blocks;
  for (const std::uint64_t bytes : {0, 1, 63, 64, 65, 255, 256, 257, 4096, 100'000, 1 << 20, (1 << 20) + 1, 5 << 20}) {
    const Block block = arena->alloc(bytes);
    ASSERT_TRUE(block) << bytes;
    EXPECT_EQ(block.offset % 64, 0u);
    EXPECT_GE(block.offset, kDataOffset);
    EXPECT_LE(block.offset + bytes, world.offset_of(world.extents()));
    std::memset(arena->at(block.offset), 1, bytes);
    blocks[block.offset] = bytes;
  }
  std::uint64_t end = 0;
  for (const auto& [offset, bytes] : blocks) {
    EXPECT_GE(offset, end);
    end = offset + bytes;
  }
  for (const auto& [offset, bytes] : blocks) {
    arena->free_own(offset);
  }
  EXPECT_EQ(world.count_free(), world.extents());
  EXPECT_EQ(arena->use().bytes_in_use, 0u);
  EXPECT_GE(arena->use().bytes_high_water, std::uint64_t{6} << 20);
}

TEST(Arena, ReusesWarmExtentsFirst) {
  PlainWorld world(64);
  auto arena = world.arena(kHost);
  const Block first = arena->alloc(10 << 20);
  const std::uint64_t calls = world.resident_calls();
  arena->free_own(first.offset);
  const Block second = arena->alloc(10 << 20);
  EXPECT_EQ(second.offset, first.offset);
  EXPECT_EQ(world.resident_calls(), calls) << "pages are asked for once";
  EXPECT_EQ(arena->use().segment_backed, std::uint64_t{10} << 20);
}

TEST(Arena, GrowsAheadOfNeed) {
  PlainWorld world(256);
  auto arena = world.arena(kDaemon);
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(arena->alloc(1 << 20));  // two an extent
  }
  EXPECT_LE(world.resident_calls(), 8u) << "1 + 2 + 4 + 8 + 8 + 8 ... extents";
  const ExtentCensus census = world.table().census(kDaemon);
  EXPECT_EQ(census.small, 32u) << "extents with pages ahead of need belong to nobody";
  EXPECT_EQ(census.free, 256u - 32u);
}

TEST(Arena, GrowsAheadByNoMoreThanItMay) {
  PlainWorld world(256);
  auto arena = world.arena(kDaemon);
  arena->set_growth(0);  // one extent at a time is the least
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(arena->alloc(1 << 20));
  }
  EXPECT_EQ(world.resident_calls(), 4u);
  EXPECT_EQ(world.table().census(kDaemon).backed, 4u);
}

TEST(Arena, PrewarmTakesNothing) {
  PlainWorld world(16);
  auto host = world.arena(kHost);
  auto daemon = world.arena(kDaemon);
  const Block block = daemon->alloc(100);
  EXPECT_EQ(host->prewarm(4), 4u);
  EXPECT_EQ(world.table().census(kHost).backed, 5u);
  EXPECT_EQ(world.count_free(), 15u);
  world.grant() = 0;
  EXPECT_EQ(host->prewarm(4), 0u);
  EXPECT_TRUE(host->alloc(std::uint64_t{8} << 20)) << "the warm ones need no pages";
  daemon->free_own(block.offset);
}

TEST(Arena, RefusesWithAReason) {
  PlainWorld world(4);
  auto arena = world.arena(kHost);
  EXPECT_EQ(arena->alloc((std::uint64_t{8} << 20) + 1).status, AllocStatus::kTooLarge);
  EXPECT_EQ(arena->alloc(~std::uint64_t{0}).status, AllocStatus::kTooLarge);
  const Block half = arena->alloc(std::uint64_t{4} << 20);
  EXPECT_EQ(arena->alloc(std::uint64_t{6} << 20).status, AllocStatus::kNoExtents);
  EXPECT_EQ(world.count_free(), 2u) << "a claim that failed was rolled back";
  arena->free_own(half.offset);
  EXPECT_TRUE(arena->alloc(std::uint64_t{8} << 20));
  auto daemon = world.arena(kDaemon);
  EXPECT_EQ(daemon->alloc(1).status, AllocStatus::kNoExtents);
}

TEST(Arena, NoMemoryIsAnErrorAndLosesNothing) {
  PlainWorld world(32);
  world.grant() = 3;
  auto arena = world.arena(kHost);
  EXPECT_EQ(arena->alloc(std::uint64_t{8} << 20).status, AllocStatus::kNoMemory);
  EXPECT_EQ(world.count_free(), 32u);
  EXPECT_TRUE(arena->alloc(std::uint64_t{4} << 20));
  std::vector<Block> blocks;
  for (Block block = arena->alloc(1 << 20); block; block = arena->alloc(1 << 20)) {
    blocks.push_back(block);
  }
  EXPECT_EQ(blocks.size(), 2u) << "growth ahead that is refused falls back to what is needed";
  EXPECT_EQ(arena->alloc(1).status, AllocStatus::kNoMemory);
  EXPECT_EQ(world.count_free(), 29u);
}

TEST(Arena, GivesCachedExtentsUpForALargeBlock) {
  PlainWorld world(4);
  auto arena = world.arena(kHost, 2);
  const Block a = arena->alloc(1 << 20);
  const Block b = arena->alloc(1 << 20);
  const Block c = arena->alloc(1 << 20);
  for (const Block& block : {a, b, c}) {
    arena->free_own(block.offset);
  }
  EXPECT_EQ(world.count_free(), 2u) << "two empty ones are kept";
  EXPECT_TRUE(arena->alloc(std::uint64_t{8} << 20));
}

TEST(Arena, SmallBlocksComeBackByTheStack) {
  PlainWorld world(8);
  auto host = world.arena(kHost);
  auto daemon = world.arena(kDaemon);
  std::vector<Block> blocks;
  for (int i = 0; i < 1000; ++i) {
    blocks.push_back(daemon->alloc(1 + static_cast<std::uint64_t>(i) * 3));
    ASSERT_TRUE(blocks.back());
  }
  for (const Block& block : blocks) {
    EXPECT_TRUE(host->plausible(block.offset, block.bytes, kDaemon));
    EXPECT_TRUE(host->host_release(block.offset));
  }
  EXPECT_GT(daemon->use().bytes_in_use, 0u);
  daemon->drain();
  EXPECT_EQ(daemon->use().bytes_in_use, 0u);
  EXPECT_TRUE(daemon->heap().check());
  EXPECT_EQ(world.count_free(), 8u);
}

TEST(Arena, HostReleasesLargeBlocksOfOthersDirectly) {
  PlainWorld world(8);
  auto host = world.arena(kHost);
  auto daemon = world.arena(kDaemon);
  const Block block = daemon->alloc(std::uint64_t{5} << 20);
  EXPECT_EQ(world.count_free(), 5u);
  EXPECT_TRUE(host->host_release(block.offset));
  EXPECT_EQ(world.count_free(), 8u);
  EXPECT_EQ(daemon->use().bytes_in_use, 0u);
  EXPECT_TRUE(daemon->alloc(std::uint64_t{16} << 20));
  EXPECT_EQ(daemon->use().bytes_high_water, std::uint64_t{16} << 20);
}

TEST(Arena, HostReleasesItsOwn) {
  PlainWorld world(8);
  auto host = world.arena(kHost);
  const Block small = host->alloc(1000);
  const Block large = host->alloc(std::uint64_t{3} << 20);
  EXPECT_TRUE(host->host_release(small.offset));
  EXPECT_TRUE(host->host_release(large.offset));
  EXPECT_EQ(world.count_free(), 8u);
}

TEST(Arena, HostDoesNotBelieveDamagedOffsets) {
  PlainWorld world(8);
  auto host = world.arena(kHost);
  auto daemon = world.arena(kDaemon);
  const Block small = daemon->alloc(1000);
  const Block large = daemon->alloc(std::uint64_t{3} << 20);
  const std::uint64_t past = world.offset_of(8);
  for (const std::uint64_t bad :
       {std::uint64_t{0}, std::uint64_t{64}, past, past + 64, ~std::uint64_t{0}, small.offset + 8, large.offset + 256,
        large.offset + kExtentBytes, world.offset_of(7)}) {
    EXPECT_FALSE(host->plausible(bad, 64, kDaemon)) << bad;
    EXPECT_FALSE(host->host_release(bad)) << bad;
  }
  EXPECT_FALSE(host->plausible(small.offset, 1000, kOther)) << "not that daemon's";
  EXPECT_FALSE(host->plausible(small.offset, 3 << 20, kDaemon)) << "too large for where it is";
  EXPECT_FALSE(host->plausible(large.offset, std::uint64_t{5} << 20, kDaemon));
  EXPECT_TRUE(host->plausible(large.offset, large.bytes, kDaemon));
}

TEST(Arena, ReaperFreesWhatNobodyRefersTo) {
  PlainWorld world(16);
  auto host = world.arena(kHost);
  auto other = world.arena(kOther);
  const Block theirs = other->alloc(500);
  auto daemon = world.arena(kDaemon);
  for (int i = 0; i < 5; ++i) {
    daemon->alloc(700'000);
  }
  daemon->alloc(std::uint64_t{6} << 20);
  const ReapReport report = host->reap(kDaemon, {});
  EXPECT_EQ(report.adopted, 0u);
  EXPECT_EQ(report.freed, 3u + 3u);
  EXPECT_EQ(world.count_free(), 15u) << "the living keep theirs";
  other->free_own(theirs.offset);
}

TEST(Arena, ResultsOutliveTheirDaemon) {
  PlainWorld world(16);
  auto host = world.arena(kHost);
  auto daemon = world.arena(kDaemon);
  std::vector<Block> blocks;
  blocks.reserve(6);
  for (int i = 0; i < 6; ++i) {
    blocks.push_back(daemon->alloc(700'000));  // two an extent
  }
  const Block large = daemon->alloc(std::uint64_t{6} << 20);
  const Block lost = daemon->alloc(std::uint64_t{4} << 20);
  ASSERT_TRUE(lost);
  fill_block(daemon->at(blocks[0].offset), 700'000, 1);
  fill_block(daemon->at(blocks[3].offset), 700'000, 2);
  fill_block(daemon->at(blocks[2].offset), 700'000, 3);
  fill_block(daemon->at(large.offset), large.bytes, 4);

  std::vector<std::uint64_t> live{blocks[0].offset, blocks[3].offset, blocks[2].offset, large.offset, large.offset};
  std::sort(live.begin(), live.end());
  const ReapReport report = host->reap(kDaemon, live);
  EXPECT_EQ(report.adopted, 2u + 3u);
  EXPECT_EQ(report.freed, 1u + 2u);
  EXPECT_EQ(host->use().bytes_owned, std::uint64_t{10} << 20);

  // The next incarnation fills the rest; the adopted blocks stay as they were.
  auto next = world.arena({kDaemon.index, kDaemon.epoch + 1});
  for (Block block = next->alloc(kExtentBytes); block; block = next->alloc(kExtentBytes)) {
    fill_block(next->at(block.offset), block.bytes, 99);
  }
  EXPECT_TRUE(block_intact(host->at(blocks[0].offset), 700'000, 1));
  EXPECT_TRUE(block_intact(host->at(blocks[3].offset), 700'000, 2));
  EXPECT_TRUE(block_intact(host->at(blocks[2].offset), 700'000, 3));
  EXPECT_TRUE(block_intact(host->at(large.offset), large.bytes, 4));

  EXPECT_TRUE(host->host_release(blocks[2].offset));
  EXPECT_EQ(world.count_free(), 0u) << "its neighbour still lives";
  EXPECT_TRUE(host->host_release(blocks[3].offset));
  EXPECT_EQ(world.count_free(), 1u);
  EXPECT_TRUE(host->host_release(blocks[0].offset));
  EXPECT_TRUE(host->host_release(large.offset));
  EXPECT_EQ(world.count_free(), 5u);
}

TEST(Arena, ReaperForgetsTheStackOfTheDead) {
  PlainWorld world(4);
  auto host = world.arena(kHost);
  {
    auto daemon = world.arena(kDaemon);
    const Block kept = daemon->alloc(100);
    const Block back = daemon->alloc(100);
    EXPECT_TRUE(host->host_release(back.offset));
    const std::vector<std::uint64_t> live{kept.offset};
    host->reap(kDaemon, live);
    EXPECT_EQ(world.heads().of(kDaemon.index).load(), 0u);
    auto next = world.arena({kDaemon.index, kDaemon.epoch + 1});
    next->drain();
    EXPECT_TRUE(next->alloc(100));
    EXPECT_TRUE(host->host_release(kept.offset));
    host->reap(next->owner(), {});
  }
  EXPECT_EQ(world.count_free(), 4u);
}

// States that a death leaves, written by hand.
class HalfWritten : public ::testing::Test {
 protected:
  void put(std::uint32_t extent, ExtentKind kind, std::uint32_t run = 0, ExtentOwner owner = kDaemon) {
    world_.raw_word(extent).store(ExtentWord::make(kind, owner, true, run).bits());
  }
  void expect_all_reaped(std::vector<std::uint64_t> live = {}) {
    host_->reap(kDaemon, live);
    for (std::uint32_t i = 0; i < world_.extents(); ++i) {
      EXPECT_FALSE(world_.table().word(i).owned_by(kDaemon)) << "extent " << i;
    }
  }

  PlainWorld world_{8};
  std::unique_ptr<PlainWorld::Arena> host_ = world_.arena(kHost);
};

TEST_F(HalfWritten, ClaimOfARunInProgress) {
  put(1, ExtentKind::kClaiming);
  put(2, ExtentKind::kClaiming);
  expect_all_reaped();
  EXPECT_EQ(world_.count_free(), 8u);
  EXPECT_TRUE(world_.table().word(1).backed()) << "what has pages keeps them";
}

TEST_F(HalfWritten, RunWithoutItsHead) {
  put(1, ExtentKind::kClaiming);
  put(2, ExtentKind::kRunTail);
  put(3, ExtentKind::kClaiming);
  expect_all_reaped({world_.offset_of(1)});
  EXPECT_EQ(world_.count_free(), 8u) << "a run that was never committed holds no block, whatever is said to be live";
}

TEST_F(HalfWritten, ReleaseOfARunInProgress) {
  put(1, ExtentKind::kClaiming);  // uncommitted; extent 2 is free already
  put(3, ExtentKind::kRunTail);
  expect_all_reaped();
  EXPECT_EQ(world_.count_free(), 8u);
}

TEST_F(HalfWritten, DamagedRunLengthReachesNobodyElse) {
  put(5, ExtentKind::kRunHead, 60000);
  put(1, ExtentKind::kRunHead, 3);
  put(2, ExtentKind::kRunTail);
  put(3, ExtentKind::kSmall, 0, kOther);
  expect_all_reaped({world_.offset_of(1), world_.offset_of(5)});
  EXPECT_TRUE(world_.table().word(3).owned_by(kOther));
  EXPECT_EQ(world_.count_free(), 7u);
}

TEST_F(HalfWritten, AScanSeesAClaimInProgressAsTransient) {
  for (std::uint32_t i = 0; i < 8; ++i) {
    put(i, i == 4 ? ExtentKind::kClaiming : ExtentKind::kSmall);
  }
  bool transient = false;
  EXPECT_EQ(world_.table().claim_run(kOther, 1, &transient), kNoExtent);
  EXPECT_TRUE(transient);
  transient = false;
  put(4, ExtentKind::kSmall);
  EXPECT_EQ(world_.table().claim_lowest(kOther, ExtentKind::kSmall, &transient), kNoExtent);
  EXPECT_FALSE(transient);
}

#ifdef SETSUNA_ASAN
TEST(ArenaDeathTest, FreeBlocksArePoisoned) {
  PlainWorld world(4);
  auto arena = world.arena(kHost, 1);
  const Block block = arena->alloc(1000);
  volatile std::byte* at = arena->at(block.offset);
  at[999] = std::byte{1};
  EXPECT_DEATH(at[1000] = std::byte{1}, "use-after-poison");
  arena->free_own(block.offset);
  EXPECT_DEATH(at[0] = std::byte{1}, "use-after-poison");
}
#endif

TEST(ArenaDeathTest, FreeingTwiceStopsTheProcess) {
  PlainWorld world(4);
  auto arena = world.arena(kHost, 1);
  const Block block = arena->alloc(1000);
  arena->free_own(block.offset);
  EXPECT_DEATH(arena->free_own(block.offset), "not allocated");
  const Block large = arena->alloc(std::uint64_t{4} << 20);
  arena->free_own(large.offset);
  EXPECT_DEATH(arena->free_own(large.offset), "internal error");
}

}  // namespace
}  // namespace setsuna::runtime::testing
