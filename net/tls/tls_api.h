/* What setsuna-tls.so offers: cryptography and TLS, by BoringSSL. A plain C interface, since the object is opened by dlopen
 * and shares no C++ with whoever opens it. The functions may be called by any thread; one engine is used by one thread at
 * a time. */
#ifndef SETSUNA_NET_TLS_API_H
#define SETSUNA_NET_TLS_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SETSUNA_TLS_API_VERSION 1
#define SETSUNA_SHA256_BYTES 32
#define SETSUNA_SHA1_BYTES 20

struct setsuna_tls_api {
  uint32_t version;
  void (*random_bytes)(void* out, size_t bytes);
  void (*hmac_sha256)(const void* key, size_t key_bytes, const void* data, size_t data_bytes, uint8_t* out);
  void (*sha1)(const void* data, size_t bytes, uint8_t* out);
  /* 1 when all bytes are equal; takes the same time wherever they differ. */
  int (*equal)(const void* one, const void* other, size_t bytes);
};

/* The one exported function. Null when `version` is not the object's own. */
typedef const struct setsuna_tls_api* (*setsuna_tls_get_function)(uint32_t version);
#define SETSUNA_TLS_GET_NAME "setsuna_tls_get"

#ifdef __cplusplus
}
#endif

#endif
