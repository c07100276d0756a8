/* What setsuna-tls.so offers: cryptography and TLS, by BoringSSL. A plain C interface, since the object is opened by dlopen
 * and shares no C++ with whoever opens it. Any thread may call the functions; one engine is used by one at a time.
 *
 * Functions that can fail take `error`, where they write why: a clause, cut to `error_bytes` and terminated. */
#ifndef SETSUNA_NET_TLS_API_H
#define SETSUNA_NET_TLS_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SETSUNA_TLS_API_VERSION 5
#define SETSUNA_SHA256_BYTES 32
#define SETSUNA_SHA1_BYTES 20
#define SETSUNA_TLS_BINDING_BYTES 32

/* Certificates and settings that connections share. */
struct setsuna_tls_context;
/* TLS for one connection, between buffers: no I/O. */
struct setsuna_tls_engine;

/* Where the next decrypted bytes are to be put, and how many fit there. Null: nowhere. */
typedef void* (*setsuna_tls_room)(void* user, size_t* size);

/* Takes bytes, decrypted or for the wire; null: they are in the room that it gave. 0: it wants no more. */
typedef int (*setsuna_tls_sink)(void* user, const void* bytes, size_t size);

struct setsuna_tls_api {
  uint32_t version;

  void (*random_bytes)(void* out, size_t bytes);
  void (*hmac_sha256)(const void* key, size_t key_bytes, const void* data, size_t data_bytes, uint8_t* out);
  void (*sha1)(const void* data, size_t bytes, uint8_t* out);
  /* 1 when all bytes are equal; takes the same time wherever they differ. */
  int (*equal)(const void* one, const void* other, size_t bytes);

  /* A new P-256 key and a certificate of it, signed by itself, for these host names and IP addresses. Both in PEM, to be
   * given back to release(). 1, or 0: error. */
  int (*make_certificate)(const char* const* names, size_t name_count, unsigned days, char** certificate, char** key,
                          char* error, size_t error_bytes);
  void (*release)(char* text);

  /* PEM texts. `certificates`: the server's own first, then those that lead to its root. The key may stand in the same text
   * (`key` null). `password`: of an encrypted key, else null. Null: error. */
  struct setsuna_tls_context* (*new_server)(const char* certificates, const char* key, const char* password,
                                            char* error, size_t error_bytes);
  /* `trusted`: certificates, of authorities or of the very server, and revocation lists. Null: the system's. */
  struct setsuna_tls_context* (*new_client)(const char* trusted, char* error, size_t error_bytes);
  void (*free_context)(struct setsuna_tls_context* context);

  /* `host`: whom the certificate must name, for clients; null for servers. The context may be freed before the engine. */
  struct setsuna_tls_engine* (*new_engine)(struct setsuna_tls_context* context, const char* host);
  void (*free_engine)(struct setsuna_tls_engine* engine);
  /* The first step of the handshake, for clients. */
  void (*start)(struct setsuna_tls_engine* engine);
  int (*is_open)(const struct setsuna_tls_engine* engine);
  /* Once open: what both ends of this TLS connection derive from it, and no other connection has: SETSUNA_TLS_BINDING_BYTES
   * (tls-exporter of RFC 9266). 1; or 0: there is none. */
  int (*binding)(const struct setsuna_tls_engine* engine, uint8_t* out);
  /* Bytes of the wire. 1; or 0: see error_of (empty: the sink wanted no more). */
  int (*receive)(struct setsuna_tls_engine* engine, const void* bytes, size_t size, setsuna_tls_room room,
                 setsuna_tls_sink sink, void* user);
  /* Once open, and when there is no output(): bytes to be encrypted for the wire, which `sink` takes. 1, or 0: see error_of. */
  int (*send)(struct setsuna_tls_engine* engine, const void* bytes, size_t size, setsuna_tls_sink sink, void* user);
  /* The last word: close_notify. */
  void (*finish)(struct setsuna_tls_engine* engine);
  /* What the wire is to get, until drop_output(). */
  const void* (*output)(const struct setsuna_tls_engine* engine, size_t* size);
  void (*drop_output)(struct setsuna_tls_engine* engine);
  const char* (*error_of)(const struct setsuna_tls_engine* engine);
};

/* The one exported function. Null when `version` is not the object's own. */
typedef const struct setsuna_tls_api* (*setsuna_tls_get_function)(uint32_t version);
#define SETSUNA_TLS_GET_NAME "setsuna_tls_get"

#ifdef __cplusplus
}
#endif

#endif
