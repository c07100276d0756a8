// XXH3, inlined.
#pragma once

// Inlined: no libxxhash symbol is exported or imported, so a copy that another R package brings cannot be mixed up with
// it.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <cstdint>

#include "runtime/hash_wide.hpp"

namespace setsuna::runtime {

struct Hash128 {
  std::uint64_t low;
  std::uint64_t high;
  friend bool operator==(const Hash128&, const Hash128&) noexcept = default;
};

inline bool wide_for(std::size_t bytes) noexcept { return bytes >= kWideHashBytes && has_wide_hash(); }

// XXH3. Not a cryptographic hash: it guards against damage and finds repeated constants, not against an attacker.
inline std::uint64_t hash64(const void* data, std::size_t bytes, std::uint64_t seed = 0) noexcept {
  return wide_for(bytes) ? wide_hash64(data, bytes, seed) : XXH3_64bits_withSeed(data, bytes, seed);
}

inline Hash128 hash128(const void* data, std::size_t bytes) noexcept {
  if (wide_for(bytes)) {
    Hash128 wide{};
    wide_hash128(data, bytes, &wide.low, &wide.high);
    return wide;
  }
  const XXH128_hash_t h = XXH3_128bits(data, bytes);
  return {h.low64, h.high64};
}

// The same hash over data in pieces: hash128(a+b) == Hasher128().update(a).update(b).digest().
class Hasher128 {
 public:
  Hasher128() noexcept { XXH3_128bits_reset(&state_); }
  Hasher128& update(const void* data, std::size_t bytes) noexcept {
    if (wide_for(bytes)) {
      wide_hash128_update(&state_, data, bytes);
    } else {
      XXH3_128bits_update(&state_, data, bytes);
    }
    return *this;
  }
  Hash128 digest() const noexcept {
    const XXH128_hash_t h = XXH3_128bits_digest(&state_);
    return {h.low64, h.high64};
  }

 private:
  XXH3_state_t state_;
};

}  // namespace setsuna::runtime
