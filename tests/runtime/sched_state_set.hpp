// The states that an exploration has seen, by hash, each with the budget that was left there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sched {

class StateSet {
 public:
  void clear() {
    keys_.assign(std::size_t{1} << 12, 0);
    budgets_.assign(keys_.size(), 0);
    count_ = 0;
  }
  std::size_t size() const { return count_; }

  // False: the state was seen with at least this budget (> 0) before.
  bool insert(std::uint64_t key, std::uint8_t budget) {
    if (keys_.empty()) {
      clear();
    }
    if (count_ * 2 >= keys_.size()) {
      grow();
    }
    const std::size_t at = find(key);
    if (budgets_[at] >= budget) {
      return false;
    }
    count_ += budgets_[at] == 0;
    keys_[at] = key;
    budgets_[at] = budget;
    return true;
  }

 private:
  std::size_t find(std::uint64_t key) const {
    std::size_t at = key & (keys_.size() - 1);
    while (budgets_[at] != 0 && keys_[at] != key) {
      at = (at + 1) & (keys_.size() - 1);
    }
    return at;
  }
  void grow() {
    std::vector<std::uint64_t> keys(keys_.size() * 2, 0);
    std::vector<std::uint8_t> budgets(keys.size(), 0);
    keys.swap(keys_);
    budgets.swap(budgets_);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (budgets[i] != 0) {
        const std::size_t at = find(keys[i]);
        keys_[at] = keys[i];
        budgets_[at] = budgets[i];
      }
    }
  }

  std::vector<std::uint64_t> keys_;
  std::vector<std::uint8_t> budgets_;
  std::size_t count_ = 0;
};

}  // namespace sched
