// The encoder's table of reference objects (environments, external pointers, weak references): address -> index in order of
// first appearance within one encode(). Open addressing; it lives in the EncodeBuffer so that its memory stays.
#pragma once

#include "rbridge/codec/codec.hpp"

namespace setsuna::codec {

struct RefSlot {
  SEXP object;  // nullptr: free
  std::uint32_t index;
};

inline constexpr std::uint32_t kNoRef = UINT32_MAX;

void refs_clear(EncodeBuffer* buf) noexcept;
// kNoRef if it is not there.
std::uint32_t refs_find(const EncodeBuffer* buf, SEXP object) noexcept;
// Its index. It must not be there; R error when memory is short.
std::uint32_t refs_add(EncodeBuffer* buf, SEXP object);

}  // namespace setsuna::codec
