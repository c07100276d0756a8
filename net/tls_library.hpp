// Cryptography and TLS live in a shared object of their own, setsuna-tls.so, that is opened when the network is first used.
#pragma once

#include <string>

#include "net/tls/tls_api.h"

namespace setsuna::net {

// Where it is. Before the first tls_library(), else without effect. Default: beside the object that holds this code.
void set_tls_library_path(const std::string& path);

// The object's functions; opened at the first call, never closed. Null: *error is a sentence that says why and what to do.
// Any thread.
const setsuna_tls_api* tls_library(std::string* error);

// For those who know that it is open, since they come after a tls_library() that succeeded.
const setsuna_tls_api& opened_tls_library();

}  // namespace setsuna::net
