#include "net/tls_library.hpp"

#include <dlfcn.h>

#include <mutex>

#include "runtime/assert.hpp"
#include "runtime/poison.hpp"  // SETSUNA_ASAN

namespace setsuna::net {
namespace {

// DEEPBIND: OpenSSL, which R packages bring, has functions of the same names, and this object must find its own. The
// sanitizers cannot work with it; their processes have no OpenSSL.
#if defined(SETSUNA_ASAN) || defined(__SANITIZE_THREAD__)
constexpr int kFlags = RTLD_NOW | RTLD_LOCAL;
#else
constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

struct Library {
  std::mutex mutex;
  std::string path;
  const setsuna_tls_api* api = nullptr;
};

Library& library() {
  static Library instance;
  return instance;
}

std::string default_path() {
#ifdef SETSUNA_TLS_LIBRARY
  return SETSUNA_TLS_LIBRARY;
#else
  Dl_info info{};
  const std::string own = ::dladdr(reinterpret_cast<void*>(&set_tls_library_path), &info) != 0 ? info.dli_fname : "";
  const std::size_t slash = own.rfind('/');
  return (slash == std::string::npos ? std::string("./") : own.substr(0, slash + 1)) + "setsuna-tls.so";
#endif
}

const setsuna_tls_api* open(const std::string& path, std::string* error) {
  void* object = ::dlopen(path.c_str(), kFlags);
  if (object == nullptr) {
    const char* why = ::dlerror();
    *error = "the network cannot be used: setsuna-tls.so cannot be opened (" + std::string(why == nullptr ? "" : why) +
             "); install BoringSSL (Debian, Ubuntu: apt-get install android-libboringssl) or install setsuna again";
    return nullptr;
  }
  const auto get = reinterpret_cast<setsuna_tls_get_function>(::dlsym(object, SETSUNA_TLS_GET_NAME));
  const setsuna_tls_api* api = get == nullptr ? nullptr : get(SETSUNA_TLS_API_VERSION);
  if (api == nullptr) {
    *error = "the network cannot be used: " + path + " belongs to another version of setsuna; install setsuna again";
    ::dlclose(object);
  }
  return api;
}

}  // namespace

void set_tls_library_path(const std::string& path) {
  const std::lock_guard lock(library().mutex);
  library().path = path;
}

const setsuna_tls_api* tls_library(std::string* error) {
  Library& self = library();
  const std::lock_guard lock(self.mutex);
  if (self.api == nullptr) {
    self.api = open(self.path.empty() ? default_path() : self.path, error);
  }
  return self.api;
}

const setsuna_tls_api& opened_tls_library() {
  std::string error;
  const setsuna_tls_api* api = tls_library(&error);
  SETSUNA_ASSERT(api != nullptr);
  return *api;
}

}  // namespace setsuna::net
