#include "runtime/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace setsuna::runtime {
namespace {

double relative_error(std::uint64_t reported, std::uint64_t exact) {
  return std::abs(static_cast<double>(reported) - static_cast<double>(exact)) / static_cast<double>(exact);
}

// The definition that percentile() promises, on the values themselves.
std::uint64_t exact_percentile(const std::vector<std::uint64_t>& sorted, double percent) {
  const auto rank = static_cast<std::size_t>(std::ceil(percent / 100.0 * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

template <class Draw>
void expect_percentiles(Draw draw) {
  auto histogram = std::make_unique<Histogram>();
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 200'000; ++i) {
    values.push_back(draw());
    histogram->record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99}) {
    EXPECT_LE(relative_error(histogram->percentile(percent), exact_percentile(values, percent)), 0.004)
        << "percentile " << percent;
  }
  EXPECT_EQ(histogram->percentile(0), values.front());
  EXPECT_EQ(histogram->percentile(100), values.back());
  EXPECT_EQ(histogram->count(), values.size());
}

TEST(Histogram, Uniform) {
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::uint64_t> draw(1000, 10'000'000);
  expect_percentiles([&] { return draw(random); });
}

TEST(Histogram, LogNormalAsLatenciesAre) {
  std::mt19937_64 random(2);
  std::lognormal_distribution<double> draw(11.0, 1.5);  // median 60 us, a long tail
  expect_percentiles([&] { return 1 + static_cast<std::uint64_t>(draw(random)); });
}

TEST(Histogram, TwoPeaks) {
  std::mt19937_64 random(3);
  expect_percentiles([&] { return random() % 1000 < 995 ? 5'000 + random() % 100 : 20'000'000 + random() % 1000; });
}

TEST(Histogram, BucketsTileTheRange) {
  for (std::size_t bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    const std::uint64_t low = Histogram::lowest_of(bucket);
    const std::uint64_t high = Histogram::lowest_of(bucket + 1) - 1;
    ASSERT_EQ(Histogram::bucket_of(low), bucket);
    ASSERT_EQ(Histogram::bucket_of(high), bucket);
    ASSERT_LE(high - low, low / 128 + 1);
  }
  EXPECT_EQ(Histogram::lowest_of(Histogram::kBuckets), Histogram::kMaxValue + 1);
}

TEST(Histogram, SmallValuesAreExact) {
  auto histogram = std::make_unique<Histogram>();
  for (std::uint64_t v = 0; v < 128; ++v) {
    histogram->record(v);
  }
  EXPECT_EQ(histogram->percentile(50), 63u);
  EXPECT_EQ(histogram->min(), 0u);
  EXPECT_EQ(histogram->max(), 127u);
  EXPECT_DOUBLE_EQ(histogram->mean(), 63.5);
}

TEST(Histogram, EmptyAndExtremes) {
  auto histogram = std::make_unique<Histogram>();
  EXPECT_EQ(histogram->percentile(99), 0u);
  EXPECT_EQ(histogram->count(), 0u);
  histogram->record(~std::uint64_t{0});
  EXPECT_EQ(histogram->max(), Histogram::kMaxValue);
  EXPECT_EQ(histogram->percentile(50), Histogram::kMaxValue);
  histogram->reset();
  histogram->record(7, 0);
  EXPECT_EQ(histogram->count(), 0u);
  EXPECT_EQ(histogram->min(), 0u);
}

TEST(Histogram, MergeIsTheHistogramOfBoth) {
  auto a = std::make_unique<Histogram>(), b = std::make_unique<Histogram>(), both = std::make_unique<Histogram>();
  std::mt19937_64 random(4);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t value = random() % 1'000'000;
    (i % 3 == 0 ? a : b)->record(value);
    both->record(value);
  }
  a->merge(*b);
  EXPECT_EQ(a->count(), both->count());
  EXPECT_EQ(a->min(), both->min());
  EXPECT_EQ(a->max(), both->max());
  EXPECT_DOUBLE_EQ(a->mean(), both->mean());
  for (const double percent : {10.0, 50.0, 99.99}) {
    EXPECT_EQ(a->percentile(percent), both->percentile(percent));
  }
  auto empty = std::make_unique<Histogram>();
  a->merge(*empty);
  EXPECT_EQ(a->min(), both->min());
  empty->merge(*both);
  EXPECT_EQ(empty->min(), both->min());
}

TEST(Histogram, ZeroedMemoryIsAnEmptyOne) {
  static_assert(std::is_trivially_destructible_v<Histogram>);
  alignas(Histogram) static unsigned char bytes[sizeof(Histogram)];
  std::memset(bytes, 0, sizeof bytes);
  auto* histogram = reinterpret_cast<Histogram*>(bytes);
  histogram->record(1000);
  EXPECT_EQ(histogram->min(), 1000u);
  EXPECT_EQ(histogram->percentile(50), 1000u);
}

TEST(Histogram, ReadersBesideTheWriter) {
  constexpr std::uint64_t kRecords = 200'000;
  auto histogram = std::make_unique<Histogram>();
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < kRecords; ++i) {
      histogram->record(100 + i % 1000);
    }
  });
  std::uint64_t last = 0;
  while (last < kRecords) {
    const std::uint64_t now = histogram->count();
    ASSERT_GE(now, last);
    if (now > 0) {
      const std::uint64_t median = histogram->percentile(50);
      ASSERT_TRUE(median >= 100 && median < 1110);
    }
    last = now;
  }
  writer.join();
}

}  // namespace
}  // namespace setsuna::runtime
