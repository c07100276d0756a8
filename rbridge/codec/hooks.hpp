// The functions of serial_config(): list(class, list of serialising functions, list of unserialising functions).
#pragma once

#include "rbridge/codec/r_api.hpp"

namespace setsuna::codec {

inline constexpr R_xlen_t kNoHook = -1;

// Which entry of the configuration is for the reference object x, or kNoHook.
R_xlen_t hook_for(SEXP hooks, SEXP x);
SEXP hook_class(SEXP hooks, R_xlen_t which);              // CHARSXP
SEXP hook_serialize(SEXP hooks, R_xlen_t which, SEXP x);  // RAWSXP, unprotected; else R error
// The object that the function for this class makes of `bytes`; R error if there is no such function.
SEXP hook_unserialize(SEXP hooks, SEXP class_name, SEXP bytes);

}  // namespace setsuna::codec
