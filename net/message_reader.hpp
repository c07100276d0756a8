// From bytes to messages: takes frames apart, checks them, and puts the chunks of messages together.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "net/connection.hpp"
#include "net/frame.hpp"

namespace setsuna::net {

// Any bytes may be fed, in any pieces. After a false from feed() it takes no more.
class MessageReader {
 public:
  class Events {
   public:
    // As in ConnectionSink. A handler may call stop().
    virtual std::byte* on_begin(const MessageHeader& header, std::span<const std::byte> head, std::string* reject) = 0;
    virtual void on_message(const MessageHeader& header, std::span<const std::byte> head,
                            std::span<const std::byte> body) = 0;

   protected:
    ~Events() = default;
  };

  explicit MessageReader(Events& events) noexcept : events_(&events) {}

  // False: error() says what is wrong, or stop() was called.
  bool feed(std::span<const std::byte> bytes);
  const std::string& error() const noexcept { return error_; }

  // Where the rest of the chunk under way belongs: what is put there need not be fed, only counted by placed() (as feed()).
  // Empty: it has to be fed.
  std::span<std::byte> room() noexcept;
  bool placed(std::size_t bytes);

  // Nothing more is to be read: no handler is called from now on.
  void stop() noexcept { stopped_ = true; }

  // Before others are allowed: control messages of net's own, up to this size.
  void restrict_to(std::size_t control_bytes) noexcept { restricted_bytes_ = control_bytes; }
  void lift_restriction() noexcept { restricted_bytes_ = 0; }

  // From now on chunks may come without a checksum: somebody else answers for every byte of the connection.
  void take_unchecked() noexcept { takes_unchecked_ = true; }

  // A data message whose memory came from on_begin() and is not full. Null: none.
  const MessageHeader* torn() const noexcept { return message_.lent ? &message_.header : nullptr; }

 private:
  struct Message {
    MessageHeader header;
    bool active = false;
    bool lent = false;  // memory came from on_begin()
    std::byte* memory = nullptr;
    std::unique_ptr<std::byte[]> own;  // the memory, when on_begin() gave none
    std::uint64_t received = 0;
    std::array<std::byte, kMaxHeadBytes> head;
    std::size_t head_bytes = 0;

    std::span<const std::byte> head_span() const noexcept { return std::span(head).first(head_bytes); }
  };

  std::span<const std::byte> take_start(std::span<const std::byte> bytes);
  std::span<const std::byte> take_chunk(std::span<const std::byte> bytes);
  std::span<const std::byte> take_whole(std::span<const std::byte> bytes);
  std::span<const std::byte> take_part(std::span<const std::byte> bytes);
  std::size_t start_bytes() const noexcept;
  bool begin_frame();
  bool begin_message();
  bool continue_message();
  bool own_memory(std::uint64_t bytes);
  void take_placed(std::size_t part);
  bool finish_chunk(const std::byte* chunk);
  void finish_message(std::span<const std::byte> body);
  bool fail(std::string why);

  Events* events_;
  std::string error_;
  bool stopped_ = false;
  std::size_t restricted_bytes_ = 0;
  bool takes_unchecked_ = false;

  std::array<std::byte, sizeof(FrameHeader) + kMaxHeadBytes> start_;  // of the frame: header and head
  std::size_t start_received_ = 0;
  FrameHeader frame_;
  std::uint64_t start_hash_ = 0;
  bool in_chunk_ = false;
  std::uint32_t chunk_received_ = 0;

  Message message_;                       // on the data lane
  std::unique_ptr<std::byte[]> control_;  // the body of a control message that came in pieces
};

}  // namespace setsuna::net
