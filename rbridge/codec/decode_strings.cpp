#include "rbridge/codec/decoder.hpp"
#include "rbridge/codec/locale.hpp"
#include "rbridge/codec/symbols.hpp"

namespace setsuna::codec {

namespace {

SEXP make_string(Decoder& d, std::size_t size, cetype_t encoding) {
  if (size > INT_MAX) damaged("a string is too long");
  need(d, size);
  const char* text = reinterpret_cast<const char*>(d.p);
  if (std::memchr(text, 0, size) != nullptr) damaged("a string holds a NUL");
  d.p += size;
  return Rf_mkCharLenCE(text, static_cast<int>(size), encoding);
}

SEXP decode_marked(Decoder& d, std::uint8_t mark) {
  if (mark == kStringNA) return NA_STRING;
  if (mark == kStringSame) damaged("a string refers to none");
  const auto size = take<std::uint32_t>(d);
  switch (mark) {
    case kStringUtf8: return make_string(d, size, CE_UTF8);
    case kStringLatin1: return make_string(d, size, CE_LATIN1);
    case kStringBytes: return make_string(d, size, CE_BYTES);
    case kStringNativeUtf8: return make_string(d, size, native_is_utf8() ? CE_NATIVE : CE_UTF8);
    default: return make_string(d, size, CE_NATIVE);
  }
}

}  // namespace

SEXP decode_string(Decoder& d) {
  const auto first = take<std::uint8_t>(d);
  if (first < kStringMark) return make_string(d, first, CE_NATIVE);
  return decode_marked(d, first);
}

void decode_strings(Decoder& d, SEXP x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    if (d.p != d.end && *d.p == kStringSame) {
      ++d.p;
      const auto index = take<std::uint32_t>(d);
      if (index >= i) damaged("a string refers to a later one");
      SET_STRING_ELT(x, static_cast<R_xlen_t>(i), STRING_ELT(x, index));
    } else {
      SET_STRING_ELT(x, static_cast<R_xlen_t>(i), decode_string(d));
    }
  }
}

SEXP decode_symbol(Decoder& d) {
  const auto tag = take<std::uint8_t>(d);
  if (tag == static_cast<std::uint8_t>(Tag::kSymbol)) {
    std::size_t size = take<std::uint8_t>(d);
    if (size == 255) size = take<std::uint32_t>(d);
    need(d, size);
    if (size == 0 || size > INT_MAX) damaged("a symbol has no name");
    const char* name = reinterpret_cast<const char*>(d.p);
    d.p += size;
    return install_ascii(name, size);
  }
  if (tag != static_cast<std::uint8_t>(Tag::kSymbolOther)) damaged("a symbol is missing");
  SEXP name = Rf_protect(decode_string(d));
  if (name == NA_STRING || LENGTH(name) == 0) damaged("a symbol has no name");
  SEXP symbol = Rf_installTrChar(name);
  Rf_unprotect(1);
  return symbol;
}

}  // namespace setsuna::codec
