#include "rbridge/embed/evaluator_state.hpp"

#include <cstring>

#include "dispatch/rng_stream.hpp"

namespace setsuna::embed::evaluation {

namespace {

constexpr int kGeneratorKind = 10407;  // .Random.seed[1]: L'Ecuyer-CMRG, Inversion, Rejection

}  // namespace

SEXP seed_vector(const std::int32_t* stream) {
  SEXP seed = Rf_allocVector(INTSXP, 7);
  INTEGER(seed)[0] = kGeneratorKind;
  std::memcpy(INTEGER(seed) + 1, stream, 6 * sizeof(std::int32_t));
  return seed;
}

// A task with a stream of its own leaves the daemon's where it was.
void enter_stream(const std::int32_t* stream) {
  set_root(kSeed, Rf_findVarInFrame(R_GlobalEnv, seed_symbol));
  SEXP seed = PROTECT(seed_vector(stream));
  Rf_defineVar(seed_symbol, seed, R_GlobalEnv);
  UNPROTECT(1);
}

void enter_stream(const Slot& slot) {
  if ((slot.flags & runtime::kTaskHasStream) != 0) {
    enter_stream(slot.rng);
  }
}

namespace {

// A task may have chosen another kind of generator. Later ones go on with this daemon's kind, in a substream of its own.
void restore_generator() {
  if (!options.has_stream) {
    return;
  }
  SEXP seed = Rf_findVarInFrame(R_GlobalEnv, seed_symbol);
  if (TYPEOF(seed) == INTSXP && XLENGTH(seed) == 7 && INTEGER(seed)[0] == kGeneratorKind) {
    return;
  }
  dispatch::StreamState state{};
  std::memcpy(state.data(), options.stream, sizeof(state));
  state = dispatch::next_substream(state);
  std::memcpy(options.stream, state.data(), sizeof(state));
  SEXP fresh = PROTECT(seed_vector(options.stream));
  Rf_defineVar(seed_symbol, fresh, R_GlobalEnv);
  UNPROTECT(1);
}

}  // namespace

void leave_stream(std::uint32_t flags) {
  if ((flags & runtime::kTaskHasStream) == 0) {
    restore_generator();
    return;
  }
  SEXP before = root(kSeed);
  if (before != R_NilValue && before != R_UnboundValue) {
    Rf_defineVar(seed_symbol, before, R_GlobalEnv);
  }
  set_root(kSeed, R_NilValue);
}

}  // namespace setsuna::embed::evaluation
