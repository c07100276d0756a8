#include "net/tls/engine.hpp"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "net/tls/errors.hpp"

namespace setsuna::tls {
namespace {

constexpr std::size_t kRecordBytes = 16 * 1024;
constexpr std::size_t kKeptCapacity = 4096;

// ---- the wire, as BoringSSL sees it ----

int wire_read(BIO* bio, char* out, int size) {
  auto& engine = *static_cast<setsuna_tls_engine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (engine.input_bytes == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t part = std::min(static_cast<std::size_t>(size), engine.input_bytes);
  std::memcpy(out, engine.input, part);
  engine.input += part;
  engine.input_bytes -= part;
  return static_cast<int>(part);
}

int wire_write(BIO* bio, const char* bytes, int size) {
  auto& engine = *static_cast<setsuna_tls_engine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (engine.sink != nullptr) {
    engine.sink(engine.user, bytes, static_cast<std::size_t>(size));
  } else {
    engine.output.insert(engine.output.end(), bytes, bytes + size);
  }
  return size;
}

long wire_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* wire_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "setsuna");
    BIO_meth_set_read(made, wire_read);
    BIO_meth_set_write(made, wire_write);
    BIO_meth_set_ctrl(made, wire_control);
    return made;
  }();
  return method;
}

// ---- what went wrong ----

std::string verification_failure(const SSL* ssl) {
  const long result = SSL_get_verify_result(ssl);
  std::string text = "its certificate is not trusted: ";
  text += X509_verify_cert_error_string(result);
  switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return text + "; dial the name that the certificate was made for";
    case X509_V_ERR_CERT_HAS_EXPIRED: return text + "; it needs a new one";
    default: return text + "; give the certificate of its authority (or its own) as 'tlscert'";
  }
}

bool failed(setsuna_tls_engine& engine, int result) {
  const int code = SSL_get_error(engine.ssl.get(), result);
  if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
    return false;
  }
  if (code == SSL_ERROR_ZERO_RETURN) {
    engine.error = "the other side ended the TLS connection";
    return true;
  }
  const std::uint32_t first = ERR_peek_error();
  const bool verification =
      ERR_GET_LIB(first) == ERR_LIB_SSL && ERR_GET_REASON(first) == SSL_R_CERTIFICATE_VERIFY_FAILED;
  const std::string why = last_error();
  if (verification) {
    engine.error = verification_failure(engine.ssl.get());
  } else if (why.find("ALERT") != std::string::npos) {
    engine.error = "the other side refused the TLS connection: " + why;
  } else if (why == "WRONG VERSION NUMBER" || why == "HTTP REQUEST" || why == "HTTPS PROXY REQUEST") {
    engine.error = "what comes is not TLS";
  } else {
    engine.error = "TLS failed: " + why;
  }
  return true;
}

bool shake_hands(setsuna_tls_engine& engine) {
  ERR_clear_error();
  const int result = SSL_do_handshake(engine.ssl.get());
  engine.open = result == 1;
  return engine.open || !failed(engine, result);
}

bool expect_host(SSL* ssl, const std::string& host) {
  const std::string name = host.substr(0, host.find('%'));  // without the interface of an IPv6 address
  unsigned char address[16];
  if (::inet_pton(AF_INET, name.c_str(), address) == 1 || ::inet_pton(AF_INET6, name.c_str(), address) == 1) {
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
  }
  const std::string relative = name.ends_with('.') ? name.substr(0, name.size() - 1) : name;
  return SSL_set1_host(ssl, relative.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, relative.c_str()) == 1;
}

}  // namespace

setsuna_tls_engine* new_engine(setsuna_tls_context* context, const char* host) {
  auto* engine = new setsuna_tls_engine;
  engine->ssl.reset(SSL_new(context->ssl.get()));
  BIO* wire = BIO_new(wire_method());
  BIO_set_data(wire, engine);
  BIO_set_init(wire, 1);
  SSL_set_bio(engine->ssl.get(), wire, wire);
  if (host == nullptr) {
    SSL_set_accept_state(engine->ssl.get());
  } else {
    SSL_set_connect_state(engine->ssl.get());
    if (!expect_host(engine->ssl.get(), host)) {
      engine->error = "the host's name cannot stand in a certificate: " + last_error();
    }
  }
  return engine;
}

void free_engine(setsuna_tls_engine* engine) { delete engine; }

void start(setsuna_tls_engine* engine) {
  if (engine->error.empty() && SSL_is_server(engine->ssl.get()) == 0) {
    shake_hands(*engine);
  }
}

int is_open(const setsuna_tls_engine* engine) { return engine->open ? 1 : 0; }

int binding(const setsuna_tls_engine* engine, std::uint8_t* out) {
  constexpr std::string_view kLabel = "EXPORTER-Channel-Binding";
  ERR_clear_error();
  // Two connections of TLS 1.2 can be given one binding unless their master secrets were extended (RFC 9266, 4.2).
  SSL* ssl = engine->ssl.get();
  const bool good =
      SSL_get_extms_support(ssl) == 1 &&
      SSL_export_keying_material(ssl, out, SETSUNA_TLS_BINDING_BYTES, kLabel.data(), kLabel.size(), nullptr, 0, 1) == 1;
  ERR_clear_error();
  return good ? 1 : 0;
}

int receive(setsuna_tls_engine* engine, const void* bytes, std::size_t size, setsuna_tls_room room,
            setsuna_tls_sink sink, void* user) {
  if (!engine->error.empty()) {
    return 0;
  }
  engine->input = static_cast<const unsigned char*>(bytes);
  engine->input_bytes = size;
  if (!engine->open && (!shake_hands(*engine) || !engine->open)) {
    return engine->error.empty() ? 1 : 0;
  }
  unsigned char plain[kRecordBytes];
  for (;;) {
    ERR_clear_error();
    std::size_t room_bytes = 0;
    void* const place = room(user, &room_bytes);
    const int got = place == nullptr
                        ? SSL_read(engine->ssl.get(), plain, sizeof plain)
                        : SSL_read(engine->ssl.get(), place, static_cast<int>(std::min(room_bytes, kRecordBytes)));
    if (got <= 0) {
      return failed(*engine, got) ? 0 : 1;
    }
    if (sink(user, place == nullptr ? plain : nullptr, static_cast<std::size_t>(got)) == 0) {
      return 0;
    }
  }
}

int send(setsuna_tls_engine* engine, const void* bytes, std::size_t size, setsuna_tls_sink sink, void* user) {
  const auto* from = static_cast<const unsigned char*>(bytes);
  engine->sink = sink;
  engine->user = user;
  while (size > 0) {
    ERR_clear_error();
    const int part = static_cast<int>(std::min<std::size_t>(size, std::size_t{1} << 20));
    const int sent = SSL_write(engine->ssl.get(), from, part);
    if (sent <= 0) {
      failed(*engine, sent);
      break;
    }
    from += sent;
    size -= static_cast<std::size_t>(sent);
  }
  engine->sink = nullptr;
  return size == 0 ? 1 : 0;
}

void finish(setsuna_tls_engine* engine) {
  if (engine->open && engine->error.empty()) {
    ERR_clear_error();
    SSL_shutdown(engine->ssl.get());
    ERR_clear_error();
  }
}

const void* output(const setsuna_tls_engine* engine, std::size_t* size) {
  *size = engine->output.size();
  return engine->output.data();
}

void drop_output(setsuna_tls_engine* engine) {
  engine->output.clear();
  if (engine->output.capacity() > kKeptCapacity) {
    std::vector<unsigned char>().swap(engine->output);
  }
}

const char* error_of(const setsuna_tls_engine* engine) { return engine->error.c_str(); }

}  // namespace setsuna::tls
