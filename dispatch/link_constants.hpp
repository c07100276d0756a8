// Which constants one remote daemon has, and which are on their way to it.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/assert.hpp"

namespace setsuna::dispatch {

class LinkConstants {
 public:
  static constexpr std::uint32_t kMax = 64;
  static constexpr std::uint8_t kNone = 0xFF;

  struct Kept {
    std::uint64_t key = 0;  // 0: vacant
    std::uint64_t used = 0;
    std::uint32_t flights = 0;  // tasks in the link's hands that need it
  };
  struct Leaving {
    std::uint64_t key;
    std::uint32_t constant;
  };

  // Its place, or kNone.
  std::uint8_t find(std::uint64_t key) const {
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      if (kept_[i].key == key) {
        return static_cast<std::uint8_t>(i);
      }
    }
    return kNone;
  }

  // A place for one more: *forgotten is what made room for it (0: nothing). There are fewer tasks than places.
  std::uint8_t add(std::uint64_t key, std::uint64_t* forgotten) {
    std::uint8_t place = find(0);
    *forgotten = 0;
    if (place == kNone && kept_.size() < kMax) {
      place = static_cast<std::uint8_t>(kept_.size());
      kept_.emplace_back();
    } else if (place == kNone) {
      place = oldest_unused();
      *forgotten = kept_[place].key;
    }
    kept_[place] = Kept{key, 0, 0};
    return place;
  }

  void use(std::uint8_t place) {
    kept_[place].used = ++clock_;
    ++kept_[place].flights;
  }
  void unuse(std::uint8_t place) {
    SETSUNA_ASSERT(kept_[place].flights > 0);
    --kept_[place].flights;
  }
  void forget(std::uint8_t place) {
    SETSUNA_ASSERT(kept_[place].flights == 0);
    kept_[place] = Kept();
  }

  // Blocks whose bytes have not left yet.
  std::vector<Leaving> leaving;

  const std::vector<Kept>& kept() const { return kept_; }

 private:
  std::uint8_t oldest_unused() const {
    std::uint8_t oldest = kNone;
    for (std::uint8_t i = 0; i < kMax; ++i) {
      if (kept_[i].flights == 0 && (oldest == kNone || kept_[i].used < kept_[oldest].used)) {
        oldest = i;
      }
    }
    SETSUNA_ASSERT(oldest != kNone);
    return oldest;
  }

  std::vector<Kept> kept_;
  std::uint64_t clock_ = 0;
};

}  // namespace setsuna::dispatch
