// Text as a JSON string (RFC 8259). What is not UTF-8 in it is replaced, so that the whole stays JSON.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace setsuna::runtime {

// Bytes of the UTF-8 sequence that `text` begins with; 0: it is none.
inline std::size_t utf8_sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xC2 ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || length > text.size()) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool outside = (lead == 0xED && byte(1) > 0x9F) || (lead == 0xF4 && byte(1) > 0x8F);
  return overlong || outside ? 0 : length;
}

// Appends it with its quotes.
inline void append_json_string(std::string& to, std::string_view text) {
  constexpr const char* kHex = "0123456789abcdef";
  to += '"';
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_length(text);
    const auto lead = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      to += "\\ufffd";
    } else if (lead < 0x20 || lead == 0x7F) {
      to += "\\u00";
      to += kHex[lead / 16];
      to += kHex[lead % 16];
    } else {
      if (lead == '"' || lead == '\\') {
        to += '\\';
      }
      to.append(text.substr(0, length));
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  to += '"';
}

}  // namespace setsuna::runtime
