#include "rbridge/embed/steady_words.hpp"

#include <cstdlib>

namespace setsuna::embed {
namespace {

constexpr std::size_t kMaxWords = 4096;
constexpr std::size_t kMaxVisits = 20000;
constexpr int kMaxDepth = 200;

// Where R keeps the three fields of a cell, an environment or a promise: behind the header, the attributes and two links of
// the collector. Verified by layout_known().
const SEXP* field(SEXP x, int i) { return reinterpret_cast<const SEXP*>(x) + 4 + i; }

bool check_layout() {
  SEXP cell = PROTECT(Rf_cons(R_BlankString, PROTECT(Rf_cons(R_NaString, R_NilValue))));
  SET_TAG(cell, R_NamesSymbol);
  SEXP env = PROTECT(R_NewEnv(R_GlobalEnv, FALSE, 0));
  Rf_defineVar(R_NamesSymbol, R_BlankString, env);
  SEXP hashed = PROTECT(R_NewEnv(R_GlobalEnv, TRUE, 29));
  const bool known = *field(cell, 0) == CAR(cell) && *field(cell, 1) == CDR(cell) && *field(cell, 2) == TAG(cell) &&
                     *field(env, 0) == FRAME(env) && *field(env, 1) == ENCLOS(env) &&
                     *field(hashed, 2) == HASHTAB(hashed) && *field(hashed, 1) == R_GlobalEnv;
  UNPROTECT(4);
  return known;
}

bool layout_known() {
  static const bool known = check_layout();
  return known;
}

template <class Item>
bool make_room(Item*& items, std::size_t count, std::size_t& capacity) {
  if (count < capacity) {
    return true;
  }
  const std::size_t more = capacity == 0 ? 64 : capacity * 2;
  auto* grown = more > kMaxWords ? nullptr : static_cast<Item*>(std::realloc(items, more * sizeof(Item)));
  if (grown == nullptr) {
    return false;
  }
  items = grown;
  capacity = more;
  return true;
}

bool has_no_state(SEXP env) {
  return env == R_GlobalEnv || env == R_BaseEnv || env == R_EmptyEnv || env == R_BaseNamespace ||
         R_IsNamespaceEnv(env) || R_IsPackageEnv(env);
}

}  // namespace

void SteadyWords::begin() {
  release();
  kept_ = Rf_cons(R_NilValue, R_NilValue);
  R_PreserveObject(kept_);
}

void SteadyWords::release() {
  if (kept_ != nullptr) {
    R_ReleaseObject(kept_);
    kept_ = nullptr;
  }
  std::free(words_);
  std::free(pairs_);
  words_ = nullptr;
  pairs_ = nullptr;
  word_count_ = word_capacity_ = pair_count_ = pair_capacity_ = 0;
  visits_ = 0;
}

bool SteadyWords::add(const SEXP* at) {
  if (!make_room(words_, word_count_, word_capacity_)) {
    return false;
  }
  words_[word_count_++] = {at, *at};
  return true;
}

bool SteadyWords::add_two(const SEXP* at) {
  if (!make_room(pairs_, pair_count_, pair_capacity_)) {
    return false;
  }
  pairs_[pair_count_++] = {at, {at[0], at[1]}};
  return true;
}

bool SteadyWords::keep(SEXP x) {
  SETCDR(kept_, Rf_cons(x, CDR(kept_)));
  return true;
}

bool SteadyWords::add_list(SEXP list, SEXP except) {
  if (!layout_known()) {
    return false;
  }
  if (list != R_NilValue) {
    keep(list);
  }
  for (SEXP cell = list; cell != R_NilValue; cell = CDR(cell)) {
    if (TYPEOF(cell) != LISTSXP || !(TAG(cell) == except ? add(field(cell, 1)) : add_two(field(cell, 0)))) {
      return false;
    }
    // A cell that leaves the list must not be reused while its words are watched.
    if (cell != list) {
      keep(cell);
    }
  }
  return true;
}

bool SteadyWords::add_environment(SEXP env, SEXP except) {
  if (!layout_known()) {
    return false;
  }
  keep(env);
  SEXP table = HASHTAB(env);
  if (!add_two(field(env, 0)) || !add(field(env, 2)) || !add(field(env, -3))) {
    return false;
  }
  if (table == R_NilValue) {
    return add_list(FRAME(env), except);
  }
  if (TYPEOF(table) != VECSXP) {
    return false;
  }
  keep(table);
  const auto* buckets = static_cast<const SEXP*>(DATAPTR_RO(table));
  for (R_xlen_t i = 0; i < XLENGTH(table); ++i) {
    const bool added = i % 2 != 0 || (i + 1 < XLENGTH(table) ? add_two(buckets + i) : add(buckets + i));
    if (!added || !add_list(buckets[i], except)) {
      return false;
    }
  }
  return true;
}

bool SteadyWords::add_enclosing(SEXP env) { return layout_known() && keep(env) && add(field(env, 1)); }

bool SteadyWords::add_base_value(SEXP symbol) {
  return layout_known() && *field(symbol, 0) == PRINTNAME(symbol) && *field(symbol, 1) == SYMVALUE(symbol) &&
         add(field(symbol, 1));
}

bool SteadyWords::add_unused_promise(SEXP x) {
  return layout_known() && TYPEOF(x) == PROMSXP && *field(x, 0) == PRVALUE(x) && PRVALUE(x) == R_UnboundValue &&
         keep(x) && add(field(x, 0));
}

bool SteadyWords::seen(SEXP x) const {
  for (SEXP cell = CDR(kept_); cell != R_NilValue; cell = CDR(cell)) {
    if (CAR(cell) == x) {
      return true;
    }
  }
  return false;
}

bool SteadyWords::visit_pairs(SEXP list, int depth) {
  for (SEXP cell = list; cell != R_NilValue; cell = CDR(cell)) {
    MARK_NOT_MUTABLE(CAR(cell));
    if (!visit(CAR(cell), depth)) {
      return false;
    }
  }
  return true;
}

bool SteadyWords::visit_environment(SEXP env, int depth) {
  if (has_no_state(env) || seen(env)) {
    return true;
  }
  if (!add_environment(env, R_NilValue)) {
    return false;
  }
  SEXP table = HASHTAB(env);
  for (R_xlen_t i = 0; table != R_NilValue && i < XLENGTH(table); ++i) {
    if (!visit_pairs(VECTOR_ELT(table, i), depth)) {
      return false;
    }
  }
  return (table != R_NilValue || visit_pairs(FRAME(env), depth)) && visit(ENCLOS(env), depth);
}

bool SteadyWords::visit(SEXP x, int depth) {
  if (++visits_ > kMaxVisits || depth > kMaxDepth) {
    return false;
  }
  if (TYPEOF(x) != CHARSXP && ATTRIB(x) != R_NilValue && !visit_pairs(ATTRIB(x), depth + 1)) {
    return false;
  }
  switch (TYPEOF(x)) {
    case ENVSXP: return visit_environment(x, depth + 1);
    case CLOSXP: return visit(CLOENV(x), depth + 1) && visit(FORMALS(x), depth + 1);
    case VECSXP:
    case EXPRSXP:
      for (R_xlen_t i = 0; i < XLENGTH(x); ++i) {
        if (!visit(VECTOR_ELT(x, i), depth + 1)) {
          return false;
        }
      }
      return true;
    case LANGSXP:
    case LISTSXP:
    case DOTSXP: return visit_pairs(x, depth + 1);
    case PROMSXP:
      if (seen(x)) {
        return true;
      }
      keep(x);
      return add(field(x, 0)) && add(field(x, 2)) && (PRVALUE(x) == R_UnboundValue || visit(PRVALUE(x), depth + 1)) &&
             (PRENV(x) == R_NilValue || visit(PRENV(x), depth + 1));
    case EXTPTRSXP:
    case WEAKREFSXP:
    case BCODESXP:
    case S4SXP: return false;
    default: return true;
  }
}

bool SteadyWords::add_reachable(SEXP x) { return layout_known() && visit(x, 0); }

}  // namespace setsuna::embed
