#include "runtime/segment.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace setsuna::runtime {
namespace {

std::uint64_t without(std::uint64_t limit, std::uint64_t used) { return limit > used ? limit - used : 0; }

std::string megabytes(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MB"; }

// The most extents with which the whole segment takes at most `bytes`.
std::uint32_t extents_within(const SegmentRequest& request, std::uint64_t bytes) {
  // The table grows with the extents (8 bytes each), so ask with the largest plan first and correct downwards.
  std::uint64_t count = std::min<std::uint64_t>(bytes / kExtentBytes, kMaxExtents);
  while (count > 0 &&
         plan_segment(request.slot_count, request.daemon_max, static_cast<std::uint32_t>(count)).total_bytes > bytes) {
    --count;
  }
  return static_cast<std::uint32_t>(count);
}

void lower(SegmentSize* size, std::uint32_t extents, const std::string& reason) {
  if (extents < size->extent_count) {
    *size = {extents, reason};
  }
}

std::string check_header(const SegmentHeader& header, std::uint64_t file_bytes, BuildId build_id) {
  if (header.magic != kSegmentMagic) {
    return "it is not a setsuna segment";
  }
  if (header.protocol_version != kProtocolVersion) {
    return "it speaks protocol version " + std::to_string(header.protocol_version) + ", this daemon version " +
           std::to_string(kProtocolVersion) + ": install the same version of setsuna on both sides";
  }
  if (header.layout_hash != kLayoutHash) {
    return "its memory layout is another one: install the same build of setsuna on both sides";
  }
  if (BuildId{header.build_id[0], header.build_id[1]} != build_id) {
    return "it was made by another build of setsuna or for another version of R: use the same on both sides";
  }
  const bool counts_ok = header.slot_count >= 1 && header.slot_count <= 32768 &&
                         (header.slot_count & (header.slot_count - 1)) == 0 && header.daemon_max >= 1 &&
                         header.daemon_max <= kMaxDaemons && header.extent_count >= 1 &&
                         header.extent_count <= kMaxExtents;
  if (!counts_ok) {
    return "its header is damaged (counts)";
  }
  const SegmentPlan plan = plan_segment(header.slot_count, header.daemon_max, header.extent_count);
  const bool offsets_ok = plan.control_offset == header.control_offset &&
                          plan.daemons_offset == header.daemons_offset && plan.cells_offset == header.cells_offset &&
                          plan.done_bits_offset == header.done_bits_offset &&
                          plan.extent_table_offset == header.extent_table_offset &&
                          plan.slots_offset == header.slots_offset && plan.data_offset == header.data_offset &&
                          plan.total_bytes == header.total_bytes && plan.total_bytes == file_bytes;
  return offsets_ok ? "" : "its header is damaged (offsets or size)";
}

void write_header(SegmentHeader* header, const SegmentRequest& request, std::uint32_t extent_count,
                  const SegmentPlan& plan) {
  header->magic = kSegmentMagic;
  header->protocol_version = kProtocolVersion;
  header->slot_count = request.slot_count;
  header->layout_hash = kLayoutHash;
  header->build_id[0] = request.build_id.low;
  header->build_id[1] = request.build_id.high;
  header->total_bytes = plan.total_bytes;
  header->control_offset = plan.control_offset;
  header->daemons_offset = plan.daemons_offset;
  header->cells_offset = plan.cells_offset;
  header->done_bits_offset = plan.done_bits_offset;
  header->extent_table_offset = plan.extent_table_offset;
  header->slots_offset = plan.slots_offset;
  header->data_offset = plan.data_offset;
  header->extent_count = extent_count;
  header->daemon_max = request.daemon_max;
  header->host_pid = static_cast<std::uint32_t>(::getpid());
  header->host_uid = static_cast<std::uint32_t>(::getuid());
  const std::size_t length = std::min(request.profile.size(), sizeof header->profile - 1);
  std::memcpy(header->profile, request.profile.data(), length);
  header->profile[length] = '\0';
}

}  // namespace

SegmentLimits read_segment_limits() {
  SegmentLimits limits{memory_ceiling(), soft_limit(RLIMIT_FSIZE), std::nullopt, std::nullopt};
  const AddressUse use = address_use();
  if (const auto limit = soft_limit(RLIMIT_AS)) {
    limits.address_space = without(*limit, use.total);
  }
  if (const auto limit = soft_limit(RLIMIT_DATA)) {
    limits.data = without(*limit, use.data);
  }
  return limits;
}

SegmentSize choose_segment_size(const SegmentRequest& request, const SegmentLimits& limits) {
  const std::uint64_t asked = request.data_bytes > 0 ? request.data_bytes : limits.memory.bytes;
  const std::uint64_t rounded = std::max<std::uint64_t>((asked + kExtentBytes - 1) / kExtentBytes, kMinExtents);
  SegmentSize size{static_cast<std::uint32_t>(std::min<std::uint64_t>(rounded, kMaxExtents)),
                   request.data_bytes > 0 ? "as asked" : limits.memory.reason};
  if (limits.file_size) {
    lower(&size, extents_within(request, *limits.file_size), "the limit on file size (`ulimit -f`)");
  }
  if (limits.address_space) {
    // Two maps, each with 2 MB for its alignment, in half of what is left: R needs room as well.
    lower(&size, extents_within(request, without(*limits.address_space / 2, 2 * kExtentBytes) / 2),
          "the limit on address space (`ulimit -v`)");
  }
  if (limits.data) {
    lower(&size, extents_within(request, without(*limits.data / 2, kExtentBytes)), "the limit on data (`ulimit -d`)");
  }
  if (size.extent_count < kMinExtents) {
    const SegmentPlan least = plan_segment(request.slot_count, request.daemon_max, kMinExtents);
    size.extent_count = 0;
    size.reason = "the shared segment needs at least " + megabytes(least.total_bytes) + ", which " + size.reason +
                  " does not leave: raise that limit (file size: " + megabytes(least.total_bytes) +
                  "; address space: " + megabytes(4 * least.total_bytes + 8 * kExtentBytes) +
                  " more; data: " + megabytes(2 * least.total_bytes + 4 * kExtentBytes) + " more)";
  }
  return size;
}

std::optional<Segment> Segment::create(const SegmentRequest& request, std::string* error) {
  SETSUNA_ASSERT(request.slot_count >= 1 && request.slot_count <= 32768 &&
                 (request.slot_count & (request.slot_count - 1)) == 0);
  SETSUNA_ASSERT(request.daemon_max >= 1 && request.daemon_max <= kMaxDaemons);
  const SegmentSize size = choose_segment_size(request, read_segment_limits());
  if (size.extent_count == 0) {
    *error = size.reason;
    return std::nullopt;
  }
  const SegmentPlan plan = plan_segment(request.slot_count, request.daemon_max, size.extent_count);
  Segment segment;
  segment.size_reason_ = size.reason;
  segment.fd_ = create_memfd("setsuna", plan.total_bytes, error);
  if (!segment.fd_ || !segment.map(plan.total_bytes, error)) {
    return std::nullopt;
  }
  write_header(reinterpret_cast<SegmentHeader*>(segment.shared_.base()), request, size.extent_count, plan);
  return segment;
}

std::optional<Segment> Segment::attach(UniqueFd fd, BuildId build_id, std::string* error) {
  struct stat info;
  if (!fd || ::fstat(fd.get(), &info) != 0 || !is_sealed_memfd(fd.get())) {
    *error = "cannot join: the descriptor is not a sealed memory file";
    return std::nullopt;
  }
  // By pread, not through a map: whatever it is, reading it cannot fault.
  SegmentHeader header;
  if (::pread(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) {
    *error = "cannot join: the segment has no header";
    return std::nullopt;
  }
  if (const std::string fault = check_header(header, static_cast<std::uint64_t>(info.st_size), build_id);
      !fault.empty()) {
    *error = "cannot join the segment: " + fault;
    return std::nullopt;
  }
  Segment segment;
  segment.fd_ = std::move(fd);
  if (!segment.map(header.total_bytes, error)) {
    return std::nullopt;
  }
  return segment;
}

bool Segment::map(std::uint64_t bytes, std::string* error) {
  shared_ = map_shared(fd_.get(), bytes, error);
  if (shared_) {
    view_ = map_view(fd_.get(), bytes, error);
  }
  return static_cast<bool>(view_);
}

ExtentTable<std::atomic> Segment::extents() const {
  return {reinterpret_cast<std::atomic<std::uint64_t>*>(shared_.base() + header().extent_table_offset),
          header().extent_count};
}

HandbackHeads<std::atomic> Segment::handback_heads() const {
  auto* record = reinterpret_cast<DaemonRecord<std::atomic>*>(shared_.base() + header().daemons_offset);
  return {&record->handback, kPageBytes};
}

}  // namespace setsuna::runtime
