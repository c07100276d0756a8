#include "rbridge/embed/evaluator_state.hpp"

#include <algorithm>
#include <cstring>

namespace setsuna::embed::evaluation {
namespace {

CachedConstant constants[kConstantsKept];
SteadyWords constant_words[kConstantsKept];
std::uint64_t constant_tick = 0;

}  // namespace

void evict(int place) {
  CachedConstant& c = constants[place];
  SET_VECTOR_ELT(root(kConstValues), place, R_NilValue);
  SET_VECTOR_ELT(root(kConstCalls), place, R_NilValue);
  SET_VECTOR_ELT(root(kConstElements), place, R_NilValue);
  constant_words[place].release();
  if (c.source != nullptr && codec::release_on_last_view(c.source) == 0) {
    release_source(c.source);
  }
  c = CachedConstant();
}

SEXP quoted_if_language(SEXP x) {
  const int type = TYPEOF(x);
  return type == LANGSXP || type == SYMSXP || type == PROMSXP ? Rf_lang2(quote_symbol, x) : x;
}

namespace {

int cached_place(std::uint64_t key) {
  for (int i = 0; i < kConstantsKept; ++i) {
    if (constants[i].key == key) {
      constants[i].used = ++constant_tick;
      return i;
    }
  }
  return -1;
}

// f(<element>, constants...), with the element's cell first.
SEXP map_call(SEXP constant) {
  SEXP f = VECTOR_ELT(constant, 0);
  SEXP args = VECTOR_ELT(constant, 1);
  SEXP names = PROTECT(Rf_getAttrib(args, R_NamesSymbol));
  SEXP tail = PROTECT(R_NilValue);
  for (R_xlen_t i = Rf_xlength(args); i-- > 0;) {
    SEXP cell = Rf_cons(PROTECT(quoted_if_language(VECTOR_ELT(args, i))), tail);
    UNPROTECT(2);
    tail = PROTECT(cell);
    if (names != R_NilValue && CHAR(STRING_ELT(names, i))[0] != '\0') {
      SET_TAG(cell, Rf_installTrChar(STRING_ELT(names, i)));
    }
  }
  SEXP call = Rf_lcons(f, PROTECT(Rf_cons(R_NilValue, tail)));  // the first argument's cell is filled per element
  UNPROTECT(3);
  return call;
}

// A place for a constant that is not in the cache; of one that is to be decoded anew, its own.
int place_for(const Slot& slot) {
  int place = 0;
  for (int i = 0; i < kConstantsKept; ++i) {
    if (constants[i].elements == slot.const_key) {
      return i;
    }
    place = constants[i].used < constants[place].used ? i : place;
  }
  evict(place);
  constants[place].source = make_source(slot.const_offset, slot.const_bytes, slot.const_block);
  return place;
}

// Its variables cannot be shared as they are; but as long as no task has assigned to one, nobody sees that they are.
bool watch_constant(int place, SEXP value) {
  constant_words[place].begin();
  if (options.cleanup && constant_words[place].add_reachable(value)) {
    return true;
  }
  constant_words[place].release();
  return false;
}

}  // namespace

// The decoded constant's place in the cache. May jump.
int decode_constant(const Slot& slot) {
  if (const int place = cached_place(slot.const_key); place >= 0) {
    return place;
  }
  const int place = place_for(slot);
  CachedConstant& c = constants[place];  // from here evict() cleans up, also after a jump
  c.used = ++constant_tick;
  const std::uint8_t* base =
      c.source != nullptr ? c.source->base
                          : reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.const_offset;
  const std::uint8_t* end = base + slot.const_bytes;
  std::uint64_t head[2] = {0, 0};
  std::memcpy(head, base, std::min<std::uint64_t>(sizeof(head), slot.const_bytes));
  const bool has_elements = (head[0] & kConstantElements) != 0;
  if (has_elements && c.elements != slot.const_key) {
    if (head[1] >= slot.const_bytes) {
      Rf_error("a damaged task arrived: its elements are not where they should be");
    }
    codec::Cursor cursor{base + head[1], end, base, c.source};
    SET_VECTOR_ELT(root(kConstElements), place, codec::decode(&cursor, &codec_options));
    MARK_NOT_MUTABLE(VECTOR_ELT(root(kConstElements), place));
    c.elements = slot.const_key;
  }
  codec::Cursor cursor{base + (has_elements ? sizeof(head) : sizeof(head[0])), end, base, c.source};
  SEXP value = PROTECT(codec::decode(&cursor, &codec_options));
  SET_VECTOR_ELT(root(kConstValues), place, value);
  MARK_NOT_MUTABLE(value);
  for (R_xlen_t i = 0; TYPEOF(value) == VECSXP && i < XLENGTH(value); ++i) {
    MARK_NOT_MUTABLE(VECTOR_ELT(value, i));
  }
  SET_VECTOR_ELT(root(kConstCalls), place, map_call(value));
  // A value with state of its own is decoded anew for each task, unless its state can be watched: no key, so it is not found.
  c.watched = (head[0] & kConstantShareable) == 0 && has_elements && watch_constant(place, value);
  c.key = (head[0] & kConstantShareable) != 0 || c.watched ? slot.const_key : 0;
  UNPROTECT(1);
  return place;
}

// After an element: what it has changed of its constant must not be seen by the next.
void forget_changed_constant(std::uint64_t key) {
  for (CachedConstant& c : constants) {
    if (c.key == key && c.watched && !constant_words[&c - constants].unchanged()) {
      c.key = 0;
    }
  }
}

}  // namespace setsuna::embed::evaluation
