// The set of descriptors that a forked child must close.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/assert.hpp"

namespace setsuna::net {

// A bitmap in two levels. A fork may happen in the middle of any change, and the child still reads a consistent set:
// each change is one atomic store. One thread changes it.
class OwnedFds {
 public:
  OwnedFds() noexcept = default;
  OwnedFds(const OwnedFds&) = delete;
  OwnedFds& operator=(const OwnedFds&) = delete;
  ~OwnedFds() {
    for (auto& chunk : chunks_) {
      delete chunk.load(std::memory_order_relaxed);
    }
  }

  void add(int fd) {
    SETSUNA_ASSERT(fd >= 0 && static_cast<std::size_t>(fd) < kChunks * kBits);
    std::atomic<Chunk*>& entry = chunks_[slot(fd)];
    Chunk* chunk = entry.load(std::memory_order_relaxed);
    if (chunk == nullptr) {
      chunk = new Chunk;
      // ORDERING owned-chunk: release, so that whoever finds the chunk finds it zeroed. Pairs with the acquire in visit().
      entry.store(chunk, std::memory_order_release);
    }
    // relaxed: a bit publishes nothing but itself; one writer.
    word(*chunk, fd).fetch_or(bit(fd), std::memory_order_relaxed);
  }

  // Call it before close(): a fork in between then leaks a closed-soon descriptor into the child; the other way round the
  // child could close a number that is someone else's by then.
  void remove(int fd) noexcept {
    if (Chunk* chunk = chunks_[slot(fd)].load(std::memory_order_relaxed)) {
      word(*chunk, fd).fetch_and(~bit(fd), std::memory_order_relaxed);
    }
  }

  bool contains(int fd) const noexcept {
    if (fd < 0 || static_cast<std::size_t>(fd) >= kChunks * kBits) {
      return false;
    }
    Chunk* chunk = chunks_[slot(fd)].load(std::memory_order_relaxed);
    return chunk != nullptr && (word(*chunk, fd).load(std::memory_order_relaxed) & bit(fd)) != 0;
  }

  // Async-signal-safe if `visit` is.
  template <class Visit>
  void visit(Visit visit) const {
    for (std::size_t i = 0; i < kChunks; ++i) {
      // ORDERING owned-chunk: acquire, see add(). (In a forked child the kernel ordered it already.)
      Chunk* chunk = chunks_[i].load(std::memory_order_acquire);
      for (std::size_t w = 0; chunk != nullptr && w < kBits / 64; ++w) {
        std::uint64_t bits = chunk->words[w].load(std::memory_order_relaxed);
        for (; bits != 0; bits &= bits - 1) {
          visit(static_cast<int>(i * kBits + w * 64) + __builtin_ctzll(bits));
        }
      }
    }
  }

 private:
  static constexpr std::size_t kBits = 1024;    // descriptors a chunk
  static constexpr std::size_t kChunks = 1024;  // 1,048,576 descriptors, the kernel's default bound (fs.nr_open)
  struct Chunk {
    std::atomic<std::uint64_t> words[kBits / 64] = {};
  };

  static std::size_t slot(int fd) noexcept { return static_cast<std::size_t>(fd) / kBits; }
  static std::uint64_t bit(int fd) noexcept { return std::uint64_t{1} << (fd % 64); }
  static std::atomic<std::uint64_t>& word(Chunk& chunk, int fd) noexcept {
    return chunk.words[static_cast<std::size_t>(fd) % kBits / 64];
  }

  std::atomic<Chunk*> chunks_[kChunks] = {};
};

}  // namespace setsuna::net
