// Certificates: making, loading, and what connections share of them.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "net/tls/tls_api.h"

namespace setsuna::net {

// Shared by the listener or dialler and whoever made it. Any thread.
class TlsContext {
 public:
  TlsContext(const setsuna_tls_api& api, setsuna_tls_context* context) noexcept : api_(api), context_(context) {}
  ~TlsContext() { api_.free_context(context_); }
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // `host`: whom the other side's certificate must name; null for servers.
  setsuna_tls_engine* new_engine(const char* host) const { return api_.new_engine(context_, host); }
  const setsuna_tls_api& api() const noexcept { return api_; }

 private:
  const setsuna_tls_api& api_;
  setsuna_tls_context* context_;
};

using TlsContextPtr = std::shared_ptr<const TlsContext>;

// Each source is PEM text or the name of a file with it. Any of these returns null, or false, with a sentence in *error.

// `certificate`: the server's own first, then those that lead to its authority. `key`: empty if it is in the same source.
// `password`: of an encrypted key, else null.
TlsContextPtr make_tls_server(const std::string& certificate, const std::string& key, const std::string* password,
                              std::string* error);

// `trusted`: certificates of authorities, or the server's own, and revocation lists. Empty: the system's authorities.
TlsContextPtr make_tls_client(const std::string& trusted, std::string* error);

struct MadeCertificate {
  std::string certificate;  // PEM: for the other side, as `trusted`
  std::string key;          // PEM: never leaves this process
};

// For a host that is known under these names (host names or IP addresses, at least one).
bool make_certificate(std::span<const std::string> names, unsigned days, MadeCertificate& out, std::string* error);

}  // namespace setsuna::net
