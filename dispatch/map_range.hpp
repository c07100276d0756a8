// Ranges: several elements of one map in one slot. The books of those that are placed, how many elements the next one takes,
// and the entries in which a daemon writes down their outcomes:
//
//   u8 n <= kEntryValueMax, n bytes                      a value of n bytes
//   kEntryLong,  status:u8, n:u16, n bytes               any outcome that has room
//   kEntryArea,  status:u8, offset:u64, bytes:u64        an outcome in the data area
//   kEntrySkip                                           the host had taken this element back
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "dispatch/ports.hpp"
#include "dispatch/rng_stream.hpp"
#include "dispatch/task.hpp"

namespace setsuna::dispatch {

inline constexpr std::uint8_t kEntryValueMax = 250;
inline constexpr std::uint8_t kEntryLong = 251;
inline constexpr std::uint8_t kEntryArea = 252;
inline constexpr std::uint8_t kEntrySkip = 253;
inline constexpr std::uint32_t kEntryLongHead = 4;
inline constexpr std::uint32_t kEntryAreaBytes = 18;

struct RangeEntry {
  bool skipped = false;
  runtime::ResultStatus status = runtime::ResultStatus::kValue;
  const std::uint8_t* inline_bytes = nullptr;  // null: in the data area, unless skipped
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  SlotResult result() const {
    return {.status = status, .inline_bytes = inline_bytes, .offset = offset, .bytes = bytes};
  }
};

// The entry at *at; moves *at behind it. False: damaged.
bool read_entry(const std::uint8_t* area, std::uint32_t* at, RangeEntry* entry,
                std::uint32_t area_bytes = runtime::kInlineResultBytes);

// Bits of the elements of a range.
constexpr std::uint64_t range_bits(std::uint32_t count) {
  return count >= runtime::kRangeMax ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

struct MapRange {
  std::array<std::uint32_t, runtime::kRangeMax> tasks;     // kNoTask: resolved, or given back
  std::array<std::uint32_t, runtime::kRangeMax> elements;  // their numbers, ascending
  std::uint64_t taken_back = 0;                            // bits of elements that the host has taken
  std::uint32_t slot = 0;
  std::uint32_t count = 0;
  std::uint32_t read = 0;  // entries
  std::uint32_t at = 0;    // bytes
  StreamState stream{};    // of the first element
  bool has_stream = false;
  bool damaged = false;
  bool seen_claimed = false;  // or seen begun by a link
  // In a link's hands:
  bool asked_back = false;       // for what has not begun
  bool parted = false;           // it has come: of the rest, the link runs the first and no other
  std::uint32_t element_ns = 0;  // as it was told
  bool used = false;

  std::uint64_t all() const { return range_bits(count); }
  // Of a task that is in it.
  std::uint32_t position_of(std::uint32_t task) const {
    std::uint32_t position = 0;
    while (position < count && tasks[position] != task) {
      ++position;
    }
    return position;
  }
};

class MapRanges {
 public:
  std::uint32_t add() {
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(ranges_.size()));
      ranges_.emplace_back();
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    ranges_[index] = MapRange();
    ranges_[index].used = true;
    ++count_;
    return index;
  }
  void remove(std::uint32_t index) {
    ranges_[index].used = false;
    free_.push_back(index);
    --count_;
  }
  MapRange& operator[](std::uint32_t index) { return ranges_[index]; }
  const MapRange& operator[](std::uint32_t index) const { return ranges_[index]; }
  std::uint32_t count() const { return count_; }
  std::uint32_t limit() const { return static_cast<std::uint32_t>(ranges_.size()); }

 private:
  std::vector<MapRange> ranges_;
  std::vector<std::uint32_t> free_;
  std::uint32_t count_ = 0;
};

// What is known of one map's elements: how long they take, how many outcomes a slot holds, how many are to come.
struct MapPace {
  std::uint64_t key = 0;  // of the map's constant
  std::uint64_t waiting = 0;
  std::uint64_t element_ns = 0;  // 0: not known yet
  std::uint32_t room = runtime::kRangeMax;

  void learn(std::uint64_t ns) {
    const std::uint64_t known = ns == 0 ? 1 : ns;
    element_ns = element_ns == 0 ? known : (3 * known + element_ns) / 4;
  }
  // A range of `count` has ended with so many outcomes in its slot.
  void ended(std::uint32_t outcomes, std::uint32_t count) {
    if (outcomes < count) {
      room = std::max(outcomes, 1U);
    } else if (count == room) {
      room = std::min(room + 1, runtime::kRangeMax);
    }
  }
  // Elements of the next range.
  std::uint32_t range_size(std::uint32_t consumers) const;
  // Slots that are to wait in the queue, so that nobody falls idle before more are placed.
  std::uint64_t slots_ahead(std::uint32_t consumers) const;
};

}  // namespace setsuna::dispatch
