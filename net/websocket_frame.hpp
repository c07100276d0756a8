// Frames of WebSocket, as RFC 6455 section 5.2 lays them out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace setsuna::net {

struct WebSocketFrame {
  static constexpr std::uint8_t kContinuation = 0;
  static constexpr std::uint8_t kBinary = 2;
  static constexpr std::uint8_t kFirstControl = 8;
  static constexpr std::size_t kMaxHeaderBytes = 14;
  static constexpr std::uint64_t kMaxControlBytes = 125;  // of a control frame's payload
  using Mask = std::array<std::byte, 4>;

  bool final = true;
  std::uint8_t reserved = 0;  // three bits
  std::uint8_t opcode = kBinary;
  std::optional<Mask> mask;
  std::uint64_t payload_bytes = 0;
  bool shortest = true;  // the length is written in as few bytes as it can be
  std::size_t header_bytes = 0;

  // Of the frame that begins here. None: not all of its header is there.
  static std::optional<WebSocketFrame> parse(std::span<const std::byte> bytes) noexcept;

  // The header of a binary message of one frame.
  static void append_header(std::vector<std::byte>& out, std::uint64_t payload_bytes, const std::optional<Mask>& mask);

  // Copies what lies `offset` bytes into a payload, masked or unmasked. `to`: no part of `from`, or the same place.
  static void apply(const Mask& mask, std::uint64_t offset, std::span<const std::byte> from, std::byte* to) noexcept;
};

}  // namespace setsuna::net
