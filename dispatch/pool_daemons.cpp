// Daemons of this machine: they come, die, are replaced and leave, and their tasks with them.
#include "dispatch/pool.hpp"

#include <algorithm>

#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;
using runtime::kReadyQueue;

namespace {

constexpr std::uint32_t kFailedStartsMax = 3;

}  // namespace

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

}  // namespace setsuna::dispatch
