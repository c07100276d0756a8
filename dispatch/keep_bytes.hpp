// Where a task's bytes lie while they are the host's own: a few in the task itself, more on the heap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "dispatch/task.hpp"

namespace setsuna::dispatch {

inline std::uint8_t* copy_bytes(const std::uint8_t* bytes, std::uint64_t length) {
  auto* copy = static_cast<std::uint8_t*>(std::malloc(length == 0 ? 1 : length));
  if (copy == nullptr) {
    throw std::bad_alloc();
  }
  std::copy_n(bytes, length, copy);
  return copy;
}

// A few bytes fit the task itself.
inline void keep_bytes(Task& task, const std::uint8_t* bytes, std::uint64_t length) {
  if (length <= kSmallBytes) {
    task.where = Task::Where::kSmall;
    std::copy_n(bytes, length, task.small);  // of no bytes: from nowhere
  } else {
    task.heap = copy_bytes(bytes, length);
    task.where = Task::Where::kHeap;
  }
}

}  // namespace setsuna::dispatch
