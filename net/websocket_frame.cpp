#include "net/websocket_frame.hpp"

#include <algorithm>
#include <cstring>

namespace setsuna::net {
namespace {

constexpr std::uint8_t kFinal = 0x80;
constexpr std::uint8_t kMasked = 0x80;
constexpr std::uint8_t kTwoBytes = 126;    // of length follow
constexpr std::uint8_t kEightBytes = 127;  // of length follow
constexpr std::uint64_t kMaxTwoBytes = 0xFFFF;

std::uint64_t big_endian(std::span<const std::byte> bytes) noexcept {
  std::uint64_t out = 0;
  for (const std::byte byte : bytes) {
    out = (out << 8) | std::to_integer<std::uint64_t>(byte);
  }
  return out;
}

std::size_t length_bytes(std::uint8_t code) noexcept { return code == kTwoBytes ? 2 : code == kEightBytes ? 8 : 0; }

}  // namespace

std::optional<WebSocketFrame> WebSocketFrame::parse(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < 2) {
    return std::nullopt;
  }
  const auto first = std::to_integer<std::uint8_t>(bytes[0]);
  const auto second = std::to_integer<std::uint8_t>(bytes[1]);
  const auto code = static_cast<std::uint8_t>(second & ~kMasked);
  const std::size_t more = length_bytes(code);
  WebSocketFrame frame;
  frame.header_bytes = 2 + more + ((second & kMasked) != 0 ? sizeof(Mask) : 0);
  if (bytes.size() < frame.header_bytes) {
    return std::nullopt;
  }
  frame.final = (first & kFinal) != 0;
  frame.reserved = (first >> 4) & 7;
  frame.opcode = first & 15;
  frame.payload_bytes = more == 0 ? code : big_endian(bytes.subspan(2, more));
  frame.shortest = more == 0 || frame.payload_bytes > (more == 2 ? kTwoBytes - 1 : kMaxTwoBytes);
  if ((second & kMasked) != 0) {
    std::memcpy(frame.mask.emplace().data(), bytes.data() + 2 + more, sizeof(Mask));
  }
  return frame;
}

void WebSocketFrame::append_header(std::vector<std::byte>& out, std::uint64_t payload_bytes,
                                   const std::optional<Mask>& mask) {
  const std::uint8_t code = payload_bytes < kTwoBytes ? static_cast<std::uint8_t>(payload_bytes)
                                                      : (payload_bytes <= kMaxTwoBytes ? kTwoBytes : kEightBytes);
  out.push_back(std::byte{kFinal | kBinary});
  out.push_back(static_cast<std::byte>(code | (mask ? kMasked : 0)));
  for (std::size_t left = length_bytes(code); left-- > 0;) {
    out.push_back(static_cast<std::byte>(payload_bytes >> (8 * left)));
  }
  if (mask) {
    out.insert(out.end(), mask->begin(), mask->end());
  }
}

// In steps of a vector, whose mask is the same each time.
void WebSocketFrame::apply(const Mask& mask, std::uint64_t offset, std::span<const std::byte> from,
                           std::byte* to) noexcept {
  using Vector [[gnu::vector_size(16)]] = std::uint64_t;  // what every x86-64 and arm64 has
  std::array<std::byte, sizeof(Vector)> turned;
  for (std::size_t i = 0; i < turned.size(); ++i) {
    turned[i] = mask[(offset + i) % mask.size()];
  }
  Vector wide;
  std::memcpy(&wide, turned.data(), sizeof wide);
  std::size_t at = 0;
  for (; at + sizeof wide <= from.size(); at += sizeof wide) {
    Vector words;
    std::memcpy(&words, from.data() + at, sizeof words);
    words ^= wide;
    std::memcpy(to + at, &words, sizeof words);
  }
  for (; at < from.size(); ++at) {
    to[at] = from[at] ^ turned[at % turned.size()];
  }
}

}  // namespace setsuna::net
