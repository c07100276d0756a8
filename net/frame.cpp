#include "net/frame.hpp"

#include <algorithm>
#include <cstring>

#include "net/url.hpp"
#include "runtime/hash.hpp"

namespace setsuna::net {
namespace {

constexpr std::size_t kHashedBytes = offsetof(FrameHeader, check);
constexpr std::size_t kPreambleBytes = offsetof(FrameHeader, type);

bool fail(std::string* error, std::string why) {
  *error = std::move(why);
  return false;
}

bool check_lengths(const FrameHeader& header, std::string* error) {
  if (header.flags > (FrameHeader::kWhole | FrameHeader::kData | FrameHeader::kUnchecked)) {
    return fail(error, "a frame has unknown flags");
  }
  const std::uint64_t most = header.is_control() ? kMaxControlBytes : kMaxBodyBytes;
  if (header.body_bytes > most) {
    return fail(error, "a message of " + std::to_string(header.body_bytes) + " bytes is longer than the " +
                           std::to_string(most) + " that are allowed");
  }
  if (header.chunk_bytes > kMaxChunkBytes || header.chunk_bytes > header.body_bytes) {
    return fail(error, "a chunk of " + std::to_string(header.chunk_bytes) + " bytes is longer than allowed");
  }
  const bool first = (header.flags & FrameHeader::kFirst) != 0;
  if ((header.is_control() && (!header.is_whole() || !header.is_checked())) ||
      (!header.is_checked() && header.checksum != 0) ||
      (header.is_whole() && header.chunk_bytes != header.body_bytes) ||
      (!header.is_whole() && header.chunk_bytes == 0) || (!first && header.head_bytes > 0)) {
    return fail(error, "a frame contradicts itself");
  }
  return true;
}

}  // namespace

std::uint64_t start_hash(const FrameHeader& header, std::span<const std::byte> head) noexcept {
  return runtime::hash64(head.data(), head.size(), runtime::hash64(&header, kHashedBytes));
}

void seal(FrameHeader& header, std::span<const std::byte> head, std::span<const std::byte> chunk) noexcept {
  const std::uint64_t hash = start_hash(header, head);
  header.check = static_cast<std::uint16_t>(hash);
  header.checksum = header.is_checked() ? runtime::hash64(chunk.data(), chunk.size(), hash) : 0;
}

bool check_chunk(const FrameHeader& header, std::uint64_t start_hash, const std::byte* chunk) noexcept {
  return !header.is_checked() || runtime::hash64(chunk, header.chunk_bytes, start_hash) == header.checksum;
}

bool check_preamble(std::span<const std::byte> bytes, std::string* error) {
  FrameHeader header;
  std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof header));
  if (header.magic != kFrameMagic) {
    const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 16));
    return fail(error, "what comes is not setsuna's protocol (it begins with " + quote_for_message(start) + ")");
  }
  if (bytes.size() >= kPreambleBytes && header.version != kFrameVersion) {
    return fail(error, "it speaks version " + std::to_string(header.version) +
                           " of the protocol and this side version " + std::to_string(kFrameVersion) +
                           ": install the same version of setsuna on both");
  }
  return bytes.size() < sizeof header || header.head_bytes <= kMaxHeadBytes ||
         fail(error, "the head of a message is longer than allowed");
}

bool check_start(const FrameHeader& header, std::span<const std::byte> head, std::string* error) {
  if (header.check != static_cast<std::uint16_t>(start_hash(header, head))) {
    return fail(error, "the start of a frame is damaged (its checksum is wrong)");
  }
  return check_lengths(header, error);
}

}  // namespace setsuna::net
