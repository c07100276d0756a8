// Vectors whose data lies behind the head.
#include "rbridge/codec/decoder.hpp"
#include "rbridge/codec/logicals.hpp"
#include "rbridge/codec/views.hpp"

namespace setsuna::codec {

namespace {

std::size_t element_size(SEXPTYPE type) {
  switch (type) {
    case REALSXP: return sizeof(double);
    case CPLXSXP: return sizeof(Rcomplex);
    case RAWSXP: return sizeof(Rbyte);
    default: return sizeof(int);
  }
}

bool may_view(const Decoder& d, const std::uint8_t* data, std::size_t size) {
  const ViewSource* source = d.source;
  if (source == nullptr || d.plain_depth != 0 || size < kMinViewBytes) return false;
  if (reinterpret_cast<std::uintptr_t>(data) % alignof(std::max_align_t) != 0) return false;
  return data >= source->base && size <= source->len &&
         data - source->base <= static_cast<std::ptrdiff_t>(source->len - size);
}

SEXP make_view(Decoder& d, SEXPTYPE type, const std::uint8_t* data, R_xlen_t n) {
  if (d.group == R_NilValue) R_Reprotect(d.group = new_view_group(d.source), d.group_index);
  return new_view(d.group, type, data, n);
}

SEXP make_copy(SEXPTYPE type, const std::uint8_t* data, R_xlen_t n, std::size_t size) {
  SEXP x = Rf_allocVector(type, n);
  if (size != 0) std::memcpy(const_cast<void*>(DATAPTR_RO(x)), data, size);
  return x;
}

}  // namespace

SEXP decode_bulk(Decoder& d, SEXPTYPE type) {
  const auto n = take<std::uint64_t>(d);
  const auto offset = take<std::uint64_t>(d);
  const auto whole = static_cast<std::uint64_t>(d.end - d.base);
  // Offsets rise, so that a few bytes cannot announce the same gigabyte again and again.
  if (offset < d.bulk_next || offset > whole || offset % kBulkAlign != 0) damaged("a large vector lies outside it");
  if (n > (whole - offset) / element_size(type)) damaged("a large vector is longer than it");
  const std::size_t size = n * element_size(type);
  d.bulk_next = offset + size;
  const std::uint8_t* data = d.base + offset;
  const auto count = static_cast<R_xlen_t>(n);
  SEXP x = may_view(d, data, size) ? make_view(d, type, data, count) : make_copy(type, data, count, size);
  if (type == LGLSXP && !are_logicals(LOGICAL_RO(x), count)) damaged("a logical vector holds something else");
  return x;
}

}  // namespace setsuna::codec
