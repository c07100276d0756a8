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

  // How many of these bytes belong to the frame under way, or to the one that begins with them. They are taken to be passed on.
  std::size_t take(std::span<const std::byte> bytes) noexcept {
    std::size_t taken = 0;
    while (payload_left_ == 0 && taken < bytes.size()) {
      header_[header_bytes_++] = bytes[taken++];
      const std::optional<WebSocketFrame> frame = WebSocketFrame::parse(std::span(header_).first(header_bytes_));
      if (frame) {
        begin(*frame);
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
    if (frame.opcode < WebSocketFrame::kFirstControl) {
      in_message_ = !frame.final;
    }
  }

  std::array<std::byte, WebSocketFrame::kMaxHeaderBytes> header_;
  std::size_t header_bytes_ = 0;
  std::uint64_t payload_left_ = 0;
  bool in_message_ = false;
};

}  // namespace setsuna::net
