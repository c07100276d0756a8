// TLS for one connection, between buffers.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "net/tls/context.hpp"
#include "net/tls/tls_api.h"

struct setsuna_tls_engine {
  bssl::UniquePtr<SSL> ssl;
  const unsigned char* input = nullptr;  // during receive()
  std::size_t input_bytes = 0;
  std::vector<unsigned char> output;
  setsuna_tls_sink sink = nullptr;  // during send(): in place of `output`
  void* user = nullptr;
  std::string error;
  bool open = false;
};

namespace setsuna::tls {

setsuna_tls_engine* new_engine(setsuna_tls_context* context, const char* host);
void free_engine(setsuna_tls_engine* engine);
void start(setsuna_tls_engine* engine);
int is_open(const setsuna_tls_engine* engine);
int binding(const setsuna_tls_engine* engine, std::uint8_t* out);
int receive(setsuna_tls_engine* engine, const void* bytes, std::size_t size, setsuna_tls_room room,
            setsuna_tls_sink sink, void* user);
int send(setsuna_tls_engine* engine, const void* bytes, std::size_t size, setsuna_tls_sink sink, void* user);
void finish(setsuna_tls_engine* engine);
const void* output(const setsuna_tls_engine* engine, std::size_t* size);
void drop_output(setsuna_tls_engine* engine);
const char* error_of(const setsuna_tls_engine* engine);

}  // namespace setsuna::tls
