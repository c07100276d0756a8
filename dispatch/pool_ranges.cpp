// Elements of maps that travel by number, several in a slot. Each is a task like others; a range is only how it is placed. The
// bits in TaskSlot::taken decide whether an element's turn comes in its range or the host takes it back.
#include <algorithm>
#include <utility>

#include "dispatch/pool.hpp"
#include "dispatch/range_stream.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;
using runtime::kReadyQueue;

namespace {

// A range that is in hand when the host looks twice takes longer than was meant: what has not begun goes to others, and
// outcomes do not wait for the range's end.
constexpr std::uint64_t kLookNs = 4'000'000;
constexpr std::uint64_t kIndexBytes = sizeof(std::uint64_t);

std::uint32_t element_of(const Task& task) {
  std::uint64_t element = 0;
  std::copy_n(task.small, kIndexBytes, reinterpret_cast<std::uint8_t*>(&element));
  return static_cast<std::uint32_t>(element);
}

}  // namespace

MapPace& Pool::pace_of(std::uint32_t constant) {
  if (paces_.size() <= constant) {
    paces_.resize(constant + 1);
  }
  MapPace& pace = paces_[constant];
  if (pace.key != constants_[constant].key) {
    pace = MapPace();
    pace.key = constants_[constant].key;
  }
  return pace;
}

std::uint32_t Pool::consumers(std::uint32_t queue) const { return queue == kReadyQueue ? alive() : 1; }

// --- Submit and place --------------------------------------------------------------------------------------

void Pool::submit_map(const MapSpec& spec, std::uint64_t now_ns, std::uint32_t* tasks) {
  SETSUNA_ASSERT(takes_ranges());
  last_ns_ = std::max(last_ns_, now_ns);
  for (std::uint32_t i = 0; i < spec.count; ++i) {
    const std::uint32_t index = table_.add();
    tasks[i] = index;
    Task& task = table_[index];
    const std::uint64_t element = spec.first + i;
    task.state = TaskState::kSpilled;
    task.kind = TaskKind::kMapElement;
    task.indexed = true;
    task.spread = spec.spread;
    task.bytes = kIndexBytes;
    task.where = Task::Where::kSmall;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(&element), kIndexBytes, task.small);
    task.set_constant(spec.constant);
    constants_.retain(spec.constant);
    if (trace_ != nullptr) {
      trace_->submitted(index, 0, now_ns, TaskKind::kMapElement);
    }
    task.set_queue(config_.dispatcher ? kReadyQueue : pick_round_robin());
    if (config_.seeded) {
      task.has_stream = true;
      streams_[index] = take_stream();
    }
    if (meter_ != nullptr) {
      meter_->submitted(index, now_ns);
    }
    append(index);
  }
  used_bytes_ += kIndexBytes * spec.count;
  unfinished_ += spec.count;
  pace_of(spec.constant).waiting += spec.count;
  // Links that get elements in turn wait for feed_links().
  refill();
}

// An element's stream is as many behind the first's as its number is: not so if another task took one between two parts of the
// map. Nor may a range have large gaps, which many jumps lead over.
bool Pool::continues_streams(RangeStream& streams, std::uint32_t last, std::uint32_t index) const {
  const std::uint32_t element = element_of(table_[index]);
  return element - element_of(table_[last]) <= runtime::kRangeMax && streams.of(element) == streams_.at(index);
}

// Of the elements from `front` on, at most `most`: those of its map, in ascending order. What two ranges have given back need
// not ascend.
std::uint32_t Pool::count_for_range(std::uint32_t front, std::uint32_t most) const {
  const bool has_stream = table_[front].has_stream;
  RangeStream streams(element_of(table_[front]), has_stream ? streams_.at(front) : StreamState{});
  std::uint32_t count = 1;
  std::uint32_t last = front;
  for (std::uint32_t index = table_[front].next; index != kNoTask && count < most; index = table_[index].next) {
    const Task& task = table_[index];
    if (!task.indexed || task.constant() != table_[front].constant() || task.state != TaskState::kSpilled ||
        element_of(task) <= element_of(table_[last]) || (has_stream && !continues_streams(streams, last, index))) {
      break;
    }
    last = index;
    ++count;
  }
  return count;
}

// The element at the queue's front, and others behind it, leave for a slot. False: they wait, for a slot or because enough
// has been placed; then the queue tells when it runs low.
bool Pool::place_elements(std::uint32_t queue) {
  const std::uint32_t front = fifo(queue).head;
  MapPace& pace = pace_of(table_[front].constant());
  const std::uint32_t count_consumers = consumers(queue);
  if (queue == kReadyQueue) {
    const std::uint64_t ahead = pace.slots_ahead(count_consumers);
    if (queue_.ready_depth() >= ahead) {
      queue_.set_low_water(static_cast<std::uint32_t>(std::min<std::uint64_t>(ahead / 2, 0xFFFF)));
      return false;
    }
  }
  std::uint32_t found = count_for_range(front, pace.range_size(count_consumers));
  if (found > 1) {
    if (place_range(queue, found) == 0) {
      queue_.set_low_water(0);
      return false;
    }
  } else {
    const std::uint32_t next = table_[front].next;
    if (!place(front)) {
      queue_.set_low_water(0);
      return false;
    }
    pop_front(queue, next);
    found = 1;
  }
  pace.waiting -= std::min<std::uint64_t>(pace.waiting, found);
  queue_.wake_for(queue);
  return true;
}

// How many were placed: all or none.
std::uint32_t Pool::place_range(std::uint32_t queue, std::uint32_t count) {
  const std::uint32_t slot = slot_for_task();
  if (slot == kNoSlot) {
    return 0;
  }
  const std::uint32_t front = fifo(queue).head;
  const std::uint32_t constant = table_[front].constant();
  std::array<std::uint32_t, runtime::kRangeMax> elements;
  std::uint32_t index = front;
  for (std::uint32_t i = 0; i < count; ++i, index = table_[index].next) {
    elements[i] = element_of(table_[index]);
    SETSUNA_ASSERT(i == 0 || elements[i] > elements[i - 1]);
  }
  SlotContent content = content_for(front);
  content.kind = TaskKind::kMapRange;
  content.inline_arg = reinterpret_cast<const std::uint8_t*>(elements.data());
  content.arg_bytes = sizeof(std::uint32_t) * count;
  content.task = kNoTask;
  std::uint32_t generation = 0;
  if (!queue_.publish(slot, content, queue, &generation)) {
    queue_.return_unused(slot);
    return 0;
  }
  if (slots_.size() <= slot) {
    slots_.resize(slot + 1);
  }
  SlotUse& use = slots_[slot];
  SETSUNA_ASSERT(!use.used);
  use = SlotUse();
  use.constant = constant;
  use.bytes = kIndexBytes * count;
  use.queue = queue;
  use.generation = generation;
  use.used = true;
  use.kind = TaskKind::kMapRange;
  use.range = ranges_.add();
  MapRange& range = ranges_[use.range];
  range.slot = slot;
  range.count = count;
  range.elements = elements;
  if (table_[front].has_stream) {
    range.has_stream = true;
    range.stream = streams_.at(front);
  }
  take_from_fifo(range, queue, count, generation);
  // Its tasks share one reference from here on.
  for (std::uint32_t i = 1; i < count; ++i) {
    release_constant(constant);
  }
  watch_ranges(last_ns_);
  return count;
}

void Pool::take_from_fifo(MapRange& range, std::uint32_t queue, std::uint32_t count, std::uint32_t generation) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t index = fifo(queue).head;
    Task& task = table_[index];
    pop_front(queue, task.next);
    if (task.has_stream) {
      streams_.erase(index);
      task.has_stream = false;
    }
    task.where = Task::Where::kNone;
    task.heap = nullptr;
    task.slot = range.slot;
    task.slot_generation = generation;
    task.state = TaskState::kPlaced;
    range.tasks[i] = index;
  }
}

// --- Outcomes ----------------------------------------------------------------------------------------------

void Pool::learn_element(std::uint32_t slot, std::uint32_t element_ns) {
  if (element_ns != 0 && slots_[slot].constant != kNoConstant) {
    pace_of(slots_[slot].constant).learn(element_ns);
  }
}

void Pool::resolve_element(MapRange& range, std::uint32_t position, const SlotResult& result) {
  const std::uint32_t index = std::exchange(range.tasks[position], kNoTask);
  if (index == kNoTask) {
    discard_result(result);  // cancelled while it ran
    return;
  }
  answered(index);
  store_result(table_[index], result);
  if (trace_ != nullptr) {
    trace_element(range.slot, position, result.status != runtime::ResultStatus::kDamaged);
  }
  resolved_now(table_[index], index);
}

// What its daemon has finished so far.
void Pool::read_entries(std::uint32_t slot) {
  MapRange& range = ranges_[slots_[slot].range];
  const RangeEntries entries = queue_.entries(slot);
  while (!range.damaged && range.read < std::min(entries.count, range.count)) {
    RangeEntry entry;
    const std::uint64_t bit = std::uint64_t{1} << range.read;
    const bool read = read_entry(entries.bytes, &range.at, &entry);
    const bool in_area = entry.inline_bytes == nullptr && !entry.skipped;
    if (!read || (entry.skipped && (range.taken_back & bit) == 0) ||
        (in_area && !queue_.plausible(slot, entry.offset, entry.bytes))) {
      range.damaged = true;
      return;
    }
    if (!entry.skipped) {
      resolve_element(range, range.read, entry.result());
    }
    ++range.read;
  }
}

// Elements that nobody has begun go back to the front, in their order.
void Pool::give_back_elements(std::uint32_t slot, std::uint64_t positions) {
  SlotUse& use = slots_[slot];
  MapRange& range = ranges_[use.range];
  RangeStream stream(range.elements[0], range.stream);
  std::array<StreamState, runtime::kRangeMax> streams;
  for (std::uint32_t i = 0; range.has_stream && i < range.count; ++i) {
    streams[i] = stream.of(range.elements[i]);
  }
  for (std::uint32_t i = range.count; i-- > 0;) {
    const std::uint32_t index = range.tasks[i];
    if (index == kNoTask || ((positions >> i) & 1U) == 0) {
      continue;
    }
    range.tasks[i] = kNoTask;
    Task& task = table_[index];
    const std::uint64_t element = range.elements[i];
    task.state = TaskState::kSpilled;
    task.where = Task::Where::kSmall;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(&element), kIndexBytes, task.small);
    use.bytes -= kIndexBytes;
    constants_.retain(use.constant);
    if (range.has_stream) {
      task.has_stream = true;
      streams_[index] = streams[i];
    }
    pace_of(use.constant).waiting += 1;
    prepend(index);
  }
}

// No outcome of these can be told, as far as they have none yet.
void Pool::damage_elements(std::uint32_t slot, std::uint64_t positions) {
  static const std::uint8_t nothing[1] = {0};
  MapRange& range = ranges_[slots_[slot].range];
  SlotResult damaged;
  damaged.status = runtime::ResultStatus::kDamaged;
  damaged.inline_bytes = nothing;
  for (std::uint32_t i = range.read; i < range.count; ++i) {
    if (range.tasks[i] != kNoTask && ((positions >> i) & 1U) != 0) {
      resolve_element(range, i, damaged);
    }
  }
}

// None of it has begun, and the slot is no daemon's: all goes back. The caller gives the slot up.
void Pool::dissolve_range(std::uint32_t slot) {
  const std::uint32_t range = slots_[slot].range;
  give_back_elements(slot, ranges_[range].all());
  free_slot_use(slot);
  ranges_.remove(range);
}

void Pool::end_range(std::uint32_t slot, std::uint32_t element_ns) {
  const std::uint32_t index = slots_[slot].range;
  read_entries(slot);
  MapRange& range = ranges_[index];
  if (range.damaged) {
    // A task has scribbled over the entries.
    damage_elements(slot, queue_.take_elements(slot, range.all()) & ~range.taken_back);
  }
  learn_element(slot, element_ns);
  pace_of(slots_[slot].constant).ended(range.read, range.count);
  dissolve_range(slot);
}

// Its daemon has died, or waited for it in vain in its mailbox. What it had taken and not finished is what it ran.
void Pool::orphan_range(std::uint32_t slot) {
  const std::uint32_t index = slots_[slot].range;
  read_entries(slot);
  MapRange& range = ranges_[index];
  const std::uint64_t begun = queue_.take_elements(slot, range.all()) & ~range.taken_back;
  for (std::uint32_t i = range.read; i < range.count; ++i) {
    if (((begun >> i) & 1U) != 0 && range.tasks[i] != kNoTask) {
      if (trace_ != nullptr && i == range.read) {
        trace_element(slot, i, false);
      }
      resolve_death(std::exchange(range.tasks[i], kNoTask), dying_);
    }
  }
  dissolve_range(slot);
}

// The pool ends: its tasks are resolved; the slot stays a daemon's until it is done with what it runs.
void Pool::close_range(std::uint32_t slot) {
  if (links_.holds(slot)) {
    close_link_range(slot);
    return;
  }
  const std::uint32_t index = slots_[slot].range;
  read_entries(slot);
  MapRange& range = ranges_[index];
  range.taken_back |= ~queue_.take_elements(slot, range.all()) & range.all();
  for (std::uint32_t i = 0; i < range.count; ++i) {
    if (range.tasks[i] != kNoTask) {
      if (trace_ != nullptr && i == range.read && ((range.taken_back >> i) & 1U) == 0) {
        trace_element(slot, i, false);
      }
      resolve_error(std::exchange(range.tasks[i], kNoTask), ErrorCode::kClosed);
    }
  }
  if (queue_.cancel_ready(slot, slots_[slot].generation)) {
    dissolve_range(slot);
  }
}

// --- Elements in hand --------------------------------------------------------------------------------------

// What its daemon has not begun is for others.
void Pool::take_rest(std::uint32_t slot) {
  MapRange& range = ranges_[slots_[slot].range];
  const std::uint64_t before = queue_.take_elements(slot, range.all());
  const std::uint64_t ours = range.all() & ~before;
  range.taken_back |= ours;
  give_back_elements(slot, ours);
}

// False: it had resolved.
bool Pool::cancel_element(std::uint32_t index, ErrorCode code, std::uint64_t now_ns) {
  const std::uint32_t slot = table_[index].slot;
  MapRange& range = ranges_[slots_[slot].range];
  const std::uint32_t position = range.position_of(index);
  if (links_.holds(slot)) {
    cancel_link_element(slot, position, now_ns);
    resolve_error(index, code);
    return true;
  }
  const std::uint64_t bit = std::uint64_t{1} << position;
  const bool begun = (queue_.take_elements(slot, bit) & bit) != 0;
  read_entries(slot);
  if (table_[index].state == TaskState::kResolved) {
    return false;
  }
  range.tasks[position] = kNoTask;
  if (!begun) {
    range.taken_back |= bit;
  } else {
    if (trace_ != nullptr && position == range.read) {
      trace_element(slot, position, false);
    }
    const std::uint32_t generation = slots_[slot].generation;
    const std::uint32_t daemon = queue_.cancel_element(slot, generation, position);
    if (daemon != kNoSlot) {
      processes_.interrupt(daemon);
      const std::uint64_t serial = generation | (std::uint64_t{position + 1} << 32);
      timers_.add({now_ns + config_.cancel_grace_ns, serial, slot, TimerKind::kDoom});
    }
  }
  resolve_error(index, code);
  return true;
}

// A cancelled element's time is up. Its daemon dies if it still runs that one; then no other can be what it runs, since the
// rest is taken first.
void Pool::doom_element(const Timer& timer) {
  const std::uint32_t slot = timer.index;
  const auto generation = static_cast<std::uint32_t>(timer.serial);
  const auto position = static_cast<std::uint32_t>(timer.serial >> 32) - 1;
  if (!is_range(slot) || slots_[slot].generation != generation) {
    return;
  }
  if (links_.holds(slot)) {
    doom_link_element(timer, position);
    return;
  }
  const std::uint32_t owner = queue_.owner_of(slot, generation);
  if (owner == kNoSlot) {
    return;
  }
  take_rest(slot);
  read_entries(slot);
  if (ranges_[slots_[slot].range].read == position && queue_.doom(slot, generation)) {
    daemons_[owner].killed_by_us = true;
    processes_.kill(owner);
  }
  if (spilled_ > 0) {
    refill();
  }
}

void Pool::watch_ranges(std::uint64_t now_ns) {
  if (!ranges_watched_) {
    ranges_watched_ = true;
    timers_.add({now_ns + kLookNs, 0, 0, TimerKind::kRanges});
  }
}

void Pool::look_at_range(std::uint32_t slot) {
  if (links_.holds(slot)) {
    return;
  }
  if (queue_.owner_of(slot, slots_[slot].generation) == kNoSlot) {
    return;
  }
  MapRange& range = ranges_[slots_[slot].range];
  if (range.seen_claimed) {
    read_entries(slot);
    take_rest(slot);
  }
  range.seen_claimed = true;
}

// Those in hand are what the daemons say they run. One that is stopped between its claim and saying so is found now and then,
// among all.
void Pool::look_at_ranges(std::uint64_t now_ns) {
  constexpr std::uint32_t kAllEach = 32;
  ranges_watched_ = false;
  if (++range_looks_ % kAllEach == 0) {
    for (std::uint32_t i = 0; i < ranges_.limit(); ++i) {
      if (ranges_[i].used) {
        look_at_range(ranges_[i].slot);
      }
    }
  } else {
    for (std::uint32_t daemon = 0; daemon < daemons_.size(); ++daemon) {
      const std::uint32_t slot = queue_.current_slot(daemon);
      if (slot < slots_.size() && is_range(slot)) {
        look_at_range(slot);
      }
    }
  }
  for (const std::uint32_t link : links_.all_online()) {
    const std::uint32_t slot = links_.oldest_unanswered(link);
    if (slot != kNoIndex && is_range(slot)) {
      look_at_link_range(slot);
    }
  }
  if (ranges_.count() > 0) {
    watch_ranges(now_ns);
  }
  if (spilled_ > 0 && !closed_) {
    refill();
  }
}

void Pool::check_ranges() const {
  std::uint32_t used = 0;
  for (std::uint32_t i = 0; i < ranges_.limit(); ++i) {
    const MapRange& range = ranges_[i];
    if (!range.used) {
      continue;
    }
    ++used;
    const SlotUse& use = slots_[range.slot];
    SETSUNA_ASSERT(use.used && use.range == i && use.task == kNoTask && range.read <= range.count);
    for (std::uint32_t p = 0; p < range.count; ++p) {
      const std::uint32_t task = range.tasks[p];
      SETSUNA_ASSERT(task == kNoTask || (table_[task].state == TaskState::kPlaced && table_[task].slot == range.slot));
      SETSUNA_ASSERT(task == kNoTask || p >= range.read);
    }
  }
  SETSUNA_ASSERT(used == ranges_.count());
}

}  // namespace setsuna::dispatch
