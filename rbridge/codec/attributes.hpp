// Attributes: which need a check before R's C code may meet them, because that code trusts their type and length. The encoder
// sends a value whose attributes fail the check (C code can set anything) as a fallback node, which carries a checksum; so a
// decoder that meets such attributes in a native node knows that the bytes are damaged.
#pragma once

#include "rbridge/codec/format.hpp"
#include "rbridge/codec/r_api.hpp"

namespace setsuna::codec {

AttributeName attribute_name(SEXP symbol);
SEXP attribute_symbol(AttributeName name);  // not for kOther

// Whether `value` may be the attribute `symbol` of x. Dimnames are checked apart, for they may come before dim.
bool attribute_fits(SEXP x, SEXP symbol, SEXP value);
bool dimnames_fit(SEXP dim, SEXP dimnames);

// Whether all attributes of x may travel natively.
bool attributes_fit(SEXP x, SEXP attributes);

// A source reference, which functions lose on the way: it drags in the text of the whole file.
bool is_source_reference(SEXP symbol, SEXP value);

}  // namespace setsuna::codec
