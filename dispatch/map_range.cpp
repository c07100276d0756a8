#include "dispatch/map_range.hpp"

#include <algorithm>
#include <cstring>

namespace setsuna::dispatch {

namespace {

constexpr std::uint64_t kRangeNs = 300'000;      // a range is to take about this long
constexpr std::uint64_t kShortRangeNs = 40'000;  // an end that is held up by no more than this is not felt
constexpr std::uint64_t kAheadNs = 20'000'000;   // work that is placed ahead for each daemon
constexpr std::uint64_t kSlotsAheadMin = 2;

}  // namespace

bool read_entry(const std::uint8_t* area, std::uint32_t* at, RangeEntry* entry, std::uint32_t area_bytes) {
  *entry = RangeEntry();
  if (*at >= area_bytes) {
    return false;
  }
  const std::uint32_t left = area_bytes - *at;
  const std::uint8_t* head = area + *at;
  const std::uint8_t kind = head[0];  // once: it may change under us
  std::uint32_t head_bytes = 1;
  std::uint32_t length = 0;
  if (kind == kEntrySkip) {
    entry->skipped = true;
  } else if (kind <= kEntryValueMax) {
    length = kind;
    entry->inline_bytes = head + 1;
  } else if (kind == kEntryLong && left >= kEntryLongHead) {
    std::uint16_t stated = 0;
    std::memcpy(&stated, head + 2, sizeof(stated));
    entry->status = static_cast<runtime::ResultStatus>(head[1]);
    entry->inline_bytes = head + kEntryLongHead;
    head_bytes = kEntryLongHead;
    length = stated;
  } else if (kind == kEntryArea && left >= kEntryAreaBytes) {
    entry->status = static_cast<runtime::ResultStatus>(head[1]);
    std::memcpy(&entry->offset, head + 2, sizeof(entry->offset));
    std::memcpy(&entry->bytes, head + 10, sizeof(entry->bytes));
    *at += kEntryAreaBytes;
    return entry->status <= runtime::ResultStatus::kDamaged;
  } else {
    return false;
  }
  entry->bytes = length;
  *at += head_bytes + length;
  return head_bytes + length <= left && entry->status <= runtime::ResultStatus::kDamaged;
}

std::uint32_t MapPace::range_size(std::uint32_t consumers) const {
  if (element_ns == 0) {
    return 1;
  }
  const std::uint64_t most = std::min<std::uint64_t>(room, runtime::kRangeMax);
  const std::uint64_t size = std::clamp<std::uint64_t>(kRangeNs / element_ns, 1, most);
  if (size * element_ns <= kShortRangeNs) {
    return static_cast<std::uint32_t>(size);
  }
  const std::uint64_t share = waiting / (2 * std::uint64_t{std::max(consumers, 1U)});
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(share, 1, size));
}

std::uint64_t MapPace::slots_ahead(std::uint32_t consumers) const {
  const std::uint64_t each =
      element_ns == 0 ? kSlotsAheadMin
                      : std::max(kSlotsAheadMin, kAheadNs / (element_ns * std::uint64_t{range_size(consumers)}));
  return each * std::max(consumers, 1U);
}

}  // namespace setsuna::dispatch
