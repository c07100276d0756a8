#include "rbridge/codec/primitives.hpp"

#include <cstring>

namespace setsuna::codec {

namespace {

// About 200 primitives (R 4.2: 203), in a table that both look-ups scan by hash.
struct Entry {
  SEXP key;
  SEXP value;
};
constexpr std::size_t kSlots = 1024;
Entry by_function[kSlots];
Entry by_symbol[kSlots];
bool collected = false;

Entry* slot(Entry* table, SEXP key) {
  std::size_t at = (reinterpret_cast<std::uintptr_t>(key) * 0x9E3779B97F4A7C15ULL) >> 54;
  while (table[at].key != nullptr && table[at].key != key) at = (at + 1) % kSlots;
  return &table[at];
}

void add(SEXP symbol, SEXP function) {
  Entry* name = slot(by_function, function);
  if (name->key == nullptr) *name = Entry{function, symbol};
  *slot(by_symbol, symbol) = Entry{symbol, function};
}

// From the base environment: that is where primitives are, and R_lsInternal3 does not force its promises.
void collect() {
  std::size_t count = 0;
  SEXP names = Rf_protect(R_lsInternal3(R_BaseEnv, TRUE, FALSE));
  for (R_xlen_t i = 0; i < XLENGTH(names) && count < kSlots / 2; ++i) {
    SEXP symbol = Rf_installTrChar(STRING_ELT(names, i));
    SEXP value = R_BindingIsActive(symbol, R_BaseEnv) ? R_NilValue : Rf_findVarInFrame(R_BaseEnv, symbol);
    if (TYPEOF(value) != BUILTINSXP && TYPEOF(value) != SPECIALSXP) continue;
    add(symbol, value);
    ++count;
  }
  Rf_unprotect(1);
  collected = true;
}

SEXP find(Entry* table, SEXP key) {
  if (!collected) collect();
  const Entry* entry = slot(table, key);
  return entry->key == nullptr ? R_NilValue : entry->value;
}

}  // namespace

SEXP primitive_symbol(SEXP function) { return find(by_function, function); }
SEXP primitive_by_symbol(SEXP symbol) { return find(by_symbol, symbol); }

}  // namespace setsuna::codec
