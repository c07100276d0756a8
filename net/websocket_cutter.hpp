// Where the frames of a WebSocket stream begin and end, whoever decodes them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "net/websocket_frame.hpp"

namespace setsuna::net {

class WebSocketCutter {
 public:
  // The next byte begins a frame.
  bool between_frames() const noexcept { return header_bytes_ == 0 && payload_left_ == 0; }
  // A message has begun whose last frame has not.
  bool in_message() const noexcept { return in_message_; }

  // The next byte is one of the payload of a control frame, which has this many still to come.
  std::size_t control_left() const noexcept { return control_ ? static_cast<std::size_t>(payload_left_) : 0; }

  // How many of these bytes belong to the frame under way, or to the one that begins with them; of a control frame header and
  // payload come one by one. They are taken to be passed on.
  std::size_t take(std::span<const std::byte> bytes) noexcept {
    std::size_t taken = 0;
    while (payload_left_ == 0 && taken < bytes.size()) {
      header_[header_bytes_++] = bytes[taken++];
      const std::optional<WebSocketFrame> frame = WebSocketFrame::parse(std::span(header_).first(header_bytes_));
      if (frame) {
        begin(*frame);
        if (control_) {
          return taken;
        }
        break;
      }
    }
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(payload_left_, bytes.size() - taken));
    payload_left_ -= part;
    return taken + part;
  }

 private:
  void begin(const WebSocketFrame& frame) noexcept {
    header_bytes_ = 0;
    payload_left_ = frame.payload_bytes;
    control_ = frame.opcode >= WebSocketFrame::kFirstControl && payload_left_ <= WebSocketFrame::kMaxControlBytes;
    if (frame.opcode < WebSocketFrame::kFirstControl) {
      in_message_ = !frame.final;
    }
  }

  std::array<std::byte, WebSocketFrame::kMaxHeaderBytes> header_;
  std::size_t header_bytes_ = 0;
  std::uint64_t payload_left_ = 0;
  bool in_message_ = false;
  bool control_ = false;  // the last header was that of a control frame, whose payload is not too long for one
};

}  // namespace setsuna::net
