// What R/mirai.R reaches of tasks that are under way: their values, waiting, stopping.

#include "error_values.hpp"
#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "task_encoding.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

SEXP check_handle(SEXP x) {
  if (!is_handle(x)) {
    char text[128];
    Rf_error("'x' must be a mirai or a list of mirai, not %s", describe(x, text, sizeof(text)));
  }
  if (handle_state(x) == HandleState::kDead) {
    refuse_dead();
  }
  return x;
}

SEXP mirai_data(SEXP x) {
  if (!Host::forked()) {
    drain_dropped();
  } else if (handle_state(x) == HandleState::kOpen) {
    refuse_in_fork();
  }
  return value_of(check_handle(x));
}

bool unresolved_handle(SEXP x) { return handle_state(x) == HandleState::kOpen && !task_resolved(handle_ref(x)); }

SEXP mirai_unresolved(SEXP x) {
  refuse_in_fork();
  drain_dropped();
  if (is_handle(x)) {
    return Rf_ScalarLogical(unresolved_handle(check_handle(x)));
  }
  if (TYPEOF(x) == VECSXP) {
    for (R_xlen_t i = 0; i < XLENGTH(x); ++i) {
      SEXP item = VECTOR_ELT(x, i);
      if ((is_handle(item) && unresolved_handle(item)) || Rf_inherits(item, "unresolvedValue")) {
        return Rf_ScalarLogical(TRUE);
      }
    }
    return Rf_ScalarLogical(FALSE);
  }
  return Rf_ScalarLogical(Rf_inherits(x, "unresolvedValue"));
}

void wait_for_all(SEXP list) {
  for (R_xlen_t i = 0; i < XLENGTH(list); ++i) {
    if (is_handle(VECTOR_ELT(list, i))) {
      wait_for_handle(check_handle(VECTOR_ELT(list, i)));
    }
  }
}

SEXP mirai_wait(SEXP x) {
  refuse_in_fork();
  if (TYPEOF(x) == VECSXP) {
    wait_for_all(x);
  } else {
    wait_for_handle(check_handle(x));
  }
  return x;
}

SEXP mirai_collect(SEXP x) {
  refuse_in_fork();
  drain_dropped();
  if (TYPEOF(x) != VECSXP) {
    return awaited_value(check_handle(x));
  }
  const R_xlen_t n = XLENGTH(x);
  SEXP out = PROTECT(Rf_allocVector(VECSXP, n));
  for (R_xlen_t i = 0; i < n;) {
    SEXP item = VECTOR_ELT(x, i);
    if (!is_handle(item)) {
      SET_VECTOR_ELT(out, i++, item);
    } else if (handle_state(check_handle(item)) == HandleState::kCollected) {
      SET_VECTOR_ELT(out, i++, handle_value(item));
    } else {
      i = collect_some(x, i, out);
    }
  }
  SEXP names = PROTECT(Rf_getAttrib(x, R_NamesSymbol));
  if (names != R_NilValue) {
    Rf_setAttrib(out, R_NamesSymbol, names);
  }
  UNPROTECT(2);
  return out;
}

// Index (from 1) of the first resolved mirai of the list, waiting if `wait`; 0 if there is none.
SEXP mirai_race(SEXP x, SEXP wait) {
  refuse_in_fork();
  const R_xlen_t n = XLENGTH(x);
  auto* refs = reinterpret_cast<TaskRef*>(R_alloc(static_cast<std::size_t>(n) + 1, sizeof(TaskRef)));
  for (;;) {
    int open = 0;
    for (R_xlen_t i = 0; i < n; ++i) {
      SEXP item = VECTOR_ELT(x, i);
      if (!is_handle(item) || !unresolved_handle(check_handle(item))) {
        return Rf_ScalarInteger(static_cast<int>(i) + 1);
      }
      refs[open++] = handle_ref(item);
    }
    if (open == 0 || Rf_asLogical(wait) != TRUE) {
      return Rf_ScalarInteger(0);
    }
    sleep_for_tasks(refs, open, true);
    R_CheckUserInterrupt();
  }
}

bool stop_one(SEXP handle) {
  if (handle_state(handle) != HandleState::kOpen) {
    return false;
  }
  bool stopped = false;
  guarded([&] {
    const TaskRef ref = handle_ref(handle);
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(ref.profile);
    stopped = !profile->pool().closed() &&
              profile->pool().cancel(ref.task, dispatch::ErrorCode::kCancelled, runtime::monotonic_ns());
    host.settle(*profile);
  });
  return stopped;
}

SEXP mirai_stop(SEXP x) {
  refuse_in_fork();
  if (TYPEOF(x) != VECSXP) {
    return Rf_ScalarLogical(stop_one(check_handle(x)));
  }
  SEXP out = PROTECT(Rf_allocVector(LGLSXP, XLENGTH(x)));
  // Last first: what is queued goes before what runs, so that stopped slots are not refilled with tasks to be stopped.
  for (R_xlen_t i = XLENGTH(x); i-- > 0;) {
    LOGICAL(out)[i] = is_handle(VECTOR_ELT(x, i)) && stop_one(VECTOR_ELT(x, i));
  }
  UNPROTECT(1);
  return out;
}

SEXP mirai_is(SEXP x) { return Rf_ScalarLogical(is_handle(x)); }

SEXP mirai_resolved_from(SEXP value) { return make_resolved_handle(value); }

SEXP make_error_value(SEXP code) { return error_value(static_cast<dispatch::ErrorCode>(Rf_asInteger(code)), nullptr); }

}  // namespace
}  // namespace setsuna::host

#define ENTRY(name, args) SETSUNA_ENTRY(name, setsuna::host::name, args)
extern const R_CallMethodDef kValueEntries[] = {
    ENTRY(mirai_data, 1),       ENTRY(mirai_unresolved, 1), ENTRY(mirai_wait, 1), ENTRY(mirai_collect, 1),
    ENTRY(mirai_race, 2),       ENTRY(mirai_stop, 1),       ENTRY(mirai_is, 1),   ENTRY(mirai_resolved_from, 1),
    ENTRY(make_error_value, 1), {nullptr, nullptr, 0},
};
