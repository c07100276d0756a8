// Ranges of a map in the hands of remote daemons. A range is sent whole and answered by reports: one at its end, and one more
// if the host asks for what has not begun, or cancels the element that runs.
#include <algorithm>
#include <bit>
#include <utility>

#include "dispatch/link_wire.hpp"
#include "dispatch/pool.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;

namespace {

constexpr std::uint64_t bit_of(std::uint32_t position) { return std::uint64_t{1} << position; }

std::uint32_t count_of(std::uint64_t bits) { return static_cast<std::uint32_t>(std::popcount(bits)); }

}  // namespace

std::uint32_t Pool::range_flight_of(std::uint32_t link, std::uint64_t id) const {
  const std::uint32_t slot = flight_of(link, id);
  return slot != kNoSlot && is_range(slot) && !links_.answered(slot) ? slot : kNoSlot;
}

// --- What links say ----------------------------------------------------------------------------------------

void Pool::on_link_element(std::uint32_t link, std::uint64_t id, std::uint32_t position, const SlotResult& result) {
  const std::uint32_t slot = range_flight_of(link, id);
  if (slot == kNoSlot || position >= ranges_[slots_[slot].range].count) {
    discard_result(result);
    return;
  }
  resolve_element(ranges_[slots_[slot].range], position, result);
  links_.count_elements(slot, 1, 0);
}

void Pool::on_link_range(std::uint32_t link, std::uint64_t id, const RangeReport& report) {
  const std::uint32_t slot = range_flight_of(link, id);
  if (slot == kNoSlot) {
    return;
  }
  MapRange& range = ranges_[slots_[slot].range];
  range.parted = true;
  range.element_ns = report.element_ns;
  read_report(slot, report);
  take_back_from_link(slot, report.taken & range.all());
  if (report.final) {
    end_link_range(slot, report);
  }
  serve_links();
}

void Pool::read_report(std::uint32_t slot, const RangeReport& report) {
  MapRange& range = ranges_[slots_[slot].range];
  std::uint32_t at = 0;
  std::uint32_t done = 0;
  for (std::uint32_t i = 0; i < report.count && range.read < range.count && !range.damaged; ++i) {
    RangeEntry entry;
    const bool read = read_entry(report.entries, &at, &entry, report.bytes);
    if (!read || (!entry.skipped && entry.inline_bytes == nullptr)) {
      range.damaged = true;
      break;
    }
    if (!entry.skipped) {
      resolve_element(range, range.read, entry.result());
      ++done;
    }
    ++range.read;
  }
  links_.count_elements(slot, done, 0);
}

// Elements that its link will not begin.
void Pool::take_back_from_link(std::uint32_t slot, std::uint64_t positions) {
  MapRange& range = ranges_[slots_[slot].range];
  const std::uint64_t ours = positions & ~range.taken_back;
  range.taken_back |= ours;
  links_.count_elements(slot, 0, count_of(ours));
  give_back_elements(slot, ours);
}

void Pool::end_link_range(std::uint32_t slot, const RangeReport& report) {
  MapRange& range = ranges_[slots_[slot].range];
  if (range.damaged || report.damaged) {
    damage_elements(slot, ~range.taken_back);
  }
  learn_element(slot, report.element_ns);
  pace_of(slots_[slot].constant).ended(range.read, range.count);
  if (links_.answer(slot, Links::Answer::kResult)) {
    release_range_slot(slot);
  } else {
    give_back_elements(slot, range.all());
  }
}

// One outcome for all that are in it: its daemon could not so much as begin.
void Pool::answer_whole_range(std::uint32_t slot, const SlotResult& result) {
  MapRange& range = ranges_[slots_[slot].range];
  if (result.inline_bytes == nullptr) {
    discard_result(result);
    damage_elements(slot, ~range.taken_back);
  } else {
    for (std::uint32_t i = 0; i < range.count; ++i) {
      if (range.tasks[i] != kNoTask) {
        resolve_element(range, i, result);
      }
    }
  }
  if (links_.answer(slot, Links::Answer::kResult)) {
    release_range_slot(slot);
  }
}

// No link has it any more; what has no outcome goes back to its queue.
void Pool::release_range_slot(std::uint32_t slot) {
  dissolve_range(slot);
  queue_.release_claimed(slot);
}

// Its link is dead. Which of a range's elements had begun nobody knows, if any had.
void Pool::lose_range(std::uint32_t slot, bool unbegun, std::uint32_t* begun) {
  MapRange& range = ranges_[slots_[slot].range];
  if (!unbegun && *begun < config_.link_begun_most) {
    *begun += kRangeWeight;
    for (std::uint32_t i = 0; i < range.count; ++i) {
      if (range.tasks[i] != kNoTask) {
        if (trace_ != nullptr) {
          trace_->ran_remotely(slot, 0);
        }
        resolve_death(std::exchange(range.tasks[i], kNoTask), dying_);
      }
    }
  }
  release_range_slot(slot);
}

// --- Elements in a link's hands ----------------------------------------------------------------------------

void Pool::close_link_range(std::uint32_t slot) {
  MapRange& range = ranges_[slots_[slot].range];
  for (std::uint32_t i = 0; i < range.count; ++i) {
    if (range.tasks[i] != kNoTask) {
      if (trace_ != nullptr) {
        trace_->ran_remotely(slot, 0);
      }
      resolve_error(std::exchange(range.tasks[i], kNoTask), ErrorCode::kClosed);
    }
  }
}

void Pool::cancel_link_element(std::uint32_t slot, std::uint32_t position, std::uint64_t now_ns) {
  ranges_[slots_[slot].range].tasks[position] = kNoTask;
  if (trace_ != nullptr) {
    trace_->ran_remotely(slot, 0);
  }
  links_.cancel_element(slot, position);
  const std::uint64_t serial = slots_[slot].generation | (std::uint64_t{position + 1} << 32);
  timers_.add({now_ns + config_.cancel_grace_ns, serial, slot, TimerKind::kDoom});
}

// A cancelled element's time is up. If the link has told of the range since, the first that it has no outcome of is what it
// runs; else the element is on its way, or behind another.
void Pool::doom_link_element(const Timer& timer, std::uint32_t position) {
  const std::uint32_t slot = timer.index;
  const MapRange& range = ranges_[slots_[slot].range];
  if (links_.answered(slot) || range.read > position || (range.taken_back & bit_of(position)) != 0) {
    return;
  }
  if (range.parted && range.read == position) {
    links_.kill(links_.link_of(slot));
  } else {
    const std::uint64_t grace_ns = std::max<std::uint64_t>(config_.cancel_grace_ns, 1);
    timers_.add({last_ns_ + grace_ns, timer.serial, slot, TimerKind::kDoom});
  }
}

// As look_at_range(): the link is asked for what has not begun.
void Pool::look_at_link_range(std::uint32_t slot) {
  MapRange& range = ranges_[slots_[slot].range];
  if (!links_.runs(slot)) {
    return;
  }
  if (range.seen_claimed && !range.asked_back) {
    range.asked_back = true;
    links_.ask_rest_back(slot);
  }
  range.seen_claimed = true;
}

}  // namespace setsuna::dispatch
