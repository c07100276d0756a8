// Certificates and settings of a server or a client.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>

struct setsuna_tls_context {
  bssl::UniquePtr<SSL_CTX> ssl;
};

namespace setsuna::tls {

setsuna_tls_context* new_server(const char* certificates, const char* key, const char* password, char* error,
                                std::size_t error_bytes);
setsuna_tls_context* new_client(const char* trusted, char* error, std::size_t error_bytes);
void free_context(setsuna_tls_context* context);

}  // namespace setsuna::tls
