// The decoded constants of a daemon (function and constants of a map, large repeated arguments), by key. Only values
// without state of their own are kept decoded; the host tells by the first word of the block.
#pragma once

#include <cstdint>

#include "rbridge/codec/codec.hpp"

namespace setsuna::embed {

// First 8 bytes of a constant's block.
inline constexpr std::uint64_t kConstantShareable = 1;  // may be kept decoded between tasks
inline constexpr std::uint64_t kConstantElements =
    2;  // a map's: a u64 follows, where the stream of its elements starts

struct CachedConstant {
  std::uint64_t key = 0;       // 0: vacant, or to be decoded anew
  std::uint64_t elements = 0;  // key whose elements are kept in `values` of the cache; they have no state
  bool watched = false;        // kept only while its words are unchanged
  std::uint64_t used = 0;      // tick of the last use
  SEXP value = nullptr;        // kept alive in the cache's list
  codec::ViewSource* source = nullptr;
};

inline constexpr int kConstantsKept = 8;

}  // namespace setsuna::embed
