#include "net/tls_context.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "net/tls_library.hpp"
#include "net/url.hpp"

namespace setsuna::net {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{16} << 20;
using ErrorBuffer = std::array<char, 512>;

// What the messages call a source.
std::string name_of(const std::string& source, const char* what) {
  return source.find("-----BEGIN") == std::string::npos ? "the file " + quote_for_message(source) : std::string(what);
}

// The text itself, or the file's contents.
bool load(const std::string& source, std::string& text, std::string* error) {
  if (source.find("-----BEGIN") != std::string::npos) {
    text = source;
    return true;
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(source.c_str(), "rbe"), std::fclose);
  if (file == nullptr) {
    *error = "cannot read the file " + quote_for_message(source) + ": " + std::strerror(errno) +
             "; it must be the name of a file with certificates in PEM, or such text itself";
    return false;
  }
  std::array<char, 4096> part;
  for (std::size_t got = 1; got > 0 && text.size() < kMaxFileBytes;) {
    got = std::fread(part.data(), 1, part.size(), file.get());
    text.append(part.data(), got);
  }
  return true;
}

TlsContextPtr wrap(const setsuna_tls_api& api, setsuna_tls_context* context, const std::string& source,
                   const char* what, const ErrorBuffer& why, std::string* error) {
  if (context == nullptr) {
    *error = "cannot use " + name_of(source, what) + ": " + why.data();
    return nullptr;
  }
  return std::make_shared<const TlsContext>(api, context);
}

}  // namespace

TlsContextPtr make_tls_server(const std::string& certificate, const std::string& key, const std::string* password,
                              std::string* error) {
  const setsuna_tls_api* api = tls_library(error);
  std::string certificate_text;
  std::string key_text;
  if (api == nullptr || !load(certificate, certificate_text, error) || (!key.empty() && !load(key, key_text, error))) {
    return nullptr;
  }
  ErrorBuffer why{};
  setsuna_tls_context* context =
      api->new_server(certificate_text.c_str(), key.empty() ? nullptr : key_text.c_str(),
                      password == nullptr ? nullptr : password->c_str(), why.data(), why.size());
  return wrap(*api, context, certificate, "the certificate", why, error);
}

TlsContextPtr make_tls_client(const std::string& trusted, std::string* error) {
  const setsuna_tls_api* api = tls_library(error);
  std::string text;
  if (api == nullptr || (!trusted.empty() && !load(trusted, text, error))) {
    return nullptr;
  }
  ErrorBuffer why{};
  setsuna_tls_context* context = api->new_client(trusted.empty() ? nullptr : text.c_str(), why.data(), why.size());
  return wrap(*api, context, trusted, "the certificate", why, error);
}

bool make_certificate(std::span<const std::string> names, unsigned days, MadeCertificate& out, std::string* error) {
  const setsuna_tls_api* api = tls_library(error);
  if (api == nullptr) {
    return false;
  }
  std::vector<const char*> texts;
  for (const std::string& name : names) {
    texts.push_back(name.c_str());
  }
  char* certificate = nullptr;
  char* key = nullptr;
  ErrorBuffer why{};
  if (api->make_certificate(texts.data(), texts.size(), days, &certificate, &key, why.data(), why.size()) != 1) {
    *error = why.data();
    return false;
  }
  out.certificate = certificate;
  out.key = key;
  std::memset(key, 0, std::strlen(key));
  api->release(certificate);
  api->release(key);
  return true;
}

}  // namespace setsuna::net
