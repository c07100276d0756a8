// What the files of the decoder share. The bytes are not trusted: every length is checked against what is left before
// anything is allocated or read.
#pragma once

#include <cstring>

#include "rbridge/codec/codec.hpp"
#include "rbridge/codec/format.hpp"

namespace setsuna::codec {

// Plain data on the C stack of one decode(). Errors jump out of it, so nothing in here may own anything.
struct Decoder {
  const std::uint8_t* p;
  const std::uint8_t* end;
  const std::uint8_t* base;
  ViewSource* source;
  SEXP hooks;
  unsigned depth;
  unsigned plain_depth;     // inside attributes: vectors there are copied, so that views are referenced by values only
  std::size_t budget;       // elements that containers may still announce: each takes a byte of the stream at least
  std::uint64_t bulk_next;  // bulk data before this offset has been handed out
  SEXP refs;                // VECSXP of the reference objects so far
  PROTECT_INDEX refs_index;
  std::uint32_t ref_count;
  SEXP group;  // external pointer to the ViewGroup of this decode(), R_NilValue before the first view
  PROTECT_INDEX group_index;
};

[[noreturn]] void damaged(const char* what);

inline std::size_t left(const Decoder& d) { return static_cast<std::size_t>(d.end - d.p); }

inline void need(const Decoder& d, std::size_t size) {
  if (__builtin_expect(left(d) < size, 0)) damaged("it ends too early");
}

template <typename T>
inline T take(Decoder& d) {
  need(d, sizeof(T));
  T value;
  std::memcpy(&value, d.p, sizeof value);
  d.p += sizeof value;
  return value;
}

inline std::size_t take_length(Decoder& d) {
  const auto first = take<std::uint8_t>(d);
  if (__builtin_expect(first < 254, 1)) return first;
  if (first == 254) return take<std::uint32_t>(d);
  return static_cast<std::size_t>(take<std::uint64_t>(d));
}

// A container announced n elements, each of which takes at least min_size bytes of what is left.
inline void spend(Decoder& d, std::size_t n, std::size_t min_size) {
  if (n > left(d) / min_size || n > d.budget) damaged("a length exceeds the data");
  d.budget -= n;
}

inline std::size_t take_count(Decoder& d, std::size_t min_size = 1) {
  const std::size_t n = take_length(d);
  spend(d, n, min_size);
  return n;
}

inline void descend(Decoder& d) {
  R_CheckStack();
  if (++d.depth > kMaxDepth) damaged("it is nested too deeply");
}
inline void ascend(Decoder& d) { --d.depth; }

// decode.cpp
SEXP decode_node(Decoder& d);
SEXP decode_attributes(Decoder& d, SEXP x);  // x must be protected

// decode_strings.cpp
SEXP decode_string(Decoder& d);  // CHARSXP
void decode_strings(Decoder& d, SEXP x, std::size_t n);
SEXP decode_symbol(Decoder& d);  // tag included

// decode_bulk.cpp
SEXP decode_bulk(Decoder& d, SEXPTYPE type);

// decode_reference.cpp
SEXP decode_special_environment(Decoder& d, Tag tag);
SEXP decode_reference(Decoder& d);
SEXP decode_reference_object(Decoder& d, std::uint8_t tag_byte);
SEXP decode_creation(Decoder& d, Tag kind);
void decode_content(Decoder& d, SEXP x, Tag kind, bool has_attributes);
SEXP reference_at(const Decoder& d, std::size_t index);
void add_reference(Decoder& d, SEXP x);
SEXP decode_promise(Decoder& d, Tag tag);

// decode_fallback.cpp
SEXP decode_fallback(Decoder& d);

}  // namespace setsuna::codec
