// What R/map.R reaches to send a map: function, constants and small elements in one shared block, and a task for each element.

#include <cstring>

#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "profile_codec.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/codec/element.hpp"
#include "rbridge/embed/constant_cache.hpp"
#include "submit.hpp"
#include "task_encoding.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

// list(f, constants, globals) as a shared constant of the profile, for mirai_map_submit(). Encodes into `task_buffer`.
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
  const bool shareable = !task_buffer.has_references;
  head[0] = embed::kConstantElements | (shareable ? embed::kConstantShareable : 0);
  head[1] = task_buffer.head_len;
  task_buffer.has_references = false;
  codec::encode(x, &task_buffer, codec_options(profile));
  if (task_buffer.has_references || !takes_map_by_number(profile, task_buffer.total)) {
    return false;
  }
  std::memcpy(task_buffer.head, head, sizeof(head));
  return true;
}

// Shareable only if decoding it once is as good as decoding it for every task.
void mark_shareable() {
  const std::uint64_t flags = task_buffer.has_references ? 0 : embed::kConstantShareable;
  std::memcpy(task_buffer.head, &flags, sizeof(flags));
}

std::uint32_t add_constant(std::uint32_t profile) {
  for (;;) {
    const std::uint32_t ticket = sleep_ticket();
    std::uint32_t constant = dispatch::kNoConstant;
    switch (try_add_constant(profile, task_buffer, &constant)) {
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
  SEXP element = codec::element_of(x, i);
  if (element == nullptr) {
    Rf_error("'.x' must be a vector or a list, not %s", Rf_type2char(TYPEOF(x)));
  }
  return element;
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
}  // namespace setsuna::host

extern const R_CallMethodDef kMapSubmitEntries[] = {
    SETSUNA_ENTRY(mirai_map_submit, setsuna::host::mirai_map_submit, 6),
    {nullptr, nullptr, 0},
};
