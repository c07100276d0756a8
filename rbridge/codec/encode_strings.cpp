#include "rbridge/codec/encoder.hpp"
#include "rbridge/codec/locale.hpp"
#include "rbridge/codec/r_internals.hpp"

namespace setsuna::codec {

namespace {

void put_marked(EncodeBuffer* buf, StringMark mark, const char* text, std::size_t size) {
  std::uint8_t* to = reserve(buf, size + 5);
  const auto size32 = static_cast<std::uint32_t>(size);
  to[0] = mark;
  std::memcpy(to + 1, &size32, sizeof size32);
  std::memcpy(to + 5, text, size);
  buf->head_len += size + 5;
}

void put_native(EncodeBuffer* buf, SEXP charsxp) {
  const char* text = CHAR(charsxp);
  const auto size = static_cast<std::size_t>(LENGTH(charsxp));
  if (native_is_utf8()) return put_marked(buf, kStringNativeUtf8, text, size);
  if (native_is_ascii()) return put_marked(buf, kStringNative, text, size);
  const void* mark = vmaxget();
  const char* translated = Rf_translateCharUTF8(charsxp);
  put_marked(buf, kStringUtf8, translated, std::strlen(translated));
  vmaxset(mark);
}

// Which elements of the character vector in hand were written at what index: a direct-mapped cache by address. Entries of
// earlier vectors are told by their generation. Nothing in here runs R code, so one static table is enough.
struct SeenString {
  SEXP string;
  std::uint32_t generation;
  std::uint32_t index;
};
constexpr std::size_t kSeenStrings = 4096;
SeenString seen[kSeenStrings];
std::uint32_t seen_generation = 0;

std::uint32_t next_generation() noexcept {
  if (++seen_generation == 0) {
    std::memset(seen, 0, sizeof seen);
    seen_generation = 1;
  }
  return seen_generation;
}

}  // namespace

void encode_string(Encoder& e, SEXP charsxp) {
  EncodeBuffer* buf = e.buf;
  if (charsxp == NA_STRING) return put(buf, static_cast<std::uint8_t>(kStringNA));
  const int bits = LEVELS(charsxp);
  const char* text = CHAR(charsxp);
  const auto size = static_cast<std::size_t>(LENGTH(charsxp));
  if ((bits & internals::kCharAscii) != 0) {
    if (size >= kStringMark) return put_marked(buf, kStringAscii, text, size);
    std::uint8_t* to = reserve(buf, size + 1);
    to[0] = static_cast<std::uint8_t>(size);
    std::memcpy(to + 1, text, size);
    buf->head_len += size + 1;
    return;
  }
  if ((bits & internals::kCharUtf8) != 0) return put_marked(buf, kStringUtf8, text, size);
  if ((bits & internals::kCharLatin1) != 0) return put_marked(buf, kStringLatin1, text, size);
  if ((bits & internals::kCharBytes) != 0) return put_marked(buf, kStringBytes, text, size);
  put_native(buf, charsxp);
}

void encode_strings(Encoder& e, SEXP x, R_xlen_t n) {
  const SEXP* element = STRING_PTR_RO(x);
  if (static_cast<std::size_t>(n) < kMinShareStrings) {
    for (R_xlen_t i = 0; i < n; ++i) encode_string(e, element[i]);
    return;
  }
  const std::uint32_t generation = next_generation();
  for (R_xlen_t i = 0; i < n; ++i) {
    SEXP string = element[i];
    SeenString& line = seen[(reinterpret_cast<std::uintptr_t>(string) * 0x9E3779B97F4A7C15ULL) >> 52];
    if (line.string == string && line.generation == generation) {
      std::uint8_t* to = reserve(e.buf, 5);
      to[0] = kStringSame;
      std::memcpy(to + 1, &line.index, sizeof line.index);
      e.buf->head_len += 5;
      continue;
    }
    if (i <= UINT32_MAX) line = SeenString{string, generation, static_cast<std::uint32_t>(i)};
    encode_string(e, string);
  }
}

void encode_symbol(Encoder& e, SEXP symbol) {
  SEXP name = PRINTNAME(symbol);
  const auto size = static_cast<std::size_t>(LENGTH(name));
  if ((LEVELS(name) & internals::kCharAscii) == 0) {
    put_tag(e.buf, Tag::kSymbolOther);
    return encode_string(e, name);
  }
  std::uint8_t* to = reserve(e.buf, size + 6);
  to[0] = static_cast<std::uint8_t>(Tag::kSymbol);
  if (size < 255) {
    to[1] = static_cast<std::uint8_t>(size);
    std::memcpy(to + 2, CHAR(name), size);
    e.buf->head_len += size + 2;
    return;
  }
  const auto size32 = static_cast<std::uint32_t>(size);
  to[1] = 255;
  std::memcpy(to + 2, &size32, sizeof size32);
  std::memcpy(to + 6, CHAR(name), size);
  e.buf->head_len += size + 6;
}

}  // namespace setsuna::codec
