// Expected values: R 4.2.2, RNGkind("L'Ecuyer-CMRG"); set.seed(123); parallel::nextRNGStream(), nextRNGSubStream().

#include <gtest/gtest.h>

#include "dispatch/rng_stream.hpp"

namespace setsuna::dispatch {
namespace {

TEST(RngStream, EqualsBaseR) {
  const StreamState first = stream_from_seed(123);
  EXPECT_EQ(first, (StreamState{1806547166, -983674937, 643431772, 1162448557, -959247990, -133913213}));
  const StreamState second = next_stream(first);
  EXPECT_EQ(second, (StreamState{1801422725, -2057975723, 1156894209, 1595475487, 210384600, -1655729657}));
  const StreamState third = next_stream(second);
  EXPECT_EQ(third, (StreamState{-1618675118, 902610736, -520029923, -1096480050, 1501459956, -283668411}));
}

TEST(RngStream, SubstreamEqualsBaseR) {
  const StreamState fourth = next_stream(next_stream(next_stream(stream_from_seed(123))));
  EXPECT_EQ(next_substream(fourth),
            (StreamState{952683402, -141907760, -1930320181, 158211211, 1300468955, 1815989724}));
}

TEST(RngStream, EverySeedGivesAValidState) {
  for (std::int32_t seed : {0, 1, -1, 2147483647, -2147483647}) {
    for (std::int32_t word : stream_from_seed(seed)) {
      EXPECT_LT(static_cast<std::uint32_t>(word), 4294944443U);
    }
  }
}

}  // namespace
}  // namespace setsuna::dispatch
