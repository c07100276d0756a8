// What has no encoding of its own (byte code objects, attributes that only C code can set, dotted pairs): R_Serialize into
// the same head. Reference objects that it meets stay in the encoder's table, so that identity holds across all nodes of a
// value: R is told a persistent name for each, and those that came up first in here follow the bytes.
#include <cstdio>

#include "rbridge/codec/encoder.hpp"
#include "rbridge/codec/ref_table.hpp"

namespace setsuna::codec {

namespace {

struct Fallback {
  Encoder* encoder;
  SEXP found;  // VECSXP of the objects that were added, in the order of their indices
  PROTECT_INDEX found_index;
  R_xlen_t count;
};

void out_bytes(R_outpstream_t stream, void* data, int size) {
  put_data(static_cast<Encoder*>(stream->data)->buf, data, static_cast<std::size_t>(size));
}

void out_char(R_outpstream_t stream, int c) {
  put(static_cast<Encoder*>(stream->data)->buf, static_cast<std::uint8_t>(c));
}

void keep(Fallback* f, SEXP x) {
  if (f->found == R_NilValue || f->count == XLENGTH(f->found)) {
    SEXP more = Rf_protect(Rf_allocVector(VECSXP, f->count * 2 + 4));
    for (R_xlen_t i = 0; i < f->count; ++i) SET_VECTOR_ELT(more, i, VECTOR_ELT(f->found, i));
    Rf_unprotect(1);
    R_Reprotect(f->found = more, f->found_index);
  }
  SET_VECTOR_ELT(f->found, f->count++, x);
}

SEXP persistent_name(SEXP x, SEXP data) {
  auto* f = static_cast<Fallback*>(R_ExternalPtrAddr(data));
  EncodeBuffer* buf = f->encoder->buf;
  std::uint32_t index = refs_find(buf, x);
  if (index == kNoRef) {
    keep(f, x);
    index = refs_add(buf, x);
  }
  char name[16];
  std::snprintf(name, sizeof name, "%u", index);
  return Rf_mkString(name);
}

void serialize(Encoder& e, SEXP x, Fallback* f) {
  SEXP hook_data = Rf_protect(R_MakeExternalPtr(f, R_NilValue, R_NilValue));
  struct R_outpstream_st stream;
  R_InitOutPStream(&stream, reinterpret_cast<R_pstream_data_t>(&e), R_pstream_binary_format, 3, out_char, out_bytes,
                   persistent_name, hook_data);
  R_Serialize(x, &stream);
  R_ClearExternalPtr(hook_data);
  Rf_unprotect(1);
}

void encode_found(Encoder& e, const Fallback& f) {
  put_length(e.buf, static_cast<std::size_t>(f.count));
  const R_xlen_t count = f.count;
  SEXP kinds = Rf_protect(Rf_allocVector(RAWSXP, count));
  for (R_xlen_t i = 0; i < count; ++i) {
    RAW(kinds)[i] = static_cast<Rbyte>(encode_creation(e, VECTOR_ELT(f.found, i)));
  }
  for (R_xlen_t i = 0; i < count; ++i) {
    encode_content(e, VECTOR_ELT(f.found, i), static_cast<Tag>(RAW(kinds)[i]));
  }
  Rf_unprotect(1);
}

}  // namespace

void encode_fallback(Encoder& e, SEXP x) {
  descend(e);
  put_tag(e.buf, Tag::kFallback);
  const std::size_t frame = e.buf->head_len;
  put(e.buf, std::uint64_t{0});
  put(e.buf, std::uint64_t{0});
  const std::size_t start = e.buf->head_len;
  Fallback f{&e, R_NilValue, 0, 0};
  R_ProtectWithIndex(R_NilValue, &f.found_index);
  serialize(e, x, &f);
  const std::size_t size = e.buf->head_len - start;
  patch(e.buf, frame, static_cast<std::uint64_t>(size));
  patch(e.buf, frame + 8, runtime::hash64(e.buf->head + start, size));
  encode_found(e, f);
  Rf_unprotect(1);
  ascend(e);
}

}  // namespace setsuna::codec
