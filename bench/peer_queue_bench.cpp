// Other people's queues beside ours (queue_bench), where their headers were found: one value pushed and popped on a thread,
// and a window of 256 values there and back between two threads. Neither survives a process that dies in the middle, which
// is what ours pays for.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <thread>

#if __has_include(<boost/lockfree/queue.hpp>)
#include <boost/lockfree/queue.hpp>
#define HAVE_BOOST_LOCKFREE 1
#endif
#if __has_include(<concurrentqueue/concurrentqueue.h>)
#include <concurrentqueue/concurrentqueue.h>
#define HAVE_MOODYCAMEL 1
#endif

namespace {

#ifdef HAVE_BOOST_LOCKFREE
class BoostQueue {
 public:
  bool push(std::uint64_t value) { return queue_.bounded_push(value); }
  bool pop(std::uint64_t* value) { return queue_.pop(*value); }

 private:
  boost::lockfree::queue<std::uint64_t> queue_{1024};
};
#endif

#ifdef HAVE_MOODYCAMEL
class MoodycamelQueue {
 public:
  bool push(std::uint64_t value) { return queue_.enqueue(value); }
  bool pop(std::uint64_t* value) { return queue_.try_dequeue(*value); }

 private:
  moodycamel::ConcurrentQueue<std::uint64_t> queue_{1024};
};
#endif

template <typename Queue>
[[maybe_unused]] void pair(benchmark::State& state) {
  Queue queue;
  std::uint64_t value = 0;
  for (auto _ : state) {
    queue.push(1);
    queue.pop(&value);
    benchmark::DoNotOptimize(value);
  }
  state.SetItemsProcessed(state.iterations());
}

template <typename Queue>
[[maybe_unused]] void two_threads(benchmark::State& state) {
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

#ifdef HAVE_BOOST_LOCKFREE
void boost_pair(benchmark::State& state) { pair<BoostQueue>(state); }
BENCHMARK(boost_pair);
void boost_two_threads(benchmark::State& state) { two_threads<BoostQueue>(state); }
BENCHMARK(boost_two_threads)->UseRealTime();
#endif

#ifdef HAVE_MOODYCAMEL
void moodycamel_pair(benchmark::State& state) { pair<MoodycamelQueue>(state); }
BENCHMARK(moodycamel_pair);
void moodycamel_two_threads(benchmark::State& state) { two_threads<MoodycamelQueue>(state); }
BENCHMARK(moodycamel_two_threads)->UseRealTime();
#endif

}  // namespace
