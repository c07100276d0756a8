// One element of what a map goes over, as an R value of its own.
#pragma once

#include "rbridge/codec/r_api.hpp"

namespace setsuna::codec {

// Null: `x` is no vector that a map can go over. May jump (allocation).
inline SEXP element_of(SEXP x, R_xlen_t i) {
  switch (TYPEOF(x)) {
    case VECSXP: return VECTOR_ELT(x, i);
    case REALSXP: return Rf_ScalarReal(REAL_ELT(x, i));
    case INTSXP: return Rf_ScalarInteger(INTEGER_ELT(x, i));
    case LGLSXP: return Rf_ScalarLogical(LOGICAL_ELT(x, i));
    case STRSXP: return Rf_ScalarString(STRING_ELT(x, i));
    case RAWSXP: return Rf_ScalarRaw(RAW_ELT(x, i));
    case CPLXSXP: return Rf_ScalarComplex(COMPLEX_ELT(x, i));
    default: return nullptr;
  }
}

}  // namespace setsuna::codec
