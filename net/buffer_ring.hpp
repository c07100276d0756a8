// Buffers that the kernel fills when bytes arrive, not when a receive is started.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "net/uring_compat.hpp"

namespace setsuna::net {

// Thousands of idle connections share these, since a receive takes one only when it has data. The kernel fills them in
// turn, so that it has few of them while few are needed: those stay in the cache from the kernel's copy to the reader's. All
// memory is kept out of forked children.
class BufferRing {
 public:
  static constexpr std::uint16_t kGroup = 0;
  static constexpr unsigned kCount = 256;  // a power of two
  static constexpr unsigned kAtFirst = 4;  // in the kernel's hands
  static constexpr std::size_t kBytes = 64 * 1024;

  BufferRing() noexcept = default;
  BufferRing(const BufferRing&) = delete;
  BufferRing& operator=(const BufferRing&) = delete;
  ~BufferRing();

  // Maps, registers and hands the first buffers to the kernel. False: `why` says so.
  bool open(io_uring* ring, std::string& why);

  std::span<const std::byte> view(unsigned id, std::size_t bytes) const noexcept;
  // The kernel may use it again.
  void recycle(unsigned id) noexcept;

  // So many receives found no buffer in the same round. One alone takes as many as there are; several get more from now on.
  void starved(std::size_t receives) noexcept;

 private:
  void offer(std::size_t count) noexcept;
  void add(unsigned id) noexcept;
  void publish() noexcept;

  compat::BufferRingEntry* entries_ = nullptr;
  std::byte* buffers_ = nullptr;
  std::uint16_t tail_ = 0;
  unsigned offered_ = 0;  // buffers that the kernel and the readers share; the others wait
};

}  // namespace setsuna::net
