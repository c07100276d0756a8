// Doubly linked lists of numbers. The links are in nodes that the owner keeps by number; a node is in one list at a time.
#pragma once

#include <cstdint>

#include "runtime/assert.hpp"

namespace setsuna::dispatch {

inline constexpr std::uint32_t kNoIndex = 0xFFFFFFFF;

struct ListNode {
  std::uint32_t prev = kNoIndex;
  std::uint32_t next = kNoIndex;
};

class IndexList {
 public:
  bool empty() const { return head_ == kNoIndex; }
  std::uint32_t front() const { return head_; }

  // `node` gives the ListNode& of a number.
  template <class NodeOf>
  void push_back(std::uint32_t index, NodeOf&& node) {
    node(index) = ListNode{tail_, kNoIndex};
    (tail_ == kNoIndex ? head_ : node(tail_).next) = index;
    tail_ = index;
  }

  template <class NodeOf>
  void push_front(std::uint32_t index, NodeOf&& node) {
    node(index) = ListNode{kNoIndex, head_};
    (head_ == kNoIndex ? tail_ : node(head_).prev) = index;
    head_ = index;
  }

  template <class NodeOf>
  void remove(std::uint32_t index, NodeOf&& node) {
    const ListNode gone = node(index);
    SETSUNA_ASSERT(gone.prev == kNoIndex ? head_ == index : node(gone.prev).next == index);
    (gone.prev == kNoIndex ? head_ : node(gone.prev).next) = gone.next;
    (gone.next == kNoIndex ? tail_ : node(gone.next).prev) = gone.prev;
    node(index) = ListNode{};
  }

 private:
  std::uint32_t head_ = kNoIndex;
  std::uint32_t tail_ = kNoIndex;
};

}  // namespace setsuna::dispatch
