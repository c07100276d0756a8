// All operations of a reactor, addressed by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "net/op.hpp"
#include "runtime/assert.hpp"

namespace setsuna::net {

// Grows in chunks, so that addresses stay; entries are reused, their generation tells the users apart.
class OpTable {
 public:
  Op& acquire(OpKind kind, int fd, Handler handler) {
    if (free_ == nullptr) {
      grow();
    }
    Op& op = *free_;
    free_ = op.queue_next;
    SETSUNA_ASSERT(op.kind == OpKind::kFree);
    op.kind = kind;
    op.active = op.ready = op.cancelled = op.silent = false;
    op.fd = fd;
    op.handler = handler;
    op.result = 0;
    op.queue_next = op.fd_next = op.fd_previous = nullptr;
    ++live_;
    return op;
  }

  void release(Op& op) noexcept {
    SETSUNA_ASSERT(op.kind != OpKind::kFree && !op.active);
    op.kind = OpKind::kFree;
    op.generation = op.generation == UINT32_MAX ? 1 : op.generation + 1;  // 0 never names an operation
    op.queue_next = free_;
    free_ = &op;
    --live_;
  }

  // Null for a token whose operation is over.
  Op* find(Token token) noexcept {
    const std::uint64_t index = token.value >> 32;
    if (index >= chunks_.size() * kChunk) {
      return nullptr;
    }
    Op& op = at(index);
    return op.kind != OpKind::kFree && op.token() == token ? &op : nullptr;
  }

  template <class Visit>
  void for_each(Visit visit) {
    for (std::size_t i = 0; i < chunks_.size() * kChunk; ++i) {
      if (at(i).kind != OpKind::kFree) {
        visit(at(i));
      }
    }
  }

  std::size_t live() const noexcept { return live_; }

 private:
  static constexpr std::size_t kChunk = 64;

  Op& at(std::size_t index) noexcept { return chunks_[index / kChunk][index % kChunk]; }

  void grow() {
    const std::size_t base = chunks_.size() * kChunk;
    SETSUNA_ASSERT(base + kChunk <= UINT32_MAX);
    chunks_.push_back(std::make_unique<Op[]>(kChunk));
    for (std::size_t i = kChunk; i-- > 0;) {
      Op& op = chunks_.back()[i];
      op.index = static_cast<std::uint32_t>(base + i);
      op.queue_next = free_;
      free_ = &op;
    }
  }

  std::vector<std::unique_ptr<Op[]>> chunks_;
  Op* free_ = nullptr;
  std::size_t live_ = 0;
};

}  // namespace setsuna::net
