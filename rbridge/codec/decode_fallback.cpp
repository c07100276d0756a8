// R_Unserialize believes what it reads, so it only gets bytes whose checksum is right.
#include "rbridge/codec/decoder.hpp"
#include "rbridge/codec/hooks.hpp"

namespace setsuna::codec {

namespace {

struct FallbackInput {
  Decoder* decoder;
  const std::uint8_t* p;
  const std::uint8_t* end;
};

void in_bytes(R_inpstream_t stream, void* out, int size) {
  auto* in = reinterpret_cast<FallbackInput*>(stream->data);
  if (size < 0 || in->end - in->p < size) damaged("its serialised part ends too early");
  std::memcpy(out, in->p, static_cast<std::size_t>(size));
  in->p += size;
}

int in_char(R_inpstream_t stream) {
  std::uint8_t byte = 0;
  in_bytes(stream, &byte, 1);
  return byte;
}

SEXP resolve_name(SEXP name, SEXP data) {
  auto* in = static_cast<FallbackInput*>(R_ExternalPtrAddr(data));
  if (TYPEOF(name) != STRSXP || XLENGTH(name) != 1) damaged("its serialised part names an object wrongly");
  const char* text = CHAR(STRING_ELT(name, 0));
  std::size_t index = 0;
  for (; *text >= '0' && *text <= '9' && index < UINT32_MAX; ++text) {
    index = index * 10 + static_cast<std::size_t>(*text - '0');
  }
  if (*text != '\0') damaged("its serialised part names an object wrongly");
  return reference_at(*in->decoder, index);
}

SEXP unserialize(Decoder& d, const std::uint8_t* bytes, std::size_t size) {
  FallbackInput in{&d, bytes, bytes + size};
  SEXP hook_data = Rf_protect(R_MakeExternalPtr(&in, R_NilValue, R_NilValue));
  struct R_inpstream_st stream;
  R_InitInPStream(&stream, reinterpret_cast<R_pstream_data_t>(&in), R_pstream_binary_format, in_char, in_bytes,
                  resolve_name, hook_data);
  SEXP x = R_Unserialize(&stream);
  R_ClearExternalPtr(hook_data);
  Rf_unprotect(1);
  return x;
}

// The objects that only the serialised bytes refer to: all are made first, because they may refer to each other.
void decode_found(Decoder& d) {
  const std::size_t count = take_count(d);
  SEXP kinds = Rf_protect(Rf_allocVector(RAWSXP, static_cast<R_xlen_t>(count)));
  const std::uint32_t first = d.ref_count;
  for (std::size_t i = 0; i < count; ++i) {
    const auto byte = take<std::uint8_t>(d);
    RAW(kinds)[i] = byte;
    if (byte == (static_cast<std::uint8_t>(Tag::kHooked) | kHasAttributes)) damaged("attributes are where none can be");
    add_reference(d, decode_creation(d, static_cast<Tag>(byte & ~kHasAttributes)));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Rbyte byte = RAW(kinds)[i];
    decode_content(d, reference_at(d, first + i), static_cast<Tag>(byte & ~kHasAttributes),
                   (byte & kHasAttributes) != 0);
  }
  Rf_unprotect(1);
}

}  // namespace

SEXP decode_fallback(Decoder& d) {
  const auto size = take<std::uint64_t>(d);
  const auto hash = take<std::uint64_t>(d);
  need(d, size);
  const std::uint8_t* bytes = d.p;
  if (runtime::hash64(bytes, size) != hash) damaged("its serialised part has the wrong checksum");
  d.p += size;
  descend(d);
  decode_found(d);
  SEXP x = unserialize(d, bytes, size);
  ascend(d);
  return x;
}

}  // namespace setsuna::codec
