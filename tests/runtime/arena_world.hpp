// A data area and its table in plain memory, for tests of the arena: no memfd, and pages can be refused.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/arena.hpp"

namespace setsuna::runtime::testing {

inline constexpr std::uint64_t kDataOffset = kExtentBytes;  // as if one extent's worth of queue came first
inline constexpr ExtentOwner kHost{kHostOwner, 1};

struct FakeBacking {
  std::byte* base = nullptr;
  std::atomic<std::uint64_t>* resident_calls = nullptr;
  std::atomic<std::int64_t>* grant = nullptr;  // extents that may still be given pages

  std::byte* at(std::uint64_t offset) const { return base + offset; }
  bool make_resident(std::uint64_t, std::uint64_t bytes) const {
    ++*resident_calls;
    const auto extents = static_cast<std::int64_t>(bytes / kExtentBytes);
    if (grant->fetch_sub(extents) >= extents) {
      return true;
    }
    *grant += extents;
    return false;
  }
};

template <template <class> class Atom>
class World {
 public:
  using Arena = BasicArena<FakeBacking, Atom>;

  explicit World(std::uint32_t extents, std::uint32_t daemons = 4)
      : extents_(extents),
        bytes_(kDataOffset + std::uint64_t{extents} * kExtentBytes),
        words_(extents),
        heads_(daemons) {
    base_ = reuse_or_map(bytes_);
  }
  ~World() { poison::enable(base_, bytes_); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  std::unique_ptr<Arena> arena(ExtentOwner who, std::uint32_t keep_empty = 0) {
    return std::make_unique<Arena>(FakeBacking{base_, &resident_calls_, &grant_}, table(), heads(), kDataOffset, who,
                                   keep_empty);
  }
  ExtentTable<Atom> table() { return {words_.data(), extents_}; }
  HandbackHeads<Atom> heads() { return {heads_.data(), sizeof(heads_[0])}; }
  Atom<std::uint64_t>& raw_word(std::uint32_t extent) { return words_[extent]; }
  std::byte* base() { return base_; }
  std::uint64_t offset_of(std::uint32_t extent) const { return kDataOffset + std::uint64_t{extent} * kExtentBytes; }
  std::uint32_t extents() const { return extents_; }
  std::atomic<std::uint64_t>& resident_calls() { return resident_calls_; }
  std::atomic<std::int64_t>& grant() { return grant_; }

  std::uint32_t count_free() {
    std::uint32_t free = 0;
    for (std::uint32_t i = 0; i < extents_; ++i) {
      free += table().word(i).is_free();
    }
    return free;
  }

 private:
  // One mapping a size for the whole program: explorations make thousands of worlds, and fresh pages would be all their cost.
  static std::byte* reuse_or_map(std::size_t bytes) {
    static std::map<std::size_t, std::byte*> maps;
    std::byte*& base = maps[bytes];
    if (base == nullptr) {
      void* raw = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      EXPECT_NE(raw, MAP_FAILED);
      base = static_cast<std::byte*>(raw);
    }
    return base;
  }

  std::uint32_t extents_;
  std::size_t bytes_;
  std::byte* base_ = nullptr;
  std::vector<Atom<std::uint64_t>> words_;
  std::vector<Atom<std::uint64_t>> heads_;
  std::atomic<std::uint64_t> resident_calls_{0};
  std::atomic<std::int64_t> grant_{std::int64_t{1} << 40};
};

// A pattern that says which block it was written for: the first and last 64 bytes and one line every 4 KB.
inline void fill_block(std::byte* at, std::uint64_t bytes, std::uint64_t seed) {
  const int value = static_cast<int>((seed * 0x9E3779B97F4A7C15ULL) >> 56) | 1;
  for (std::uint64_t i = 0; i < bytes; i += 4096) {
    std::memset(at + i, value, std::min<std::uint64_t>(64, bytes - i));
  }
  const std::uint64_t tail = std::min<std::uint64_t>(bytes, 64);
  std::memset(at + bytes - tail, value, tail);
}

inline bool block_intact(const std::byte* at, std::uint64_t bytes, std::uint64_t seed) {
  const auto value = static_cast<std::byte>(static_cast<int>((seed * 0x9E3779B97F4A7C15ULL) >> 56) | 1);
  const auto line_ok = [value](const std::byte* line, std::uint64_t n) {
    return std::all_of(line, line + n, [value](std::byte b) { return b == value; });
  };
  for (std::uint64_t i = 0; i < bytes; i += 4096) {
    if (!line_ok(at + i, std::min<std::uint64_t>(64, bytes - i))) {
      return false;
    }
  }
  const std::uint64_t tail = std::min<std::uint64_t>(bytes, 64);
  return line_ok(at + bytes - tail, tail);
}

}  // namespace setsuna::runtime::testing
