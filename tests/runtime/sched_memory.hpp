// Shared memory as the C++ memory model allows it to look: every location keeps its stores in modification order, and
// every thread has a view, the oldest store of each location that it may still read. Release stores carry the view
// of their thread, acquire loads join it. A new store may come before others that its thread has not seen. (An operational
// release/acquire model without promises: load buffering is not explored.)
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace sched {

inline constexpr int kMaxThreads = 8;
inline constexpr int kMaxLocations = 56;  // that one execution touches

__extension__ using Uint128 = unsigned __int128;

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<Uint128>(a ^ 0x9E3779B97F4A7C15ULL) * (b ^ 0xD1B54A32D192ED03ULL);
  return static_cast<std::uint64_t>(product >> 64) ^ static_cast<std::uint64_t>(product);
}

// What a thread has seen: the index of the newest known store of each location, and how many plain accesses of each
// thread happened before (a vector clock for the race detector).
struct alignas(16) View {
  std::array<std::int16_t, kMaxLocations> at{};
  std::array<std::int16_t, kMaxThreads> clock{};

  // The greater of each; eight at a time, it is the hottest code of an exploration.
  void join(const View& other) {
    using Lanes [[gnu::vector_size(16), gnu::may_alias]] = std::int16_t;
    auto* mine = reinterpret_cast<Lanes*>(this);
    const auto* theirs = reinterpret_cast<const Lanes*>(&other);
    for (std::size_t i = 0; i < sizeof(View) / sizeof(Lanes); ++i) {
      mine[i] = mine[i] > theirs[i] ? mine[i] : theirs[i];
    }
  }
  std::uint64_t hash() const;
};
static_assert(sizeof(View) == 128);

inline std::uint64_t View::hash() const {
  std::uint64_t words[sizeof(View) / 8];
  __builtin_memcpy(words, this, sizeof words);
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < std::size(words); i += 2) {
    out ^= mix(words[i] + i, words[i + 1] + (std::uint64_t{i} << 32));
  }
  return out;
}

struct Message {
  std::uint64_t value = 0;
  View view;              // what an acquire load of it learns
  bool modifies = false;  // by a read-modify-write: right behind the store that it read
};

// An atomic object. `key` names it independently of the order in which an execution touches locations: states of
// different executions are compared by it.
struct Location {
  const void* address = nullptr;
  std::uint64_t key = 0;
  std::uint16_t id = 0;
  bool quiet = false;              // constants and private counters: no scheduling point, no history
  std::vector<Message> history{};  // [0] is the value at the start; with strong memory only the newest is kept

  const Message& newest() const { return history.back(); }
};

// Plain data of the program under test. An access that does not happen after the conflicting one before it is a race.
struct PlainState {
  std::uint64_t value = 0;
  int writer = -1;
  std::int16_t written_at = 0;
  std::array<std::int16_t, kMaxThreads> read_at{};

  std::uint64_t hash() const {
    std::uint64_t reads[2];
    __builtin_memcpy(reads, read_at.data(), sizeof reads);
    return mix(mix(value, static_cast<std::uint64_t>(writer + 1) << 16 | static_cast<std::uint16_t>(written_at)),
               mix(reads[0], reads[1]));
  }
};
static_assert(kMaxThreads == 8);

}  // namespace sched
