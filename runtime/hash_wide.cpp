// Nothing but xxHash and plain declarations may be included here: an inline function that other sources have too could be the
// linker's choice for all of them, and would not run on processors without AVX2.
#ifdef __x86_64__
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include <xxhash.h>
#endif

#include "runtime/hash_wide.hpp"

namespace setsuna::runtime {

#ifdef __x86_64__

bool has_wide_hash() noexcept {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}

std::uint64_t wide_hash64(const void* data, std::size_t bytes, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

void wide_hash128(const void* data, std::size_t bytes, std::uint64_t* low, std::uint64_t* high) noexcept {
  const XXH128_hash_t h = XXH3_128bits(data, bytes);
  *low = h.low64;
  *high = h.high64;
}

void wide_hash128_update(void* state, const void* data, std::size_t bytes) noexcept {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state), data, bytes);
}

#else

bool has_wide_hash() noexcept { return false; }
std::uint64_t wide_hash64(const void*, std::size_t, std::uint64_t) noexcept { return 0; }
void wide_hash128(const void*, std::size_t, std::uint64_t*, std::uint64_t*) noexcept {}
void wide_hash128_update(void*, const void*, std::size_t) noexcept {}

#endif

}  // namespace setsuna::runtime

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
