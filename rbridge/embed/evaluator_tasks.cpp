#include "rbridge/embed/evaluator_state.hpp"

#include <cstring>

#include "rbridge/codec/element.hpp"
#include "rbridge/embed/task_scope.hpp"
#include "runtime/clock.hpp"

namespace setsuna::embed::evaluation {
namespace {

void define_all(SEXP values, SEXP env) {
  const R_xlen_t n = Rf_xlength(values);
  if (n == 0) {
    return;
  }
  SEXP names = Rf_getAttrib(values, R_NamesSymbol);
  for (R_xlen_t i = 0; i < n; ++i) {
    Rf_defineVar(Rf_installTrChar(STRING_ELT(names, i)), VECTOR_ELT(values, i), env);
  }
}

// eval(quote(<expr>), <env>, <base>): a bare return() ends there and not in our loop. As at top level its caller is the global
// environment.
SEXP eval_in(SEXP expr, SEXP env) {
  SEXP call = root(kEvalCall);
  SETCADR(CADR(call), expr);
  SETCADDR(call, env);
  SEXP value = Rf_eval(call, R_GlobalEnv);
  set_root(kValue, value);
  SETCADR(CADR(call), R_NilValue);
  SETCADDR(call, R_NilValue);
  return value;
}

SEXP decode_arguments(const Slot& slot) {
  const std::uint8_t* base = slot.arg;
  if (slot.arg_offset != 0) {
    hand.source = make_source(slot.arg_offset, slot.arg_bytes, slot.arg_block);
    base = hand.source != nullptr ? hand.source->base
                                  : reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.arg_offset;
  }
  codec::Cursor cursor{base, base + slot.arg_bytes, base, hand.source};
  return set_root(kArgs, codec::decode(&cursor, &codec_options));
}

// Large arguments that came as a shared constant: list(NULL, locals, globals). Null if there are none.
SEXP constant_arguments(const Slot& slot) {
  return slot.const_bytes == 0 ? R_NilValue : VECTOR_ELT(root(kConstValues), decode_constant(slot));
}

}  // namespace

// args: list(expression, globals, locals)
void run_expression(const Slot& slot, bool persist) {
  SEXP args = decode_arguments(slot);
  if (TYPEOF(args) != VECSXP || XLENGTH(args) != 3) {
    Rf_error("a damaged task arrived: its arguments are not a list of 3");
  }
  if (persist) {
    define_all(VECTOR_ELT(args, 1), R_GlobalEnv);
    define_all(VECTOR_ELT(args, 2), R_GlobalEnv);
    stamp_decoded();
    eval_in(VECTOR_ELT(args, 0), R_GlobalEnv);
    return;
  }
  SEXP constant = constant_arguments(slot);
  enter_stream(slot);
  SEXP env = set_root(kEnv, R_NewEnv(R_GlobalEnv, FALSE, 0));
  if (TYPEOF(constant) == VECSXP) {
    define_all(VECTOR_ELT(constant, 2), env);
    define_all(VECTOR_ELT(constant, 1), env);
    TaskScope::bind_globals(VECTOR_ELT(constant, 2));
  }
  define_all(VECTOR_ELT(args, 1), env);
  define_all(VECTOR_ELT(args, 2), env);
  TaskScope::bind_globals(VECTOR_ELT(args, 1));
  stamp_decoded();
  eval_in(VECTOR_ELT(args, 0), env);
}

namespace {

// f(item 1, item 2, ..., constants...): the items of a row are arguments by name.
SEXP spread_call(SEXP call, SEXP row) {
  SEXP names = PROTECT(Rf_getAttrib(row, R_NamesSymbol));
  SEXP tail = PROTECT(CDDR(call));
  for (R_xlen_t i = Rf_xlength(row); i-- > 0;) {
    SEXP cell = Rf_cons(PROTECT(quoted_if_language(VECTOR_ELT(row, i))), tail);
    UNPROTECT(2);
    tail = PROTECT(cell);
    if (names != R_NilValue && CHAR(STRING_ELT(names, i))[0] != '\0') {
      SET_TAG(cell, Rf_installTrChar(STRING_ELT(names, i)));
    }
  }
  SEXP spread = Rf_lcons(CAR(call), tail);
  UNPROTECT(2);
  return spread;
}

}  // namespace

SEXP indexed_element(int place, std::uint64_t index) {
  SEXP all = VECTOR_ELT(root(kConstElements), place);
  if (index >= static_cast<std::uint64_t>(Rf_xlength(all))) {
    Rf_error("a damaged task arrived: its map has no such element");
  }
  SEXP element = codec::element_of(all, static_cast<R_xlen_t>(index));
  if (element == nullptr) {
    Rf_error("a damaged task arrived: its elements are of an unknown type");
  }
  if (TYPEOF(all) == VECSXP) {
    MARK_NOT_MUTABLE(element);
  }
  return element;
}

// f(element, constants...) with the constant at `place`. The value is in root(kValue).
void call_element(int place, SEXP element, bool spread) {
  SEXP call = VECTOR_ELT(root(kConstCalls), place);
  PROTECT(element);
  if (spread && TYPEOF(element) == VECSXP) {
    call = spread_call(call, element);
  } else {
    SETCADR(call, quoted_if_language(element));
  }
  UNPROTECT(1);
  PROTECT(call);
  set_root(kValue, Rf_eval(call, R_GlobalEnv));
  SETCADR(VECTOR_ELT(root(kConstCalls), place), R_NilValue);
  UNPROTECT(1);
}

void run_element(const Slot& slot) {
  const int place = decode_constant(slot);
  hand.element_since_ns = runtime::monotonic_ns();
  SEXP element = R_NilValue;
  if ((slot.flags & runtime::kTaskIndexed) != 0) {
    std::uint64_t index = 0;
    std::memcpy(&index, slot.arg, sizeof(index));
    element = indexed_element(place, index);
  } else {
    element = decode_arguments(slot);
  }
  PROTECT(element);
  enter_stream(slot);
  TaskScope::bind_globals(VECTOR_ELT(VECTOR_ELT(root(kConstValues), place), 2));
  stamp_decoded();
  call_element(place, element, (slot.flags & runtime::kTaskSpread) != 0);
  UNPROTECT(1);
}

// A jump out of one entry comes back here for the next.
void run_replay(const Slot& slot) {
  const std::uint8_t* base = slot.arg_offset != 0
                                 ? reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.arg_offset
                                 : slot.arg;
  hand.replaying = true;
  while (hand.replay_at < slot.arg_bytes) {
    std::uint64_t length = 0;
    std::memcpy(&length, base + hand.replay_at, sizeof(length));
    const std::uint8_t* entry = base + hand.replay_at + sizeof(length);
    hand.replay_at += sizeof(length) + length;
    codec::Cursor cursor{entry, entry + length, entry, nullptr};
    SEXP args = set_root(kArgs, codec::decode(&cursor, &codec_options));
    if (TYPEOF(args) == VECSXP && XLENGTH(args) == 3) {
      define_all(VECTOR_ELT(args, 1), R_GlobalEnv);
      define_all(VECTOR_ELT(args, 2), R_GlobalEnv);
      eval_in(VECTOR_ELT(args, 0), R_GlobalEnv);
    }
  }
  hand.replaying = false;
  set_root(kValue, R_NilValue);
}

}  // namespace setsuna::embed::evaluation
