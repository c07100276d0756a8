// What BoringSSL says went wrong, in words.
#pragma once

#include <cstddef>
#include <string>

namespace setsuna::tls {

// The oldest entry of its error queue, which is emptied.
std::string last_error();

void write_error(const std::string& text, char* error, std::size_t error_bytes);

}  // namespace setsuna::tls
