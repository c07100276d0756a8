// The stamps of a traced task, as a daemon killed between two of its stores leaves them.
#include "runtime/trace_area.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace {

using namespace setsuna::runtime;
using Area = TraceArea<std::atomic>;

constexpr std::uint32_t kSlots = 4;

class TraceAreaTest : public ::testing::Test {
 protected:
  TraceAreaTest() : bytes_((Area::bytes(kSlots) + 63) / 64), area_(bytes_.data(), kSlots) { area_.clear(kSlots); }

  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> bytes_;
  Area area_;
};

TEST_F(TraceAreaTest, NoneIsNone) {
  EXPECT_FALSE(Area());
  EXPECT_TRUE(area_);
}

TEST_F(TraceAreaTest, AClaimIsSeenUnderItsGenerationOnly) {
  EXPECT_EQ(area_.claim(2, 1), nullptr);
  area_.claimed(2, 1, 1234, 77);
  ASSERT_NE(area_.claim(2, 1), nullptr);
  EXPECT_EQ(area_.claim(2, 1)->claimed_ns, 1234U);
  EXPECT_EQ(area_.claim(2, 1)->pid, 77U);
  EXPECT_EQ(area_.claim(2, 2), nullptr);
  EXPECT_EQ(area_.claim(1, 1), nullptr);
  EXPECT_EQ(area_.claim(3, 1), nullptr);
}

// Whatever part of the next claim's stamps has been stored: they are not taken for it before the last one.
TEST_F(TraceAreaTest, AHalfWrittenClaimIsNotSeen) {
  area_.claimed(0, 1, 1000, 77);
  area_.of(0).claimed_ns = 2000;
  EXPECT_EQ(area_.claim(0, 2), nullptr);
  area_.of(0).pid = 78;
  EXPECT_EQ(area_.claim(0, 2), nullptr);
  area_.of(0).generation.store(2, std::memory_order_release);
  ASSERT_NE(area_.claim(0, 2), nullptr);
  EXPECT_EQ(area_.claim(0, 2)->claimed_ns, 2000U);
}

TEST_F(TraceAreaTest, EveryStampHasAPlaceOfItsOwn) {
  const auto* end = reinterpret_cast<const std::byte*>(bytes_.data()) + Area::bytes(kSlots);
  float mark = 1;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    area_.claimed(slot, slot + 1, slot, slot);
    for (std::uint32_t position = 0; position < kRangeMax; ++position) {
      area_.element(slot, position) = {mark, mark + 1, mark + 2, mark + 3};
      mark += 4;
      EXPECT_LE(reinterpret_cast<const std::byte*>(&area_.element(slot, position) + 1), end);
    }
  }
  mark = 1;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    EXPECT_EQ(area_.claim(slot, slot + 1)->claimed_ns, slot);
    for (std::uint32_t position = 0; position < kRangeMax; ++position) {
      EXPECT_EQ(area_.element(slot, position).begin_ns, mark);
      EXPECT_EQ(area_.element(slot, position).encode_ns, mark + 3);
      mark += 4;
    }
  }
}

}  // namespace
