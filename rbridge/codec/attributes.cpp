#include "rbridge/codec/attributes.hpp"

#include "rbridge/codec/symbols.hpp"

namespace setsuna::codec {

namespace {

bool is_plain_vector(SEXP x) {
  switch (TYPEOF(x)) {
    case LGLSXP:
    case INTSXP:
    case REALSXP:
    case CPLXSXP:
    case RAWSXP:
    case STRSXP:
    case VECSXP:
    case EXPRSXP: return true;
    default: return false;
  }
}

bool dim_fits(SEXP x, SEXP dim) {
  if (TYPEOF(dim) != INTSXP || XLENGTH(dim) < 1) return false;
  const int* extent = INTEGER_RO(dim);
  double product = 1;
  for (R_xlen_t i = 0; i < XLENGTH(dim); ++i) {
    if (extent[i] < 0) return false;
    product *= extent[i];
  }
  return product == static_cast<double>(XLENGTH(x));
}

}  // namespace

AttributeName attribute_name(SEXP symbol) {
  if (symbol == R_NamesSymbol) return AttributeName::kNames;
  if (symbol == R_ClassSymbol) return AttributeName::kClass;
  if (symbol == R_DimSymbol) return AttributeName::kDim;
  if (symbol == R_DimNamesSymbol) return AttributeName::kDimNames;
  if (symbol == R_LevelsSymbol) return AttributeName::kLevels;
  if (symbol == R_RowNamesSymbol) return AttributeName::kRowNames;
  if (symbol == R_TspSymbol) return AttributeName::kTsp;
  return AttributeName::kOther;
}

SEXP attribute_symbol(AttributeName name) {
  switch (name) {
    case AttributeName::kNames: return R_NamesSymbol;
    case AttributeName::kDim: return R_DimSymbol;
    case AttributeName::kDimNames: return R_DimNamesSymbol;
    case AttributeName::kClass: return R_ClassSymbol;
    case AttributeName::kLevels: return R_LevelsSymbol;
    case AttributeName::kRowNames: return R_RowNamesSymbol;
    case AttributeName::kTsp: return R_TspSymbol;
    default: return nullptr;
  }
}

bool attribute_fits(SEXP x, SEXP symbol, SEXP value) {
  if (symbol == R_ClassSymbol) return TYPEOF(value) == STRSXP && XLENGTH(value) >= 1;
  if (!is_plain_vector(x)) return true;  // slots of an S4 object may have any name
  if (symbol == R_NamesSymbol) return TYPEOF(value) == STRSXP && XLENGTH(value) == XLENGTH(x);
  if (symbol == R_DimSymbol) return dim_fits(x, value);
  if (symbol == R_DimNamesSymbol) return TYPEOF(value) == VECSXP;
  if (symbol == R_TspSymbol) return TYPEOF(value) == REALSXP && XLENGTH(value) == 3;
  return true;
}

bool dimnames_fit(SEXP dim, SEXP dimnames) {
  if (TYPEOF(dim) != INTSXP || TYPEOF(dimnames) != VECSXP || XLENGTH(dim) != XLENGTH(dimnames)) return false;
  for (R_xlen_t i = 0; i < XLENGTH(dim); ++i) {
    SEXP names = VECTOR_ELT(dimnames, i);
    if (names == R_NilValue) continue;
    if (TYPEOF(names) != STRSXP || XLENGTH(names) != INTEGER_RO(dim)[i]) return false;
  }
  return true;
}

bool attributes_fit(SEXP x, SEXP attributes) {
  SEXP dim = R_NilValue;
  SEXP dimnames = R_NilValue;
  for (SEXP cell = attributes; cell != R_NilValue; cell = CDR(cell)) {
    SEXP symbol = TAG(cell);
    SEXP value = CAR(cell);
    if (TYPEOF(symbol) != SYMSXP || !attribute_fits(x, symbol, value)) return false;
    if (symbol == R_DimSymbol) dim = value;
    if (symbol == R_DimNamesSymbol) dimnames = value;
  }
  return dimnames == R_NilValue || !is_plain_vector(x) || dimnames_fit(dim, dimnames);
}

bool is_source_reference(SEXP symbol, SEXP value) {
  if (symbol == well_known.srcref) return TYPEOF(value) == VECSXP || Rf_inherits(value, "srcref");  // of `{`: a list
  if (symbol == well_known.srcfile) return Rf_inherits(value, "srcfile");
  return symbol == well_known.whole_srcref && Rf_inherits(value, "srcref");
}

}  // namespace setsuna::codec
