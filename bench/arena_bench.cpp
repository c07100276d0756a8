// The arena against malloc, and what the first touch of shared memory costs with and without huge pages.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/clock.hpp"
#include "runtime/hash.hpp"
#include "runtime/histogram.hpp"
#include "runtime/segment.hpp"

namespace {

using namespace setsuna::runtime;

constexpr ExtentOwner kHost{kHostOwner, 1};
constexpr ExtentOwner kDaemon{0, 1};
constexpr std::int64_t kEchoBytes = 80 << 20;

Segment make_segment(std::uint64_t data_bytes) {
  SegmentRequest request;
  request.slot_count = 64;
  request.daemon_max = 4;
  request.data_bytes = data_bytes;
  std::string error;
  auto segment = Segment::create(request, &error);
  if (!segment) {
    std::fprintf(stderr, "%s\n", error.c_str());
    std::abort();
  }
  return std::move(*segment);
}

// One block at a time, warm.
void alloc_free_arena(benchmark::State& state) {
  const Segment segment = make_segment(std::uint64_t{512} << 20);
  SegmentArena arena(segment, kHost);
  const auto bytes = static_cast<std::uint64_t>(state.range(0));
  for (auto _ : state) {
    const Block block = arena.alloc(bytes);
    benchmark::DoNotOptimize(block.offset);
    arena.free_own(block.offset);
  }
}
void alloc_free_malloc(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    void* block = std::malloc(bytes);
    benchmark::DoNotOptimize(block);
    std::free(block);
  }
}
BENCHMARK(alloc_free_arena)->Arg(1000)->Arg(64 << 10)->Arg(1 << 20)->Arg(kEchoBytes);
BENCHMARK(alloc_free_malloc)->Arg(1000)->Arg(64 << 10)->Arg(1 << 20)->Arg(kEchoBytes);

// 256 blocks of mixed sizes live, the oldest replaced: fragmentation and coalescing at work.
template <class Alloc, class Free>
void churn(benchmark::State& state, Alloc alloc, Free free) {
  std::vector<std::uint64_t> live(256, 0);
  std::uint64_t random = 1;
  std::size_t at = 0;
  for (auto _ : state) {
    if (live[at] != 0) {
      free(live[at]);
    }
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    live[at] = alloc(500 + (random >> 48));
    at = (at + 1) % live.size();
  }
}
void churn_arena(benchmark::State& state) {
  const Segment segment = make_segment(std::uint64_t{512} << 20);
  SegmentArena arena(segment, kHost);
  churn(
      state, [&](std::uint64_t bytes) { return arena.alloc(bytes).offset; },
      [&](std::uint64_t offset) { arena.free_own(offset); });
}
void churn_malloc(benchmark::State& state) {
  churn(
      state, [](std::uint64_t bytes) { return reinterpret_cast<std::uint64_t>(std::malloc(bytes)); },
      [](std::uint64_t block) { std::free(reinterpret_cast<void*>(block)); });
}
BENCHMARK(churn_arena);
BENCHMARK(churn_malloc);

// A daemon's small block: allocated, handed back by the host, taken back.
void hand_back(benchmark::State& state) {
  const Segment segment = make_segment(std::uint64_t{512} << 20);
  SegmentArena host(segment, kHost);
  SegmentArena daemon(segment, kDaemon);
  for (auto _ : state) {
    host.host_release(daemon.alloc(4000).offset);
  }
}
BENCHMARK(hand_back);

// A large block when the first `range` extents are taken: the cost of looking for room in a full table.
void large_block_behind_full_extents(benchmark::State& state) {
  std::vector<std::atomic<std::uint64_t>> words(kMaxExtents);
  ExtentTable<std::atomic> table(words.data(), kMaxExtents);
  bool transient = false;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    table.claim_lowest(kDaemon, ExtentKind::kSmall, &transient);
  }
  for (auto _ : state) {
    const std::uint32_t head = table.claim_run(kHost, 40, &transient);
    table.commit_run(kHost, head, 40);
    table.release_run(kHost, head);
  }
}
BENCHMARK(large_block_behind_full_extents)->Arg(0)->Arg(6000)->Arg(32000);

// 80 MB of fresh shared memory: given pages in one of three ways (timed or not), then written.
enum class Way : std::int64_t { kNothing, kFallocate, kCollapse };

void first_write(benchmark::State& state) {
  const auto way = static_cast<Way>(state.range(0));
  double given = 0, written = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto segment = std::make_unique<Segment>(make_segment(kEchoBytes));
    std::byte* at = segment->base() + segment->header().data_offset;
    state.ResumeTiming();
    const std::uint64_t start = monotonic_ns();
    bool ok = true;
    if (way == Way::kFallocate) {
      ok = ::fallocate(segment->fd(), 0, static_cast<off_t>(segment->header().data_offset), kEchoBytes) == 0;
    } else if (way == Way::kCollapse) {
      ok = make_resident(segment->fd(), at, segment->header().data_offset, kEchoBytes);
    }
    const std::uint64_t middle = monotonic_ns();
    std::memset(at, 1, kEchoBytes);
    benchmark::ClobberMemory();
    given += static_cast<double>(middle - start) * 1e-9;
    written += static_cast<double>(monotonic_ns() - middle) * 1e-9;
    state.PauseTiming();
    if (!ok) {
      state.SkipWithError("no pages");
    }
    segment.reset();
    state.ResumeTiming();
  }
  const auto runs = static_cast<double>(state.iterations());
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * kEchoBytes);
  state.counters["pages_ms"] = given / runs * 1e3;
  state.counters["write_GB/s"] = static_cast<double>(kEchoBytes) * 1e-9 / (written / runs);
  state.SetLabel(way == Way::kNothing ? "touched as written" : way == Way::kFallocate ? "fallocate" : "collapsed");
}
BENCHMARK(first_write)->DenseRange(0, 2)->Unit(benchmark::kMillisecond)->MinTime(0.5);

// What one process pays to get pages for its first extent(s), alone in a call.
void pages_for_extents(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0)) * kExtentBytes;
  for (auto _ : state) {
    state.PauseTiming();
    auto segment = std::make_unique<Segment>(make_segment(bytes));
    const std::uint64_t offset = segment->header().data_offset;
    state.ResumeTiming();
    benchmark::DoNotOptimize(make_resident(segment->fd(), segment->base() + offset, offset, bytes));
    state.PauseTiming();
    segment.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(pages_for_extents)->Arg(1)->Arg(4)->Arg(16)->Unit(benchmark::kMicrosecond)->MinTime(0.3);

// Warm: what an echo of 80 MB costs at least.
void write_warm(benchmark::State& state) {
  const Segment segment = make_segment(2 * kEchoBytes);
  SegmentArena arena(segment, kHost);
  const std::vector<char> source(kEchoBytes, 1);
  for (auto _ : state) {
    const Block block = arena.alloc(kEchoBytes);
    std::memcpy(arena.at(block.offset), source.data(), kEchoBytes);
    benchmark::ClobberMemory();
    arena.free_own(block.offset);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * kEchoBytes);
}
BENCHMARK(write_warm)->Unit(benchmark::kMillisecond);

void histogram_record(benchmark::State& state) {
  auto histogram = std::make_unique<Histogram>();
  std::uint64_t value = 1;
  for (auto _ : state) {
    value = value * 6364136223846793005ULL + 1;
    histogram->record(value >> 40);
  }
}
BENCHMARK(histogram_record);

void hash_bytes(benchmark::State& state) {
  const std::vector<char> data(static_cast<std::size_t>(state.range(0)), 3);
  for (auto _ : state) {
    benchmark::DoNotOptimize(hash128(data.data(), data.size()));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(hash_bytes)->Arg(1600)->Arg(kEchoBytes);

}  // namespace
