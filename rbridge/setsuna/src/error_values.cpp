#include "error_values.hpp"

#include <sys/wait.h>

namespace setsuna::host {
namespace {

void set_integer(SEXP object, const char* name, int value) {
  SEXP number = PROTECT(Rf_ScalarInteger(value));
  Rf_setAttrib(object, Rf_install(name), number);
  UNPROTECT(1);
}

void describe_death(SEXP object, const dispatch::DeathNote& death) {
  if (death.pid > 0) {
    set_integer(object, "pid", death.pid);
  }
  if (death.wait_status == -1) {
    return;
  }
  if (WIFSIGNALED(death.wait_status)) {
    set_integer(object, "signal", WTERMSIG(death.wait_status));
  } else if (WIFEXITED(death.wait_status)) {
    set_integer(object, "status", WEXITSTATUS(death.wait_status));
  }
  if (death.out_of_memory) {
    SEXP yes = PROTECT(Rf_ScalarLogical(TRUE));
    Rf_setAttrib(object, Rf_install("out_of_memory"), yes);
    UNPROTECT(1);
  }
}

}  // namespace

SEXP unresolved_value() {
  static SEXP value = nullptr;
  if (value == nullptr) {
    value = Rf_ScalarLogical(NA_LOGICAL);
    R_PreserveObject(value);
    SEXP name = PROTECT(Rf_mkString("unresolvedValue"));
    Rf_setAttrib(value, R_ClassSymbol, name);
    UNPROTECT(1);
    MARK_NOT_MUTABLE(value);
  }
  return value;
}

SEXP error_value(dispatch::ErrorCode code, const dispatch::DeathNote* death) {
  SEXP value = PROTECT(Rf_ScalarInteger(static_cast<int>(code)));
  SEXP name = PROTECT(Rf_mkString("errorValue"));
  Rf_setAttrib(value, R_ClassSymbol, name);
  if (code == dispatch::ErrorCode::kReset && death != nullptr) {
    describe_death(value, *death);
  }
  UNPROTECT(2);
  return value;
}

}  // namespace setsuna::host
