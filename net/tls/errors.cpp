#include "net/tls/errors.hpp"

#include <openssl/err.h>

#include <algorithm>
#include <cstring>

namespace setsuna::tls {

std::string last_error() {
  const std::uint32_t code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  std::string text = reason == nullptr ? "unknown error" : reason;
  std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c == '_' ? ' ' : c; });
  return text;
}

void write_error(const std::string& text, char* error, std::size_t error_bytes) {
  if (error_bytes > 0) {
    const std::size_t size = std::min(text.size(), error_bytes - 1);
    std::memcpy(error, text.data(), size);
    error[size] = '\0';
  }
}

}  // namespace setsuna::tls
