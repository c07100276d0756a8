// Frames: what connections are made of on the wire. A message is sent as one frame or, on the data lane, as many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "net/connection.hpp"

namespace setsuna::net {

inline constexpr std::uint32_t kFrameMagic = 0x4e535453;  // "STSN" on the wire
// Of the frames and of the handshake. The first six bytes mean the same in every version, so that a mismatch is seen.
inline constexpr std::uint16_t kFrameVersion = 1;
inline constexpr std::size_t kMaxChunkBytes = std::size_t{256} * 1024;
inline constexpr std::uint64_t kMaxMessageBytes = std::uint64_t{1} << 46;

// Net's own messages, on the control lane. The first four are the handshake's.
enum class NetMessage : std::uint16_t {
  kHello = 0x8000,  // dialler: who it is
  kChallenge,       // host: who it is
  kProof,           // dialler: that it knows the token
  kWelcome,         // host: that it knows it too
  kRefusal,         // either, instead of the next of these: the reason, as text
  kPing,
  kPong,
  kBye,  // the last: the reason, as text
};
inline constexpr std::uint16_t kFirstNetMessage = 0x8000;

// Little endian, as is all that follows.
struct FrameHeader {
  static constexpr std::uint8_t kFirst = 1;  // of its message
  static constexpr std::uint8_t kLast = 2;

  std::uint32_t magic = kFrameMagic;
  std::uint16_t version = kFrameVersion;
  std::uint16_t type = 0;
  std::uint64_t id = 0;
  std::uint64_t message_bytes = 0;
  std::uint32_t chunk_bytes = 0;  // follow the header
  std::uint8_t lane = 0;
  std::uint8_t flags = 0;
  std::uint16_t header_check = 0;  // of what is above: lengths can be believed before the chunk is there
  std::uint64_t checksum = 0;      // XXH3-64 of the chunk, seeded by that of the header above header_check
};
static_assert(sizeof(FrameHeader) == 40);

// XXH3-64 of the header's fields before header_check.
std::uint64_t header_hash(const FrameHeader& header) noexcept;

// Sets header_check and checksum for a chunk in up to two pieces.
void seal(FrameHeader& header, std::span<const std::byte> one, std::span<const std::byte> other) noexcept;

// Looks at what is there of a header (40 bytes: all of it). False: it can be none of ours, and *error says why.
bool check_header(std::span<const std::byte> bytes, std::string* error);

}  // namespace setsuna::net
