#include "net/tls/crypto.hpp"

#include <openssl/digest.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <cstdlib>

namespace setsuna::tls {

void random_bytes(void* out, std::size_t bytes) { RAND_bytes(static_cast<std::uint8_t*>(out), bytes); }

void hmac_sha256(const void* key, std::size_t key_bytes, const void* data, std::size_t data_bytes, std::uint8_t* out) {
  unsigned length = 0;
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  if (HMAC(EVP_sha256(), key, key_bytes, bytes, data_bytes, out, &length) == nullptr ||
      length != SHA256_DIGEST_LENGTH) {
    std::abort();  // out of memory: going on would let anyone in
  }
}

void sha1(const void* data, std::size_t bytes, std::uint8_t* out) {
  SHA1(static_cast<const std::uint8_t*>(data), bytes, out);
}

int equal(const void* one, const void* other, std::size_t bytes) {
  return CRYPTO_memcmp(one, other, bytes) == 0 ? 1 : 0;
}

}  // namespace setsuna::tls
