// A small queue in memory of this process (or in memory that is shared with forked children), over std::atomic.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "runtime/daemon_port.hpp"
#include "runtime/host_port.hpp"

namespace queue_test {

// Zeroed pages, shared with children forked later. plan_segment() lays them out; there is no data area.
class QueueMemory {
 public:
  QueueMemory(std::uint32_t slot_count, std::uint32_t daemon_max)
      : plan_(setsuna::runtime::plan_segment(slot_count, daemon_max, 1)),
        bytes_(plan_.slots_offset + std::uint64_t{slot_count} * 1024 + setsuna::runtime::kPageBytes) {
    base_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      std::abort();
    }
    setsuna::runtime::SegmentHeader header{};
    header.slot_count = slot_count;
    header.daemon_max = daemon_max;
    header.control_offset = plan_.control_offset;
    header.daemons_offset = plan_.daemons_offset;
    header.cells_offset = plan_.cells_offset;
    header.done_bits_offset = plan_.done_bits_offset;
    header.slots_offset = plan_.slots_offset;
    auto* page = static_cast<char*>(base_) + bytes_ - setsuna::runtime::kPageBytes;
    view_ = setsuna::runtime::make_queue_view(base_, header,
                                              reinterpret_cast<setsuna::runtime::HostPage<std::atomic>*>(page));
  }
  ~QueueMemory() { ::munmap(base_, bytes_); }
  QueueMemory(const QueueMemory&) = delete;
  QueueMemory& operator=(const QueueMemory&) = delete;

  const setsuna::runtime::QueueView<std::atomic>& view() const { return view_; }
  void* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }

 private:
  setsuna::runtime::SegmentPlan plan_;
  std::size_t bytes_;
  void* base_;
  setsuna::runtime::QueueView<std::atomic> view_;
};

}  // namespace queue_test
