#include "net/frame.hpp"

#include <algorithm>
#include <cstring>

#include "net/url.hpp"
#include "runtime/hash.hpp"

namespace setsuna::net {
namespace {

constexpr std::size_t kHashedBytes = offsetof(FrameHeader, header_check);
constexpr std::size_t kPreambleBytes = offsetof(FrameHeader, type);

bool fail(std::string* error, std::string why) {
  *error = std::move(why);
  return false;
}

bool check_lengths(const FrameHeader& header, std::string* error) {
  if (header.lane > static_cast<std::uint8_t>(Lane::kData)) {
    return fail(error, "a frame names lane " + std::to_string(header.lane) + ", which does not exist");
  }
  if (header.flags > (FrameHeader::kFirst | FrameHeader::kLast)) {
    return fail(error, "a frame has unknown flags");
  }
  const bool control = header.lane == static_cast<std::uint8_t>(Lane::kControl);
  const std::uint64_t most = control ? kMaxControlBytes : kMaxMessageBytes;
  if (header.message_bytes > most) {
    return fail(error, "a message of " + std::to_string(header.message_bytes) + " bytes is longer than the " +
                           std::to_string(most) + " that are allowed");
  }
  if (header.chunk_bytes > kMaxChunkBytes || header.chunk_bytes > header.message_bytes) {
    return fail(error, "a chunk of " + std::to_string(header.chunk_bytes) + " bytes is longer than allowed");
  }
  const bool whole = header.flags == (FrameHeader::kFirst | FrameHeader::kLast);
  if ((control && !whole) || (whole && header.chunk_bytes != header.message_bytes)) {
    return fail(error, "a frame says that it is a whole message and is not");
  }
  return true;
}

}  // namespace

std::uint64_t header_hash(const FrameHeader& header) noexcept { return runtime::hash64(&header, kHashedBytes); }

void seal(FrameHeader& header, std::span<const std::byte> one, std::span<const std::byte> other) noexcept {
  const std::uint64_t hash = header_hash(header);
  header.header_check = static_cast<std::uint16_t>(hash);
  if (other.empty()) {
    header.checksum = runtime::hash64(one.data(), one.size(), hash);
  } else if (one.empty()) {
    header.checksum = runtime::hash64(other.data(), other.size(), hash);
  } else {
    header.checksum =
        runtime::Hasher64(hash).update(one.data(), one.size()).update(other.data(), other.size()).digest();
  }
}

bool check_header(std::span<const std::byte> bytes, std::string* error) {
  FrameHeader header;
  std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof header));
  if (header.magic != kFrameMagic) {
    const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 16));
    return fail(error, "what comes is not setsuna's protocol (it begins with " + quote_for_message(start) + ")");
  }
  if (bytes.size() < kPreambleBytes) {
    return true;  // the version may be there in part
  }
  if (header.version != kFrameVersion) {
    return fail(error, "it speaks version " + std::to_string(header.version) +
                           " of the protocol and this side version " + std::to_string(kFrameVersion) +
                           ": install the same version of setsuna on both");
  }
  if (bytes.size() < sizeof header) {
    return true;
  }
  if (header.header_check != static_cast<std::uint16_t>(header_hash(header))) {
    return fail(error, "the header of a frame is damaged (its checksum is wrong)");
  }
  return check_lengths(header, error);
}

}  // namespace setsuna::net
