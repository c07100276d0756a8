// Deterministic scheduler for the templates of runtime/. Include it before any header of runtime/: it takes over their
// assertions and their rules, so that a broken one is a finding with a trace and a switched-off one can be tried.
#pragma once

#include "tests/runtime/sched_atom.hpp"
#include "tests/runtime/sched_engine.hpp"
#include "tests/runtime/sched_explore.hpp"
#include "tests/runtime/sched_mutation.hpp"

namespace sched {

[[gnu::cold]] inline void assertion_failed(const char* condition, const char* file, int line) {
  Engine::get().fail(std::string("'") + condition + "' does not hold at " + file + ":" + std::to_string(line));
  std::fprintf(stderr, "sched: '%s' does not hold at %s:%d\n", condition, file, line);
  std::abort();  // outside an execution
}

}  // namespace sched

#define SETSUNA_ASSERT(condition) \
  (__builtin_expect(!!(condition), 1) ? void(0) : ::sched::assertion_failed(#condition, __FILE__, __LINE__))
#define SETSUNA_RULE(name) (::sched::mutation().rule_holds(::sched::rule_id(#name)))
