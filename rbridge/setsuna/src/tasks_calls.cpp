// What R/mirai.R reaches: mirai(), its value, waiting, stopping.

#include <cmath>
#include <cstring>

#include "error_values.hpp"
#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "profile_codec.hpp"
#include "profiles_state.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/embed/constant_cache.hpp"
#include "repeated.hpp"
#include "runtime/clock.hpp"
#include "submit.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

codec::EncodeBuffer buffer;

// What stands in an error message for a value of the wrong kind.
const char* describe(SEXP value, char* to, std::size_t size) {
  const bool is_vector = Rf_isVectorAtomic(value) && value != R_NilValue;
  if (is_vector && XLENGTH(value) == 1) {
    std::snprintf(to, size, "%s", Rf_translateChar(Rf_asChar(value)));
  } else if (is_vector) {
    std::snprintf(to, size, "%s of length %.0f", Rf_type2char(TYPEOF(value)), static_cast<double>(XLENGTH(value)));
  } else {
    std::snprintf(to, size, "%s", Rf_isFunction(value) ? "a function" : Rf_type2char(TYPEOF(value)));
  }
  return to;
}

// When the session begins with a task, for a trace of it.
std::uint64_t begin_task() { return Tracing::any() ? runtime::monotonic_ns() : 0; }

// --- mirai() -----------------------------------------------------------------------------------------------

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

// `...` of the calling function, evaluated: a named list, or NULL if empty.
SEXP collect_dots(SEXP env) {
  SEXP dots = Rf_findVarInFrame(env, R_DotsSymbol);
  if (TYPEOF(dots) != DOTSXP) {
    return R_NilValue;
  }
  SEXP values = PROTECT(Rf_allocList(Rf_length(dots)));
  SEXP to = values;
  for (SEXP cell = dots; cell != R_NilValue; cell = CDR(cell), to = CDR(to)) {
    if (CAR(cell) == R_MissingArg) {
      Rf_error("an argument in '...' is empty: is there a comma too many?");
    }
    SETCAR(to, Rf_eval(CAR(cell), env));
    SET_TAG(to, TAG(cell));
    if (TAG(cell) == R_NilValue && TYPEOF(CAR(to)) != ENVSXP) {
      Rf_error("all ... arguments must be named");
    }
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

// .args = list(x, file): the names are those of the variables in the call.
SEXP names_from_call(SEXP value, SEXP env) {
  const R_xlen_t n = XLENGTH(value);
  SEXP names = PROTECT(Rf_allocVector(STRSXP, n));
  SEXP given = Rf_getAttrib(value, R_NamesSymbol);
  SEXP promise = Rf_findVarInFrame(env, Rf_install(".args"));
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
  SEXP value = PROTECT(Rf_eval(Rf_install(".args"), env));
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

// -1 for NULL.
double number_option(SEXP env, const char* name, bool whole) {
  SEXP value = Rf_eval(Rf_install(name), env);
  if (value == R_NilValue) {
    return -1;
  }
  const bool is_number = (TYPEOF(value) == INTSXP || TYPEOF(value) == REALSXP) && XLENGTH(value) == 1;
  const double number = is_number ? Rf_asReal(value) : NAN;
  if (std::isnan(number) || number < 0 || (whole && number != std::floor(number))) {
    char text[128];
    Rf_error("'%s' must be one %s of at least 0, or NULL, not %s", name, whole ? "whole number" : "number",
             describe(value, text, sizeof(text)));
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

// Hooks of serial_config() are R code, which may call mirai() itself and so use `buffer`: with hooks a value is encoded
// into a buffer of its own, which then takes the place of that.
struct Encoding {
  SEXP value;
  const codec::Options* options;
  codec::EncodeBuffer own;
};

SEXP encode_own(void* data) {
  auto* encoding = static_cast<Encoding*>(data);
  codec::encode(encoding->value, &encoding->own, encoding->options);
  return R_NilValue;
}

void free_own(void* data, Rboolean jump) {
  if (jump != FALSE) {
    codec::encode_free(&static_cast<Encoding*>(data)->own);
  }
}

// Into `buffer`, behind `head_bytes` bytes at `head`.
void encode_value(SEXP value, std::uint32_t profile, const void* head, std::size_t head_bytes) {
  const codec::Options* options = codec_options(profile);
  if (options->hooks == nullptr || options->hooks == R_NilValue) {
    codec::encode_reset(&buffer);
    if (head_bytes > 0) {
      codec::put_bytes(&buffer, head, head_bytes);
    }
    codec::encode(value, &buffer, options);
    return;
  }
  const codec::Options kept = *options;  // hooks may make profiles, whose hooks stand in the same table
  PROTECT(kept.hooks);
  SEXP token = PROTECT(R_MakeUnwindCont());
  Encoding encoding{value, &kept, {}};
  if (head_bytes > 0) {
    codec::put_bytes(&encoding.own, head, head_bytes);
  }
  R_UnwindProtect(encode_own, &encoding, free_own, &encoding, token);
  codec::encode_free(&buffer);
  buffer = encoding.own;
  UNPROTECT(2);
}

// Encodes list(expression, globals, locals) into `buffer`.
void encode_task(SEXP expr, SEXP globals, SEXP locals, std::uint32_t profile) {
  SEXP task = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(task, 0, expr);
  SET_VECTOR_ELT(task, 1, globals);
  SET_VECTOR_ELT(task, 2, locals);
  encode_value(task, profile, nullptr, 0);
  UNPROTECT(1);
}

std::uint32_t profile_for(SEXP env) {
  const char* name = profile_name(Rf_eval(Rf_install(".compute"), env));
  const std::uint32_t id = current_profile(name);
  if (id != kNoProfile) {
    return id;
  }
  if (!known_profile(name)) {
    Rf_error("no daemons are set for the compute profile '%s': call daemons(n, .compute = \"%s\") first", name, name);
  }
  return ephemeral_profile();
}

// Queues what is in `buffer`; waits while the budget is full, unless `wait` is false (then NULL).
SEXP submit_buffer(std::uint32_t profile, const dispatch::SubmitSpec& spec, bool wait) {
  for (bool collected = false;;) {
    const std::uint32_t ticket = sleep_ticket();
    TaskRef ref;
    std::uint64_t outstanding = 0;
    switch (try_submit(profile, buffer, spec, &ref, &outstanding)) {
      case SubmitOutcome::kDone: return make_handle(ref, outstanding);
      case SubmitOutcome::kTooLarge:
        if (collected) {
          Rf_error("%s", guard_message);
        }
        R_gc();  // results that nobody refers to any more may hold the memory
        drain_dropped();
        collected = true;
        continue;
      case SubmitOutcome::kHopeless: Rf_error("%s", guard_message);
      case SubmitOutcome::kClosed: Rf_error("the profile's daemons were reset while mirai() waited for memory");
      case SubmitOutcome::kFull: break;
    }
    if (!wait) {
      return R_NilValue;
    }
    sleep_for_profile(profile, ticket);
    R_CheckUserInterrupt();
  }
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

// What everywhere() gets: list(expression, globals, locals).
SEXP task_parts(SEXP expression, SEXP env) {
  SEXP out = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(out, 0, resolve_expression(expression, env));
  SET_VECTOR_ELT(out, 1, collect_dots(env));
  SET_VECTOR_ELT(out, 2, collect_args(env));
  UNPROTECT(1);
  return out;
}

SEXP mirai_submit(SEXP expression, SEXP env, SEXP wait) {
  const std::uint64_t begun_ns = begin_task();
  refuse_in_fork();
  drain_dropped();
  if (expression == R_MissingArg) {
    Rf_error("missing expression, perhaps wrap in {}?");
  }
  SEXP expr = PROTECT(resolve_expression(expression, env));
  SEXP globals = PROTECT(collect_dots(env));
  SEXP locals = PROTECT(collect_args(env));
  const double timeout_ms = number_option(env, ".timeout", false);
  const double retries = number_option(env, ".retry", true);
  const char* name = profile_name(Rf_eval(Rf_install(".compute"), env));
  if (is_sync_profile(name)) {
    SEXP handle = sync_task(expr, globals, locals, name);
    UNPROTECT(3);
    return handle;
  }
  const std::uint32_t profile = profile_for(env);
  SEXP keep = PROTECT(Rf_allocVector(VECSXP, 2));
  const SplitArguments split = split_repeated(profile, globals, locals, keep);
  encode_task(expr, split.globals, split.locals, profile);
  dispatch::SubmitSpec spec;
  spec.begun_ns = begun_ns;
  spec.constant = split.constant;
  spec.retries = static_cast<std::uint8_t>(retries < 0 ? 0 : retries > 255 ? 255 : retries);
  if (timeout_ms >= 0 && std::isfinite(timeout_ms)) {
    spec.deadline_ns = runtime::monotonic_ns() +
                       static_cast<std::uint64_t>(timeout_ms < kLongestMs ? timeout_ms * 1e6 : kLongestMs * 1e6);
  }
  SEXP handle = submit_buffer(profile, spec, Rf_asLogical(wait) != FALSE);
  UNPROTECT(4);
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

// --- Values and waiting ------------------------------------------------------------------------------------

SEXP check_handle(SEXP x) {
  if (!is_handle(x)) {
    char text[128];
    Rf_error("'x' must be a mirai or a list of mirai, not %s", describe(x, text, sizeof(text)));
  }
  if (handle_state(x) == HandleState::kDead) {
    Rf_error("this mirai was saved and restored: its task belongs to another session and has no value here");
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
    wait_for_handle(check_handle(x));
    return value_of(x);
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

// --- mirai_map() -------------------------------------------------------------------------------------------

// list(f, constants, globals) as a shared constant of the profile, for mirai_map_submit(). Encodes into `buffer`.
void encode_constant(SEXP constant, std::uint32_t profile) {
  const std::uint64_t flags = 0;
  encode_value(constant, profile, &flags, sizeof(flags));
}

// No state of its own, and not worth a task's own block of memory. `budget`: bytes, roughly.
bool is_small(SEXP x, int* budget) {
  *budget -= 8;
  if (ATTRIB(x) != R_NilValue && TYPEOF(x) != CHARSXP) {
    for (SEXP cell = ATTRIB(x); cell != R_NilValue && *budget > 0; cell = CDR(cell)) {
      if (!is_small(CAR(cell), budget)) {
        return false;
      }
    }
  }
  const auto take = [budget](R_xlen_t n, int each) {
    *budget = n > *budget ? 0 : *budget - static_cast<int>(n) * each;
    return *budget > 0;
  };
  switch (TYPEOF(x)) {
    case NILSXP: return true;
    case LGLSXP:
    case INTSXP: return take(XLENGTH(x), 4);
    case REALSXP: return take(XLENGTH(x), 8);
    case CPLXSXP: return take(XLENGTH(x), 16);
    case RAWSXP: return take(XLENGTH(x), 1);
    case STRSXP:
      for (R_xlen_t i = 0; i < XLENGTH(x); ++i) {
        if (!take(LENGTH(STRING_ELT(x, i)), 1)) {
          return false;
        }
      }
      return true;
    case VECSXP:
      for (R_xlen_t i = 0; i < XLENGTH(x); ++i) {
        if (*budget <= 0 || !is_small(VECTOR_ELT(x, i), budget)) {
          return false;
        }
      }
      return *budget > 0;
    default: return false;
  }
}

// Small elements travel together, in the constant, and are named by number.
bool may_go_together(SEXP x, std::uint32_t profile) {
  constexpr int kSmallElement = 1024;
  const codec::Options* options = codec_options(profile);
  const R_xlen_t n = Rf_xlength(x);
  if (n < 2 || n > 0xFFFFFFF || (options->hooks != nullptr && options->hooks != R_NilValue)) {
    return false;
  }
  if (TYPEOF(x) == VECSXP || TYPEOF(x) == STRSXP) {
    for (R_xlen_t i = 0; i < n; ++i) {
      int budget = kSmallElement;
      if (TYPEOF(x) == STRSXP ? LENGTH(STRING_ELT(x, i)) > kSmallElement : !is_small(VECTOR_ELT(x, i), &budget)) {
        return false;
      }
    }
    return true;
  }
  return Rf_isVectorAtomic(x) != FALSE;
}

// The constant of a map with its elements behind it. False: they cannot travel in it.
bool encode_with_elements(SEXP constant, SEXP x, std::uint32_t profile) {
  std::uint64_t head[2] = {0, 0};
  encode_value(constant, profile, head, sizeof(head));
  const bool shareable = !buffer.has_references;
  head[0] = embed::kConstantElements | (shareable ? embed::kConstantShareable : 0);
  head[1] = buffer.head_len;
  buffer.has_references = false;
  codec::encode(x, &buffer, codec_options(profile));
  if (buffer.has_references || !takes_map_by_number(profile, buffer.total)) {
    return false;
  }
  std::memcpy(buffer.head, head, sizeof(head));
  return true;
}

// Shareable only if decoding it once is as good as decoding it for every task.
void mark_shareable() {
  const std::uint64_t flags = buffer.has_references ? 0 : embed::kConstantShareable;
  std::memcpy(buffer.head, &flags, sizeof(flags));
}

std::uint32_t add_constant(std::uint32_t profile) {
  for (;;) {
    const std::uint32_t ticket = sleep_ticket();
    std::uint32_t constant = dispatch::kNoConstant;
    switch (try_add_constant(profile, buffer, &constant)) {
      case SubmitOutcome::kDone: return constant;
      case SubmitOutcome::kTooLarge:
      case SubmitOutcome::kHopeless: Rf_error("%s", guard_message);
      case SubmitOutcome::kClosed: Rf_error("the profile's daemons were reset while mirai_map() waited for memory");
      case SubmitOutcome::kFull: break;
    }
    sleep_for_profile(profile, ticket);
    R_CheckUserInterrupt();
  }
}

struct MapRun {
  SEXP elements;
  SEXP spread;
  SEXP out;
  std::uint32_t profile;
  std::uint32_t constant;
};

SEXP map_element(SEXP x, R_xlen_t i) {
  switch (TYPEOF(x)) {
    case VECSXP: return VECTOR_ELT(x, i);
    case REALSXP: return Rf_ScalarReal(REAL_ELT(x, i));
    case INTSXP: return Rf_ScalarInteger(INTEGER_ELT(x, i));
    case LGLSXP: return Rf_ScalarLogical(LOGICAL_ELT(x, i));
    case STRSXP: return Rf_ScalarString(STRING_ELT(x, i));
    case RAWSXP: return Rf_ScalarRaw(RAW_ELT(x, i));
    case CPLXSXP: return Rf_ScalarComplex(COMPLEX_ELT(x, i));
    default: Rf_error("'.x' must be a vector or a list, not %s", Rf_type2char(TYPEOF(x)));
  }
}

SEXP run_map(void* data) {
  auto* run = static_cast<MapRun*>(data);
  dispatch::SubmitSpec spec;
  spec.kind = dispatch::TaskKind::kMapElement;
  spec.constant = run->constant;
  spec.spread = Rf_asLogical(run->spread) == TRUE;
  const R_xlen_t n = XLENGTH(run->out);
  for (R_xlen_t i = 0; i < n; ++i) {
    spec.begun_ns = begin_task();
    SEXP element = PROTECT(map_element(run->elements, i));
    encode_value(element, run->profile, nullptr, 0);
    SET_VECTOR_ELT(run->out, i, submit_buffer(run->profile, spec, true));
    UNPROTECT(1);
  }
  return R_NilValue;
}

// Elements that lie in the constant. Daemons begin while handles are made for those behind.
SEXP run_map_by_number(void* data) {
  auto* run = static_cast<MapRun*>(data);
  constexpr int kBatch = 256;
  std::uint32_t tasks[kBatch];
  dispatch::MapSpec spec;
  spec.constant = run->constant;
  spec.spread = Rf_asLogical(run->spread) == TRUE;
  const R_xlen_t n = XLENGTH(run->out);
  for (R_xlen_t first = 0; first < n; first += kBatch) {
    SEXP holder = PROTECT(make_map_holder(kBatch));
    spec.first = static_cast<std::uint32_t>(first);
    spec.count = static_cast<std::uint32_t>(n - first < kBatch ? n - first : kBatch);
    spec.more = static_cast<std::uint64_t>(n - first) - spec.count;
    if (!try_submit_map(run->profile, spec, tasks)) {
      Rf_error("the daemons of this profile have ended, or cannot start any more");
    }
    const int count = static_cast<int>(spec.count);
    fill_map_holder(holder, run->profile, tasks, count);
    for (int i = 0; i < count; ++i) {
      SET_VECTOR_ELT(run->out, first + i, make_map_handle(holder, i));
    }
    UNPROTECT(1);
  }
  return R_NilValue;
}

void end_map(void* data, Rboolean) {
  auto* run = static_cast<MapRun*>(data);
  release_constant(run->profile, run->constant);  // the tasks hold references of their own
}

// Names stay here: elements have none.
SEXP without_attributes(SEXP x) {
  if (ATTRIB(x) == R_NilValue) {
    return x;
  }
  SEXP plain = PROTECT(Rf_shallow_duplicate(x));
  SET_ATTRIB(plain, R_NilValue);
  UNPROTECT(1);
  return plain;
}

// x: vector or list; f: function; constants, globals: named lists or NULL; spread: items of a row are arguments.
SEXP mirai_map_submit(SEXP x, SEXP f, SEXP constants, SEXP globals, SEXP spread, SEXP env) {
  refuse_in_fork();
  drain_dropped();
  const std::uint32_t profile = profile_for(env);
  SEXP constant = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(constant, 0, f);
  SET_VECTOR_ELT(constant, 1, constants);
  SET_VECTOR_ELT(constant, 2, globals);
  SEXP elements = PROTECT(without_attributes(x));
  const bool by_number = may_go_together(elements, profile) && encode_with_elements(constant, elements, profile);
  if (!by_number) {
    encode_constant(constant, profile);
    mark_shareable();
  }
  SEXP out = PROTECT(Rf_allocVector(VECSXP, Rf_xlength(x)));
  SEXP token = PROTECT(R_MakeUnwindCont());
  MapRun run{x, spread, out, profile, add_constant(profile)};
  R_UnwindProtect(by_number ? run_map_by_number : run_map, &run, end_map, &run, token);
  UNPROTECT(4);
  return out;
}

}  // namespace

// Shared with daemons_calls.cpp: everywhere(). The bytes of large vectors stay where they are until they are sent: `keep`, a
// list of 3, holds the vectors.
codec::EncodeBuffer* encode_everywhere(SEXP expr, SEXP env, std::uint32_t profile, SEXP keep) {
  SEXP resolved = SET_VECTOR_ELT(keep, 0, resolve_expression(expr, env));
  SEXP globals = SET_VECTOR_ELT(keep, 1, collect_dots(env));
  SEXP locals = SET_VECTOR_ELT(keep, 2, collect_args(env));
  encode_task(resolved, globals, locals, profile);
  return &buffer;
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
    ENTRY(task_parts, 2),       ENTRY(mirai_submit_to, 4), ENTRY(mirai_submit, 3),        ENTRY(mirai_data, 1),
    ENTRY(mirai_unresolved, 1), ENTRY(mirai_wait, 1),      ENTRY(mirai_collect, 1),       ENTRY(mirai_race, 2),
    ENTRY(mirai_stop, 1),       ENTRY(mirai_is, 1),        ENTRY(mirai_resolved_from, 1), ENTRY(make_error_value, 1),
    ENTRY(mirai_map_submit, 6), {nullptr, nullptr, 0},
};
