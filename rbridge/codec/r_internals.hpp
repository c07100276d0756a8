// What the codec knows about R beyond its documented interface. All of it has been part of R's own serialisation format (so
// it cannot change without R failing to read old files) or is in Rinternals.h of R 4.2.
#pragma once

#include "rbridge/codec/r_api.hpp"

namespace setsuna::codec::internals {

// Bits of LEVELS().
inline constexpr int kCharBytes = 1 << 1;
inline constexpr int kCharLatin1 = 1 << 2;
inline constexpr int kCharUtf8 = 1 << 3;
inline constexpr int kCharAscii = 1 << 6;
inline constexpr int kBindingMissingBits = 3;  // of a cell in an environment's frame: 0, 1 or 2
inline constexpr int kBindingLockedBit = 1 << 14;
inline constexpr int kBindingActiveBit = 1 << 15;

// The hash by which an environment places a binding (PJW over the name as plain chars).
inline unsigned binding_hash(const char* name) noexcept {
  unsigned h = 0;
  for (; *name != '\0'; ++name) {
    h = (h << 4) + static_cast<unsigned>(*name);
    const unsigned g = h & 0xf0000000U;
    if (g != 0) h = (h ^ (g >> 24)) ^ g;
  }
  return h;
}

inline SEXP new_closure(SEXP formals, SEXP body, SEXP env) {
#if R_VERSION >= R_Version(4, 5, 0)
  return R_mkClosure(formals, body, env);
#else
  SEXP closure = Rf_allocSExp(CLOSXP);
  SET_FORMALS(closure, formals);
  SET_BODY(closure, body);
  SET_CLOENV(closure, env);
  return closure;
#endif
}

// A promise of `expression` in `env`; already forced if value is not R_UnboundValue.
inline SEXP new_promise(SEXP expression, SEXP env, SEXP value) {
  SEXP promise = Rf_allocSExp(PROMSXP);
  SET_PRCODE(promise, expression);
  SET_PRENV(promise, env);
  SET_PRVALUE(promise, value);
  return promise;
}

inline bool is_hashed(SEXP env) { return HASHTAB(env) != R_NilValue; }

}  // namespace setsuna::codec::internals
