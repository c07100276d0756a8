// Cancellation, timeouts and the grace after which a daemon that does not react is killed.
#include "dispatch/pool.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;

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

}  // namespace setsuna::dispatch
