#include "rbridge/codec/ref_table.hpp"

#include <cstdlib>
#include <cstring>

#include "runtime/assert.hpp"

namespace setsuna::codec {

namespace {

std::size_t place_of(SEXP object, std::size_t cap) noexcept {
  const auto bits = reinterpret_cast<std::uintptr_t>(object) >> 4;
  return (bits * 0x9E3779B97F4A7C15ULL >> 32) & (cap - 1);
}

void insert(RefSlot* slots, std::size_t cap, RefSlot entry) noexcept {
  std::size_t at = place_of(entry.object, cap);
  while (slots[at].object != nullptr) at = (at + 1) & (cap - 1);
  slots[at] = entry;
}

void grow(EncodeBuffer* buf) {
  const std::size_t cap = buf->ref_cap == 0 ? 16 : buf->ref_cap * 2;
  auto* slots = static_cast<RefSlot*>(std::calloc(cap, sizeof(RefSlot)));
  if (slots == nullptr) Rf_error("not enough memory to encode %zu environments", buf->ref_count);
  for (std::size_t i = 0; i < buf->ref_cap; ++i) {
    if (buf->refs[i].object != nullptr) insert(slots, cap, buf->refs[i]);
  }
  std::free(buf->refs);
  buf->refs = slots;
  buf->ref_cap = cap;
}

}  // namespace

void refs_clear(EncodeBuffer* buf) noexcept {
  if (buf->ref_count == 0) return;
  if (buf->ref_cap * sizeof(RefSlot) > kKeepBytes) {
    std::free(buf->refs);
    buf->refs = nullptr;
    buf->ref_cap = 0;
  } else {
    std::memset(buf->refs, 0, buf->ref_cap * sizeof(RefSlot));
  }
  buf->ref_count = 0;
}

std::uint32_t refs_find(const EncodeBuffer* buf, SEXP object) noexcept {
  if (buf->ref_count == 0) return kNoRef;
  for (std::size_t at = place_of(object, buf->ref_cap);; at = (at + 1) & (buf->ref_cap - 1)) {
    const RefSlot& slot = buf->refs[at];
    if (slot.object == object) return slot.index;
    if (slot.object == nullptr) return kNoRef;
  }
}

std::uint32_t refs_add(EncodeBuffer* buf, SEXP object) {
  SETSUNA_ASSERT(refs_find(buf, object) == kNoRef);
  if (buf->ref_count * 4 >= buf->ref_cap * 3) grow(buf);
  const auto index = static_cast<std::uint32_t>(buf->ref_count);
  insert(buf->refs, buf->ref_cap, RefSlot{object, index});
  ++buf->ref_count;
  return index;
}

}  // namespace setsuna::codec
