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
inline constexpr std::uint16_t kFrameVersion = 2;
inline constexpr std::size_t kMaxChunkBytes = std::size_t{256} * 1024;
inline constexpr std::uint64_t kMaxBodyBytes = std::uint64_t{1} << 46;

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

// Little endian, as is all that follows. Behind it come the message's head (with its first frame only) and a chunk of its
// body.
struct FrameHeader {
  static constexpr std::uint8_t kFirst = 1;  // of its message
  static constexpr std::uint8_t kLast = 2;
  static constexpr std::uint8_t kData = 4;  // on the data lane
  // On the data lane: its chunk has no checksum. Only where both ends of the connection have found that one TLS connection
  // leads from one to the other, which checks all of its bytes itself.
  static constexpr std::uint8_t kUnchecked = 8;
  static constexpr std::uint8_t kWhole = kFirst | kLast;

  std::uint32_t magic = kFrameMagic;
  std::uint16_t version = kFrameVersion;
  std::uint16_t type = 0;
  std::uint64_t id = 0;
  std::uint64_t body_bytes = 0;   // of the message
  std::uint32_t chunk_bytes = 0;  // of it in this frame
  std::uint8_t head_bytes = 0;
  std::uint8_t flags = 0;
  std::uint16_t check = 0;  // low bits of start_hash(): what announces a body can be believed before the body is there
  std::uint64_t checksum = 0;  // XXH3-64 of the chunk, seeded by start_hash(); 0 if it is unchecked

  bool is_control() const noexcept { return (flags & kData) == 0; }
  bool is_whole() const noexcept { return (flags & kWhole) == kWhole; }
  bool is_checked() const noexcept { return (flags & kUnchecked) == 0; }
};
static_assert(sizeof(FrameHeader) == 40);

// XXH3-64 of the fields before `check` and the head.
std::uint64_t start_hash(const FrameHeader& header, std::span<const std::byte> head) noexcept;

// Sets check and checksum.
void seal(FrameHeader& header, std::span<const std::byte> head, std::span<const std::byte> chunk) noexcept;

// Is the chunk the one that was sent, as far as this can tell?
bool check_chunk(const FrameHeader& header, std::uint64_t start_hash, const std::byte* chunk) noexcept;

// Looks at the first bytes of a frame, as many as are there. False: it can be none of ours, and *error says why.
bool check_preamble(std::span<const std::byte> bytes, std::string* error);

// The header and what head_bytes says of a head are there. False: *error.
bool check_start(const FrameHeader& header, std::span<const std::byte> head, std::string* error);

}  // namespace setsuna::net
