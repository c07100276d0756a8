#include <cmath>

#include "rbridge/codec/attributes.hpp"
#include "rbridge/codec/decoder.hpp"
#include "rbridge/codec/logicals.hpp"
#include "rbridge/codec/primitives.hpp"
#include "rbridge/codec/r_internals.hpp"
#include "rbridge/codec/symbols.hpp"
#include "rbridge/codec/views.hpp"

namespace setsuna::codec {

void damaged(const char* what) { Rf_errorcall(R_NilValue, "the data of a value that arrived is damaged: %s", what); }

namespace {

template <SEXPTYPE type, typename Element>
SEXP decode_vector(Decoder& d) {
  const std::size_t n = take_length(d);
  if (n > left(d) / sizeof(Element)) damaged("a vector is longer than it");
  SEXP x = Rf_allocVector(type, static_cast<R_xlen_t>(n));
  if (n != 0) std::memcpy(const_cast<void*>(DATAPTR_RO(x)), d.p, n * sizeof(Element));
  d.p += n * sizeof(Element);
  return x;
}

template <SEXPTYPE type, typename Element>
SEXP decode_scalar(Decoder& d) {
  need(d, sizeof(Element));
  SEXP x = Rf_allocVector(type, 1);
  std::memcpy(const_cast<void*>(DATAPTR_RO(x)), d.p, sizeof(Element));  // bit by bit: payloads of NaN
  d.p += sizeof(Element);
  return x;
}

SEXP decode_logicals(Decoder& d) {
  SEXP x = decode_vector<LGLSXP, int>(d);
  if (!are_logicals(LOGICAL_RO(x), XLENGTH(x))) damaged("a logical vector holds something else");
  return x;
}

SEXP decode_string_vector(Decoder& d) {
  const std::size_t n = take_count(d);
  SEXP x = Rf_protect(Rf_allocVector(STRSXP, static_cast<R_xlen_t>(n)));
  decode_strings(d, x, n);
  Rf_unprotect(1);
  return x;
}

SEXP decode_string_scalar(Decoder& d) { return Rf_ScalarString(decode_string(d)); }

SEXP decode_list(Decoder& d, SEXPTYPE type) {
  const std::size_t n = take_count(d);
  SEXP x = Rf_protect(Rf_allocVector(type, static_cast<R_xlen_t>(n)));
  descend(d);
  for (std::size_t i = 0; i < n; ++i) SET_VECTOR_ELT(x, static_cast<R_xlen_t>(i), decode_node(d));
  ascend(d);
  Rf_unprotect(1);
  return x;
}

void expand_sequence(SEXP x, std::int64_t n, double first, int step) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = first + static_cast<double>(i) * step;
    if (TYPEOF(x) == INTSXP) {
      INTEGER(x)[i] = static_cast<int>(value);
    } else {
      REAL(x)[i] = value;
    }
  }
}

// A compact sequence takes three numbers, whatever its length; base R's own class represents it.
SEXP decode_sequence(Decoder& d, SEXPTYPE type) {
  const auto n = take<std::int64_t>(d);
  const auto first = take<double>(d);
  const auto step = take<std::int8_t>(d);
  const double last = first + static_cast<double>(n - 1) * step;
  if ((step != 1 && step != -1) || n < 1 || n > R_XLEN_T_MAX || !std::isfinite(first))
    damaged("a sequence has no numbers");
  if (type == INTSXP && (std::fabs(first) > INT_MAX || std::fabs(last) > INT_MAX || first != std::floor(first))) {
    damaged("a sequence leaves the integers");
  }
  SEXP compact = type == INTSXP ? well_known.compact_integer : well_known.compact_real;
  if (compact == R_NilValue || n == 1) {
    if (n > INT_MAX) damaged("a sequence is too long for this R");
    SEXP x = Rf_allocVector(type, static_cast<R_xlen_t>(n));
    expand_sequence(x, n, first, step);
    return x;
  }
  SEXP state = Rf_protect(Rf_allocVector(REALSXP, 3));
  REAL(state)[0] = static_cast<double>(n);
  REAL(state)[1] = first;
  REAL(state)[2] = step;
  R_altrep_class_t sequence_class = R_SUBTYPE_INIT(compact);
  SEXP x = R_new_altrep(sequence_class, state, R_NilValue);
  MARK_NOT_MUTABLE(x);
  Rf_unprotect(1);
  return x;
}

// Cells are appended one by one: a pairlist cannot be allocated beforehand, so a wrong count costs nothing.
SEXP decode_cells(Decoder& d, SEXPTYPE type, bool tagged) {
  const std::size_t n = take_count(d);
  if (n == 0) damaged("a pairlist is empty");
  SEXP head = Rf_protect(type == LANGSXP ? Rf_lcons(R_NilValue, R_NilValue) : Rf_cons(R_NilValue, R_NilValue));
  descend(d);
  SEXP cell = head;
  for (std::size_t i = 0; i < n; ++i) {
    if (i != 0) {
      SEXP next = Rf_cons(R_NilValue, R_NilValue);
      SETCDR(cell, next);
      cell = next;
    }
    if (tagged) {
      need(d, 1);
      if (*d.p == static_cast<std::uint8_t>(Tag::kNull)) {
        ++d.p;
      } else {
        SET_TAG(cell, decode_symbol(d));
      }
    }
    SETCAR(cell, decode_node(d));
  }
  ascend(d);
  if (type == DOTSXP) SET_TYPEOF(head, DOTSXP);
  Rf_unprotect(1);
  return head;
}

bool formals_fit(SEXP formals) {
  if (formals == R_NilValue) return true;
  if (TYPEOF(formals) != LISTSXP) return false;
  for (SEXP cell = formals; cell != R_NilValue; cell = CDR(cell)) {
    if (TAG(cell) == R_NilValue) return false;
  }
  return true;
}

SEXP decode_closure(Decoder& d) {
  descend(d);
  SEXP env = Rf_protect(decode_node(d));
  if (TYPEOF(env) != ENVSXP) damaged("a function has no environment");
  SEXP formals = Rf_protect(decode_node(d));
  if (!formals_fit(formals)) damaged("a function's arguments are none");
  SEXP body = Rf_protect(decode_node(d));
  ascend(d);
  SEXP closure = internals::new_closure(formals, body, env);
  Rf_unprotect(3);
  return closure;
}

SEXP decode_primitive(Decoder& d) {
  SEXP function = primitive_by_symbol(decode_symbol(d));
  if (function == R_NilValue) damaged("it names a primitive function that this R does not have");
  return function;
}

SEXP decode_symbol_node(Decoder& d) {
  --d.p;  // the tag belongs to the symbol
  return decode_symbol(d);
}

bool can_have_attributes(Tag tag) {
  switch (tag) {
    case Tag::kLogical:
    case Tag::kInteger:
    case Tag::kReal:
    case Tag::kComplex:
    case Tag::kRaw:
    case Tag::kString:
    case Tag::kList:
    case Tag::kExpression:
    case Tag::kBulkLogical:
    case Tag::kBulkInteger:
    case Tag::kBulkReal:
    case Tag::kBulkComplex:
    case Tag::kBulkRaw:
    case Tag::kIntegerSequence:
    case Tag::kRealSequence:
    case Tag::kPairlist:
    case Tag::kDots:
    case Tag::kCall:
    case Tag::kCallTagged:
    case Tag::kClosure:
    case Tag::kS4: return true;
    default: return false;  // reference objects take theirs together with their content
  }
}

SEXP decode_bare(Decoder& d, Tag tag) {
  switch (tag) {
    case Tag::kNull: return R_NilValue;
    case Tag::kFalse: return Rf_ScalarLogical(0);
    case Tag::kTrue: return Rf_ScalarLogical(1);
    case Tag::kLogicalNA: return Rf_ScalarLogical(NA_LOGICAL);
    case Tag::kInteger1: return decode_scalar<INTSXP, int>(d);
    case Tag::kReal1: return decode_scalar<REALSXP, double>(d);
    case Tag::kString1: return decode_string_scalar(d);
    case Tag::kLogical: return decode_logicals(d);
    case Tag::kInteger: return decode_vector<INTSXP, int>(d);
    case Tag::kReal: return decode_vector<REALSXP, double>(d);
    case Tag::kComplex: return decode_vector<CPLXSXP, Rcomplex>(d);
    case Tag::kRaw: return decode_vector<RAWSXP, Rbyte>(d);
    case Tag::kString: return decode_string_vector(d);
    case Tag::kList: return decode_list(d, VECSXP);
    case Tag::kExpression: return decode_list(d, EXPRSXP);
    case Tag::kBulkLogical: return decode_bulk(d, LGLSXP);
    case Tag::kBulkInteger: return decode_bulk(d, INTSXP);
    case Tag::kBulkReal: return decode_bulk(d, REALSXP);
    case Tag::kBulkComplex: return decode_bulk(d, CPLXSXP);
    case Tag::kBulkRaw: return decode_bulk(d, RAWSXP);
    case Tag::kIntegerSequence: return decode_sequence(d, INTSXP);
    case Tag::kRealSequence: return decode_sequence(d, REALSXP);
    case Tag::kSymbol:
    case Tag::kSymbolOther: return decode_symbol_node(d);
    case Tag::kMissingArg: return R_MissingArg;
    case Tag::kPairlist: return decode_cells(d, LISTSXP, true);
    case Tag::kDots: return decode_cells(d, DOTSXP, true);
    case Tag::kCall: return decode_cells(d, LANGSXP, false);
    case Tag::kCallTagged: return decode_cells(d, LANGSXP, true);
    case Tag::kClosure: return decode_closure(d);
    case Tag::kPrimitive: return decode_primitive(d);
    case Tag::kGlobalEnv:
    case Tag::kBaseEnv:
    case Tag::kEmptyEnv:
    case Tag::kBaseNamespace:
    case Tag::kNamespace:
    case Tag::kPackageEnv: return decode_special_environment(d, tag);
    case Tag::kReference: return decode_reference(d);
    case Tag::kPromise:
    case Tag::kPromiseForced:
    case Tag::kPromiseValue: return decode_promise(d, tag);
    case Tag::kS4: return Rf_allocS4Object();
    case Tag::kFallback: return decode_fallback(d);
    default: damaged("it holds a kind of value that there is not");
  }
}

bool is_reference_object(Tag tag) {
  return tag == Tag::kEnvironment || tag == Tag::kPointer || tag == Tag::kWeakReference || tag == Tag::kHooked;
}

SEXP decode_attribute_symbol(Decoder& d) {
  const auto name = take<std::uint8_t>(d);
  if (name >= static_cast<std::uint8_t>(AttributeName::kCount)) damaged("an attribute has no name");
  if (name == static_cast<std::uint8_t>(AttributeName::kOther)) return decode_symbol(d);
  return attribute_symbol(static_cast<AttributeName>(name));
}

// The pairlist of attributes, linked to x from the first cell on, so that it is protected with x.
void decode_attribute_cells(Decoder& d, SEXP x, std::size_t count) {
  SEXP last = R_NilValue;
  for (std::size_t i = 0; i < count; ++i) {
    SEXP symbol = decode_attribute_symbol(d);
    SEXP value = Rf_protect(decode_node(d));
    if (!attribute_fits(x, symbol, value)) damaged("an attribute does not fit its value");
    SEXP cell = Rf_cons(value, R_NilValue);
    SET_TAG(cell, symbol);
    if (last == R_NilValue) {
      SET_ATTRIB(x, cell);
    } else {
      SETCDR(last, cell);
    }
    Rf_unprotect(1);
    last = cell;
  }
}

}  // namespace

SEXP decode_attributes(Decoder& d, SEXP x) {
  const auto flags = take<std::uint8_t>(d);
  const std::size_t count = take_count(d, 2);
  if (flags > (kAttributeObject | kAttributeS4)) damaged("attributes have flags that there are not");
  descend(d);
  ++d.plain_depth;
  decode_attribute_cells(d, x, count);
  --d.plain_depth;
  ascend(d);
  if (!attributes_fit(x, ATTRIB(x))) damaged("attributes do not fit their value");
  SET_OBJECT(x, (flags & kAttributeObject) != 0);
  if ((flags & kAttributeS4) != 0) {
    SET_S4_OBJECT(x);
  } else {
    UNSET_S4_OBJECT(x);
  }
  return x;
}

SEXP decode_node(Decoder& d) {
  const auto byte = take<std::uint8_t>(d);
  const Tag tag = static_cast<Tag>(byte & ~kHasAttributes);
  if (is_reference_object(tag)) return decode_reference_object(d, byte);
  if ((byte & kHasAttributes) == 0) return decode_bare(d, tag);
  if (!can_have_attributes(tag)) damaged("attributes are where none can be");
  SEXP x = Rf_protect(decode_bare(d, tag));
  decode_attributes(d, x);
  Rf_unprotect(1);
  return x;
}

SEXP decode(Cursor* cursor, const Options* options) {
  if (cursor->p < cursor->base || cursor->p > cursor->end) damaged("it has no beginning");
  Decoder d{};
  d.p = cursor->p;
  d.end = cursor->end;
  d.base = cursor->base;
  d.source = cursor->source;
  d.hooks = options == nullptr ? nullptr : options->hooks;
  d.budget = left(d);
  d.refs = d.group = R_NilValue;
  R_ProtectWithIndex(R_NilValue, &d.refs_index);
  R_ProtectWithIndex(R_NilValue, &d.group_index);
  SEXP x = decode_node(d);
  cursor->p = d.p;
  Rf_unprotect(2);
  return x;
}

void initialize(DllInfo* dll) {
  initialize_well_known();
  register_view_classes(dll);
}

}  // namespace setsuna::codec
