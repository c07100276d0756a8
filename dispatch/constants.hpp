// Constants travel once: function and constants of a map, or a large argument that repeats. Each has a block in the
// data area and a host-private count of the tasks that refer to it. Keys are never reused.
#pragma once

#include <cstdint>
#include <vector>

#include "dispatch/task.hpp"

namespace setsuna::dispatch {

struct Constant {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t key = 0;  // 0: vacant
  std::uint64_t hash[2] = {0, 0};
  std::uint32_t references = 0;
  std::uint16_t block = runtime::kNoBlockId;
};

class Constants {
 public:
  static constexpr std::uint32_t kMax = 0xFFFF;  // a task names its constant in 16 bits

  // Takes one reference. kNoConstant: there are too many.
  std::uint32_t add(const Constant& constant) {
    std::uint32_t index = 0;
    while (index < all_.size() && all_[index].key != 0) {
      ++index;
    }
    if (index == kMax) {
      return kNoConstant;
    }
    if (index == all_.size()) {
      all_.emplace_back();
    }
    all_[index] = constant;
    all_[index].key = ++last_key_;
    all_[index].references = 1;
    return index;
  }

  std::uint32_t find(const std::uint64_t hash[2], std::uint64_t bytes) const {
    for (std::uint32_t i = 0; i < all_.size(); ++i) {
      const Constant& c = all_[i];
      if (c.key != 0 && c.hash[0] == hash[0] && c.hash[1] == hash[1] && c.bytes == bytes) {
        return i;
      }
    }
    return kNoConstant;
  }

  void retain(std::uint32_t index) { ++all_[index].references; }
  // True when that was the last reference: the caller frees the block and calls forget().
  bool release(std::uint32_t index) { return --all_[index].references == 0; }
  void forget(std::uint32_t index) { all_[index] = Constant(); }
  Constant& operator[](std::uint32_t index) { return all_[index]; }
  const Constant& operator[](std::uint32_t index) const { return all_[index]; }
  std::size_t size() const { return all_.size(); }

 private:
  std::vector<Constant> all_;
  std::uint64_t last_key_ = 0;
};

}  // namespace setsuna::dispatch
