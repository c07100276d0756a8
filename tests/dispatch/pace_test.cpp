#include "dispatch/pace.hpp"

#include <gtest/gtest.h>

namespace setsuna::dispatch {
namespace {

void add(Pace& pace, int times, std::uint32_t took_us) {
  for (int i = 0; i < times; ++i) {
    pace.add(took_us);
  }
}

TEST(Pace, NothingIsHeldBackBeforeTasksAreKnownToBeShort) {
  Pace pace(32);
  EXPECT_EQ(pace.depth(), 0U);
  add(pace, 100, 20);
  EXPECT_EQ(pace.depth(), 32U);
}

TEST(Pace, BehindLongTasksNobodyWaits) {
  Pace pace(32);
  add(pace, 100, 20);
  add(pace, 1, 1'000'000);  // one is enough: the next may be as long
  EXPECT_EQ(pace.depth(), 0U);
  add(pace, 10, 20);
  EXPECT_EQ(pace.depth(), 0U);
  add(pace, 200, 20);
  EXPECT_EQ(pace.depth(), 32U);
}

TEST(Pace, BetweenTheMarksItStaysAsItIs) {
  Pace pace(8);
  add(pace, 100, 1500);
  EXPECT_EQ(pace.depth(), 0U);
  add(pace, 100, 900);
  EXPECT_EQ(pace.depth(), 8U);
  add(pace, 100, 1500);
  EXPECT_EQ(pace.depth(), 8U);
  add(pace, 100, 2500);
  EXPECT_EQ(pace.depth(), 0U);
}

TEST(Pace, ItSaysWhenTheDepthChanges) {
  Pace pace(4);
  bool changed = false;
  int changes = 0;
  for (int i = 0; i < 100; ++i) {
    changed = pace.add(10);
    changes += changed ? 1 : 0;
  }
  EXPECT_EQ(changes, 1);
  EXPECT_FALSE(changed);
}

}  // namespace
}  // namespace setsuna::dispatch
