#include "rbridge/monitor/view/segment_map.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace setsuna::monitor {
namespace {

using runtime::DaemonRecord;
using runtime::DaemonState;
using runtime::kPageBytes;
using runtime::SegmentHeader;

runtime::Mapping map_for_reading(int fd, std::size_t bytes) {
  void* base = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  return base == MAP_FAILED ? runtime::Mapping() : runtime::Mapping(static_cast<std::byte*>(base), bytes);
}

// Nothing is believed before it has been compared: all that is read later lies within the file.
bool plausible(const SegmentHeader& header, std::uint64_t file_bytes, std::string* error) {
  if (header.magic != runtime::kSegmentMagic || header.protocol_version != runtime::kProtocolVersion ||
      header.layout_hash != runtime::kLayoutHash) {
    *error = "its shared memory has another layout: that session and this program are not of one version of setsuna";
    return false;
  }
  const runtime::SegmentPlan plan = runtime::plan_segment(header.slot_count, header.daemon_max, header.extent_count);
  if (header.total_bytes != file_bytes || plan.total_bytes != file_bytes ||
      plan.control_offset != header.control_offset || plan.daemons_offset != header.daemons_offset ||
      plan.done_bits_offset != header.done_bits_offset || plan.slots_offset != header.slots_offset) {
    *error = "its shared memory is damaged";
    return false;
  }
  return true;
}

DaemonSample::State state_of(DaemonState state, bool runs) {
  switch (state) {
    case DaemonState::kStarting: return DaemonSample::State::kStarting;
    case DaemonState::kLive: return runs ? DaemonSample::State::kBusy : DaemonSample::State::kIdle;
    case DaemonState::kLeaving: return DaemonSample::State::kLeaving;
    default: return DaemonSample::State::kDead;
  }
}

}  // namespace

bool SegmentMap::map(runtime::UniqueFd fd, std::string* error) {
  struct stat status {};
  if (!runtime::is_sealed_memfd(fd.get()) || ::fstat(fd.get(), &status) != 0 ||
      static_cast<std::size_t>(status.st_size) < kPageBytes) {
    *error = "what it calls its shared memory is something else";
    return false;
  }
  const runtime::Mapping first = map_for_reading(fd.get(), kPageBytes);
  if (!first) {
    *error = std::string("its shared memory cannot be mapped: ") + std::strerror(errno);
    return false;
  }
  const SegmentHeader header = *reinterpret_cast<const SegmentHeader*>(first.base());
  if (!plausible(header, static_cast<std::uint64_t>(status.st_size), error)) {
    return false;
  }
  // Not the slots and what follows: to read a page there that was never written would make it.
  mapping_ = map_for_reading(fd.get(), header.slots_offset);
  if (!mapping_) {
    *error = std::string("its shared memory cannot be mapped: ") + std::strerror(errno);
  }
  return static_cast<bool>(mapping_);
}

// Relaxed throughout: each number stands for itself, and what is shown is a moment ago anyway.
std::vector<DaemonSample> SegmentMap::daemons(std::uint32_t count) const {
  std::vector<DaemonSample> out;
  for (std::uint32_t i = 0; i < std::min(count, header().daemon_max); ++i) {
    const auto& record = *reinterpret_cast<const DaemonRecord<std::atomic>*>(mapping_.base() + header().daemons_offset +
                                                                             std::size_t{i} * kPageBytes);
    const auto state = static_cast<DaemonState>(record.state.load(std::memory_order_relaxed));
    if (state == DaemonState::kVacant) {
      continue;
    }
    DaemonSample daemon;
    daemon.index = i;
    daemon.epoch = record.epoch.load(std::memory_order_relaxed);
    daemon.pid = static_cast<std::int32_t>(record.pid.load(std::memory_order_relaxed));
    daemon.state = state_of(state, record.current.load(std::memory_order_relaxed) != 0);
    daemon.assigned = record.assigned.load(std::memory_order_relaxed);
    daemon.completed = record.completed.load(std::memory_order_relaxed);
    out.push_back(daemon);
  }
  return out;
}

std::uint64_t SegmentMap::ready_slots() const {
  const std::uint64_t tail = control().ring_tail.load(std::memory_order_relaxed);
  const std::uint64_t head = control().ring_head.load(std::memory_order_relaxed);
  return tail > head ? std::min<std::uint64_t>(tail - head, header().slot_count) : 0;
}

std::uint64_t SegmentMap::done_slots() const {
  const auto* words = reinterpret_cast<const std::atomic<std::uint64_t>*>(mapping_.base() + header().done_bits_offset);
  std::uint64_t count = 0;
  for (std::uint32_t i = 0; i < (header().slot_count + 63) / 64; ++i) {
    count += static_cast<std::uint64_t>(std::popcount(words[i].load(std::memory_order_relaxed)));
  }
  return count;
}

}  // namespace setsuna::monitor
