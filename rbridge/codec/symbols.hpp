// Symbols that the codec itself needs, and a cache from names to symbols for the decoder.
#pragma once

#include "rbridge/codec/r_api.hpp"

namespace setsuna::codec {

struct WellKnown {
  SEXP srcref;
  SEXP srcfile;
  SEXP whole_srcref;
  SEXP compact_integer;  // ALTREP class objects of base R's compact sequences, R_NilValue if this R does not make them
  SEXP compact_real;
};
extern WellKnown well_known;

void initialize_well_known();

// The symbol of an ASCII name of 1 or more bytes, which need not end in a NUL. Symbols are never collected: it is cached.
SEXP install_ascii(const char* name, std::size_t size);

}  // namespace setsuna::codec
