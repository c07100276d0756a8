// R's C code indexes tables with the elements of logical vectors, so one that is none of FALSE, TRUE and NA can crash it.
// C code can store such a thing (it travels as a fallback node then); damaged bytes must not.
#pragma once

#include <climits>

namespace setsuna::codec {

#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("O3")))  // vectorised: at the speed of memory, whatever the rest is compiled with
#endif
inline bool
are_logicals(const int* value, long n) noexcept {
  constexpr long kBlock = 4096;
  for (long from = 0; from < n; from += kBlock) {
    const long to = n - from < kBlock ? n : from + kBlock;
    unsigned bad = 0;
    for (long i = from; i < to; ++i) bad |= static_cast<unsigned>((value[i] & ~1) != 0 && value[i] != INT_MIN);
    if (bad != 0) return false;
  }
  return true;
}

}  // namespace setsuna::codec
