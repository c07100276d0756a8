// Environments, external pointers, weak references, hooked objects and promises.
#include "rbridge/codec/decoder.hpp"
#include "rbridge/codec/hooks.hpp"
#include "rbridge/codec/r_internals.hpp"

namespace setsuna::codec {

namespace {

SEXP find_namespace(SEXP name) {
  SEXP env = Rf_findVarInFrame(R_NamespaceRegistry, name);
  if (TYPEOF(env) == ENVSXP) return env;
  SEXP info = Rf_protect(Rf_ScalarString(PRINTNAME(name)));
  env = R_FindNamespace(info);  // loads it; where it is not installed a warning and the global environment, as from R
  Rf_unprotect(1);
  if (TYPEOF(env) != ENVSXP) damaged("a namespace cannot be found");
  return env;
}

SEXP find_package(Decoder& d) {
  SEXP info = Rf_protect(Rf_ScalarString(decode_string(d)));
  SEXP env = R_FindPackageEnv(info);
  Rf_unprotect(1);
  if (TYPEOF(env) != ENVSXP) damaged("a package cannot be found");
  return env;
}

// A cell of an environment's frame, unprotected.
SEXP decode_binding(Decoder& d) {
  SEXP symbol = decode_symbol(d);
  const auto flags = take<std::uint8_t>(d);
  if (flags > (kBindingMissing | kBindingLocked | kBindingActive)) damaged("a variable has flags that there are not");
  SEXP value = Rf_protect(decode_node(d));
  if ((flags & kBindingActive) != 0 && !Rf_isFunction(value)) damaged("an active binding has no function");
  SEXP cell = Rf_cons(value, R_NilValue);
  Rf_unprotect(1);
  SET_TAG(cell, symbol);
  const int bits = (flags & kBindingMissing) | ((flags & kBindingLocked) != 0 ? internals::kBindingLockedBit : 0) |
                   ((flags & kBindingActive) != 0 ? internals::kBindingActiveBit : 0);
  if (bits != 0) SETLEVELS(cell, LEVELS(cell) | bits);
  return cell;
}

void decode_plain_frame(Decoder& d, SEXP env, std::size_t count) {
  SEXP last = R_NilValue;
  for (std::size_t i = 0; i < count; ++i) {
    SEXP cell = decode_binding(d);
    if (last == R_NilValue) {
      SET_FRAME(env, cell);
    } else {
      SETCDR(last, cell);
    }
    last = cell;
  }
}

void append_to_chain(SEXP table, R_xlen_t slot, SEXP cell) {
  SEXP chain = VECTOR_ELT(table, slot);
  if (chain == R_NilValue) {
    SET_VECTOR_ELT(table, slot, cell);
    SET_TRUELENGTH(table, TRUELENGTH(table) + 1);  // R counts the slots in use there
    return;
  }
  while (CDR(chain) != R_NilValue) chain = CDR(chain);
  SETCDR(chain, cell);
}

// The same slots and chains as in the original, so that ls(sorted = FALSE) and as.list() give the same order.
void decode_hashed_frame(Decoder& d, SEXP env, std::size_t size, std::size_t count) {
  SEXP table = Rf_protect(Rf_allocVector(VECSXP, static_cast<R_xlen_t>(size)));
  SET_TRUELENGTH(table, 0);
  SET_HASHTAB(env, table);
  for (std::size_t i = 0; i < count; ++i) {
    SEXP cell = decode_binding(d);
    const unsigned hash = internals::binding_hash(CHAR(PRINTNAME(TAG(cell))));
    append_to_chain(table, static_cast<R_xlen_t>(hash % size), cell);
  }
  Rf_unprotect(1);
}

// A frame may hold a name once only; R itself never looks further than the first.
void decode_bindings(Decoder& d, SEXP env, bool hashed) {
  const std::size_t size = take<std::uint32_t>(d);
  const std::size_t count = take<std::uint32_t>(d);
  spend(d, count, 4);
  if (!hashed) return decode_plain_frame(d, env, count);
  if (size == 0 || size > max_table_size(count)) damaged("the table of an environment has no sane size");
  decode_hashed_frame(d, env, size, count);
}

// Environments that enclose each other in a circle would make R look for a variable for ever.
void set_enclosing(SEXP env, SEXP enclosing) {
  if (TYPEOF(enclosing) != ENVSXP) damaged("an environment is enclosed by none");
  for (SEXP outer = enclosing; outer != R_EmptyEnv && outer != R_GlobalEnv && outer != R_BaseEnv;
       outer = ENCLOS(outer)) {
    if (outer == env || TYPEOF(outer) != ENVSXP) damaged("environments enclose each other");
  }
  SET_ENCLOS(env, enclosing);
}

void decode_environment(Decoder& d, SEXP env) {
  const auto flags = take<std::uint8_t>(d);
  if (flags > (kEnvLocked | kEnvHashed)) damaged("an environment has flags that there are not");
  set_enclosing(env, decode_node(d));
  decode_bindings(d, env, (flags & kEnvHashed) != 0);
  if ((flags & kEnvLocked) != 0) R_LockEnvironment(env, FALSE);
}

SEXP decode_hooked(Decoder& d) {
  SEXP class_name = Rf_protect(decode_string(d));
  const auto size = take<std::uint64_t>(d);
  need(d, size);
  SEXP bytes = Rf_protect(Rf_allocVector(RAWSXP, static_cast<R_xlen_t>(size)));
  if (size != 0) std::memcpy(RAW(bytes), d.p, size);
  d.p += size;
  SEXP x = hook_unserialize(d.hooks, class_name, bytes);
  Rf_unprotect(2);
  return x;
}

}  // namespace

SEXP decode_special_environment(Decoder& d, Tag tag) {
  switch (tag) {
    case Tag::kGlobalEnv: return R_GlobalEnv;
    case Tag::kBaseEnv: return R_BaseEnv;
    case Tag::kEmptyEnv: return R_EmptyEnv;
    case Tag::kBaseNamespace: return R_BaseNamespace;
    case Tag::kNamespace: return find_namespace(decode_symbol(d));
    default: return find_package(d);
  }
}

void add_reference(Decoder& d, SEXP x) {
  const R_xlen_t room = d.refs == R_NilValue ? 0 : XLENGTH(d.refs);
  if (static_cast<R_xlen_t>(d.ref_count) == room) {
    Rf_protect(x);
    SEXP more = Rf_allocVector(VECSXP, room == 0 ? 8 : room * 2);
    for (R_xlen_t i = 0; i < room; ++i) SET_VECTOR_ELT(more, i, VECTOR_ELT(d.refs, i));
    R_Reprotect(d.refs = more, d.refs_index);
    Rf_unprotect(1);
  }
  SET_VECTOR_ELT(d.refs, static_cast<R_xlen_t>(d.ref_count++), x);
}

SEXP reference_at(const Decoder& d, std::size_t index) {
  if (index >= d.ref_count) damaged("it refers to an object that is not in it");
  return VECTOR_ELT(d.refs, static_cast<R_xlen_t>(index));
}

SEXP decode_reference(Decoder& d) { return reference_at(d, take_length(d)); }

SEXP decode_creation(Decoder& d, Tag kind) {
  switch (kind) {
    case Tag::kEnvironment: return R_NewEnv(R_EmptyEnv, FALSE, 0);
    case Tag::kPointer: return R_MakeExternalPtr(nullptr, R_NilValue, R_NilValue);
    case Tag::kWeakReference: return R_MakeWeakRef(R_NilValue, R_NilValue, R_NilValue, FALSE);
    case Tag::kHooked: return decode_hooked(d);
    default: damaged("it holds a kind of reference that there is not");
  }
}

void decode_content(Decoder& d, SEXP x, Tag kind, bool has_attributes) {
  descend(d);
  if (kind == Tag::kEnvironment) {
    decode_environment(d, x);
  } else if (kind == Tag::kPointer) {
    R_SetExternalPtrProtected(x, decode_node(d));
    R_SetExternalPtrTag(x, decode_node(d));
  }
  ascend(d);
  if (has_attributes) decode_attributes(d, x);
}

SEXP decode_reference_object(Decoder& d, std::uint8_t tag_byte) {
  const Tag kind = static_cast<Tag>(tag_byte & ~kHasAttributes);
  const bool has_attributes = (tag_byte & kHasAttributes) != 0;
  if (kind == Tag::kHooked && has_attributes) damaged("attributes are where none can be");
  SEXP x = Rf_protect(decode_creation(d, kind));
  add_reference(d, x);
  decode_content(d, x, kind, has_attributes);
  Rf_unprotect(1);
  return x;
}

SEXP decode_promise(Decoder& d, Tag tag) {
  descend(d);
  SEXP expression = Rf_protect(decode_node(d));
  SEXP env = R_NilValue;
  SEXP value = expression;
  if (tag == Tag::kPromise) {
    env = decode_node(d);
    value = R_UnboundValue;
    if (TYPEOF(env) != ENVSXP) damaged("a promise has no environment");
  } else if (tag == Tag::kPromiseForced) {
    value = decode_node(d);
  }
  ascend(d);
  Rf_protect(env);
  Rf_protect(value);
  SEXP promise = internals::new_promise(expression, env, value);
  Rf_unprotect(3);
  return promise;
}

}  // namespace setsuna::codec
