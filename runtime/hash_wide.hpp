// XXH3 of long inputs by the vector instructions that this processor has beyond what the compiler may assume: several times
// as fast, and the same values. runtime/hash.hpp calls these.
#pragma once

#include <cstddef>
#include <cstdint>

namespace setsuna::runtime {

// Shorter ones are not worth the call.
inline constexpr std::size_t kWideHashBytes = 4096;

bool has_wide_hash() noexcept;

// Only where has_wide_hash(). `state` is an XXH3_state_t.
std::uint64_t wide_hash64(const void* data, std::size_t bytes, std::uint64_t seed) noexcept;
void wide_hash128(const void* data, std::size_t bytes, std::uint64_t* low, std::uint64_t* high) noexcept;
void wide_hash128_update(void* state, const void* data, std::size_t bytes) noexcept;

}  // namespace setsuna::runtime
