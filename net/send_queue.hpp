// What a connection has still to send, and how it is cut into frames.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "net/connection.hpp"
#include "net/frame.hpp"
#include "net/reactor.hpp"

namespace setsuna::net {

// Frames that go to the socket in one send: small ones copied together, large bodies where they lie.
struct SendBatch {
  struct Piece {
    const std::byte* body = nullptr;  // null: `bytes` from `offset` on
    std::size_t offset = 0;
    std::size_t size = 0;
  };

  std::vector<std::byte> bytes;
  std::array<Piece, Reactor::kMaxSendPieces> pieces{};
  std::size_t piece_count = 0;
  std::uint64_t total_bytes = 0;
  std::vector<std::uint64_t> tickets;  // of messages that are all sent with it

  // Valid until `bytes` is touched.
  std::array<iovec, Reactor::kMaxSendPieces> gather() const noexcept;
};

// Control messages go before the data messages that wait, and between their chunks.
class SendQueue {
 public:
  // As Connection::send().
  void push(std::uint16_t type, Lane lane, std::uint64_t id, std::span<const std::byte> head,
            std::span<const std::byte> body, std::uint64_t ticket);
  void push(NetMessage type, std::span<const std::byte> bytes);
  // After all that is queued now; nothing may be pushed any more.
  void push_last(NetMessage type, const std::string& text);

  // From now on chunks go without a checksum: the other side is known to take_unchecked().
  void leave_unchecked() noexcept { data_flags_ = FrameHeader::kData | FrameHeader::kUnchecked; }

  bool empty() const noexcept { return control_.empty() && data_.empty() && !has_last_; }
  // Not yet in a batch.
  std::uint64_t bytes() const noexcept { return control_.size() + data_bytes_; }

  // The next frames. False: there are none.
  bool fill(SendBatch& batch);

  // Ends them all unsent: their tickets.
  std::vector<std::uint64_t> drop();

 private:
  struct Message {
    std::uint16_t type = 0;
    std::uint64_t id = 0;
    std::array<std::byte, kMaxHeadBytes> head;
    std::uint8_t head_bytes = 0;
    bool begun = false;
    std::vector<std::byte> own;  // the body, if it was copied
    std::span<const std::byte> body;
    std::uint64_t ticket = 0;
    std::uint64_t done = 0;  // bytes of the body that are in a batch
  };

  // True: the batch is full.
  bool add_chunk(SendBatch& batch, Message& message);

  std::vector<std::byte> control_;  // frames
  std::deque<Message> data_;
  std::uint64_t data_bytes_ = 0;
  std::uint8_t data_flags_ = FrameHeader::kData;
  bool has_last_ = false;
  NetMessage last_type_ = NetMessage::kBye;
  std::string last_;
};

}  // namespace setsuna::net
