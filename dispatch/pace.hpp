// How many tasks a link should hold beyond the one that it runs, from how fast results come. Short tasks are worth it: the
// next is there when one ends. Behind a long one others must not wait.
#pragma once

#include <cstdint>

namespace setsuna::dispatch {

class Pace {
 public:
  explicit Pace(std::uint32_t most) : most_(most) {}

  // A daemon says that a task took it so long. True: depth() has changed.
  bool add(std::uint32_t took_us) {
    mean_us_ += (static_cast<double>(took_us) - mean_us_) * kWeight;
    const std::uint32_t before = depth_;
    if (mean_us_ < kShortUs) {
      depth_ = most_;
    } else if (mean_us_ > kLongUs) {
      depth_ = 0;
    }
    return depth_ != before;
  }
  std::uint32_t depth() const { return depth_; }

 private:
  // Apart, so that it does not go to and fro.
  static constexpr double kShortUs = 1000;
  static constexpr double kLongUs = 2000;
  static constexpr double kWeight = 1.0 / 16;

  std::uint32_t most_;
  std::uint32_t depth_ = 0;
  double mean_us_ = 1500;  // nothing is known yet
};

}  // namespace setsuna::dispatch
