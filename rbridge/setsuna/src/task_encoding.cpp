#include "task_encoding.hpp"

#include <cstdio>

#include "guard.hpp"
#include "handle.hpp"
#include "profile_codec.hpp"
#include "profiles_state.hpp"
#include "runtime/clock.hpp"
#include "tracing.hpp"
#include "wait.hpp"

namespace setsuna::host {

codec::EncodeBuffer task_buffer;

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

namespace {

// Hooks of serial_config() are R code, which may call mirai() itself and so use `task_buffer`: with hooks a value is encoded
// into a task_buffer of its own, which then takes the place of that.
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

}  // namespace

// Into `task_buffer`, behind `head_bytes` bytes at `head`.
void encode_value(SEXP value, std::uint32_t profile, const void* head, std::size_t head_bytes) {
  const codec::Options* options = codec_options(profile);
  if (options->hooks == nullptr || options->hooks == R_NilValue) {
    codec::encode_reset(&task_buffer);
    if (head_bytes > 0) {
      codec::put_bytes(&task_buffer, head, head_bytes);
    }
    codec::encode(value, &task_buffer, options);
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
  codec::encode_free(&task_buffer);
  task_buffer = encoding.own;
  UNPROTECT(2);
}

// Encodes list(expression, globals, locals) into `task_buffer`.
void encode_task(SEXP expr, SEXP globals, SEXP locals, std::uint32_t profile) {
  SEXP task = PROTECT(Rf_allocVector(VECSXP, 3));
  SET_VECTOR_ELT(task, 0, expr);
  SET_VECTOR_ELT(task, 1, globals);
  SET_VECTOR_ELT(task, 2, locals);
  encode_value(task, profile, nullptr, 0);
  UNPROTECT(1);
}

std::uint32_t profile_for(SEXP env) { return profile_of(profile_name(Rf_eval(Rf_install(".compute"), env))); }

std::uint32_t profile_of(const char* name) {
  const std::uint32_t id = current_profile(name);
  if (id != kNoProfile) {
    return id;
  }
  if (!known_profile(name)) {
    Rf_error("no daemons are set for the compute profile '%s': call daemons(n, .compute = \"%s\") first", name, name);
  }
  return ephemeral_profile();
}

// Queues what is in `task_buffer`; waits while the budget is full, unless `wait` is false (then NULL).
SEXP submit_buffer(std::uint32_t profile, const dispatch::SubmitSpec& spec, bool wait) {
  for (bool collected = false;;) {
    const std::uint32_t ticket = sleep_ticket();
    TaskRef ref;
    std::uint64_t outstanding = 0;
    switch (try_submit(profile, task_buffer, spec, &ref, &outstanding)) {
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

}  // namespace setsuna::host
