// The trace area: per slot, who claimed the task in it, when, and how long each stage took there. A block of the data area,
// which exists only while its profile is traced.
//
//   [TaskStamps x slots][ElementStamps x slots x kRangeMax]
//
// A daemon may be killed at any instruction, so a stamp is read only under something that it has published afterwards: the
// claim under `generation`, the stages under the slot's DONE, an element's under the slot's `progress`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/layout.hpp"

namespace setsuna::runtime {

// Durations are floats: 24 bits are enough for any of them, and none is too long.
template <template <class> class Atom>
struct TaskStamps {
  std::uint64_t claimed_ns;
  std::uint32_t pid;
  Atom<std::uint32_t> generation;  // of the task that was claimed
  float decode_ns;
  float evaluate_ns;
  float encode_ns;
  std::uint32_t pad;
};
static_assert(sizeof(TaskStamps<std::atomic>) == 32 && offsetof(TaskStamps<std::atomic>, generation) == 12);

// Of an element of a range.
struct ElementStamps {
  float begin_ns;  // since the range was claimed
  float decode_ns;
  float evaluate_ns;
  float encode_ns;
};
static_assert(sizeof(ElementStamps) == 16);

template <template <class> class Atom>
class TraceArea {
 public:
  using Stamps = TaskStamps<Atom>;

  TraceArea() = default;  // none
  TraceArea(void* base, std::uint32_t slot_count)
      : stamps_(static_cast<Stamps*>(base)), elements_(reinterpret_cast<ElementStamps*>(stamps_ + slot_count)) {}

  static constexpr std::uint64_t bytes(std::uint32_t slot_count) {
    return std::uint64_t{slot_count} * (sizeof(Stamps) + kRangeMax * sizeof(ElementStamps));
  }

  explicit operator bool() const { return stamps_ != nullptr; }

  // --- Host, before the first daemon -------------------------------------------------------------------------
  void clear(std::uint32_t slot_count) {
    for (std::uint32_t slot = 0; slot < slot_count; ++slot) {
      stamps_[slot].generation.store(0, std::memory_order_relaxed);  // no task's: they begin with 1
    }
  }

  // --- Daemon ------------------------------------------------------------------------------------------------
  void claimed(std::uint32_t slot, std::uint32_t generation, std::uint64_t now_ns, std::uint32_t pid) {
    Stamps& stamps = stamps_[slot];
    stamps.claimed_ns = now_ns;
    stamps.pid = pid;
    // ORDERING stamp/claim: release, after the claim's stamps: who sees the generation sees them.
    stamps.generation.store(generation, std::memory_order_release);
  }
  Stamps& of(std::uint32_t slot) { return stamps_[slot]; }
  ElementStamps& element(std::uint32_t slot, std::uint32_t position) {
    return elements_[std::uint64_t{slot} * kRangeMax + position];
  }

  // --- Host --------------------------------------------------------------------------------------------------
  // Null: its daemon has not come so far.
  const Stamps* claim(std::uint32_t slot, std::uint32_t generation) const {
    // ORDERING stamp/claim: acquire: the stamps of the claim that the generation names.
    return stamps_[slot].generation.load(std::memory_order_acquire) == generation ? &stamps_[slot] : nullptr;
  }
  const ElementStamps& element(std::uint32_t slot, std::uint32_t position) const {
    return elements_[std::uint64_t{slot} * kRangeMax + position];
  }

 private:
  Stamps* stamps_ = nullptr;
  ElementStamps* elements_ = nullptr;
};

}  // namespace setsuna::runtime
