#include "dispatch/constants.hpp"

#include <gtest/gtest.h>

namespace setsuna::dispatch {
namespace {

Constant constant(std::uint64_t bytes, std::uint64_t low, std::uint64_t high) {
  Constant made;
  made.bytes = bytes;
  made.hash[0] = low;
  made.hash[1] = high;
  return made;
}

TEST(Constants, AreFoundByTheirHashUntilTheyAreForgotten) {
  Constants constants;
  const std::uint32_t a = constants.add(constant(10, 1, 2));
  const std::uint32_t b = constants.add(constant(20, 3, 4));
  const std::uint64_t hash_a[2] = {1, 2};
  const std::uint64_t half[2] = {1, 4};
  EXPECT_EQ(constants.find(hash_a, 10), a);
  EXPECT_EQ(constants.find(hash_a, 11), kNoConstant);
  EXPECT_EQ(constants.find(half, 10), kNoConstant);
  EXPECT_TRUE(constants.release(a));
  constants.forget(a);
  EXPECT_EQ(constants.find(hash_a, 10), kNoConstant);
  const std::uint64_t hash_b[2] = {3, 4};
  EXPECT_EQ(constants.find(hash_b, 20), b);
}

TEST(Constants, ForgettingOneLeavesItsTwinFindable) {
  Constants constants;
  const std::uint32_t first = constants.add(constant(10, 1, 2));
  const std::uint32_t second = constants.add(constant(10, 1, 2));
  const std::uint64_t hash[2] = {1, 2};
  ASSERT_TRUE(constants.release(first));
  constants.forget(first);
  EXPECT_EQ(constants.find(hash, 10), second);
}

TEST(Constants, PlacesAreReusedWithNewKeys) {
  Constants constants;
  const std::uint32_t a = constants.add(constant(10, 1, 2));
  const std::uint64_t key = constants[a].key;
  ASSERT_TRUE(constants.release(a));
  constants.forget(a);
  const std::uint32_t b = constants.add(constant(10, 1, 2));
  EXPECT_EQ(b, a);
  EXPECT_NE(constants[b].key, key);
  EXPECT_EQ(constants.size(), 1U);
}

TEST(Constants, NoMoreThanATaskCanName) {
  Constants constants;
  for (std::uint32_t i = 0; i < Constants::kMax; ++i) {
    ASSERT_EQ(constants.add(constant(1, i, i)), i);
  }
  EXPECT_EQ(constants.add(constant(1, 7, 7)), kNoConstant);
  EXPECT_EQ(constants.used_bytes(), Constants::kMax);
}

TEST(Constants, CountAsUsedWhileOthersThanCachesReferToThem) {
  Constants constants;
  const std::uint32_t a = constants.add(constant(10, 1, 2));
  EXPECT_EQ(constants.used_bytes(), 10U);
  constants.retain(a);  // a task
  constants.pin(a);     // the maker's reference is the cache's from here on
  EXPECT_EQ(constants.used_bytes(), 10U);
  EXPECT_FALSE(constants.release(a));
  EXPECT_EQ(constants.used_bytes(), 0U);
  EXPECT_FALSE(constants.used(a));
  constants.retain(a);
  EXPECT_EQ(constants.used_bytes(), 10U);
  constants.unpin(a);
  EXPECT_FALSE(constants.release(a));
  EXPECT_TRUE(constants.release(a));
  EXPECT_EQ(constants.used_bytes(), 0U);
}

}  // namespace
}  // namespace setsuna::dispatch
