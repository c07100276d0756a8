#include "net/buffer_ring.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

constexpr std::size_t kEntriesBytes = BufferRing::kCount * sizeof(compat::BufferRingEntry);
constexpr std::size_t kBuffersBytes = BufferRing::kCount * BufferRing::kBytes;

void* map_private(std::size_t bytes) noexcept {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return nullptr;
  }
  ::madvise(memory, bytes, MADV_DONTFORK);
  return memory;
}

}  // namespace

BufferRing::~BufferRing() {
  if (entries_ != nullptr) {
    ::munmap(entries_, kEntriesBytes);
  }
  if (buffers_ != nullptr) {
    ::munmap(buffers_, kBuffersBytes);
  }
}

bool BufferRing::open(io_uring* ring, std::string& why) {
  entries_ = static_cast<compat::BufferRingEntry*>(map_private(kEntriesBytes));
  buffers_ = static_cast<std::byte*>(map_private(kBuffersBytes));
  if (entries_ == nullptr || buffers_ == nullptr) {
    why = std::string("no memory for receive buffers: ") + std::strerror(errno);
    return false;
  }
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uintptr_t>(entries_);
  registration.ring_entries = kCount;
  registration.bgid = kGroup;
  if (const int error = ::io_uring_register_buf_ring(ring, &registration, 0); error != 0) {
    why = std::string("rings of receive buffers (Linux 5.19) are refused: ") + std::strerror(-error);
    return false;
  }
  offer(kAtFirst);
  return true;
}

void BufferRing::offer(std::size_t count) noexcept {
  while (offered_ < std::min<std::size_t>(count, kCount)) {
    add(offered_++);
  }
  publish();
}

void BufferRing::starved(std::size_t receives) noexcept {
  if (receives > 1) {
    offer(receives * kAtFirst);
  }
}

void BufferRing::add(unsigned id) noexcept {
  compat::BufferRingEntry& entry = entries_[tail_ % kCount];
  entry.address = reinterpret_cast<std::uintptr_t>(buffers_ + id * kBytes);
  entry.bytes = static_cast<std::uint32_t>(kBytes);
  entry.id = static_cast<std::uint16_t>(id);  // not the tail beside it
  ++tail_;
}

void BufferRing::publish() noexcept {
  // release: the other end is the kernel, which acquires the tail and so finds the entries before it filled in.
  std::atomic_ref<std::uint16_t>(entries_[0].tail).store(tail_, std::memory_order_release);
}

std::span<const std::byte> BufferRing::view(unsigned id, std::size_t bytes) const noexcept {
  SETSUNA_ASSERT(id < offered_ && bytes <= kBytes);
  return {buffers_ + id * kBytes, bytes};
}

void BufferRing::recycle(unsigned id) noexcept {
  SETSUNA_ASSERT(id < offered_);
  add(id);
  publish();
}

}  // namespace setsuna::net
