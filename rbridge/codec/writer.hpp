// Appending to an EncodeBuffer's head. Everything may end in an R error when memory is short.
#pragma once

#include <cstring>

#include "rbridge/codec/codec.hpp"
#include "rbridge/codec/format.hpp"

namespace setsuna::codec {

void grow_head(EncodeBuffer* buf, std::size_t more);

// Room for `size` bytes at the end of the head, not yet counted in.
inline std::uint8_t* reserve(EncodeBuffer* buf, std::size_t size) {
  if (__builtin_expect(buf->head_cap - buf->head_len < size, 0)) grow_head(buf, size);
  return buf->head + buf->head_len;
}

template <typename T>
inline void put(EncodeBuffer* buf, T value) {
  std::memcpy(reserve(buf, sizeof value), &value, sizeof value);
  buf->head_len += sizeof value;
}

inline void put_tag(EncodeBuffer* buf, Tag tag, std::uint8_t flags = 0) {
  put(buf, static_cast<std::uint8_t>(static_cast<std::uint8_t>(tag) | flags));
}

inline void put_data(EncodeBuffer* buf, const void* data, std::size_t size) {
  std::uint8_t* to = reserve(buf, size);
  if (size != 0) std::memcpy(to, data, size);
  buf->head_len += size;
}

inline void put_length(EncodeBuffer* buf, std::size_t n) {
  std::uint8_t* to = reserve(buf, 9);
  if (n < 254) {
    *to = static_cast<std::uint8_t>(n);
    buf->head_len += 1;
  } else if (n <= UINT32_MAX) {
    const auto narrow = static_cast<std::uint32_t>(n);
    *to = 254;
    std::memcpy(to + 1, &narrow, sizeof narrow);
    buf->head_len += 5;
  } else {
    const auto wide = static_cast<std::uint64_t>(n);
    *to = 255;
    std::memcpy(to + 1, &wide, sizeof wide);
    buf->head_len += 9;
  }
}

// Overwrites bytes that were put before.
template <typename T>
inline void patch(EncodeBuffer* buf, std::size_t pos, T value) {
  std::memcpy(buf->head + pos, &value, sizeof value);
}

// Notes data that goes behind the head and puts its offset (good only after settle_bulk()).
void put_bulk(EncodeBuffer* buf, const void* data, std::size_t size);

// Brings total and the offsets up to date with the head's length.
void settle_bulk(EncodeBuffer* buf) noexcept;

}  // namespace setsuna::codec
