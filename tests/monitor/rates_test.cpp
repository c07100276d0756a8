// What takes two snapshots.
#include "rbridge/monitor/view/rates.hpp"

#include <gtest/gtest.h>

#include "samples.hpp"

namespace setsuna::monitor::test {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::shared_ptr<runtime::Histogram> histogram(std::uint64_t value, std::uint64_t times) {
  auto out = std::make_shared<runtime::Histogram>();
  out->record(value, times);
  return out;
}

Snapshot at(std::uint64_t seconds, std::uint64_t completed) {
  Snapshot out = snapshot();
  out.monotonic_ns = seconds * kSecond;
  out.hosts[0].profiles[0].completed = completed;
  out.hosts[0].profiles[0].daemons[0].completed = completed;
  out.hosts[0].profiles[0].daemons[0].cpu_seconds = static_cast<double>(seconds) / 2;
  return out;
}

TEST(RatesTest, OfProfilesAndDaemons) {
  Rates rates;
  Snapshot first = at(10, 1000), second = at(12, 3000);
  rates.update(&first);
  EXPECT_EQ(first.hosts[0].profiles[0].tasks_per_second, kUnknown);
  rates.update(&second);
  const ProfileSample& profile = second.hosts[0].profiles[0];
  EXPECT_DOUBLE_EQ(profile.tasks_per_second, 1000);
  EXPECT_DOUBLE_EQ(profile.daemons[0].tasks_per_second, 1000);
  EXPECT_DOUBLE_EQ(profile.daemons[0].cpu_percent, 50);
  EXPECT_DOUBLE_EQ(profile.daemons[1].tasks_per_second, 0);
}

// Results that the host has not collected yet are work all the same.
TEST(RatesTest, DaemonsCountWhatTheHostHasNotCollected) {
  Rates rates;
  Snapshot first = at(1, 1000), second = at(2, 1000);
  second.hosts[0].profiles[0].daemons[0].completed = 1500;
  rates.update(&first);
  rates.update(&second);
  EXPECT_DOUBLE_EQ(second.hosts[0].profiles[0].tasks_per_second, 500);
}

TEST(RatesTest, AnotherProcessInTheSamePlaceStartsAfresh) {
  Rates rates;
  Snapshot first = at(1, 1000), second = at(2, 1100);
  second.hosts[0].profiles[0].daemons[0].epoch = 2;
  second.hosts[0].profiles[0].daemons[0].completed = 5;
  rates.update(&first);
  rates.update(&second);
  EXPECT_EQ(second.hosts[0].profiles[0].daemons[0].tasks_per_second, kUnknown);
  EXPECT_DOUBLE_EQ(second.hosts[0].profiles[0].tasks_per_second, 100);
}

TEST(RatesTest, LatenciesOfTheLastSeconds) {
  Rates rates;
  const auto with = [](std::uint64_t seconds, std::shared_ptr<const runtime::Histogram> all) {
    Snapshot out = at(seconds, 0);
    out.hosts[0].profiles[0].histogram = std::move(all);
    return out;
  };
  Snapshot before = with(1, histogram(1000, 500));
  rates.update(&before);
  EXPECT_EQ(before.hosts[0].profiles[0].recent.count, 0u);
  auto all = histogram(1000, 500);
  all->record(1'000'000, 10);
  Snapshot soon = with(3, all);
  rates.update(&soon);
  EXPECT_EQ(soon.hosts[0].profiles[0].recent.count, 10u);
  EXPECT_NEAR(static_cast<double>(soon.hosts[0].profiles[0].recent.p50_ns), 1e6, 1e4);
  Snapshot later = with(20, all), last = with(31, all);
  rates.update(&later);
  EXPECT_EQ(later.hosts[0].profiles[0].recent.count, 0u);  // compared with second 3, the newest that is old enough
  rates.update(&last);
  EXPECT_EQ(last.hosts[0].profiles[0].recent.count, 0u);
}

}  // namespace
}  // namespace setsuna::monitor::test
