// How a process that was not forked by us becomes a daemon of a local profile: one message each way over a SOCK_SEQPACKET
// socket at the profile's URL. The answer carries the descriptors of the shared memory.
#pragma once

#include <cstdint>
#include <type_traits>

namespace setsuna::embed {

inline constexpr std::uint32_t kJoinMagic = 0x4E'4A'54'53;  // "STJN", little endian
inline constexpr std::uint32_t kJoinVersion = 1;

struct JoinRequest {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t layout_hash;
  std::uint64_t build_id[2];
  std::int32_t pid;
  std::int32_t reserved;
};

// Descriptors of a welcome: segment, host page, doorbell, the host's pidfd.
inline constexpr std::uint32_t kJoinFds = 4;

struct JoinReply {
  std::uint32_t magic;
  std::uint32_t welcome;  // 0: refused, see message
  std::uint32_t index;
  std::uint32_t epoch;
  std::int32_t has_stream;
  std::int32_t stream[6];  // of the profile; daemon k takes stream k
  char message[468];       // NUL-terminated
};

static_assert(std::is_trivially_copyable_v<JoinRequest> && sizeof(JoinRequest) == 40);
static_assert(std::is_trivially_copyable_v<JoinReply> && sizeof(JoinReply) == 512);

}  // namespace setsuna::embed
