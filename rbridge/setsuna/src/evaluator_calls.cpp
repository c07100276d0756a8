// What R/daemon.R reaches of rbridge/embed/evaluator.hpp: the task loop of a daemon.

#include <cstring>
#include <exception>
#include <string>
#include <utility>

#include "dispatch/rng_stream.hpp"
#include "evaluator_calls.hpp"
#include "glue.hpp"
#include "nested.hpp"
#include "rbridge/embed/evaluator.hpp"
#include "rbridge/embed/join.hpp"
#include "rbridge/embed/task_scope.hpp"

namespace {

using setsuna::embed::Evaluator;
using setsuna::embed::EvaluatorOptions;
using setsuna::embed::LeaveReason;

char message[1024];
setsuna::embed::Joined joined;  // of daemon_join(), until its parts are handed on

double at(SEXP values, R_xlen_t i) { return REAL(values)[i]; }

// link: segment, host page and doorbell descriptors, index, epoch. `numbers`, `stream` (or NULL): see evaluator_options().
SEXP daemon_attach(SEXP link, SEXP numbers, SEXP stream) {
  const EvaluatorOptions options = setsuna::host::evaluator_options(numbers, stream);
  const int* l = INTEGER(link);
  bool failed = false;
  try {
    Evaluator::attach(l[0], l[1], l[2], static_cast<std::uint32_t>(l[3]), static_cast<std::uint32_t>(l[4]) & 0xFFFFU,
                      options);
  } catch (const std::exception& error) {
    std::snprintf(message, sizeof(message), "%s", error.what());
    failed = true;
  }
  if (failed) {
    Rf_error("%s", message);
  }
  return R_NilValue;
}

SEXP daemon_hooks(SEXP hooks) {
  Evaluator::set_hooks(hooks);
  return R_NilValue;
}

SEXP daemon_start(SEXP restore, SEXP calm) {
  setsuna::embed::TaskScope::add(setsuna::host::nested_scope());
  Evaluator::prepare(restore, calm);
  Evaluator::start();
  return R_NilValue;
}

SEXP daemon_loop() { return Rf_ScalarInteger(static_cast<int>(Evaluator::run())); }

SEXP daemon_finish(SEXP object, SEXP interrupted) {
  Evaluator::finish_error(object, Rf_asLogical(interrupted) == TRUE);
  return R_NilValue;
}

SEXP daemon_leave(SEXP reason) {
  Evaluator::leave(static_cast<LeaveReason>(Rf_asInteger(reason)));
  return R_NilValue;
}

SEXP daemon_stream(SEXP base, SEXP index, SEXP epoch) {
  SEXP out = PROTECT(Rf_duplicate(base));
  setsuna::host::to_daemon_stream(INTEGER(out), static_cast<std::uint32_t>(Rf_asInteger(index)),
                                  static_cast<std::uint32_t>(Rf_asInteger(epoch)));
  UNPROTECT(1);
  return out;
}

// Dials a local profile. list(link, stream), or a string that says why not (with attribute "retry" if nobody listens).
SEXP daemon_join(SEXP url) {
  bool retry = false;
  bool done = false;
  try {
    std::string error;
    done = setsuna::embed::join_profile(CHAR(STRING_ELT(url, 0)), &joined, &error, &retry);
    std::snprintf(message, sizeof(message), "%s", error.c_str());
  } catch (const std::exception& error) {
    std::snprintf(message, sizeof(message), "%s", error.what());
  }
  if (!done) {
    SEXP why = PROTECT(Rf_mkString(message));
    Rf_setAttrib(why, Rf_install("retry"), PROTECT(Rf_ScalarLogical(retry)));
    UNPROTECT(2);
    return why;
  }
  const char* names[] = {"link", "stream", ""};
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  SEXP link = SET_VECTOR_ELT(out, 0, Rf_allocVector(INTSXP, 5));
  INTEGER(link)[0] = joined.segment.release();
  INTEGER(link)[1] = joined.host_page.release();
  INTEGER(link)[2] = joined.doorbell.release();
  INTEGER(link)[3] = static_cast<int>(joined.reply.index);
  INTEGER(link)[4] = static_cast<int>(joined.reply.epoch);
  SEXP stream = SET_VECTOR_ELT(out, 1, Rf_allocVector(INTSXP, 6));
  std::memcpy(INTEGER(stream), joined.reply.stream, sizeof(joined.reply.stream));
  UNPROTECT(1);
  return out;
}

// After daemon_start(): notice the end of the host that daemon_join() has found.
SEXP daemon_watch_host(SEXP interrupt, SEXP signal) {
  setsuna::embed::watch_host(std::move(joined.host_pidfd), Rf_asLogical(interrupt) == TRUE, Rf_asInteger(signal));
  return R_NilValue;
}

// Before daemon_detach(): the daemon shall not wait for another host.
SEXP daemon_is_final() { return Rf_ScalarLogical(Evaluator::host_is_final()); }

SEXP daemon_detach(SEXP again) {
  Evaluator::detach(Rf_asLogical(again) == TRUE);
  return R_NilValue;
}

SEXP daemon_attached() { return Rf_ScalarLogical(Evaluator::attached()); }

}  // namespace

namespace setsuna::host {

embed::EvaluatorOptions evaluator_options(SEXP numbers, SEXP stream) {
  embed::EvaluatorOptions options;
  options.cleanup = at(numbers, 0) != 0;
  options.forked = at(numbers, 1) != 0;
  options.idletime_ms = at(numbers, 2);
  options.walltime_ms = at(numbers, 3);
  options.maxtasks = at(numbers, 4);
  if (TYPEOF(stream) == INTSXP && XLENGTH(stream) == 6) {
    options.has_stream = true;
    std::memcpy(options.stream, INTEGER(stream), sizeof(options.stream));
  }
  return options;
}

void to_daemon_stream(std::int32_t* stream, std::uint32_t index, std::uint32_t epoch) {
  dispatch::StreamState state{};
  std::memcpy(state.data(), stream, sizeof(state));
  for (std::uint32_t i = 0; i <= index; ++i) {
    state = dispatch::next_stream(state);
  }
  for (std::uint32_t i = 1; i < epoch; ++i) {
    state = dispatch::next_substream(state);
  }
  std::memcpy(stream, state.data(), sizeof(state));
}

}  // namespace setsuna::host

extern const R_CallMethodDef kEvaluatorEntries[] = {
    SETSUNA_ENTRY(daemon_attach, daemon_attach, 3),
    SETSUNA_ENTRY(daemon_start, daemon_start, 2),
    SETSUNA_ENTRY(daemon_hooks, daemon_hooks, 1),
    SETSUNA_ENTRY(daemon_loop, daemon_loop, 0),
    SETSUNA_ENTRY(daemon_finish, daemon_finish, 2),
    SETSUNA_ENTRY(daemon_leave, daemon_leave, 1),
    SETSUNA_ENTRY(daemon_stream, daemon_stream, 3),
    SETSUNA_ENTRY(daemon_join, daemon_join, 1),
    SETSUNA_ENTRY(daemon_watch_host, daemon_watch_host, 2),
    SETSUNA_ENTRY(daemon_is_final, daemon_is_final, 0),
    SETSUNA_ENTRY(daemon_detach, daemon_detach, 1),
    SETSUNA_ENTRY(daemon_attached, daemon_attached, 0),
    {nullptr, nullptr, 0},
};
