// The one symbol that setsuna-tls.so exports.
#include "net/tls/crypto.hpp"
#include "net/tls/tls_api.h"

namespace {

constexpr setsuna_tls_api kApi = {
    SETSUNA_TLS_API_VERSION, setsuna::tls::random_bytes, setsuna::tls::hmac_sha256,
    setsuna::tls::sha1,      setsuna::tls::equal,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const setsuna_tls_api* setsuna_tls_get(std::uint32_t version);

extern "C" const setsuna_tls_api* setsuna_tls_get(std::uint32_t version) {
  return version == SETSUNA_TLS_API_VERSION ? &kApi : nullptr;
}
