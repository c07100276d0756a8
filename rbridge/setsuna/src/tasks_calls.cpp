// What R/mirai.R reaches to send a task: its expression and arguments.

#include <cmath>

#include "error_values.hpp"
#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "profile_codec.hpp"
#include "profiles_state.hpp"
#include "rbridge/codec/codec.hpp"
#include "repeated.hpp"
#include "runtime/clock.hpp"
#include "submit.hpp"
#include "task_encoding.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

bool is_named(SEXP names, R_xlen_t i) { return names != R_NilValue && CHAR(STRING_ELT(names, i))[0] != '\0'; }

R_xlen_t count_bindings(SEXP values) {
  R_xlen_t count = 0;
  for (SEXP cell = values; cell != R_NilValue; cell = CDR(cell)) {
    count += TYPEOF(CAR(cell)) == ENVSXP && TAG(cell) == R_NilValue ? Rf_xlength(CAR(cell)) : 1;
  }
  return count;
}

// The variables of an environment, into `list` and `names` from position `at`.
R_xlen_t unpack_environment(SEXP env, SEXP list, SEXP names, R_xlen_t at) {
  SEXP all = PROTECT(R_lsInternal3(env, TRUE, FALSE));
  for (R_xlen_t i = 0; i < XLENGTH(all) && at < XLENGTH(list); ++i, ++at) {
    SEXP symbol = PROTECT(Rf_installTrChar(STRING_ELT(all, i)));
    SET_VECTOR_ELT(list, at, Rf_eval(symbol, env));
    SET_STRING_ELT(names, at, STRING_ELT(all, i));
    UNPROTECT(1);
  }
  UNPROTECT(1);
  return at;
}

// What the functions of R/mirai.R call their arguments. Installed once: looking a name up costs more than reading the frame.
struct ArgumentSymbols {
  SEXP expr = Rf_install(".expr");
  SEXP args = Rf_install(".args");
  SEXP timeout = Rf_install(".timeout");
  SEXP compute = Rf_install(".compute");
  SEXP retry = Rf_install(".retry");
};

const ArgumentSymbols& symbols() {
  static const ArgumentSymbols installed;
  return installed;
}

// The caller gave no such argument: the frame holds the promise of its default, which nobody has looked at yet.
bool left_out(SEXP env, SEXP symbol) {
  SEXP bound = Rf_findVarInFrame(env, symbol);
  return TYPEOF(bound) == PROMSXP && PRENV(bound) == env;
}

// What substitute(.expr) gives.
SEXP quoted_expression(SEXP env) {
  SEXP expr = Rf_findVarInFrame(env, symbols().expr);
  while (TYPEOF(expr) == PROMSXP) {
    expr = R_PromiseExpr(expr);
  }
  return expr;
}

SEXP evaluated_dot(SEXP cell, SEXP env) {
  if (CAR(cell) == R_MissingArg) {
    Rf_error("an argument in '...' is empty: is there a comma too many?");
  }
  SEXP value = Rf_eval(CAR(cell), env);
  if (TAG(cell) == R_NilValue && TYPEOF(value) != ENVSXP) {
    Rf_error("all ... arguments must be named");
  }
  return value;
}

// Some of them are environments, to be unpacked.
SEXP collect_unpacked_dots(SEXP dots, SEXP env) {
  SEXP values = PROTECT(Rf_allocList(Rf_length(dots)));
  SEXP to = values;
  for (SEXP cell = dots; cell != R_NilValue; cell = CDR(cell), to = CDR(to)) {
    SETCAR(to, evaluated_dot(cell, env));
    SET_TAG(to, TAG(cell));
  }
  const R_xlen_t n = count_bindings(values);
  SEXP list = PROTECT(Rf_allocVector(VECSXP, n));
  SEXP names = PROTECT(Rf_allocVector(STRSXP, n));
  R_xlen_t at = 0;
  for (SEXP cell = values; cell != R_NilValue; cell = CDR(cell)) {
    if (TAG(cell) == R_NilValue) {
      at = unpack_environment(CAR(cell), list, names, at);
    } else {
      SET_VECTOR_ELT(list, at, CAR(cell));
      SET_STRING_ELT(names, at++, PRINTNAME(TAG(cell)));
    }
  }
  Rf_setAttrib(list, R_NamesSymbol, names);
  UNPROTECT(3);
  return list;
}

// `...` of the calling function, evaluated: a named list, or NULL if empty.
SEXP collect_dots(SEXP env) {
  SEXP dots = Rf_findVarInFrame(env, R_DotsSymbol);
  if (TYPEOF(dots) != DOTSXP) {
    return R_NilValue;
  }
  R_xlen_t n = 0;
  for (SEXP cell = dots; cell != R_NilValue; cell = CDR(cell), ++n) {
    if (TAG(cell) == R_NilValue) {
      return collect_unpacked_dots(dots, env);
    }
  }
  SEXP list = PROTECT(Rf_allocVector(VECSXP, n));
  SEXP names = PROTECT(Rf_allocVector(STRSXP, n));
  R_xlen_t at = 0;
  for (SEXP cell = dots; cell != R_NilValue; cell = CDR(cell)) {
    SET_VECTOR_ELT(list, at, evaluated_dot(cell, env));
    SET_STRING_ELT(names, at++, PRINTNAME(TAG(cell)));
  }
  // What Rf_setAttrib() does for a fresh list, without looking at each name.
  SEXP attribute = Rf_cons(names, R_NilValue);
  SET_TAG(attribute, R_NamesSymbol);
  SET_ATTRIB(list, attribute);
  UNPROTECT(2);
  return list;
}

// .args = list(x, file): the names are those of the variables in the call.
SEXP names_from_call(SEXP value, SEXP env) {
  const R_xlen_t n = XLENGTH(value);
  SEXP names = PROTECT(Rf_allocVector(STRSXP, n));
  SEXP given = Rf_getAttrib(value, R_NamesSymbol);
  SEXP promise = Rf_findVarInFrame(env, symbols().args);
  SEXP call = TYPEOF(promise) == PROMSXP ? R_PromiseExpr(promise) : R_NilValue;
  const bool is_list_call = TYPEOF(call) == LANGSXP && Rf_xlength(CDR(call)) == n;
  SEXP item = is_list_call ? CDR(call) : R_NilValue;
  for (R_xlen_t i = 0; i < n; ++i, item = CDR(item)) {
    if (is_named(given, i)) {
      SET_STRING_ELT(names, i, STRING_ELT(given, i));
    } else if (is_list_call && TYPEOF(CAR(item)) == SYMSXP) {
      SET_STRING_ELT(names, i, PRINTNAME(CAR(item)));
    } else {
      Rf_error("all items in .args must be named");
    }
  }
  UNPROTECT(1);
  return names;
}

SEXP collect_args(SEXP env) {
  if (left_out(env, symbols().args)) {
    return R_NilValue;
  }
  SEXP value = PROTECT(Rf_eval(symbols().args, env));
  if (TYPEOF(value) == ENVSXP) {
    SEXP list = PROTECT(Rf_allocVector(VECSXP, Rf_xlength(value)));
    SEXP names = PROTECT(Rf_allocVector(STRSXP, XLENGTH(list)));
    unpack_environment(value, list, names, 0);
    Rf_setAttrib(list, R_NamesSymbol, names);
    UNPROTECT(3);
    return list;
  }
  if (TYPEOF(value) != VECSXP) {
    char text[128];
    Rf_error("'.args' must be a list or an environment, not %s", describe(value, text, sizeof(text)));
  }
  const R_xlen_t n = XLENGTH(value);
  SEXP given = Rf_getAttrib(value, R_NamesSymbol);
  bool complete = true;
  for (R_xlen_t i = 0; i < n; ++i) {
    complete = complete && is_named(given, i);
  }
  if (complete) {
    UNPROTECT(1);
    return n == 0 ? R_NilValue : value;
  }
  SEXP names = PROTECT(names_from_call(value, env));
  SEXP named = PROTECT(Rf_shallow_duplicate(value));
  Rf_setAttrib(named, R_NamesSymbol, names);
  UNPROTECT(3);
  return named;
}

constexpr double kLongestMs = 1e12;  // 30 years: no sum of it and the clock overflows

// -1 for NULL and for the default.
double number_option(SEXP env, SEXP symbol, bool whole) {
  if (left_out(env, symbol)) {
    return -1;
  }
  SEXP value = Rf_eval(symbol, env);
  if (value == R_NilValue) {
    return -1;
  }
  const bool is_number = (TYPEOF(value) == INTSXP || TYPEOF(value) == REALSXP) && XLENGTH(value) == 1;
  const double number = is_number ? Rf_asReal(value) : NAN;
  if (std::isnan(number) || number < 0 || (whole && number != std::floor(number))) {
    char text[128];
    Rf_error("'%s' must be one %s of at least 0, or NULL, not %s", CHAR(PRINTNAME(symbol)),
             whole ? "whole number" : "number", describe(value, text, sizeof(text)));
  }
  return number;
}

// A symbol that is bound to a language object stands for that object.
SEXP resolve_expression(SEXP expr, SEXP env) {
  if (TYPEOF(expr) != SYMSXP) {
    return expr;
  }
  SEXP call = PROTECT(Rf_lang1(Rf_install("parent.frame")));
  SEXP caller = PROTECT(Rf_eval(call, env));
  SEXP bound = Rf_findVar(expr, caller);
  if (TYPEOF(bound) == PROMSXP) {
    bound = Rf_eval(bound, caller);
  }
  UNPROTECT(2);
  const int type = TYPEOF(bound);
  return type == LANGSXP || type == EXPRSXP || (type == SYMSXP && bound != R_UnboundValue && bound != R_MissingArg)
             ? bound
             : expr;
}

SEXP sync_task(SEXP expr, SEXP globals, SEXP locals, const char* profile) {
  SEXP profile_text = PROTECT(Rf_mkString(profile));
  SEXP name = PROTECT(Rf_mkString("setsuna"));
  SEXP ns = PROTECT(R_FindNamespace(name));
  SEXP quoted = PROTECT(Rf_lang2(Rf_install("quote"), expr));
  SEXP call = PROTECT(Rf_lang5(Rf_install(".evaluate_here"), quoted, globals, locals, profile_text));
  SEXP value = PROTECT(Rf_eval(call, ns));
  SEXP handle = make_resolved_handle(value);
  UNPROTECT(6);
  return handle;
}

// What a daemon gets: list(expression, globals, locals).
SEXP task_parts(SEXP expression, SEXP env) {
  SEXP out = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(out, 0, resolve_expression(expression, env));
  SET_VECTOR_ELT(out, 1, collect_dots(env));
  SET_VECTOR_ELT(out, 2, collect_args(env));
  UNPROTECT(1);
  return out;
}

// True if evaluating the arguments takes next to no time: constants, and variables that have been looked at.
bool ready_arguments(SEXP env) {
  SEXP dots = Rf_findVarInFrame(env, R_DotsSymbol);
  for (SEXP cell = TYPEOF(dots) == DOTSXP ? dots : R_NilValue; cell != R_NilValue; cell = CDR(cell)) {
    SEXP item = CAR(cell);
    if (TYPEOF(item) == PROMSXP && PRVALUE(item) == R_UnboundValue && TYPEOF(R_PromiseExpr(item)) == LANGSXP) {
      return false;
    }
  }
  return left_out(env, symbols().args) && left_out(env, symbols().compute);
}

// By .External2() from mirai() and try_mirai(), whose frame is `env`. args: this function, whether to wait.
SEXP mirai_submit(SEXP, SEXP, SEXP args, SEXP env) {
  const std::uint64_t begun_ns = begin_task();
  refuse_in_fork();
  drain_dropped();
  SEXP expression = quoted_expression(env);
  if (expression == R_MissingArg) {
    Rf_error("missing expression, perhaps wrap in {}?");
  }
  const bool early = ready_arguments(env);
  if (early) {
    announce_task(current_profile(profile_name(R_NilValue)));
  }
  SEXP task = PROTECT(task_parts(expression, env));
  const double timeout_ms = number_option(env, symbols().timeout, false);
  const double retries = number_option(env, symbols().retry, true);
  const char* name = profile_name(left_out(env, symbols().compute) ? R_NilValue : Rf_eval(symbols().compute, env));
  if (is_sync_profile(name)) {
    SEXP handle = sync_task(VECTOR_ELT(task, 0), VECTOR_ELT(task, 1), VECTOR_ELT(task, 2), name);
    UNPROTECT(1);
    return handle;
  }
  const std::uint32_t profile = profile_of(name);
  if (!early) {
    announce_task(profile);
  }
  dispatch::SubmitSpec spec;
  spec.begun_ns = begun_ns;
  SEXP sent = PROTECT(split_repeated(profile, task, &spec.constant));
  encode_value(sent, profile, nullptr, 0);
  spec.retries = static_cast<std::uint8_t>(retries < 0 ? 0 : retries > 255 ? 255 : retries);
  if (timeout_ms >= 0 && std::isfinite(timeout_ms)) {
    spec.deadline_ns = runtime::monotonic_ns() +
                       static_cast<std::uint64_t>(timeout_ms < kLongestMs ? timeout_ms * 1e6 : kLongestMs * 1e6);
  }
  SEXP handle = submit_buffer(profile, spec, Rf_asLogical(CADR(args)) != FALSE);
  UNPROTECT(2);
  return handle;
}

// The queue of node `node` of a profile: of daemon `node`, or of whoever has that seat. kReadyQueue: nobody is there.
std::uint32_t queue_of_node(std::uint32_t id, std::uint32_t node) noexcept {
  std::uint32_t queue = runtime::kReadyQueue;
  guarded([&] {
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    if (profile == nullptr || profile->pool().closed()) {
      return;
    }
    profile->progress();
    const bool seated = !profile->seats.shared();
    if (seated && (node >= profile->seats.count() || !profile->seats.taken(node))) {
      return;
    }
    const std::uint32_t index = seated ? profile->seats[node].index : node;
    if (seated && profile->seats[node].occupant == Seat::Occupant::kLink) {
      queue = index == dispatch::kNoLink ? runtime::kReadyQueue : dispatch::kLinkQueueBase + index;
      return;
    }
    const auto& daemons = profile->pool().daemons();
    const bool there = index < daemons.size() && (daemons[index].state == dispatch::DaemonInfo::State::kLive ||
                                                  daemons[index].state == dispatch::DaemonInfo::State::kStarting);
    queue = there ? index : runtime::kReadyQueue;
  });
  return queue;
}

// `expr` with the variables `locals` (a named list) on one daemon of a profile, `node` from 1: for cluster nodes.
SEXP mirai_submit_to(SEXP expr, SEXP locals, SEXP id, SEXP node) {
  refuse_in_fork();
  drain_dropped();
  const auto profile = static_cast<std::uint32_t>(Rf_asInteger(id));
  dispatch::SubmitSpec spec;
  spec.begun_ns = begin_task();
  spec.queue = queue_of_node(profile, static_cast<std::uint32_t>(Rf_asInteger(node) - 1));
  if (spec.queue == runtime::kReadyQueue) {
    SEXP value = PROTECT(error_value(dispatch::ErrorCode::kReset, nullptr));
    SEXP handle = make_resolved_handle(value);
    UNPROTECT(1);
    return handle;
  }
  encode_task(expr, R_NilValue, locals, profile);
  return submit_buffer(profile, spec, true);
}

}  // namespace

codec::EncodeBuffer* encode_everywhere(SEXP expr, SEXP env, std::uint32_t profile, SEXP keep) {
  SEXP resolved = SET_VECTOR_ELT(keep, 0, resolve_expression(expr, env));
  SEXP globals = SET_VECTOR_ELT(keep, 1, collect_dots(env));
  SEXP locals = SET_VECTOR_ELT(keep, 2, collect_args(env));
  encode_task(resolved, globals, locals, profile);
  return &task_buffer;
}

SEXP submit_everywhere(std::uint32_t profile, std::uint32_t daemon) {
  dispatch::SubmitSpec spec;
  spec.kind = dispatch::TaskKind::kEverywhere;
  spec.queue = daemon;
  return submit_buffer(profile, spec, true);
}

}  // namespace setsuna::host

#define ENTRY(name, args) SETSUNA_ENTRY(name, setsuna::host::name, args)
extern const R_CallMethodDef kTaskEntries[] = {
    ENTRY(task_parts, 2),
    ENTRY(mirai_submit_to, 4),
    {nullptr, nullptr, 0},
};
extern const R_ExternalMethodDef kTaskExternals[] = {
    ENTRY(mirai_submit, 1),
    {nullptr, nullptr, 0},
};
