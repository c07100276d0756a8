#include "rbridge/codec/hooks.hpp"

#include <cstring>

namespace setsuna::codec {

namespace {

void check(SEXP hooks) {
  if (TYPEOF(hooks) == VECSXP && XLENGTH(hooks) == 3 && TYPEOF(VECTOR_ELT(hooks, 0)) == STRSXP) {
    const R_xlen_t n = XLENGTH(VECTOR_ELT(hooks, 0));
    if (TYPEOF(VECTOR_ELT(hooks, 1)) == VECSXP && XLENGTH(VECTOR_ELT(hooks, 1)) == n &&
        TYPEOF(VECTOR_ELT(hooks, 2)) == VECSXP && XLENGTH(VECTOR_ELT(hooks, 2)) == n) {
      return;
    }
  }
  Rf_error("`serial` must be a value of serial_config()");
}

SEXP call(SEXP function, SEXP argument) {
  SEXP expression = Rf_protect(Rf_lang2(function, argument));
  SEXP value = Rf_eval(expression, R_GlobalEnv);
  Rf_unprotect(1);
  return value;
}

}  // namespace

R_xlen_t hook_for(SEXP hooks, SEXP x) {
  if (!OBJECT(x)) return kNoHook;
  check(hooks);
  SEXP classes = VECTOR_ELT(hooks, 0);
  for (R_xlen_t i = 0; i < XLENGTH(classes); ++i) {
    if (Rf_inherits(x, CHAR(STRING_ELT(classes, i)))) return i;
  }
  return kNoHook;
}

SEXP hook_class(SEXP hooks, R_xlen_t which) { return STRING_ELT(VECTOR_ELT(hooks, 0), which); }

SEXP hook_serialize(SEXP hooks, R_xlen_t which, SEXP x) {
  SEXP bytes = call(VECTOR_ELT(VECTOR_ELT(hooks, 1), which), x);
  if (TYPEOF(bytes) != RAWSXP) {
    Rf_error("the `sfunc` of serial_config() for class \"%s\" must return a raw vector, not type '%s'",
             CHAR(hook_class(hooks, which)), Rf_type2char(static_cast<SEXPTYPE>(TYPEOF(bytes))));
  }
  return bytes;
}

SEXP hook_unserialize(SEXP hooks, SEXP class_name, SEXP bytes) {
  if (hooks != nullptr && hooks != R_NilValue) {
    check(hooks);
    SEXP classes = VECTOR_ELT(hooks, 0);
    for (R_xlen_t i = 0; i < XLENGTH(classes); ++i) {
      if (Rf_NonNullStringMatch(STRING_ELT(classes, i), class_name))
        return call(VECTOR_ELT(VECTOR_ELT(hooks, 2), i), bytes);
    }
  }
  Rf_error("an object of class \"%s\" arrived, which this side has no serial_config() for", CHAR(class_name));
}

}  // namespace setsuna::codec
