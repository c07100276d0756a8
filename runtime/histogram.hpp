// Latency histogram, log-linear, for one writer and any number of readers.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace setsuna::runtime {

// Log-linear histogram of latencies in nanoseconds: exact below 128, from there 128 buckets an octave, so a reported
// value is within 0.4 % of a recorded one. Values above ~4.8 hours count as that. One writer, any number of readers:
// the writer uses plain loads and stores of relaxed atomics, no locked instruction. All-zero bytes are a valid empty
// histogram, so it can live in shared memory; 38 KB.
class Histogram {
 public:
  static constexpr unsigned kSubBits = 7;
  static constexpr unsigned kMaxBits = 44;
  static constexpr std::uint64_t kSubBuckets = 1u << kSubBits;
  static constexpr std::uint64_t kMaxValue = (std::uint64_t{1} << kMaxBits) - 1;
  static constexpr std::size_t kBuckets = (kMaxBits - kSubBits + 1) * kSubBuckets;

  void record(std::uint64_t value, std::uint64_t times = 1) noexcept {
    if (times == 0) {
      return;
    }
    if (value > kMaxValue) {
      value = kMaxValue;
    }
    bump(buckets_[bucket_of(value)], times);
    bump(sum_, value * times);
    if (value > max_.load(kRelaxed)) {
      max_.store(value, kRelaxed);
    }
    // Stored as value + 1, so that zeroed memory means "nothing yet".
    const std::uint64_t lowest = min_plus_1_.load(kRelaxed);
    if (lowest == 0 || value + 1 < lowest) {
      min_plus_1_.store(value + 1, kRelaxed);
    }
  }

  // Adds another histogram's counts; this one's writer calls it.
  void merge(const Histogram& other) noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i) {
      if (const std::uint64_t n = other.buckets_[i].load(kRelaxed)) {
        bump(buckets_[i], n);
      }
    }
    bump(sum_, other.sum_.load(kRelaxed));
    if (other.max() > max()) {
      max_.store(other.max(), kRelaxed);
    }
    const std::uint64_t theirs = other.min_plus_1_.load(kRelaxed), ours = min_plus_1_.load(kRelaxed);
    if (theirs != 0 && (ours == 0 || theirs < ours)) {
      min_plus_1_.store(theirs, kRelaxed);
    }
  }

  void reset() noexcept {
    for (auto& bucket : buckets_) {
      bucket.store(0, kRelaxed);
    }
    sum_.store(0, kRelaxed);
    max_.store(0, kRelaxed);
    min_plus_1_.store(0, kRelaxed);
  }

  std::uint64_t count() const noexcept {
    std::uint64_t total = 0;
    for (const auto& bucket : buckets_) {
      total += bucket.load(kRelaxed);
    }
    return total;
  }

  std::uint64_t min() const noexcept {
    const std::uint64_t stored = min_plus_1_.load(kRelaxed);
    return stored == 0 ? 0 : stored - 1;
  }
  std::uint64_t max() const noexcept { return max_.load(kRelaxed); }
  std::uint64_t sum() const noexcept { return sum_.load(kRelaxed); }
  std::uint64_t bucket(std::size_t i) const noexcept { return buckets_[i].load(kRelaxed); }
  double mean() const noexcept {
    const std::uint64_t n = count();
    return n == 0 ? 0.0 : static_cast<double>(sum_.load(kRelaxed)) / static_cast<double>(n);
  }

  // The smallest value v such that `percent` % of the recorded values are <= v, to bucket precision: percentile(99.99).
  // 0 when empty; percentile(0) is the minimum and percentile(100) the maximum, both exact.
  std::uint64_t percentile(double percent) const noexcept {
    const std::uint64_t total = count();
    if (total == 0) {
      return 0;
    }
    if (percent <= 0) {
      return min();
    }
    if (percent >= 100) {
      return max();
    }
    const double wanted = percent / 100.0 * static_cast<double>(total);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i].load(kRelaxed);
      if (seen > 0 && static_cast<double>(seen) >= wanted) {
        return clamp(middle_of(i));
      }
    }
    return max();
  }

  static constexpr std::size_t bucket_of(std::uint64_t value) noexcept {
    if (value < kSubBuckets) {
      return static_cast<std::size_t>(value);
    }
    const unsigned octave = static_cast<unsigned>(std::bit_width(value)) - 1;
    const unsigned shift = octave - kSubBits;
    return (octave - kSubBits) * kSubBuckets + static_cast<std::size_t>(value >> shift);
  }

  static constexpr std::uint64_t lowest_of(std::size_t bucket) noexcept {
    if (bucket < 2 * kSubBuckets) {
      return bucket;
    }
    const unsigned shift = static_cast<unsigned>(bucket / kSubBuckets) - 1;
    return (kSubBuckets + bucket % kSubBuckets) << shift;
  }

 private:
  using Counter = std::atomic<std::uint64_t>;
  // Relaxed throughout. Every counter stands for itself; a reader that runs beside the writer sees
  // a histogram that lacks the last few records, which is all it is promised.
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  static void bump(Counter& counter, std::uint64_t by) noexcept {
    counter.store(counter.load(kRelaxed) + by, kRelaxed);  // one writer: no lost update, and no locked instruction
  }

  static constexpr std::uint64_t middle_of(std::size_t bucket) noexcept {
    const std::uint64_t low = lowest_of(bucket);
    return low + (lowest_of(bucket + 1) - low) / 2;
  }

  std::uint64_t clamp(std::uint64_t value) const noexcept {
    if (value < min()) {
      return min();
    }
    return value > max() ? max() : value;
  }

  std::array<Counter, kBuckets> buckets_{};
  Counter sum_{0};
  Counter max_{0};
  Counter min_plus_1_{0};
};

}  // namespace setsuna::runtime
