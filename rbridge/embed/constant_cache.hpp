// The decoded constants of a daemon (function and constants of a map, large repeated arguments), by key. Only values
// without state of their own are kept decoded; the host tells by the first word of the block.
#pragma once

#include <cstdint>

#include "rbridge/codec/codec.hpp"

namespace setsuna::embed {

// First 8 bytes of a constant's block.
inline constexpr std::uint64_t kConstantShareable = 1;  // may be kept decoded between tasks

struct CachedConstant {
  std::uint64_t key = 0;   // 0: vacant
  std::uint64_t used = 0;  // tick of the last use
  SEXP value = nullptr;    // kept alive in the cache's list
  codec::ViewSource* source = nullptr;
};

inline constexpr int kConstantsKept = 8;

}  // namespace setsuna::embed
