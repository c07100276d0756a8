// Self-signed certificates.
#pragma once

#include <cstddef>

namespace setsuna::tls {

int make_certificate(const char* const* names, std::size_t name_count, unsigned days, char** certificate, char** key,
                     char* error, std::size_t error_bytes);
void release(char* text);

}  // namespace setsuna::tls
