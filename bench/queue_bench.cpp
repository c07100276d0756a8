// The queue's price: the helping ring with its slot words (crash-safe: a consumer may die between any two steps) beside a
// plain bounded MPMC queue after D. Vyukov's published algorithm (fast, but a death between ticket and cell jams it), and
// no-op tasks dispatched to a daemon thread through the whole protocol (publish, claim, complete, harvest).
//
// Units: items (tasks) a second. Run both in one process: build/release/bench/queue_bench

#include <benchmark/benchmark.h>

#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "bench/queue_workloads.hpp"
#include "runtime/daemon_port.hpp"
#include "runtime/futex.hpp"
#include "runtime/host_page.hpp"
#include "runtime/host_port.hpp"
#include "runtime/segment.hpp"

namespace {

using setsuna::runtime::Claim;
using setsuna::runtime::SharedFutex;
using Host = setsuna::runtime::HostPort<std::atomic, SharedFutex>;
using Daemon = setsuna::runtime::DaemonPort<std::atomic, SharedFutex>;

// --- The peer ----------------------------------------------------------------------------------------------

class PlainQueue {
 public:
  explicit PlainQueue(std::size_t size = 1024) : mask_(size - 1), cells_(size) {
    for (std::size_t i = 0; i < size; ++i) {
      cells_[i].sequence.store(i, std::memory_order_relaxed);
    }
  }

  bool push(std::uint64_t value) {
    std::size_t position = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position & mask_];
      const auto lead = static_cast<std::ptrdiff_t>(cell.sequence.load(std::memory_order_acquire)) -
                        static_cast<std::ptrdiff_t>(position);
      if (lead == 0 && tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        cell.value = value;
        cell.sequence.store(position + 1, std::memory_order_release);
        return true;
      }
      if (lead < 0) {
        return false;
      }
      position = tail_.load(std::memory_order_relaxed);
    }
  }

  bool pop(std::uint64_t* value) {
    std::size_t position = head_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position & mask_];
      const auto lead = static_cast<std::ptrdiff_t>(cell.sequence.load(std::memory_order_acquire)) -
                        static_cast<std::ptrdiff_t>(position + 1);
      if (lead == 0 && head_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        *value = cell.value;
        cell.sequence.store(position + mask_ + 1, std::memory_order_release);
        return true;
      }
      if (lead < 0) {
        return false;
      }
      position = head_.load(std::memory_order_relaxed);
    }
  }

 private:
  struct alignas(64) Cell {
    std::atomic<std::size_t> sequence;
    std::uint64_t value;
  };
  const std::size_t mask_;
  std::vector<Cell> cells_;
  alignas(64) std::atomic<std::size_t> tail_{0};
  alignas(64) std::atomic<std::size_t> head_{0};
};

// --- Ours --------------------------------------------------------------------------------------------------

struct World {
  setsuna::runtime::HostPageMap page;
  std::optional<setsuna::runtime::Segment> segment;
  std::unique_ptr<Host> host;

  World() {
    std::string error;
    setsuna::runtime::SegmentRequest request;
    request.slot_count = 1024;
    request.daemon_max = 64;
    request.data_bytes = std::uint64_t{16} << 20;
    page.create(&error);
    segment = setsuna::runtime::Segment::create(request, &error);
    host = std::make_unique<Host>(segment->queue(page.page()));
    host->format();
  }
  std::unique_ptr<Daemon> daemon(std::uint32_t index) {
    return std::make_unique<Daemon>(segment->queue(page.page()), index, host->admit(index));
  }
};

void publish_one(Host& host) {
  const std::uint32_t slot = host.acquire_slot();
  std::uint32_t generation = 0;
  host.publish(slot, setsuna::runtime::kReadyQueue, &generation);
}

void plain_pair(benchmark::State& state) { setsuna::bench::pair<PlainQueue>(state); }
BENCHMARK(plain_pair);

// Publish and claim only: what corresponds to the plain queue's push and pop; completion and harvest are not timed apart,
// since a slot must be freed to be used again.
void ring_pair(benchmark::State& state) {
  World world;
  const auto daemon = world.daemon(0);
  bool refill = false;
  bool signal = false;
  for (auto _ : state) {
    publish_one(*world.host);
    const std::optional<Claim> claim = daemon->claim_ready(&refill);
    daemon->complete(*claim, &signal);
    world.host->harvest([](std::uint32_t, setsuna::runtime::SlotWord) {});
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(ring_pair);

void plain_two_threads(benchmark::State& state) { setsuna::bench::two_threads<PlainQueue>(state); }
BENCHMARK(plain_two_threads)->UseRealTime();

// How many; at least one. Sleeps, if there is none, until `enough` are done.
std::uint32_t harvest_some(World& world, std::uint32_t enough) {
  Host& host = *world.host;
  auto& futex = world.page.page()->futex;
  for (;;) {
    const std::uint32_t seen = futex.load(std::memory_order_acquire);
    if (const std::uint32_t count = host.harvest([](std::uint32_t, setsuna::runtime::SlotWord) {})) {
      return count;
    }
    host.arm_gate(setsuna::runtime::GateWord::count(enough));
    if (!host.anything_done()) {
      SharedFutex::wait(&futex, seen);
    }
    host.disarm_gate();
  }
}

// No-op dispatch without R, window 256: so many tasks are on their way at most. A daemon thread claims and completes them,
// parking when there is nothing; the host publishes, and harvests when the window is full, or sleeps until half of it is done.
void noop_dispatch(benchmark::State& state) {
  World world;
  const auto daemon = world.daemon(0);
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    bool refill = false;
    bool signal = false;
    while (!stop.load(std::memory_order_relaxed)) {
      if (const std::optional<Claim> claim = daemon->claim_ready(&refill)) {
        daemon->complete(*claim, &signal);
      } else {
        daemon->park(0);
      }
    }
  });
  constexpr std::uint32_t kWindow = 256;
  Host& host = *world.host;
  std::uint32_t in_flight = 0;
  for (auto _ : state) {
    if (in_flight == kWindow) {
      in_flight -= harvest_some(world, kWindow / 2);
    }
    publish_one(host);
    host.wake_for(setsuna::runtime::kReadyQueue);
    ++in_flight;
  }
  stop = true;
  world.host->daemon(0).stop.store(1);
  world.host->wake_daemon(0);
  worker.join();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(noop_dispatch)->UseRealTime();

// --- Latency -----------------------------------------------------------------------------------------------

// One task there and back, both sides asleep in between.
void queue_round_trip(benchmark::State& state) {
  World world;
  const auto daemon = world.daemon(0);
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    bool refill = false;
    bool signal = false;
    while (!stop.load(std::memory_order_relaxed)) {
      if (const std::optional<Claim> claim = daemon->claim_ready(&refill)) {
        daemon->complete(*claim, &signal);
      } else {
        daemon->park(0);
      }
    }
  });
  Host& host = *world.host;
  for (auto _ : state) {
    publish_one(host);
    host.wake_for(setsuna::runtime::kReadyQueue);
    harvest_some(world, 1);
  }
  stop = true;
  world.host->daemon(0).stop.store(1);
  world.host->wake_daemon(0);
  worker.join();
}
BENCHMARK(queue_round_trip)->UseRealTime();

}  // namespace
