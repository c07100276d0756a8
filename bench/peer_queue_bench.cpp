// Other people's queues beside ours (queue_bench), where their headers were found: one value pushed and popped on a thread,
// and a window of 256 values there and back between two threads. Neither survives a process that dies in the middle, which
// is what ours pays for.

#include <benchmark/benchmark.h>

#include <cstdint>

#if __has_include(<boost/lockfree/queue.hpp>)
#include <boost/lockfree/queue.hpp>
#define HAVE_BOOST_LOCKFREE 1
#endif
#if __has_include(<concurrentqueue/concurrentqueue.h>)
#include <concurrentqueue/concurrentqueue.h>
#define HAVE_MOODYCAMEL 1
#endif

#include "bench/queue_workloads.hpp"

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

#ifdef HAVE_BOOST_LOCKFREE
void boost_pair(benchmark::State& state) { setsuna::bench::pair<BoostQueue>(state); }
BENCHMARK(boost_pair);
void boost_two_threads(benchmark::State& state) { setsuna::bench::two_threads<BoostQueue>(state); }
BENCHMARK(boost_two_threads)->UseRealTime();
#endif

#ifdef HAVE_MOODYCAMEL
void moodycamel_pair(benchmark::State& state) { setsuna::bench::pair<MoodycamelQueue>(state); }
BENCHMARK(moodycamel_pair);
void moodycamel_two_threads(benchmark::State& state) { setsuna::bench::two_threads<MoodycamelQueue>(state); }
BENCHMARK(moodycamel_two_threads)->UseRealTime();
#endif

}  // namespace
