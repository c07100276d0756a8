#include "dispatch/pool.hpp"

#include <algorithm>
#include <cstdlib>

#include "dispatch/keep_bytes.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;
using runtime::kReadyQueue;

Pool::Pool(const PoolConfig& config, QueuePort& queue, ArenaPort& arena, ProcessPort& processes, LinkPort* links)
    : config_(config),
      queue_(queue),
      arena_(arena),
      processes_(processes),
      links_(links, config.prefetch, constants_),
      fifos_(1 + config.daemon_max) {
  SETSUNA_ASSERT(config.daemon_max < kLinkQueueBase);
  for (std::uint32_t b = runtime::kHoldBits; b-- > 0;) {
    free_blocks_.push_back(static_cast<std::uint16_t>(b));
  }
}

Pool::~Pool() {
  for (std::uint32_t i = 0; i < table_.limit(); ++i) {
    Task& task = table_[i];
    if (task.state != TaskState::kVacant && task.where == Task::Where::kHeap) {
      std::free(task.heap);
    }
  }
}
// --- Submit ------------------------------------------------------------------------------------------------

std::uint32_t Pool::submit(const SubmitSpec& spec, std::uint64_t now_ns, bool* must_wake, std::uint32_t* wake_queue) {
  SETSUNA_ASSERT(!closed_ && (spec.in_area || spec.length <= runtime::kInlineArgBytes));
  const std::uint32_t index = table_.add();
  Task& task = table_[index];
  task.state = TaskState::kSpilled;
  task.kind = spec.kind;
  task.bytes = spec.length;
  task.arg_block = spec.block;
  task.set_constant(spec.constant);
  task.retries = spec.retries;
  task.area_arg = spec.in_area;
  task.spread = spec.spread;
  if (spec.constant != kNoConstant) {
    constants_.retain(spec.constant);
  }
  task.set_queue(spec.queue);
  if (!config_.dispatcher && spec.kind != TaskKind::kEverywhere) {
    task.set_queue(pick_round_robin());
  }
  if (config_.seeded && spec.kind != TaskKind::kEverywhere) {
    task.has_stream = true;
    streams_[index] = take_stream();
  }
  if (spec.deadline_ns != 0) {
    task.has_timer = true;
    serials_[index] = ++serial_;
    timers_.add({spec.deadline_ns, serial_, index, TimerKind::kTimeout});
  }
  if (spec.notify) {
    set_notify(index);
  }
  if (spec.in_area) {
    task.where = Task::Where::kArea;
    task.offset = spec.area_offset;
  } else {
    // Not copied to the heap when it goes straight into a slot.
    task.where = Task::Where::kNone;
    task.heap = const_cast<std::uint8_t*>(spec.bytes);
  }
  if (trace_ != nullptr) {
    trace_->submitted(index, spec.begun_ns, now_ns, spec.kind);
  }
  used_bytes_ += spec.length;
  ++unfinished_;
  if (meter_ != nullptr) {
    meter_->submitted(index, now_ns);
  }
  *must_wake = false;
  if (nobody_will_take(task.queue())) {
    free_arguments(task);
    DeathNote unknown;
    unknown.wait_status = -1;
    resolve_death(index, unknown);
    return index;
  }
  if (gave_up_ && alive() == 0) {
    free_arguments(task);
    resolve_death(index, dying_);
    return index;
  }
  // FIFO: a free slot is not for us while others wait in the spill. What is for one link waits for it in its own queue.
  const bool for_link = is_link_queue(task.queue());
  if (!for_link && fifo(task.queue()).head == kNoTask && place(index)) {
    *must_wake = true;
    *wake_queue = task.queue();
  } else {
    if (!spec.in_area) {
      keep_bytes(task, spec.bytes, spec.length);
    }
    append(index);
    if (!for_link && queue_.arm_refill()) {
      refill();  // it ran low between our look and the arming
    }
  }
  if (config_.ephemeral) {
    spawn_ephemeral();
  }
  return index;
}

// The daemon that it was meant for has ended since the caller looked.
bool Pool::nobody_will_take(std::uint32_t queue) const {
  if (queue == kReadyQueue) {
    return false;
  }
  if (is_link_queue(queue)) {
    return !links_.online(queue - kLinkQueueBase);
  }
  const bool exists = queue < daemons_.size();
  return !exists || daemons_[queue].state == DaemonInfo::State::kDead ||
         daemons_[queue].state == DaemonInfo::State::kVacant;
}

// To the front: it has waited its turn once.
void Pool::prepend(std::uint32_t index) {
  Fifo& list = fifo(table_[index].queue());
  if (list.head == kNoTask) {
    append(index);
    return;
  }
  table_[index].next = list.head;
  table_[index].in_fifo = true;
  list.head = index;
  ++waiting_for(table_[index].queue());
}

void Pool::append(std::uint32_t index) {
  Task& task = table_[index];
  const std::uint32_t queue = task.queue();
  Fifo& list = fifo(queue);
  task.next = kNoTask;
  task.in_fifo = true;
  const bool was_empty = list.head == kNoTask;
  (was_empty ? list.head : table_[list.tail].next) = index;
  list.tail = index;
  ++waiting_for(queue);
  if (was_empty && is_link_queue(queue)) {
    links_.queue_changed(queue - kLinkQueueBase);
  } else if (was_empty && queue != kReadyQueue) {
    waiting_mailboxes_.push_back(queue);
  }
}

SlotContent Pool::content_for(std::uint32_t index) const {
  const Task& task = table_[index];
  SlotContent content;
  content.kind = task.kind;
  content.arg_bytes = task.bytes;
  content.arg_block = task.arg_block;
  if (task.area_arg) {
    content.arg_offset = task.offset;
  } else {
    content.inline_arg = task.where == Task::Where::kSmall ? task.small : task.heap;
  }
  if (task.constant() != kNoConstant) {
    const Constant& constant = constants_[task.constant()];
    content.const_offset = constant.offset;
    content.const_bytes = constant.bytes;
    content.const_key = constant.key;
    content.const_block = constant.block;
  }
  content.task = index;
  content.flags = (task.spread ? runtime::kTaskSpread : 0) | (task.indexed ? runtime::kTaskIndexed : 0);
  if (task.has_stream) {
    content.flags |= runtime::kTaskHasStream;
    content.stream = streams_.at(index).data();
  }
  return content;
}

// Spilled -> in a slot of its queue. False: no slot, or its mailbox is full.
bool Pool::place(std::uint32_t index) {
  const std::uint32_t slot = slot_for_task();
  if (slot == kNoSlot) {
    return false;
  }
  std::uint32_t generation = 0;
  if (!queue_.publish(slot, content_for(index), table_[index].queue(), &generation)) {
    queue_.return_unused(slot);
    return false;
  }
  occupy(slot, generation, index);
  return true;
}

void Pool::occupy(std::uint32_t slot, std::uint32_t generation, std::uint32_t index) {
  if (slots_.size() <= slot) {
    slots_.resize(slot + 1);
  }
  Task& task = table_[index];
  SlotUse& use = slots_[slot];
  SETSUNA_ASSERT(!use.used);
  use = SlotUse{index,          task.constant(), task.area_arg ? task.offset : 0,
                task.bytes,     task.queue(),    generation,
                task.arg_block, task.retries,    true,
                task.area_arg,  false,           task.kind};
  if (task.where == Task::Where::kHeap) {
    std::free(task.heap);
  }
  if (task.has_stream) {
    streams_.erase(index);
    task.has_stream = false;
  }
  task.where = Task::Where::kNone;
  task.heap = nullptr;
  task.slot = slot;
  task.slot_generation = generation;
  task.state = TaskState::kPlaced;
}

// The task leaves its slot, which the caller gives up, for a FIFO of the host.
std::uint32_t Pool::unplace(std::uint32_t slot, std::uint32_t queue) {
  SlotUse& use = slots_[slot];
  const std::uint32_t index = use.task;
  Task& task = table_[index];
  const SlotContent content = queue_.content_of(slot);
  task.state = TaskState::kSpilled;
  if (use.in_area) {
    task.where = Task::Where::kArea;
    task.offset = use.area_offset;
  } else {
    keep_bytes(task, content.inline_arg, use.bytes);
  }
  if (content.stream != nullptr) {
    task.has_stream = true;
    std::copy(content.stream, content.stream + 6, streams_[index].begin());
  }
  use = SlotUse();
  task.set_queue(queue);
  return index;
}

// --- Spill -------------------------------------------------------------------------------------------------

// The head leaves; `next` is what it was linked to (its link and its slot share memory).
void Pool::pop_front(std::uint32_t queue, std::uint32_t next) {
  Fifo& list = fifo(queue);
  table_[list.head].in_fifo = false;
  list.head = next;
  if (list.head == kNoTask) {
    list.tail = kNoTask;
  }
  --waiting_for(queue);
}

// What was resolved while it waited leaves the front of the queue. The task at the front then, or kNoTask.
std::uint32_t Pool::front_of(std::uint32_t queue) {
  for (;;) {
    const std::uint32_t index = fifo(queue).head;
    if (index == kNoTask || table_[index].state == TaskState::kSpilled) {
      return index;
    }
    pop_front(queue, table_[index].next);
    if (table_[index].dropped) {
      table_.remove(index);
    }
  }
}

void Pool::refill_queue(std::uint32_t queue) {
  for (std::uint32_t index = front_of(queue); index != kNoTask; index = front_of(queue)) {
    if (table_[index].indexed) {
      if (!place_elements(queue)) {
        return;
      }
      continue;
    }
    const std::uint32_t next = table_[index].next;
    if (!place(index)) {
      queue_.set_low_water(0);
      return;
    }
    pop_front(queue, next);
    queue_.wake_for(queue);
  }
}

void Pool::refill() {
  do {
    start_waiting();
    refill_queue(kReadyQueue);
    std::size_t kept = 0;
    for (std::uint32_t daemon : waiting_mailboxes_) {
      refill_queue(daemon);
      if (fifo(daemon).head != kNoTask) {
        waiting_mailboxes_[kept++] = daemon;
      }
    }
    waiting_mailboxes_.resize(kept);
    // Armed only while something waits; low already and something to harvest: go round again.
  } while (spilled_ > 0 && queue_.arm_refill() && queue_.harvest(*this) > 0);
}

std::uint32_t Pool::progress() {
  resolved_count_ = 0;
  if (meter_ != nullptr) {
    meter_->begin_batch();
  }
  if (trace_ != nullptr) {
    trace_->begin_batch();
  }
  queue_.harvest(*this);
  if (spilled_ > 0) {
    refill();
  } else {
    start_waiting();
  }
  if (!held_blocks_.empty()) {
    sweep_blocks();
  }
  if (meter_ != nullptr) {
    meter_->end_batch();
  }
  if (trace_ != nullptr) {
    trace_->end_batch();
  }
  return resolved_count_;
}

// --- End ---------------------------------------------------------------------------------------------------

void Pool::reset() {
  queue_.harvest(*this);
  closed_ = true;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (is_range(slot)) {
      close_range(slot);
    }
  }
  for (std::uint32_t i = 0; i < table_.limit(); ++i) {
    Task& task = table_[i];
    if (task.state == TaskState::kSpilled) {
      free_arguments(task);
      resolve_error(i, ErrorCode::kClosed);
    } else if (task.state == TaskState::kPlaced) {
      if (links_.parked(task.slot)) {
        links_.unpark(task.slot);
        release_host_slot(task.slot);
      } else if (queue_.cancel_ready(task.slot, task.slot_generation)) {
        free_slot_use(task.slot);
      } else {
        if (trace_ != nullptr) {
          links_.holds(task.slot) ? trace_->ran_remotely(task.slot, 0) : trace_run(task.slot, false);
        }
        slots_[task.slot].task = kNoTask;
      }
      resolve_error(i, ErrorCode::kClosed);
    }
  }
  front_of(kReadyQueue);  // all are resolved: this empties the queue
  for (std::uint32_t daemon = 0; daemon < daemons_.size(); ++daemon) {
    front_of(daemon);
  }
  reset_links();
  waiting_mailboxes_.clear();
  log_.clear();
  for (const std::uint32_t index : unstarted_) {
    daemons_[index].state = DaemonInfo::State::kDead;
  }
  unstarted_.clear();
  queue_.close();
}

StreamState Pool::take_stream() {
  config_.stream = next_stream(config_.stream);
  return config_.stream;
}

Counts Pool::counts(std::uint64_t executing) const {
  Counts counts;
  counts.executing = std::min(executing + links_.busy(), unfinished_);
  counts.awaiting = unfinished_ - counts.executing;
  counts.completed = completed_;
  counts.cumulative = cumulative_;
  counts.connections = online();
  return counts;
}

void Pool::sanity_check() const {
  std::uint64_t unfinished = 0;
  std::uint64_t fifo_count = 0;
  for (std::uint32_t i = 0; i < table_.limit(); ++i) {
    const Task& task = table_[i];
    unfinished += task.state == TaskState::kSpilled || task.state == TaskState::kPlaced ? 1 : 0;
    fifo_count += task.in_fifo ? 1 : 0;
    if (task.state == TaskState::kPlaced) {
      const bool in_range = is_range(task.slot);
      SETSUNA_ASSERT(slots_[task.slot].used && (in_range || slots_[task.slot].task == i));
      SETSUNA_ASSERT(slots_[task.slot].generation == task.slot_generation);
    }
  }
  SETSUNA_ASSERT(unfinished == unfinished_ && fifo_count == spilled_ + bound_);
  links_.sanity_check();
  check_ranges();
  for (const SlotUse& use : slots_) {
    SETSUNA_ASSERT(!use.used || use.task == kNoTask || table_[use.task].state == TaskState::kPlaced);
  }
}

}  // namespace setsuna::dispatch
