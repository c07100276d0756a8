#include "glue.hpp"

namespace {

// The version of the compiled code, so that a stale shared object beside newer R code can be told.
SEXP core_version() { return Rf_mkString("0.1.0"); }

}  // namespace

extern const R_CallMethodDef kInfoEntries[] = {
    {"core_version", reinterpret_cast<DL_FUNC>(&core_version), 0},
    {nullptr, nullptr, 0},
};
