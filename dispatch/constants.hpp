// Constants travel once: function and constants of a map, or a large argument that repeats. Each has a block in the
// data area and a host-private count of the tasks that refer to it. Keys are never reused.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "dispatch/task.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

struct Constant {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t key = 0;  // 0: vacant
  std::uint64_t hash[2] = {0, 0};
  std::uint32_t references = 0;
  std::uint32_t pins = 0;  // of the references: a cache's, which lets go when it likes
  std::uint16_t block = runtime::kNoBlockId;
};

class Constants {
 public:
  static constexpr std::uint32_t kMax = 0xFFFF;  // a task names its constant in 16 bits

  // Takes one reference. kNoConstant: there are too many.
  std::uint32_t add(const Constant& constant) {
    std::uint32_t index = static_cast<std::uint32_t>(all_.size());
    if (!vacant_.empty()) {
      index = vacant_.back();
      vacant_.pop_back();
    } else if (index == kMax) {
      return kNoConstant;
    } else {
      all_.emplace_back();
    }
    all_[index] = constant;
    all_[index].key = ++last_key_;
    all_[index].references = 0;
    all_[index].pins = 0;
    retain(index);
    by_hash_[constant.hash[0]] = index;
    return index;
  }

  std::uint32_t find(const std::uint64_t hash[2], std::uint64_t bytes) const {
    const auto found = by_hash_.find(hash[0]);
    if (found == by_hash_.end()) {
      return kNoConstant;
    }
    const Constant& c = all_[found->second];
    return c.hash[1] == hash[1] && c.bytes == bytes ? found->second : kNoConstant;
  }

  void retain(std::uint32_t index) {
    Constant& c = all_[index];
    used_bytes_ += c.references == c.pins ? c.bytes : 0;
    ++c.references;
  }
  // True when that was the last reference: the caller frees the block and calls forget().
  bool release(std::uint32_t index) {
    Constant& c = all_[index];
    SETSUNA_ASSERT(c.references > c.pins);
    --c.references;
    used_bytes_ -= c.references == c.pins ? c.bytes : 0;
    return c.references == 0;
  }
  // A reference of the caller becomes its pin: the constant stays, but does not count as used.
  void pin(std::uint32_t index) {
    Constant& c = all_[index];
    SETSUNA_ASSERT(c.references > c.pins);
    ++c.pins;
    used_bytes_ -= c.references == c.pins ? c.bytes : 0;
  }
  // And back.
  void unpin(std::uint32_t index) {
    Constant& c = all_[index];
    SETSUNA_ASSERT(c.pins > 0);
    used_bytes_ += c.references == c.pins ? c.bytes : 0;
    --c.pins;
  }
  void forget(std::uint32_t index) {
    const auto found = by_hash_.find(all_[index].hash[0]);
    if (found != by_hash_.end() && found->second == index) {
      by_hash_.erase(found);
    }
    all_[index] = Constant();
    vacant_.push_back(index);
  }
  // Bytes of those that somebody but a cache refers to.
  std::uint64_t used_bytes() const { return used_bytes_; }
  bool used(std::uint32_t index) const { return all_[index].references > all_[index].pins; }
  Constant& operator[](std::uint32_t index) { return all_[index]; }
  const Constant& operator[](std::uint32_t index) const { return all_[index]; }
  std::size_t size() const { return all_.size(); }

 private:
  std::vector<Constant> all_;
  std::vector<std::uint32_t> vacant_;
  std::unordered_map<std::uint64_t, std::uint32_t> by_hash_;  // the latest with that first half of a hash
  std::uint64_t last_key_ = 0;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace setsuna::dispatch
