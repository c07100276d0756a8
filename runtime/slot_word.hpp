// The slot word: one 64-bit word per task slot is the only truth about the task in it. Everything else in
// the segment (ring cells, done bits, idle bits) is a hint that anyone can repair from it.
#pragma once

#include <cstdint>

#include "runtime/assert.hpp"

namespace setsuna::runtime {

// FREE -host-> READY(g) -daemon-> CLAIMED(owner,g) -daemon-> DONE(owner,g) -host-> FREE
// READY -host-> CANCELLED -host-> FREE      CLAIMED -host-> DOOMED(owner,g), then the owner is killed
// CLAIMED/DOOMED of a dead owner -reaper-> READY(g+1) or FREE
enum class SlotState : std::uint8_t { kFree = 0, kReady, kClaimed, kDone, kCancelled, kDoomed };

// state:4 | owner index:12 | owner epoch:16 | generation:32
class SlotWord {
 public:
  constexpr SlotWord() = default;
  constexpr explicit SlotWord(std::uint64_t bits) : bits_(bits) {}

  static constexpr SlotWord make(SlotState state, std::uint32_t owner, std::uint32_t epoch, std::uint32_t generation) {
    return SlotWord((static_cast<std::uint64_t>(state) << 60) | (static_cast<std::uint64_t>(owner & 0xFFFU) << 48) |
                    (static_cast<std::uint64_t>(epoch & 0xFFFFU) << 32) | generation);
  }

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr SlotState state() const { return static_cast<SlotState>(bits_ >> 60); }
  constexpr std::uint32_t owner() const { return static_cast<std::uint32_t>(bits_ >> 48) & 0xFFFU; }
  constexpr std::uint32_t epoch() const { return static_cast<std::uint32_t>(bits_ >> 32) & 0xFFFFU; }
  constexpr std::uint32_t generation() const { return static_cast<std::uint32_t>(bits_); }

  constexpr bool owned_by(std::uint32_t owner_index, std::uint32_t owner_epoch) const {
    return owner() == owner_index && epoch() == (owner_epoch & 0xFFFFU);
  }
  constexpr SlotWord with_state(SlotState next) const {
    return SlotWord((bits_ & ~(0xFULL << 60)) | (static_cast<std::uint64_t>(next) << 60));
  }

 private:
  std::uint64_t bits_ = 0;
};

// A task in one word, as daemons and cancels name it: slot + 1 in the upper half, so that slot 0 of generation 0 is not "none".
constexpr std::uint64_t task_key(std::uint32_t slot, std::uint32_t generation) {
  return ((std::uint64_t{slot} + 1) << 32) | generation;
}

// lap:32 | generation:16 | slot index:16. The lap is the ticket divided by the ring size: a reader whose
// ticket belongs to an older lap knows that the cell has moved on without it.
class RingCell {
 public:
  static constexpr std::uint32_t kEmpty = 0xFFFF;

  constexpr RingCell() = default;
  constexpr explicit RingCell(std::uint64_t bits) : bits_(bits) {}
  static constexpr RingCell make(std::uint32_t lap, std::uint32_t generation, std::uint32_t slot) {
    return RingCell((static_cast<std::uint64_t>(lap) << 32) | ((generation & 0xFFFFU) << 16) | (slot & 0xFFFFU));
  }
  static constexpr RingCell empty(std::uint32_t lap) { return make(lap, 0, kEmpty); }

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr std::uint32_t lap() const { return static_cast<std::uint32_t>(bits_ >> 32); }
  constexpr std::uint32_t generation() const { return static_cast<std::uint32_t>(bits_ >> 16) & 0xFFFFU; }
  constexpr std::uint32_t slot() const { return static_cast<std::uint32_t>(bits_) & 0xFFFFU; }
  constexpr bool is_empty() const { return slot() == kEmpty; }

  // True when the slot's word is the READY that this cell was pushed for.
  constexpr bool offers(SlotWord word) const {
    return word.state() == SlotState::kReady && (word.generation() & 0xFFFFU) == generation();
  }

 private:
  std::uint64_t bits_ = 0;
};

}  // namespace setsuna::runtime
