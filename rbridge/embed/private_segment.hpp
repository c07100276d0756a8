// The segment of a remote daemon. It lies in the daemon's own process: the relay is its host, the evaluator on R's main thread
// its only daemon. So a remote daemon evaluates in the same way as a local one, and the relay answers while R is busy.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/eventfd.hpp"
#include "runtime/futex.hpp"
#include "runtime/host_page.hpp"
#include "runtime/host_port.hpp"
#include "runtime/segment.hpp"

namespace setsuna::embed {

// Where bytes that come over the network are received: a block of the private data area.
struct Room {
  std::uint64_t offset = 0;  // 0: none
  std::uint16_t hold = runtime::kNoBlockId;

  explicit operator bool() const { return offset != 0; }
};

// Used by one thread, the relay's, but for the constructor.
class PrivateSegment {
 public:
  using Port = runtime::HostPort<std::atomic, runtime::SharedFutex>;

  static constexpr std::uint32_t kSlots = 64;
  static constexpr std::uint32_t kDaemon = 0;  // the evaluator's index

  // data_bytes: of the data area; 0: as much as this process may use. Null on failure, with what to change in *error.
  static std::unique_ptr<PrivateSegment> create(std::uint64_t data_bytes, std::string* error);

  Port& port() { return port_; }
  runtime::SegmentArena& arena() { return arena_; }
  const runtime::Segment& segment() const { return segment_; }
  const runtime::EventFd& doorbell() const { return doorbell_; }
  runtime::DaemonRecord<std::atomic>& daemon() { return port_.daemon(kDaemon); }
  std::uint32_t epoch() const { return epoch_; }

  // What Evaluator::attach() takes over.
  struct Descriptors {
    runtime::UniqueFd segment, host_page, doorbell;
    explicit operator bool() const { return segment && host_page && doorbell; }
  };
  Descriptors descriptors() const;

  // How results are to be encoded (Control::encoding): before the evaluator attaches.
  void set_encoding(std::uint32_t encoding) { view_.control->encoding.store(encoding, std::memory_order_relaxed); }

  // Room for an encoded value. One that the evaluator may view gets a hold bit, if one is free. Empty: there is no memory.
  Room reserve(std::uint64_t bytes);
  // The value is not needed any more: its block is free when no view is left in it.
  void retire(const Room& room);
  void sweep_held();

  // The evaluator leaves after what it runs; `final`: and looks for no other host.
  void stop(bool final);

 private:
  PrivateSegment(runtime::Segment segment, runtime::HostPageMap page, runtime::EventFd doorbell);

  runtime::Segment segment_;
  runtime::HostPageMap page_;
  runtime::EventFd doorbell_;
  runtime::QueueView<std::atomic> view_;
  Port port_;
  runtime::SegmentArena arena_;
  std::uint32_t epoch_ = 0;
  std::vector<std::uint16_t> free_holds_;
  std::vector<Room> held_;
};

}  // namespace setsuna::embed
