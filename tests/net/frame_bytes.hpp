// A frame as it goes over the wire, whether its fields make sense or not.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "net/frame.hpp"

namespace setsuna::net {

// The lengths of head and chunk, and the checksums, are put in.
inline std::string frame_bytes(FrameHeader header, const std::string& head, const std::string& chunk) {
  header.head_bytes = static_cast<std::uint8_t>(head.size());
  header.chunk_bytes = static_cast<std::uint32_t>(chunk.size());
  seal(header, std::as_bytes(std::span(head)), std::as_bytes(std::span(chunk)));
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + head + chunk;
}

// A message of one frame, without a head.
inline std::string message_bytes(std::uint16_t type, std::uint8_t flags, const std::string& body,
                                 std::uint16_t version = kFrameVersion) {
  FrameHeader header;
  header.version = version;
  header.type = type;
  header.flags = static_cast<std::uint8_t>(FrameHeader::kWhole | flags);
  header.body_bytes = body.size();
  return frame_bytes(header, {}, body);
}

}  // namespace setsuna::net
