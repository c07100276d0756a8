// Buffers that the kernel fills when bytes arrive, not when a receive is started.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "net/uring_compat.hpp"

namespace setsuna::net {

// Thousands of idle connections share these, since a receive takes one only when it has data. All memory is kept out of
// forked children.
class BufferRing {
 public:
  static constexpr std::uint16_t kGroup = 0;
  static constexpr unsigned kCount = 256;  // a power of two
  static constexpr std::size_t kBytes = 16 * 1024;

  BufferRing() noexcept = default;
  BufferRing(const BufferRing&) = delete;
  BufferRing& operator=(const BufferRing&) = delete;
  ~BufferRing();

  // Maps, registers and hands all buffers to the kernel. False: `why` says so.
  bool open(io_uring* ring, std::string& why);

  std::span<const std::byte> view(unsigned id, std::size_t bytes) const noexcept;
  // The kernel may use it again.
  void recycle(unsigned id) noexcept;

 private:
  void add(unsigned id) noexcept;
  void publish() noexcept;

  compat::BufferRingEntry* entries_ = nullptr;
  std::byte* buffers_ = nullptr;
  std::uint16_t tail_ = 0;
};

}  // namespace setsuna::net
