// A daemon's arena, one machine instruction after the other: at every one of them the daemon might be killed, so at every
// one the reaper runs on a copy of the shared state, and afterwards nothing may be lost.
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <new>
#include <vector>

#include "arena_world.hpp"

namespace setsuna::runtime::testing {
namespace {

constexpr std::uint32_t kExtents = 6;
constexpr std::uint32_t kPosts = 4;
constexpr ExtentOwner kVictim{0, 9};

// What the processes share, beside the data area. Blocks are posted as they would be by the word of a task slot.
struct State {
  std::atomic<std::uint64_t> words[kExtents];
  std::atomic<std::uint64_t> head;
  std::atomic<std::uint64_t> posts[kPosts];
};

struct AlwaysResident {
  std::byte* base;
  std::byte* at(std::uint64_t offset) const { return base + offset; }
  bool make_resident(std::uint64_t, std::uint64_t) const { return true; }
};
using StepArena = BasicArena<AlwaysResident>;

StepArena make_arena(State* state, std::byte* base, ExtentOwner who) {
  return {AlwaysResident{base}, {state->words, kExtents}, {&state->head, 8}, kDataOffset, who, 0};
}

void* map_shared_memory(std::size_t bytes) {
  void* raw = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return raw == MAP_FAILED ? nullptr : raw;
}

void post(State* state, std::byte* base, std::uint32_t number, const Block& block) {
  std::memcpy(base + block.offset, &block.offset, sizeof block.offset);
  state->posts[number].store(block.offset, std::memory_order_release);
}

// The life of the victim: blocks of both kinds posted and dropped, and two that the host has handed back.
void live(StepArena& arena, State* state, std::byte* base) {
  post(state, base, 0, arena.alloc(1000));  // drains
  const Block dropped = arena.alloc(200'000);
  post(state, base, 1, arena.alloc(3 << 20));
  arena.free_own(dropped.offset);
  const Block large = arena.alloc(2 << 20);
  arena.free_own(large.offset);
  post(state, base, 2, arena.alloc(1 << 20));
  post(state, base, 3, arena.alloc(1 << 20));
  arena.trim();
}

// Kills the victim here, on a copy: everything posted is whole, and what remains is free.
void die_here(const State& state, std::byte* base) {
  static State copy;
  std::memcpy(static_cast<void*>(&copy), static_cast<const void*>(&state), sizeof copy);
  StepArena host = make_arena(&copy, base, kHost);
  std::vector<std::uint64_t> live;
  for (const auto& word : copy.posts) {
    const std::uint64_t offset = word.load();
    if (offset != 0) {
      ASSERT_TRUE(host.plausible(offset, 1000, kVictim));
      std::uint64_t content = 0;
      std::memcpy(&content, base + offset, sizeof content);
      ASSERT_EQ(content, offset);
      live.push_back(offset);
    }
  }
  std::sort(live.begin(), live.end());
  host.reap(kVictim, live);
  for (std::uint32_t i = 0; i < kExtents; ++i) {
    ASSERT_FALSE(host.table().word(i).owned_by(kVictim));
  }
  for (const std::uint64_t offset : live) {
    ASSERT_TRUE(host.host_release(offset));
  }
  ASSERT_EQ(host.table().census(kHost).free, kExtents);
}

TEST(ArenaStep, DeathAtEveryInstruction) {
  auto* state = new (map_shared_memory(sizeof(State))) State{};
  auto* base = static_cast<std::byte*>(map_shared_memory(kDataOffset + kExtents * kExtentBytes));
  const pid_t pid = ::fork();
  if (pid == 0) {
    StepArena arena = make_arena(state, base, kVictim);
    {
      const Block first = arena.alloc(500), second = arena.alloc(500), third = arena.alloc(2000);
      StepArena host = make_arena(state, base, kHost);
      host.host_release(first.offset);
      host.host_release(second.offset);
      arena.free_own(third.offset);
    }
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
      ::_exit(77);
    }
    ::raise(SIGSTOP);
    live(arena, state, base);
    ::_exit(0);
  }
  int status = 0;
  std::uint64_t steps = 0;
  while (::waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
    ASSERT_TRUE(WSTOPSIG(status) == SIGTRAP || (steps == 0 && WSTOPSIG(status) == SIGSTOP)) << WSTOPSIG(status);
    die_here(*state, base);
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << "death after " << steps << " instructions";
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return;
    }
    ++steps;
    ASSERT_EQ(::ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr), 0);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    GTEST_SKIP() << "ptrace is not allowed here";
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_GT(steps, 1000u);
  std::printf("[ steps    ] %llu instructions\n", static_cast<unsigned long long>(steps));
}

}  // namespace
}  // namespace setsuna::runtime::testing
