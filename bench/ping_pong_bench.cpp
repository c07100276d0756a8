// The floor below a round trip: two processes that do nothing but wake each other, through futex words in shared memory.
//
// Where the scheduler places the two decides most of the time. SETSUNA_BENCH_CPUS=0,1 pins them: this process to the first
// CPU, the other to the second. The counter p50_ns is the median of a trip.

#include <benchmark/benchmark.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "runtime/futex.hpp"
#include "runtime/histogram.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using setsuna::runtime::SharedFutex;

constexpr std::uint32_t kStop = UINT32_MAX;

struct Words {
  alignas(64) std::atomic<std::uint32_t> ping{0};
  alignas(64) std::atomic<std::uint32_t> pong{0};
};

struct Cpus {
  int ours = -1;
  int theirs = -1;
};

Cpus chosen_cpus() {
  Cpus cpus;
  if (const char* text = std::getenv("SETSUNA_BENCH_CPUS")) {
    std::sscanf(text, "%d,%d", &cpus.ours, &cpus.theirs);
  }
  return cpus;
}

// True where nothing was asked for.
bool pin(int cpu) {
  if (cpu < 0) {
    return true;
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

void await(std::atomic<std::uint32_t>* word, std::uint32_t until) {
  // Acquire: as in the queue, what the other wrote before it is seen after it.
  for (std::uint32_t seen = word->load(std::memory_order_acquire); seen != until && seen != kStop;
       seen = word->load(std::memory_order_acquire)) {
    SharedFutex::wait(word, seen);
  }
}

void say(std::atomic<std::uint32_t>* word, std::uint32_t value) {
  word->store(value, std::memory_order_release);  // release: see await()
  SharedFutex::wake(word, 1);
}

[[noreturn]] void answer(Words* words, int cpu) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!pin(cpu)) {
    say(&words->pong, kStop);
    _exit(1);
  }
  for (std::uint32_t turn = 1;; ++turn) {
    await(&words->ping, turn);
    if (words->ping.load(std::memory_order_relaxed) == kStop) {  // relaxed: await() has acquired it
      _exit(0);
    }
    say(&words->pong, turn);
  }
}

void play(benchmark::State& state, Words* words) {
  const auto trips = std::make_unique<setsuna::runtime::Histogram>();
  std::uint32_t turn = 0;
  auto before = Clock::now();
  for (auto _ : state) {
    say(&words->ping, ++turn);
    await(&words->pong, turn);
    const auto after = Clock::now();
    trips->record(static_cast<std::uint64_t>((after - before).count()));
    before = after;
  }
  state.counters["p50_ns"] = static_cast<double>(trips->percentile(50));
}

void futex_ping_pong(benchmark::State& state) {
  const Cpus cpus = chosen_cpus();
  void* memory = mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    state.SkipWithError("no shared memory");
    return;
  }
  auto* words = new (memory) Words;
  const pid_t child = fork();
  if (child == 0) {
    answer(words, cpus.theirs);
  }
  if (child < 0 || !pin(cpus.ours)) {
    state.SkipWithError(child < 0 ? "no second process" : "the CPU of SETSUNA_BENCH_CPUS is refused");
  } else {
    play(state, words);
  }
  say(&words->ping, kStop);
  int status = 0;
  if (child > 0 && waitpid(child, &status, 0) == child && status != 0) {
    state.SkipWithError("the other's CPU of SETSUNA_BENCH_CPUS is refused, or it has died");
  }
  munmap(memory, sizeof(Words));
}
BENCHMARK(futex_ping_pong)->UseRealTime();

}  // namespace
