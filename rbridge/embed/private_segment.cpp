#include "rbridge/embed/private_segment.hpp"

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "net/descriptors.hpp"
#include "rbridge/embed/build_id.hpp"

namespace setsuna::embed {
namespace {

using runtime::kExtentBytes;
using runtime::kNoBlockId;
using runtime::UniqueFd;

std::uint64_t half(const std::optional<std::uint64_t>& limit) { return *limit / 2; }

// Relay and evaluator each map the whole segment in this one process, so limits of address space count twice.
std::uint64_t size_within_limits(runtime::SegmentRequest request) {
  runtime::SegmentLimits limits = runtime::read_segment_limits();
  if (limits.address_space) {
    limits.address_space = half(limits.address_space);
  }
  if (limits.data) {
    limits.data = half(limits.data);
  }
  return std::uint64_t{runtime::choose_segment_size(request, limits).extent_count} * kExtentBytes;
}

UniqueFd high(UniqueFd fd) { return fd ? UniqueFd(net::move_high(fd.release())) : UniqueFd(); }

}  // namespace

std::unique_ptr<PrivateSegment> PrivateSegment::create(std::uint64_t data_bytes, std::string* error) {
  runtime::SegmentRequest request;
  request.slot_count = kSlots;
  request.daemon_max = 1;
  request.data_bytes = data_bytes;
  request.build_id = build_id();
  request.profile = "relay";
  if (const std::uint64_t within = size_within_limits(request); within != 0) {
    request.data_bytes = within;  // at 0 create() says what to change
  }
  std::optional<runtime::Segment> segment = runtime::Segment::create(request, error);
  runtime::HostPageMap page;
  if (!segment || !page.create(error)) {
    *error = "the daemon's memory cannot be made: " + *error;
    return nullptr;
  }
  runtime::EventFd doorbell(high(UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))));
  if (!doorbell) {
    *error = std::string("no descriptor is left for the daemon's doorbell: ") + std::strerror(errno);
    return nullptr;
  }
  return std::unique_ptr<PrivateSegment>(new PrivateSegment(std::move(*segment), std::move(page), std::move(doorbell)));
}

PrivateSegment::PrivateSegment(runtime::Segment segment, runtime::HostPageMap page, runtime::EventFd doorbell)
    : segment_(std::move(segment)),
      page_(std::move(page)),
      doorbell_(std::move(doorbell)),
      view_(segment_.queue(page_.page())),
      port_(view_),
      arena_(segment_, runtime::ExtentOwner{runtime::kHostOwner, 1}) {
  port_.format();
  epoch_ = port_.admit(kDaemon);
  free_holds_.reserve(runtime::kHoldBits);
  for (std::uint32_t i = runtime::kHoldBits; i-- > 0;) {
    free_holds_.push_back(static_cast<std::uint16_t>(i));
  }
}

PrivateSegment::Descriptors PrivateSegment::descriptors() const {
  const auto copy = [](int fd) { return high(UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3))); };
  return {copy(segment_.fd()), copy(page_.fd()), copy(doorbell_.fd())};
}

Room PrivateSegment::reserve(std::uint64_t bytes) {
  runtime::Block block = arena_.alloc(bytes);
  if (!block && !held_.empty()) {
    sweep_held();  // views may have gone since the last time
    block = arena_.alloc(bytes);
  }
  if (!block) {
    return {};
  }
  Room room{block.offset, kNoBlockId};
  const bool viewable = bytes > runtime::SegmentArena::kSmallMax;
  if (viewable && free_holds_.empty()) {
    sweep_held();
  }
  if (viewable && !free_holds_.empty()) {
    room.hold = free_holds_.back();
    free_holds_.pop_back();
  }
  return room;
}

void PrivateSegment::retire(const Room& room) {
  if (room.hold != kNoBlockId && port_.held(room.hold)) {
    held_.push_back(room);
    return;
  }
  arena_.host_release(room.offset);
  if (room.hold != kNoBlockId) {
    free_holds_.push_back(room.hold);
  }
}

void PrivateSegment::sweep_held() {
  std::vector<Room> all;
  all.swap(held_);
  for (const Room& room : all) {
    retire(room);
  }
}

void PrivateSegment::stop(bool final) {
  if (final) {
    view_.control->flags.fetch_or(runtime::kControlFinal, std::memory_order_acq_rel);
  }
  daemon().stop.store(1, std::memory_order_release);
  port_.wake_daemon(kDaemon);
}

}  // namespace setsuna::embed
