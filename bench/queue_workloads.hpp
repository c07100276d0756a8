// What every plain queue of values is measured with: push(value) and pop(&value), which are false when it is full or empty.
#pragma once

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace setsuna::bench {

// One value in and out, on one thread.
template <typename Queue>
void pair(benchmark::State& state) {
  Queue queue;
  std::uint64_t value = 0;
  for (auto _ : state) {
    queue.push(1);
    queue.pop(&value);
    benchmark::DoNotOptimize(value);
  }
  state.SetItemsProcessed(state.iterations());
}

// A window of values there and back between two threads.
template <typename Queue>
void two_threads(benchmark::State& state) {
  constexpr std::uint64_t kWindow = 256;
  Queue there;
  Queue back;
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    std::uint64_t value = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      if (there.pop(&value)) {
        while (!back.push(value)) {
        }
      }
    }
  });
  for (auto _ : state) {
    std::uint64_t value = 0;
    for (std::uint64_t i = 0; i < kWindow; ++i) {
      while (!there.push(i)) {
      }
    }
    for (std::uint64_t got = 0; got < kWindow;) {
      got += back.pop(&value) ? 1 : 0;
    }
  }
  stop.store(true, std::memory_order_relaxed);
  worker.join();
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kWindow));
}

}  // namespace setsuna::bench
