// Pending timers by deadline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "net/op.hpp"
#include "runtime/assert.hpp"

namespace setsuna::net {

// A binary heap in which each timer knows its place, so that cancelling one is no search.
class TimerHeap {
 public:
  bool empty() const noexcept { return heap_.empty(); }
  Op& top() const noexcept { return *heap_.front(); }

  void insert(Op& op) {
    op.state.timer.order = next_order_++;
    op.state.timer.position = heap_.size();
    heap_.push_back(&op);
    rise(heap_.size() - 1);
  }

  void remove(Op& op) noexcept {
    const std::size_t hole = op.state.timer.position;
    SETSUNA_ASSERT(hole < heap_.size() && heap_[hole] == &op);
    Op* last = heap_.back();
    heap_.pop_back();
    if (last != &op) {
      put(hole, last);
      rise(hole);
      sink(last->state.timer.position);
    }
  }

 private:
  static bool before(const Op* a, const Op* b) noexcept {
    const auto& x = a->state.timer;
    const auto& y = b->state.timer;
    return x.deadline_ns != y.deadline_ns ? x.deadline_ns < y.deadline_ns : x.order < y.order;
  }

  void put(std::size_t position, Op* op) noexcept {
    heap_[position] = op;
    op->state.timer.position = position;
  }

  void exchange(std::size_t a, std::size_t b) noexcept {
    Op* const op = heap_[a];
    put(a, heap_[b]);
    put(b, op);
  }

  void rise(std::size_t at) noexcept {
    while (at > 0 && before(heap_[at], heap_[(at - 1) / 2])) {
      exchange(at, (at - 1) / 2);
      at = (at - 1) / 2;
    }
  }

  void sink(std::size_t at) noexcept {
    for (;;) {
      std::size_t least = at;
      for (std::size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_.size(); ++child) {
        least = before(heap_[child], heap_[least]) ? child : least;
      }
      if (least == at) {
        return;
      }
      exchange(at, least);
      at = least;
    }
  }

  std::vector<Op*> heap_;
  std::uint64_t next_order_ = 0;
};

}  // namespace setsuna::net
