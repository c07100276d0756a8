// Environments, external pointers, weak references and promises.
#include "rbridge/codec/encoder.hpp"
#include "rbridge/codec/hooks.hpp"
#include "rbridge/codec/r_internals.hpp"
#include "rbridge/codec/ref_table.hpp"

namespace setsuna::codec {

namespace {

SEXP namespace_symbol(SEXP env) {
  SEXP spec = R_NamespaceEnvSpec(env);
  if (TYPEOF(spec) != STRSXP || XLENGTH(spec) < 1 || LENGTH(STRING_ELT(spec, 0)) == 0) {
    Rf_error("a namespace without a name cannot be sent");
  }
  return Rf_installTrChar(STRING_ELT(spec, 0));
}

std::uint8_t binding_flags(SEXP cell) {
  const int bits = LEVELS(cell);
  return static_cast<std::uint8_t>((bits & internals::kBindingMissingBits) |
                                   ((bits & internals::kBindingLockedBit) != 0 ? kBindingLocked : 0) |
                                   ((bits & internals::kBindingActiveBit) != 0 ? kBindingActive : 0));
}

// The value in a cell of a frame. Not CAR() for ordinary bindings: byte code keeps numbers unboxed in the cells of running
// functions, which only the look-up by name expands.
SEXP binding_value(SEXP env, SEXP cell, std::uint8_t flags) {
  if ((flags & kBindingActive) != 0) return CAR(cell);  // the function itself
  return Rf_findVarInFrame3(env, TAG(cell), FALSE);
}

std::size_t encode_frame(Encoder& e, SEXP env, SEXP frame) {
  std::size_t count = 0;
  for (SEXP cell = frame; cell != R_NilValue; cell = CDR(cell)) {
    const std::uint8_t flags = binding_flags(cell);
    SEXP value = binding_value(env, cell, flags);
    if (value == R_UnboundValue) continue;
    encode_symbol(e, TAG(cell));
    put(e.buf, flags);
    encode_node(e, value);
    ++count;
  }
  return count;
}

// Size of the table and count of the bindings come first but are known last: bindings without a value are left out.
void encode_bindings(Encoder& e, SEXP env, bool hashed) {
  const std::size_t counts = e.buf->head_len;
  put(e.buf, std::uint32_t{0});
  put(e.buf, std::uint32_t{0});
  std::size_t size = 0;
  std::size_t count = 0;
  if (hashed) {
    SEXP table = HASHTAB(env);
    size = static_cast<std::size_t>(XLENGTH(table));
    for (R_xlen_t i = 0; i < XLENGTH(table); ++i) count += encode_frame(e, env, VECTOR_ELT(table, i));
  } else {
    count = encode_frame(e, env, FRAME(env));
  }
  if (count > UINT32_MAX / 8) Rf_error("an environment with %zu objects cannot be sent", count);
  if (size > max_table_size(count)) size = max_table_size(count);
  patch(e.buf, counts, static_cast<std::uint32_t>(size));
  patch(e.buf, counts + 4, static_cast<std::uint32_t>(count));
}

void encode_environment(Encoder& e, SEXP env) {
  const bool hashed = internals::is_hashed(env);
  if (hashed && TYPEOF(HASHTAB(env)) != VECSXP) Rf_error("an attached user-defined database cannot be sent");
  put(e.buf, static_cast<std::uint8_t>((R_EnvironmentIsLocked(env) ? kEnvLocked : 0) | (hashed ? kEnvHashed : 0)));
  encode_node(e, ENCLOS(env));
  encode_bindings(e, env, hashed);
}

void encode_hooked(Encoder& e, SEXP x, R_xlen_t hook) {
  SEXP bytes = Rf_protect(hook_serialize(e.hooks, hook, x));
  encode_string(e, hook_class(e.hooks, hook));
  put(e.buf, static_cast<std::uint64_t>(XLENGTH(bytes)));
  put_data(e.buf, RAW_RO(bytes), static_cast<std::size_t>(XLENGTH(bytes)));  // in the head: nothing keeps `bytes` alive
  Rf_unprotect(1);
}

Tag kind_of(SEXP x) {
  return TYPEOF(x) == ENVSXP ? Tag::kEnvironment : TYPEOF(x) == EXTPTRSXP ? Tag::kPointer : Tag::kWeakReference;
}

}  // namespace

bool encode_special_environment(Encoder& e, SEXP x) {
  if (x == R_GlobalEnv) {
    put_tag(e.buf, Tag::kGlobalEnv);
  } else if (x == R_BaseEnv) {
    put_tag(e.buf, Tag::kBaseEnv);
  } else if (x == R_EmptyEnv) {
    put_tag(e.buf, Tag::kEmptyEnv);
  } else if (x == R_BaseNamespace) {
    put_tag(e.buf, Tag::kBaseNamespace);
  } else if (R_IsNamespaceEnv(x)) {
    put_tag(e.buf, Tag::kNamespace);
    encode_symbol(e, namespace_symbol(x));
  } else if (R_IsPackageEnv(x)) {
    put_tag(e.buf, Tag::kPackageEnv);
    encode_string(e, STRING_ELT(R_PackageEnvName(x), 0));
  } else {
    return false;
  }
  return true;
}

Tag encode_creation(Encoder& e, SEXP x) {
  e.buf->has_references = true;
  const R_xlen_t hook = e.hooks == nullptr ? kNoHook : hook_for(e.hooks, x);
  const Tag kind = hook == kNoHook ? kind_of(x) : Tag::kHooked;
  SEXP attributes = ATTRIB(x);
  const bool any = hook == kNoHook && (attributes != R_NilValue || OBJECT(x));
  put_tag(e.buf, kind, any ? kHasAttributes : std::uint8_t{0});
  if (hook != kNoHook) encode_hooked(e, x, hook);
  return kind;
}

void encode_content(Encoder& e, SEXP x, Tag kind) {
  if (kind == Tag::kHooked) return;
  descend(e);
  if (kind == Tag::kEnvironment) {
    encode_environment(e, x);
  } else if (kind ==
             Tag::kPointer) {  // its address means nothing elsewhere: it arrives as a null pointer, as from R_Serialize
    encode_node(e, EXTPTR_PROT(x));
    encode_node(e, EXTPTR_TAG(x));
  }
  ascend(e);
  if (ATTRIB(x) != R_NilValue || OBJECT(x)) encode_attributes(e, x);
}

void encode_reference(Encoder& e, SEXP x) {
  if (TYPEOF(x) == ENVSXP && (x == R_GlobalEnv || x == R_BaseEnv) && encode_special_environment(e, x)) return;
  const std::uint32_t index = refs_find(e.buf, x);
  if (index != kNoRef) {
    put_tag(e.buf, Tag::kReference);
    return put_length(e.buf, index);
  }
  if (TYPEOF(x) == ENVSXP && encode_special_environment(e, x)) return;
  refs_add(e.buf, x);
  const Tag kind = encode_creation(e, x);
  encode_content(e, x, kind);
}

void encode_promise(Encoder& e, SEXP x) {
  descend(e);
  SEXP expression = R_PromiseExpr(x);
  SEXP value = PRVALUE(x);
  if (value == R_UnboundValue) {
    put_tag(e.buf, Tag::kPromise);
    encode_node(e, expression);
    encode_node(e, PRENV(x));
  } else if (value == expression) {
    put_tag(e.buf, Tag::kPromiseValue);
    encode_node(e, value);
  } else {
    put_tag(e.buf, Tag::kPromiseForced);
    encode_node(e, expression);
    encode_node(e, value);
  }
  ascend(e);
}

}  // namespace setsuna::codec
