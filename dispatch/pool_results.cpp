// What has become of tasks: outcomes are stored, handles let go of them, and whoever waits is told.
#include "dispatch/pool.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "dispatch/keep_bytes.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

namespace {

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
  learn_element(slot, result.element_ns);
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
  if (links_.holds(slot)) {
    trace_->ran_remotely(slot, done ? ranges_[slots_[slot].range].element_ns : 0);
    return;
  }
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

}  // namespace setsuna::dispatch
