// Times from submit to harvest.
#include "dispatch/latency_meter.hpp"

#include <gtest/gtest.h>

#include "fake_world.hpp"

namespace setsuna::dispatch {
namespace {

std::uint64_t now = 0;
int looks = 0;
std::uint64_t clock_of_test() {
  ++looks;
  return now;
}

TEST(LatencyMeterTest, TheClockIsReadOnceABatch) {
  LatencyMeter meter(&clock_of_test);
  meter.submitted(0, 100);
  meter.submitted(5000, 150);
  now = 200;
  looks = 0;
  meter.begin_batch();
  meter.answered(0);
  meter.answered(5000);
  meter.end_batch();
  EXPECT_EQ(looks, 1);
  EXPECT_EQ(meter.histogram().count(), 2u);
  EXPECT_EQ(meter.histogram().max(), 100u);
  EXPECT_EQ(meter.histogram().min(), 50u);
  meter.begin_batch();
  meter.end_batch();
  EXPECT_EQ(looks, 1);
  now = 90;  // a clock that is read before the submit's: no time has passed
  meter.answered(0);
  EXPECT_EQ(looks, 2);
  EXPECT_EQ(meter.histogram().min(), 0u);
}

TEST(LatencyMeterTest, APoolCountsWhatDaemonsAnswered) {
  FakeWorld world(8, 4);
  PoolConfig config;
  config.daemon_max = 4;
  Pool pool(config, world, world, world);
  LatencyMeter meter(&clock_of_test);
  pool.set_meter(&meter);
  std::uint32_t epoch = 0;
  ASSERT_NE(pool.add_daemon(false, &epoch), runtime::kNoSlot);
  world.daemon(0).alive = true;
  pool.on_online(0, epoch);
  const std::uint8_t byte = 1;
  const auto submit = [&](std::uint64_t at) {
    SubmitSpec spec;
    spec.bytes = &byte;
    spec.length = 1;
    bool wake = false;
    std::uint32_t queue = 0;
    return pool.submit(spec, at, &wake, &queue);
  };
  submit(1000);
  const std::uint32_t cancelled = submit(1000);
  EXPECT_TRUE(pool.cancel(cancelled, ErrorCode::kCancelled, 1100));
  now = 3000;
  ASSERT_TRUE(world.claim(0));
  world.complete(0, 8, 0);
  EXPECT_EQ(pool.progress(), 1u);
  EXPECT_EQ(meter.histogram().count(), 1u);
  EXPECT_EQ(meter.histogram().max(), 2000u);
}

}  // namespace
}  // namespace setsuna::dispatch
