#include <R_ext/Visibility.h>

#include "glue.hpp"
#include "handle.hpp"
#include "rbridge/codec/codec.hpp"

namespace {

constexpr const R_CallMethodDef* kTables[] = {
    kCodecEntries,  kInfoEntries,      kMapEntries,         kPromiseEntries, kAddressEntries,   kZygoteEntries,
    kDaemonEntries, kEvaluatorEntries, kProfileNameEntries, kTaskEntries,    kMapSubmitEntries, kValueEntries,
    kStatusEntries, kAccessEntries,    kRelayEntries,       kKnobEntries,    kTraceEntries,
};

constexpr int kMaxEntries = 256;
R_CallMethodDef entries[kMaxEntries + 1];  // static: zeroed, so the row after the last one ends the table

int collect_entries() {
  int count = 0;
  for (const R_CallMethodDef* table : kTables) {
    for (const R_CallMethodDef* row = table; row->name != nullptr; ++row) {
      if (count == kMaxEntries) return -1;
      entries[count++] = *row;
    }
  }
  return count;
}

}  // namespace

extern "C" attribute_visible void R_init_setsuna(DllInfo* dll) {
  if (collect_entries() < 0) Rf_error("setsuna: more native entries than kMaxEntries, raise it in init.cpp");
  R_registerRoutines(dll, nullptr, entries, nullptr, kTaskExternals);
  R_useDynamicSymbols(dll, FALSE);
  R_forceSymbols(dll, TRUE);
  setsuna::codec::initialize(dll);
  setsuna::host::initialize_handles();
}
