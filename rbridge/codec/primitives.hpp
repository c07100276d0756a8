// Builtin and special functions by name. R makes one object for each, so both directions are a look-up.
#pragma once

#include "rbridge/codec/r_api.hpp"

namespace setsuna::codec {

SEXP primitive_symbol(SEXP function);   // R_NilValue if it is not known by a name
SEXP primitive_by_symbol(SEXP symbol);  // R_NilValue if there is none

}  // namespace setsuna::codec
