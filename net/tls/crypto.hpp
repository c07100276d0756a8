// Hashes and random bytes, for the table in api.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace setsuna::tls {

void random_bytes(void* out, std::size_t bytes);
void hmac_sha256(const void* key, std::size_t key_bytes, const void* data, std::size_t data_bytes, std::uint8_t* out);
void sha1(const void* data, std::size_t bytes, std::uint8_t* out);
int equal(const void* one, const void* other, std::size_t bytes);

}  // namespace setsuna::tls
