#include "dispatch/pool.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoBlockId;
using runtime::kNoSlot;
using runtime::kReadyQueue;

namespace {

constexpr std::uint32_t kFailedStartsMax = 3;

std::uint8_t* copy_bytes(const std::uint8_t* bytes, std::uint64_t length) {
  auto* copy = static_cast<std::uint8_t*>(std::malloc(length == 0 ? 1 : length));
  if (copy == nullptr) {
    throw std::bad_alloc();
  }
  std::copy_n(bytes, length, copy);
  return copy;
}

// A few bytes fit the task itself.
void keep_bytes(Task& task, const std::uint8_t* bytes, std::uint64_t length) {
  if (length <= kSmallBytes) {
    task.where = Task::Where::kSmall;
    std::copy_n(bytes, length, task.small);  // of no bytes: from nowhere
  } else {
    task.heap = copy_bytes(bytes, length);
    task.where = Task::Where::kHeap;
  }
}

TraceOutcome outcome_of(const Task& task) {
  switch (task.error) {
    case ErrorCode::kTimedOut: return TraceOutcome::kTimedOut;
    case ErrorCode::kClosed: return TraceOutcome::kClosed;
    case ErrorCode::kReset: return TraceOutcome::kDied;
    case ErrorCode::kCancelled: return TraceOutcome::kCancelled;
    case ErrorCode::kNone: break;
  }
  switch (task.status) {
    case runtime::ResultStatus::kError: return TraceOutcome::kError;
    case runtime::ResultStatus::kInterrupted: return TraceOutcome::kInterrupted;
    case runtime::ResultStatus::kCancelled: return TraceOutcome::kCancelled;
    case runtime::ResultStatus::kDamaged: return TraceOutcome::kDamaged;
    default: return TraceOutcome::kValue;
  }
}

}  // namespace

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
  return resolved_count_;
}

// --- Results -----------------------------------------------------------------------------------------------

void Pool::store_result(Task& task, const SlotResult& result) {
  task.status = result.status;
  task.bytes = result.bytes;
  if (result.inline_bytes == nullptr) {
    task.where = Task::Where::kArea;
    task.offset = result.offset;
    live_results_.insert(result.offset);
  } else {
    keep_bytes(task, result.inline_bytes, result.bytes);
  }
}

void Pool::discard_result(const SlotResult& result) {
  if (result.inline_bytes == nullptr) {
    arena_.release(result.offset);
  }
}

void Pool::on_done(std::uint32_t slot, const SlotResult& result) {
  if (is_range(slot)) {
    end_range(slot, result.element_ns);
    return;
  }
  if (result.element_ns != 0 && slots_[slot].constant != kNoConstant) {
    pace_of(slots_[slot].constant).learn(result.element_ns);
  }
  if (trace_ != nullptr) {
    trace_run(slot, true);
  }
  deliver(slot, result);
  free_slot_use(slot);
}

// Before the task in this slot resolves, if it is still one that somebody waits for.
void Pool::trace_run(std::uint32_t slot, bool done) {
  if (slots_[slot].task != kNoTask) {
    trace_->ran(queue_.run_of(slot, slots_[slot].generation, done));
  }
}

void Pool::trace_element(std::uint32_t slot, std::uint32_t position, bool done) {
  trace_->ran(queue_.run_of_element(slot, slots_[slot].generation, position, done));
}

void Pool::deliver(std::uint32_t slot, const SlotResult& result) {
  SlotUse& use = slots_[slot];
  SETSUNA_ASSERT(use.used);
  const std::uint32_t index = std::exchange(use.task, kNoTask);
  if (index == kNoTask) {
    discard_result(result);  // abandoned, or a replay
    return;
  }
  Task& task = table_[index];
  SETSUNA_ASSERT(task.state == TaskState::kPlaced && task.slot == slot);
  answered(index);
  store_result(task, result);
  resolved_now(task, index);
}

void Pool::answered(std::uint32_t index) {
  ++completed_;
  if (meter_ != nullptr) {
    meter_->answered(index);
  }
}

void Pool::resolved_now(Task& task, std::uint32_t index) {
  SETSUNA_ASSERT(task.state != TaskState::kResolved && unfinished_ > 0);
  task.state = TaskState::kResolved;
  if (trace_ != nullptr) {
    trace_->resolved(index, outcome_of(task));
  }
  --unfinished_;
  ++resolved_count_;
  if (task.has_timer) {
    serials_.erase(index);  // the timer's entry is stale from now on
    task.has_timer = false;
    timers_.note_stale([this](const Timer& timer) {
      const auto serial = serials_.find(timer.index);
      return timer.kind != TimerKind::kTimeout || (serial != serials_.end() && serial->second == timer.serial);
    });
  }
  if (task.notify) {
    task.notify = false;
    --notify_pending_;
    notifications_.push_back(index);
  }
  if (task.dropped && !task.in_fifo) {
    task.dropped = false;
    drop(index);
  }
}

void Pool::free_slot_use(std::uint32_t slot) {
  SlotUse& use = slots_[slot];
  if (use.in_area) {
    retire_block(use.area_offset, use.block);
  }
  if (use.constant != kNoConstant) {
    release_constant(use.constant);
  }
  used_bytes_ -= use.bytes;
  use = SlotUse();
}

// Arguments of a task that never reached a slot.
void Pool::free_arguments(Task& task) {
  if (task.where == Task::Where::kHeap) {
    std::free(task.heap);
  } else if (task.where == Task::Where::kArea) {
    retire_block(task.offset, task.arg_block);
  }
  task.where = Task::Where::kNone;
  task.heap = nullptr;
  if (task.constant() != kNoConstant) {
    release_constant(task.constant());
  }
  used_bytes_ -= task.bytes;
  task.bytes = 0;
}

void Pool::resolve_error(std::uint32_t index, ErrorCode code) {
  Task& task = table_[index];
  if (task.has_stream) {
    streams_.erase(index);
    task.has_stream = false;
  }
  task.error = code;
  task.where = Task::Where::kNone;
  task.bytes = 0;
  resolved_now(task, index);
}

void Pool::resolve_death(std::uint32_t index, const DeathNote& note) {
  Task& task = table_[index];
  if (task.has_stream) {
    streams_.erase(index);
    task.has_stream = false;
  }
  task.death = note;
  task.error = ErrorCode::kReset;
  task.where = Task::Where::kNone;
  task.bytes = 0;
  resolved_now(task, index);
}

std::vector<std::uint32_t> Pool::take_notifications() {
  std::vector<std::uint32_t> taken;
  taken.swap(notifications_);
  return taken;
}

void Pool::detach_result(std::uint32_t index) {
  Task& task = table_[index];
  SETSUNA_ASSERT(task.state == TaskState::kResolved && task.where == Task::Where::kArea);
  task.where = Task::Where::kNone;
}

void Pool::release_result(std::uint64_t offset) {
  live_results_.erase(offset);
  arena_.release(offset);
}

void Pool::drop(std::uint32_t index) {
  Task& task = table_[index];
  SETSUNA_ASSERT(task.state != TaskState::kVacant && !task.dropped);
  if (task.state != TaskState::kResolved || task.in_fifo) {
    task.dropped = true;  // it still runs (for its side effects); the entry goes when it resolves
    if (task.state != TaskState::kResolved) {
      return;
    }
  }
  if (task.where == Task::Where::kHeap) {
    std::free(task.heap);
  } else if (task.where == Task::Where::kArea) {
    release_result(task.offset);
  }
  task.where = Task::Where::kNone;
  if (!task.in_fifo) {
    table_.remove(index);
  }
}

GateWord Pool::gate_for(std::uint32_t index) const {
  if (index != kNoTask && table_[index].state == TaskState::kPlaced) {
    return GateWord::slot(table_[index].slot);
  }
  if (index != kNoTask && table_[index].indexed) {
    return GateWord::count(1);  // many may wait for few slots
  }
  return GateWord::count(std::clamp<std::uint64_t>(unfinished_, 1, config_.wake_batch));
}

// --- Cancel and time ---------------------------------------------------------------------------------------

bool Pool::cancel(std::uint32_t index, ErrorCode code, std::uint64_t now_ns) {
  Task& task = table_[index];
  if (task.state == TaskState::kPlaced) {
    // What has been done is done: a result that only waits to be harvested wins.
    queue_.harvest(*this);
  }
  if (task.state == TaskState::kResolved || task.state == TaskState::kVacant) {
    return false;
  }
  if (task.state == TaskState::kPlaced && is_range(task.slot)) {
    if (!cancel_element(index, code, now_ns)) {
      return false;
    }
    if (spilled_ > 0) {
      refill();
    }
    return true;
  }
  if (task.state == TaskState::kSpilled) {
    free_arguments(task);
  } else if (cancel_in_hand(index, now_ns)) {
    // a link has it
  } else if (queue_.cancel_ready(task.slot, task.slot_generation)) {
    free_slot_use(task.slot);
  } else {
    abandon(index, now_ns);
  }
  resolve_error(index, code);
  if (spilled_ > 0) {
    refill();
  }
  return true;
}

// It runs: resolve for the user now, keep the slot until DONE or death, interrupt the daemon, kill it if that has no effect.
void Pool::abandon(std::uint32_t index, std::uint64_t now_ns) {
  const Task& task = table_[index];
  SlotUse& use = slots_[task.slot];
  if (trace_ != nullptr) {
    trace_run(task.slot, false);
  }
  use.task = kNoTask;
  const std::uint32_t slot = task.slot;
  const std::uint32_t generation = task.slot_generation;
  if (config_.ephemeral) {
    const std::uint32_t owner = queue_.owner_of(slot, generation);
    if (owner != kNoSlot && queue_.doom(slot, generation)) {
      daemons_[owner].killed_by_us = true;
      processes_.kill(owner);
    }
    return;
  }
  const std::uint32_t daemon = queue_.request_cancel(slot, generation);
  if (daemon != kNoSlot) {
    processes_.interrupt(daemon);
    timers_.add({now_ns + config_.cancel_grace_ns, generation, slot, TimerKind::kDoom});
  }
}

void Pool::on_time(std::uint64_t now_ns) {
  last_ns_ = now_ns;
  Timer timer{};
  while (timers_.pop_due(now_ns, &timer)) {
    if (timer.kind == TimerKind::kTimeout) {
      auto serial = serials_.find(timer.index);
      if (serial != serials_.end() && serial->second == timer.serial) {
        cancel(timer.index, ErrorCode::kTimedOut, now_ns);
      }
      continue;
    }
    if (timer.kind == TimerKind::kRanges) {
      look_at_ranges(now_ns);
      continue;
    }
    const SlotUse& use = slots_[timer.index];
    if (use.range != kNoIndex || (timer.serial >> 32) != 0) {
      doom_element(timer);
      continue;
    }
    const auto generation = static_cast<std::uint32_t>(timer.serial);
    if (!use.used || use.task != kNoTask || use.generation != generation) {
      continue;
    }
    if (links_.holds(timer.index)) {
      kill_overdue(timer, now_ns);
      continue;
    }
    const std::uint32_t owner = queue_.owner_of(timer.index, generation);
    if (owner != kNoSlot && queue_.doom(timer.index, generation)) {
      daemons_[owner].killed_by_us = true;
      processes_.kill(owner);
    }
  }
}

// --- Shared blocks -----------------------------------------------------------------------------------------

std::uint16_t Pool::new_block_id() {
  if (free_blocks_.empty()) {
    sweep_blocks();
  }
  if (free_blocks_.empty()) {
    return kNoBlockId;  // daemons then copy instead of making views
  }
  const std::uint16_t block = free_blocks_.back();
  free_blocks_.pop_back();
  return block;
}

void Pool::retire_block(std::uint64_t offset, std::uint16_t block) {
  if (block != kNoBlockId && arena_.held(block)) {
    held_blocks_.push_back({offset, block});
    return;
  }
  arena_.release(offset);
  if (block != kNoBlockId) {
    free_blocks_.push_back(block);
  }
}

void Pool::sweep_blocks() {
  std::size_t kept = 0;
  for (const HeldBlock& held : held_blocks_) {
    if (arena_.held(held.block)) {
      held_blocks_[kept++] = held;
    } else {
      arena_.release(held.offset);
      free_blocks_.push_back(held.block);
    }
  }
  held_blocks_.resize(kept);
}

void Pool::release_constant(std::uint32_t constant) {
  if (constants_.release(constant)) {
    const Constant gone = constants_[constant];
    constants_.forget(constant);
    links_.constant_released(gone.key);
    retire_block(gone.offset, gone.block);
  }
}

// --- everywhere() ------------------------------------------------------------------------------------------

void Pool::log_everywhere(const std::uint8_t* bytes, std::uint64_t length) {
  const auto* prefix = reinterpret_cast<const std::uint8_t*>(&length);
  log_.insert(log_.end(), prefix, prefix + sizeof(length));
  log_.insert(log_.end(), bytes, bytes + length);
}

// Once there is a log, as many slots as there are daemons are kept from tasks.
std::uint32_t Pool::slot_for_task() {
  while (!log_.empty() && replay_slots_.size() < daemons_.size()) {
    const std::uint32_t slot = queue_.acquire_slot();
    if (slot == kNoSlot) {
      return kNoSlot;
    }
    replay_slots_.push_back(slot);
  }
  return queue_.acquire_slot();
}

std::uint32_t Pool::slot_for_replay() {
  if (replay_slots_.empty()) {
    return queue_.acquire_slot();
  }
  const std::uint32_t slot = replay_slots_.back();
  replay_slots_.pop_back();
  return slot;
}

// The whole log as one task at the front of a new daemon's mailbox. False: no room for it now.
bool Pool::replay_to(std::uint32_t index) {
  if (log_.empty()) {
    return true;
  }
  SlotContent content;
  content.kind = TaskKind::kReplay;
  content.arg_bytes = log_.size();
  bool in_area = false;
  if (log_.size() <= runtime::kInlineArgBytes) {
    content.inline_arg = log_.data();
  } else {
    if (store_ == nullptr || !store_(store_context_, log_.data(), log_.size(), &content.arg_offset)) {
      return false;
    }
    in_area = true;
  }
  content.task = kNoTask;
  const std::uint32_t slot = slot_for_replay();
  std::uint32_t generation = 0;
  if (slot == kNoSlot || !queue_.publish(slot, content, index, &generation)) {
    if (slot != kNoSlot) {
      queue_.return_unused(slot);
    }
    if (in_area) {
      arena_.release(content.arg_offset);
    }
    return false;
  }
  if (slots_.size() <= slot) {
    slots_.resize(slot + 1);
  }
  slots_[slot] = SlotUse{kNoTask, kNoConstant, content.arg_offset, 0, index, generation, kNoBlockId, 0, true,
                         in_area, true,        TaskKind::kReplay};
  return true;
}

// --- Daemons -----------------------------------------------------------------------------------------------

std::uint32_t Pool::add_daemon(bool external, std::uint32_t* epoch) {
  std::uint32_t index = 0;
  while (index < daemons_.size() && daemons_[index].state != DaemonInfo::State::kVacant &&
         daemons_[index].state != DaemonInfo::State::kDead) {
    ++index;
  }
  if (index >= config_.daemon_max) {
    return kNoSlot;
  }
  if (index == daemons_.size()) {
    daemons_.emplace_back();
  }
  DaemonInfo& info = daemons_[index];
  info.epoch = queue_.admit(index);
  info.state = DaemonInfo::State::kStarting;
  info.pid = 0;
  info.forked_by_us = !external;
  info.killed_by_us = false;
  *epoch = info.epoch;
  settle_parked();
  if (!external) {
    start(index);
  } else if (!replay_to(index)) {
    info.state = DaemonInfo::State::kDead;  // it must not take tasks without what everywhere() has set up
    return kNoSlot;
  }
  return index;
}

void Pool::start(std::uint32_t index) {
  if (replay_to(index)) {
    processes_.spawn(index, daemons_[index].epoch);
  } else {
    unstarted_.push_back(index);
  }
}

void Pool::start_waiting() {
  while (!unstarted_.empty()) {
    const std::uint32_t index = unstarted_.back();
    if (daemons_[index].state == DaemonInfo::State::kStarting && !replay_to(index)) {
      return;
    }
    unstarted_.pop_back();
    if (daemons_[index].state == DaemonInfo::State::kStarting) {
      processes_.spawn(index, daemons_[index].epoch);
    }
  }
}

void Pool::on_forked(std::uint32_t index, std::uint32_t epoch, std::int32_t pid) {
  DaemonInfo& info = daemons_[index];
  if (info.epoch == epoch) {
    info.pid = pid;
  }
}

void Pool::on_online(std::uint32_t index, std::uint32_t epoch) {
  DaemonInfo& info = daemons_[index];
  if (info.epoch != epoch || info.state != DaemonInfo::State::kStarting) {
    return;
  }
  info.state = DaemonInfo::State::kLive;
  if (log_.empty()) {
    info.failed_starts = 0;  // else it has not come through the replay yet
  }
  ++info.instance;
  ++cumulative_;
}

// A slot whose owner is gone, or is the host: its task is to be run by whoever serves `queue`. False: not through a slot.
bool Pool::requeue(std::uint32_t slot, std::uint32_t queue) {
  std::uint32_t generation = 0;
  if (is_link_queue(queue) || !queue_.requeue(slot, queue, &generation)) {
    return false;
  }
  SlotUse& use = slots_[slot];
  use.queue = queue;
  use.generation = generation;
  Task& task = table_[use.task];
  task.slot_generation = generation;
  task.set_queue(queue);
  return true;
}

bool Pool::on_orphan(std::uint32_t slot, runtime::SlotState state) {
  SlotUse& use = slots_[slot];
  SETSUNA_ASSERT(use.used);
  if (is_range(slot)) {
    orphan_range(slot);
    return false;
  }
  const bool doomed = state == runtime::SlotState::kDoomed;
  died_in_replay_ = died_in_replay_ || (use.kind == TaskKind::kReplay && state != runtime::SlotState::kReady);
  if (use.task != kNoTask && !doomed && use.retries > 0 && use.kind != TaskKind::kEverywhere) {
    --use.retries;
    Task& task = table_[use.task];
    --task.retries;
    const std::uint32_t queue = config_.dispatcher ? kReadyQueue : pick_round_robin();
    if (requeue(slot, queue)) {
      return true;
    }
    append(unplace(slot, queue));  // waits in the host, for room in that mailbox or for that link
    return false;
  }
  if (use.task != kNoTask) {
    if (trace_ != nullptr) {
      trace_run(slot, false);
    }
    resolve_death(use.task, dying_);
  }
  free_slot_use(slot);
  return false;
}

void Pool::on_dead(std::uint32_t index, std::uint32_t epoch, const DeathNote& note, bool leaving) {
  DaemonInfo& info = daemons_[index];
  if (info.epoch != epoch || info.state == DaemonInfo::State::kDead || info.state == DaemonInfo::State::kVacant) {
    return;
  }
  const bool started = info.state != DaemonInfo::State::kStarting;
  info.state = DaemonInfo::State::kDead;
  info.pid = 0;
  dying_ = note;
  died_in_replay_ = false;
  queue_.reap(index, epoch, *this);
  queue_.harvest(*this);  // its finished tasks, before its extents change hands
  std::vector<std::uint64_t> live(live_results_.begin(), live_results_.end());
  std::sort(live.begin(), live.end());
  arena_.reap(index, epoch, live.data(), live.size());
  if (!leaving) {
    info.failed_starts = started && !died_in_replay_ ? 0 : info.failed_starts + 1;
  }
  if (closed_) {
    return;
  }
  if (config_.ephemeral) {
    fail_queue_of(index, note, false);
    give_up_if_hopeless();
    spawn_ephemeral();
  } else if (!leaving && info.forked_by_us && config_.respawn && info.failed_starts < kFailedStartsMax) {
    fail_queue_of(index, note, false);
    respawn(index);
  } else {
    fail_queue_of(index, note, false);
    give_up_if_hopeless();
  }
  if (spilled_ > 0) {
    refill();
  }
}

// Tasks that waited in the host for this daemon or link. With `move_on`, those of users go to others, whatever their
// retries.
void Pool::fail_queue_of(std::uint32_t queue, const DeathNote& note, bool move_on) {
  for (std::uint32_t waiting = front_of(queue); waiting != kNoTask; waiting = front_of(queue)) {
    Task& task = table_[waiting];
    pop_front(queue, task.next);
    if ((move_on || task.retries > 0) && task.kind != TaskKind::kEverywhere) {
      task.retries -= move_on ? 0 : 1;
      task.set_queue(pick_round_robin());
      append(waiting);
      continue;
    }
    if (task.has_stream) {
      streams_.erase(waiting);
      task.has_stream = false;
    }
    free_arguments(task);
    resolve_death(waiting, note);
  }
  if (is_link_queue(queue)) {
    links_.queue_changed(queue - kLinkQueueBase);
  } else {
    std::erase(waiting_mailboxes_, queue);
  }
}

void Pool::respawn(std::uint32_t index) {
  DaemonInfo& info = daemons_[index];
  info.epoch = queue_.admit(index);
  info.state = DaemonInfo::State::kStarting;
  info.killed_by_us = false;
  start(index);
}

// Daemons that cannot even start: their tasks must not wait for ever.
void Pool::give_up_if_hopeless() {
  const bool hopeless = std::any_of(daemons_.begin(), daemons_.end(),
                                    [](const DaemonInfo& info) { return info.failed_starts >= kFailedStartsMax; }) &&
                        (config_.ephemeral ? online() : alive()) == 0;
  if (!hopeless) {
    return;
  }
  gave_up_ = true;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (is_range(slot) && queue_.cancel_ready(slot, slots_[slot].generation)) {
      dissolve_range(slot);
    }
  }
  for (std::uint32_t i = 0; i < table_.limit(); ++i) {
    Task& task = table_[i];
    if (task.state == TaskState::kSpilled) {
      free_arguments(task);
      resolve_death(i, dying_);
    } else if (task.state == TaskState::kPlaced && queue_.cancel_ready(task.slot, task.slot_generation)) {
      free_slot_use(task.slot);
      resolve_death(i, dying_);
    }
  }
}

// Daemons and links in turn.
std::uint32_t Pool::pick_round_robin() {
  const auto locals = static_cast<std::uint32_t>(daemons_.size());
  const std::vector<std::uint32_t>& links = links_.all_online();
  const auto places = locals + static_cast<std::uint32_t>(links.size());
  for (std::uint32_t step = 0; step < places; ++step) {
    const std::uint32_t place = (next_daemon_ + step) % places;
    if (place >= locals) {
      next_daemon_ = place + 1;
      return kLinkQueueBase + links[place - locals];
    }
    const DaemonInfo::State state = daemons_[place].state;
    if (state == DaemonInfo::State::kStarting || state == DaemonInfo::State::kLive) {
      next_daemon_ = place + 1;
      return place;
    }
  }
  return kReadyQueue;  // nobody yet: the first to come takes it
}

void Pool::spawn_ephemeral() {
  std::uint32_t epoch = 0;
  while (!gave_up_ && alive() < std::min<std::uint64_t>(config_.ephemeral_max, unfinished_)) {
    if (add_daemon(false, &epoch) == kNoSlot) {
      return;
    }
  }
}

std::uint32_t Pool::online() const {
  return links_online() +
         static_cast<std::uint32_t>(std::count_if(daemons_.begin(), daemons_.end(), [](const auto& info) {
           return info.state == DaemonInfo::State::kLive;
         }));
}

std::uint32_t Pool::local_alive() const {
  return static_cast<std::uint32_t>(std::count_if(daemons_.begin(), daemons_.end(), [](const DaemonInfo& info) {
    return info.state == DaemonInfo::State::kLive || info.state == DaemonInfo::State::kStarting;
  }));
}

std::uint32_t Pool::alive() const { return local_alive() + links_online(); }

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
