// How an io_uring is set up.
#pragma once

#include <cstddef>
#include <cstdint>

namespace setsuna::net {

// What a kernel offers, best first: Linux 6.1, 6.0, 5.19 and before.
enum class RingKind : std::uint8_t { kDeferred, kSingleIssuer, kCooperative, kPlain };

struct RingOptions {
  RingKind best = RingKind::kDeferred;  // at most
  // Sends of at least so many bytes leave without a copy, where kernel and socket can do that; 0: none does. Such a send
  // completes when the peer has acknowledged it, and the next on that socket starts only then.
  std::size_t send_zc_bytes = 0;
};

}  // namespace setsuna::net
