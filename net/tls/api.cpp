// The one symbol that setsuna-tls.so exports.
#include "net/tls/certificate.hpp"
#include "net/tls/context.hpp"
#include "net/tls/crypto.hpp"
#include "net/tls/engine.hpp"
#include "net/tls/tls_api.h"

namespace {

namespace tls = setsuna::tls;

constexpr setsuna_tls_api kApi = {
    SETSUNA_TLS_API_VERSION,
    tls::random_bytes,
    tls::hmac_sha256,
    tls::sha1,
    tls::equal,
    tls::make_certificate,
    tls::release,
    tls::new_server,
    tls::new_client,
    tls::free_context,
    tls::new_engine,
    tls::free_engine,
    tls::start,
    tls::is_open,
    tls::binding,
    tls::receive,
    tls::send,
    tls::finish,
    tls::output,
    tls::drop_output,
    tls::error_of,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const setsuna_tls_api* setsuna_tls_get(std::uint32_t version);

extern "C" const setsuna_tls_api* setsuna_tls_get(std::uint32_t version) {
  return version == SETSUNA_TLS_API_VERSION ? &kApi : nullptr;
}
