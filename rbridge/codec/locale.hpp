// What the bytes of a string without a declared encoding mean here.
#pragma once

#include <langinfo.h>

#include <cstring>

namespace setsuna::codec {

inline bool native_is_utf8() noexcept { return std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0; }

// The C locale: bytes above 127 have no meaning that could be translated.
inline bool native_is_ascii() noexcept {
  const char* set = nl_langinfo(CODESET);
  return std::strncmp(set, "ANSI_X3.4", 9) == 0 || std::strcmp(set, "US-ASCII") == 0 || std::strcmp(set, "646") == 0;
}

}  // namespace setsuna::codec
