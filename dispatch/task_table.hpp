// Tasks by index, in chunks that never move; a vacated index is reused.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "dispatch/task.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

class TaskTable {
 public:
  std::uint32_t add() {
    if (free_ == kNoTask) {
      grow();
    }
    const std::uint32_t index = free_;
    Task& task = (*this)[index];
    free_ = task.next;
    task = Task();
    ++count_;
    return index;
  }

  void remove(std::uint32_t index) {
    Task& task = (*this)[index];
    SETSUNA_ASSERT(task.state != TaskState::kVacant && !task.in_fifo);
    task.state = TaskState::kVacant;
    task.next = free_;
    free_ = index;
    --count_;
  }

  Task& operator[](std::uint32_t index) { return (*chunks_[index / kChunk])[index % kChunk]; }
  const Task& operator[](std::uint32_t index) const { return (*chunks_[index / kChunk])[index % kChunk]; }

  std::uint32_t count() const { return count_; }
  std::uint32_t limit() const { return static_cast<std::uint32_t>(chunks_.size()) * kChunk; }

 private:
  static constexpr std::uint32_t kChunk = 4096;

  void grow() {
    const std::uint32_t base = limit();
    chunks_.push_back(std::make_unique<std::array<Task, kChunk>>());
    for (std::uint32_t i = kChunk; i-- > 0;) {
      (*chunks_.back())[i].next = free_;
      free_ = base + i;
    }
  }

  std::vector<std::unique_ptr<std::array<Task, kChunk>>> chunks_;
  std::uint32_t free_ = kNoTask;
  std::uint32_t count_ = 0;
};

}  // namespace setsuna::dispatch
