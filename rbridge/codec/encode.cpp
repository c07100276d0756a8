#include "rbridge/codec/attributes.hpp"
#include "rbridge/codec/encoder.hpp"
#include "rbridge/codec/logicals.hpp"
#include "rbridge/codec/primitives.hpp"
#include "rbridge/codec/ref_table.hpp"
#include "rbridge/codec/symbols.hpp"

namespace setsuna::codec {

namespace {

std::uint8_t attribute_flags(SEXP x) {
  return static_cast<std::uint8_t>((OBJECT(x) ? kAttributeObject : 0) | (IS_S4_OBJECT(x) ? kAttributeS4 : 0));
}

// What is left of the attributes of a function or call when source references are gone.
std::size_t count_attributes(SEXP attributes, bool strip_sources) {
  std::size_t count = 0;
  for (SEXP cell = attributes; cell != R_NilValue; cell = CDR(cell)) {
    if (!strip_sources || !is_source_reference(TAG(cell), CAR(cell))) ++count;
  }
  return count;
}

void put_attributes(Encoder& e, SEXP attributes, std::uint8_t flags, std::size_t count, bool strip_sources) {
  descend(e);
  put(e.buf, flags);
  put_length(e.buf, count);
  for (SEXP cell = attributes; cell != R_NilValue; cell = CDR(cell)) {
    SEXP symbol = TAG(cell);
    SEXP value = CAR(cell);
    if (strip_sources && is_source_reference(symbol, value)) continue;
    const AttributeName name = attribute_name(symbol);
    put(e.buf, static_cast<std::uint8_t>(name));
    if (name == AttributeName::kOther) encode_symbol(e, symbol);
    encode_node(e, value);
  }
  ascend(e);
}

// Runs `content` between tag and attributes. False if the attributes must not travel natively: nothing was written then.
template <typename Content>
bool encode_with_attributes(Encoder& e, SEXP x, bool strip_sources, Content content) {
  SEXP attributes = ATTRIB(x);
  if (attributes == R_NilValue && !OBJECT(x) && !IS_S4_OBJECT(x)) {
    content(std::uint8_t{0});
    return true;
  }
  if (!attributes_fit(x, attributes)) return false;
  const std::size_t count = count_attributes(attributes, strip_sources);
  const std::uint8_t flags = attribute_flags(x);
  const bool any = count != 0 || flags != 0;
  content(any ? kHasAttributes : std::uint8_t{0});
  if (any) put_attributes(e, attributes, flags, count, strip_sources);
  return true;
}

template <Tag tag, Tag bulk_tag, typename Element>
void put_vector(Encoder& e, SEXP x, R_xlen_t n, std::uint8_t flags) {
  const void* data = DATAPTR_RO(x);
  const std::size_t size = static_cast<std::size_t>(n) * sizeof(Element);
  if (size >= kBigBytes) {
    put_tag(e.buf, bulk_tag, flags);
    put(e.buf, static_cast<std::uint64_t>(n));
    return put_bulk(e.buf, data, size);
  }
  put_tag(e.buf, tag, flags);
  put_length(e.buf, static_cast<std::size_t>(n));
  put_data(e.buf, data, size);
}

template <Tag scalar_tag, typename Element>
void put_scalar(Encoder& e, SEXP x) {
  std::uint8_t* to = reserve(e.buf, 1 + sizeof(Element));
  to[0] = static_cast<std::uint8_t>(scalar_tag);
  std::memcpy(to + 1, DATAPTR_RO(x), sizeof(Element));
  e.buf->head_len += 1 + sizeof(Element);
}

void put_logical_scalar(Encoder& e, SEXP x) {
  const int value = *LOGICAL_RO(x);
  put_tag(e.buf, value == 0 ? Tag::kFalse : value == 1 ? Tag::kTrue : Tag::kLogicalNA);
}

// A compact sequence of base R travels as its three numbers.
bool put_sequence(Encoder& e, SEXP x, SEXP compact_class, Tag tag, std::uint8_t flags) {
  if (!ALTREP(x) || ALTREP_CLASS(x) != compact_class) return false;
  const double* state = REAL_RO(R_altrep_data1(x));
  put_tag(e.buf, tag, flags);
  put(e.buf, static_cast<std::int64_t>(state[0]));
  put(e.buf, state[1]);
  put(e.buf, static_cast<std::int8_t>(state[2]));
  return true;
}

void put_numbers(Encoder& e, SEXP x, std::uint8_t flags) {
  const R_xlen_t n = XLENGTH(x);
  const bool scalar = n == 1 && flags == 0;
  switch (TYPEOF(x)) {
    case LGLSXP:
      if (scalar) return put_logical_scalar(e, x);
      return put_vector<Tag::kLogical, Tag::kBulkLogical, int>(e, x, n, flags);
    case INTSXP:
      if (scalar) return put_scalar<Tag::kInteger1, int>(e, x);
      if (put_sequence(e, x, well_known.compact_integer, Tag::kIntegerSequence, flags)) return;
      return put_vector<Tag::kInteger, Tag::kBulkInteger, int>(e, x, n, flags);
    case REALSXP:
      if (scalar) return put_scalar<Tag::kReal1, double>(e, x);
      if (put_sequence(e, x, well_known.compact_real, Tag::kRealSequence, flags)) return;
      return put_vector<Tag::kReal, Tag::kBulkReal, double>(e, x, n, flags);
    case CPLXSXP: return put_vector<Tag::kComplex, Tag::kBulkComplex, Rcomplex>(e, x, n, flags);
    default: return put_vector<Tag::kRaw, Tag::kBulkRaw, Rbyte>(e, x, n, flags);
  }
}

void put_strings(Encoder& e, SEXP x, std::uint8_t flags) {
  const R_xlen_t n = XLENGTH(x);
  if (n == 1 && flags == 0) {
    put_tag(e.buf, Tag::kString1);
    return encode_string(e, STRING_ELT(x, 0));
  }
  put_tag(e.buf, Tag::kString, flags);
  put_length(e.buf, static_cast<std::size_t>(n));
  encode_strings(e, x, n);
}

void put_list(Encoder& e, SEXP x, Tag tag, std::uint8_t flags) {
  const R_xlen_t n = XLENGTH(x);
  put_tag(e.buf, tag, flags);
  put_length(e.buf, static_cast<std::size_t>(n));
  descend(e);
  for (R_xlen_t i = 0; i < n; ++i) encode_node(e, VECTOR_ELT(x, i));
  ascend(e);
}

struct Cells {
  std::size_t count;
  bool tagged;
  bool regular;  // a proper list whose later cells have no attributes of their own: all that R code can make
};

Cells inspect_cells(SEXP x) {
  Cells cells{0, false, true};
  for (SEXP cell = x; cell != R_NilValue; cell = CDR(cell)) {
    if (cell != x && (TYPEOF(cell) != LISTSXP || ATTRIB(cell) != R_NilValue)) return {0, false, false};
    SEXP tag = TAG(cell);
    if (tag != R_NilValue) {
      if (TYPEOF(tag) != SYMSXP || tag == R_MissingArg) return {0, false, false};
      cells.tagged = true;
    }
    ++cells.count;
  }
  return cells;
}

// `function`(formals, body, source reference): the parser leaves one in each function expression.
bool is_function_source(SEXP call, SEXP cell_value, std::size_t position, const Cells& cells) {
  return position == 3 && cells.count == 4 && CAR(call) == R_FunctionSymbol && TYPEOF(cell_value) == INTSXP &&
         Rf_inherits(cell_value, "srcref");
}

void put_cells(Encoder& e, SEXP x, const Cells& cells, bool tagged) {
  put_length(e.buf, cells.count);
  descend(e);
  std::size_t position = 0;
  for (SEXP cell = x; cell != R_NilValue; cell = CDR(cell), ++position) {
    if (tagged) {
      SEXP tag = TAG(cell);
      if (tag == R_NilValue) {
        put_tag(e.buf, Tag::kNull);
      } else {
        encode_symbol(e, tag);
      }
    }
    SEXP value = CAR(cell);
    encode_node(e, is_function_source(x, value, position, cells) ? R_NilValue : value);
  }
  ascend(e);
}

bool encode_pairs(Encoder& e, SEXP x, bool call, Tag tagged_tag) {
  const Cells cells = inspect_cells(x);
  if (!cells.regular) return false;
  const bool tagged = !call || cells.tagged;
  return encode_with_attributes(e, x, call, [&](std::uint8_t flags) {
    put_tag(e.buf, tagged ? tagged_tag : Tag::kCall, flags);
    put_cells(e, x, cells, tagged);
  });
}

bool formals_fit(SEXP formals) {
  if (formals == R_NilValue) return true;
  if (TYPEOF(formals) != LISTSXP || ATTRIB(formals) != R_NilValue || !inspect_cells(formals).regular) return false;
  for (SEXP cell = formals; cell != R_NilValue; cell = CDR(cell)) {
    if (TAG(cell) == R_NilValue) return false;
  }
  return true;
}

bool encode_closure(Encoder& e, SEXP x) {
  SEXP formals = FORMALS(x);
  if (!formals_fit(formals)) return false;
  return encode_with_attributes(e, x, true, [&](std::uint8_t flags) {
    put_tag(e.buf, Tag::kClosure, flags);
    descend(e);
    encode_node(e, CLOENV(x));
    encode_node(e, formals);
    encode_node(e, R_ClosureExpr(x));  // without byte code, which the other side makes when it pays
    ascend(e);
  });
}

bool encode_primitive(Encoder& e, SEXP x) {
  SEXP symbol = primitive_symbol(x);
  if (symbol == R_NilValue || ATTRIB(x) != R_NilValue) return false;
  put_tag(e.buf, Tag::kPrimitive);
  encode_symbol(e, symbol);
  return true;
}

bool encode_symbol_node(Encoder& e, SEXP x) {
  if (x == R_MissingArg) {
    put_tag(e.buf, Tag::kMissingArg);
    return true;
  }
  SEXP name = PRINTNAME(x);
  if (TYPEOF(name) != CHARSXP || LENGTH(name) == 0) return false;  // R_UnboundValue
  encode_symbol(e, x);
  return true;
}

// False: x needs the fallback, and nothing was written.
bool encode_native(Encoder& e, SEXP x) {
  switch (TYPEOF(x)) {
    case NILSXP: put_tag(e.buf, Tag::kNull); return true;
    case LGLSXP:
      if (!are_logicals(LOGICAL_RO(x), XLENGTH(x))) return false;
      [[fallthrough]];
    case INTSXP:
    case REALSXP:
    case CPLXSXP:
    case RAWSXP: return encode_with_attributes(e, x, false, [&](std::uint8_t flags) { put_numbers(e, x, flags); });
    case STRSXP: return encode_with_attributes(e, x, false, [&](std::uint8_t flags) { put_strings(e, x, flags); });
    case VECSXP:
      return encode_with_attributes(e, x, false, [&](std::uint8_t flags) { put_list(e, x, Tag::kList, flags); });
    case EXPRSXP:
      return encode_with_attributes(e, x, false, [&](std::uint8_t flags) { put_list(e, x, Tag::kExpression, flags); });
    case S4SXP:
      return encode_with_attributes(e, x, false, [&](std::uint8_t flags) { put_tag(e.buf, Tag::kS4, flags); });
    case SYMSXP: return encode_symbol_node(e, x);
    case LANGSXP: return encode_pairs(e, x, true, Tag::kCallTagged);
    case LISTSXP: return encode_pairs(e, x, false, Tag::kPairlist);
    case DOTSXP: return encode_pairs(e, x, false, Tag::kDots);
    case CLOSXP: return encode_closure(e, x);
    case BUILTINSXP:
    case SPECIALSXP: return encode_primitive(e, x);
    case ENVSXP:
    case EXTPTRSXP:
    case WEAKREFSXP: encode_reference(e, x); return true;
    case PROMSXP: encode_promise(e, x); return true;
    default: return false;
  }
}

}  // namespace

void encode_node(Encoder& e, SEXP x) {
  if (!encode_native(e, x)) encode_fallback(e, x);
}

void encode_attributes(Encoder& e, SEXP x) {
  put_attributes(e, ATTRIB(x), attribute_flags(x), count_attributes(ATTRIB(x), false), false);
}

void encode(SEXP x, EncodeBuffer* buf, const Options* options) {
  const bool has_hooks = options != nullptr && options->hooks != nullptr && options->hooks != R_NilValue;
  Encoder e{buf, has_hooks ? options->hooks : nullptr, 0};
  refs_clear(buf);
  if (options != nullptr && options->portable) {
    encode_fallback(e, x);
  } else {
    encode_node(e, x);
  }
  settle_bulk(buf);
}

}  // namespace setsuna::codec
