// The shared segment of one compute profile: a sealed memfd, created by the host and attached to by daemons.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/arena.hpp"
#include "runtime/memfd.hpp"
#include "runtime/queue_view.hpp"
#include "runtime/sysmem.hpp"

namespace setsuna::runtime {

struct BuildId {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const BuildId&, const BuildId&) = default;
};

struct SegmentRequest {
  std::uint32_t slot_count = kDefaultSlots;  // power of two
  std::uint32_t daemon_max = kMaxDaemons;
  std::uint64_t data_bytes = 0;  // of the data area, rounded up to extents; 0: as much as this process may use
  BuildId build_id;
  std::string profile;
};

// What bounds the size of a segment, in bytes; none: unlimited.
struct SegmentLimits {
  MemoryCeiling memory;
  std::optional<std::uint64_t> file_size;      // RLIMIT_FSIZE
  std::optional<std::uint64_t> address_space;  // what is left of RLIMIT_AS
  std::optional<std::uint64_t> data;           // what is left of RLIMIT_DATA
};
SegmentLimits read_segment_limits();

struct SegmentSize {
  std::uint32_t extent_count = 0;  // 0: impossible, and `reason` says what to change
  std::string reason;              // what decided the size: "as asked", "physical memory", "limit on file size ..."
};
// Pure: the size of the data area that the limits leave, never more than asked for.
SegmentSize choose_segment_size(const SegmentRequest& request, const SegmentLimits& limits);

inline constexpr std::uint32_t kMinExtents = 4;

class Segment {
 public:
  // Host. Empty on failure, with what to change in *error.
  static std::optional<Segment> create(const SegmentRequest& request, std::string* error);

  // Daemon. Takes the descriptor. Compares magic, protocol version, layout hash and build id before anything else is believed;
  // empty with a named difference in *error.
  static std::optional<Segment> attach(UniqueFd fd, BuildId build_id, std::string* error);

  const SegmentHeader& header() const { return *reinterpret_cast<const SegmentHeader*>(shared_.base()); }
  int fd() const { return fd_.get(); }
  std::byte* base() const { return shared_.base(); }  // shared map: queue and blocks; not inherited by fork
  std::byte* view() const { return view_.base(); }    // private map of the same bytes: what R vectors point into
  std::uint64_t total_bytes() const { return shared_.bytes(); }
  std::uint64_t data_bytes() const { return std::uint64_t{header().extent_count} * kExtentBytes; }
  const std::string& size_reason() const { return size_reason_; }  // host only

  QueueView<std::atomic> queue(HostPage<std::atomic>* host) const {
    return make_queue_view(shared_.base(), header(), host);
  }
  ExtentTable<std::atomic> extents() const;
  HandbackHeads<std::atomic> handback_heads() const;
  SegmentBacking backing() const { return {shared_.base(), fd_.get()}; }

 private:
  Segment() = default;
  bool map(std::uint64_t bytes, std::string* error);

  UniqueFd fd_;
  Mapping shared_;
  Mapping view_;
  std::string size_reason_;
};

// The memory of `segment` as `me` uses it. The segment must outlive it. Small segments keep no empty extents.
struct SegmentArena : Arena {
  SegmentArena(const Segment& segment, ExtentOwner me)
      : Arena(segment.backing(), segment.extents(), segment.handback_heads(), segment.header().data_offset, me,
              segment.header().extent_count >= 64 ? 1 : 0) {}
};

}  // namespace setsuna::runtime
