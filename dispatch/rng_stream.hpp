// L'Ecuyer-CMRG streams, equal to base R's: RNGkind("L'Ecuyer-CMRG"); set.seed(seed); parallel::nextRNGStream().
// Source of the recurrence and of the jump matrices' construction: P. L'Ecuyer, R. Simard, E. J. Chen, W. D. Kelton,
// "An object-oriented random-number package with many long streams and substreams", Operations Research 50(6), 2002.
#pragma once

#include <array>
#include <cstdint>

namespace setsuna::dispatch {

using StreamState = std::array<std::int32_t, 6>;  // .Random.seed[2:7]

// The state after set.seed(seed, kind = "L'Ecuyer-CMRG").
StreamState stream_from_seed(std::int32_t seed);
// 2^127 steps ahead: parallel::nextRNGStream().
StreamState next_stream(const StreamState& state);
// 2^76 steps ahead: parallel::nextRNGSubStream().
StreamState next_substream(const StreamState& state);

}  // namespace setsuna::dispatch
