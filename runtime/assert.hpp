// Assertions that stay on in every build: a broken invariant of shared memory must stop the process that
// sees it before it damages its peers.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace setsuna::runtime {

[[noreturn]] inline void assert_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "setsuna: internal error: '%s' does not hold at %s:%d\n", condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace setsuna::runtime

#ifndef SETSUNA_ASSERT  // a test that explores interleavings makes a broken one a finding
#define SETSUNA_ASSERT(condition) \
  (__builtin_expect(!!(condition), 1) ? void(0) : ::setsuna::runtime::assert_failed(#condition, __FILE__, __LINE__))
#endif
