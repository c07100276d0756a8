#include "net/tls/context.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "net/tls/errors.hpp"

namespace setsuna::tls {
namespace {

bssl::UniquePtr<BIO> reader(const char* text) {
  return bssl::UniquePtr<BIO>(BIO_new_mem_buf(text, static_cast<int>(std::strlen(text))));
}

bssl::UniquePtr<SSL_CTX> new_ssl_context() {
  bssl::UniquePtr<SSL_CTX> ssl(SSL_CTX_new(TLS_method()));
  if (ssl != nullptr) {
    SSL_CTX_set_min_proto_version(ssl.get(), TLS1_2_VERSION);
    SSL_CTX_set_options(ssl.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(ssl.get(), SSL_SESS_CACHE_OFF);
  }
  return ssl;
}

// Never asks at the terminal.
int give_password(char* out, int size, int, void* user) {
  const auto* password = static_cast<const char*>(user);
  const std::string_view given = password == nullptr ? std::string_view() : std::string_view(password);
  if (password == nullptr || given.size() > static_cast<std::size_t>(size)) {
    return -1;
  }
  std::copy(given.begin(), given.end(), out);
  return static_cast<int>(given.size());
}

bool is_encrypted(const char* key) {
  return std::strstr(key, "ENCRYPTED") != nullptr;  // both forms of PEM say so in their first lines
}

std::string use_key(SSL_CTX* ssl, const char* text, const char* password) {
  const bssl::UniquePtr<BIO> bio = reader(text);
  const bssl::UniquePtr<EVP_PKEY> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, give_password, const_cast<char*>(password)));
  if (key == nullptr) {
    const std::string why = last_error();
    if (is_encrypted(text)) {
      return password == nullptr ? "the private key is encrypted: give its password as 'pass'"
                                 : "the private key cannot be decrypted: the password is wrong (" + why + ")";
    }
    return "there is no private key in PEM in it (" + why + ")";
  }
  if (SSL_CTX_use_PrivateKey(ssl, key.get()) != 1) {
    ERR_clear_error();
    return "the private key does not belong to the certificate";
  }
  return {};
}

std::string use_certificates(SSL_CTX* ssl, const char* text) {
  const bssl::UniquePtr<BIO> bio = reader(text);
  int count = 0;
  for (;; ++count) {
    const bssl::UniquePtr<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, give_password, nullptr));
    if (certificate == nullptr) {
      break;
    }
    const int used =
        count == 0 ? SSL_CTX_use_certificate(ssl, certificate.get()) : SSL_CTX_add1_chain_cert(ssl, certificate.get());
    if (used != 1) {
      return "a certificate cannot be used: " + last_error();
    }
  }
  const std::string why = last_error();  // that no more follow is an error, too
  return count > 0 ? std::string() : "there is no certificate in PEM in it (" + why + ")";
}

std::string trust(SSL_CTX* ssl, const char* text) {
  X509_STORE* store = SSL_CTX_get_cert_store(ssl);
  const bssl::UniquePtr<BIO> bio = reader(text);
  const std::unique_ptr<STACK_OF(X509_INFO), void (*)(STACK_OF(X509_INFO)*)> all(
      PEM_X509_INFO_read_bio(bio.get(), nullptr, give_password, nullptr),
      [](STACK_OF(X509_INFO) * infos) { sk_X509_INFO_pop_free(infos, X509_INFO_free); });
  std::size_t certificates = 0;
  for (std::size_t i = 0; all != nullptr && i < sk_X509_INFO_num(all.get()); ++i) {
    const X509_INFO* info = sk_X509_INFO_value(all.get(), i);
    if (info->x509 != nullptr && X509_STORE_add_cert(store, info->x509) == 1) {
      ++certificates;
    }
    if (info->crl != nullptr && X509_STORE_add_crl(store, info->crl) == 1) {
      X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    }
  }
  const std::string why = last_error();
  return certificates > 0 ? std::string() : "there is no certificate in PEM in it (" + why + ")";
}

setsuna_tls_context* finish(bssl::UniquePtr<SSL_CTX> ssl, const std::string& why, char* error,
                            std::size_t error_bytes) {
  if (!why.empty()) {
    write_error(why, error, error_bytes);
    return nullptr;
  }
  return new setsuna_tls_context{std::move(ssl)};
}

}  // namespace

setsuna_tls_context* new_server(const char* certificates, const char* key, const char* password, char* error,
                                std::size_t error_bytes) {
  bssl::UniquePtr<SSL_CTX> ssl = new_ssl_context();
  std::string why = ssl == nullptr ? last_error() : use_certificates(ssl.get(), certificates);
  if (why.empty()) {
    why = use_key(ssl.get(), key == nullptr ? certificates : key, password);
  }
  return finish(std::move(ssl), why, error, error_bytes);
}

setsuna_tls_context* new_client(const char* trusted, char* error, std::size_t error_bytes) {
  bssl::UniquePtr<SSL_CTX> ssl = new_ssl_context();
  std::string why = ssl == nullptr ? last_error() : std::string();
  if (why.empty() && trusted != nullptr) {
    why = trust(ssl.get(), trusted);
  } else if (why.empty() && X509_STORE_load_locations(SSL_CTX_get_cert_store(ssl.get()),
                                                      "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs") != 1) {
    why = "this system has no list of certificate authorities: " + last_error();
  }
  if (why.empty()) {
    // PARTIAL_CHAIN: a server's own certificate may be trusted without its issuer.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl.get()), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(ssl.get(), SSL_VERIFY_PEER, nullptr);
  }
  return finish(std::move(ssl), why, error, error_bytes);
}

void free_context(setsuna_tls_context* context) { delete context; }

}  // namespace setsuna::tls
