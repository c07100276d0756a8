// What becomes of tasks in the hands of remote daemons. A slot whose task a link has is CLAIMED by the host; so is one whose
// task came back from a link and waits for another (parked).
#include <algorithm>

#include "dispatch/link_wire.hpp"
#include "dispatch/pool.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;
using runtime::kReadyQueue;

// --- Who comes and goes ------------------------------------------------------------------------------------

// One copy of the log for all who come while it is the same.
std::shared_ptr<const Links::Bytes> Pool::log_copy() {
  if (log_.empty()) {
    return nullptr;
  }
  std::shared_ptr<const Links::Bytes> copy = log_copy_.lock();
  if (copy == nullptr || copy->size() != log_.size()) {
    copy = std::make_shared<const Links::Bytes>(log_);
    log_copy_ = copy;
  }
  return copy;
}

std::uint32_t Pool::add_link(std::int32_t pid) {
  const std::uint32_t link = closed_ ? kNoLink : links_.add(pid, log_copy());
  cumulative_ += link == kNoLink ? 0 : 1;
  return link;
}

void Pool::on_link_leaving(std::uint32_t link) {
  if (!links_.online(link)) {
    return;
  }
  links_.close(link);
  dying_ = DeathNote{links_.info()[link].pid, -1, false};
  fail_queue_of(kLinkQueueBase + link, dying_, true);
  settle_parked();
  serve_links();
}

void Pool::on_link_dead(std::uint32_t link, const DeathNote& note) {
  if (!links_.exists(link)) {
    return;
  }
  const bool leaving = links_.info()[link].state == LinkInfo::State::kLeaving;
  links_.bury(link);
  dying_ = note;
  std::uint32_t begun = 0;
  for (std::uint32_t slot = links_.oldest_flight(link); slot != kNoIndex; slot = links_.oldest_flight(link)) {
    lose_flight(slot, leaving, &begun);
  }
  fail_queue_of(kLinkQueueBase + link, note, leaving);
  for (const std::uint32_t constant : links_.remove(link)) {
    release_constant(constant);
  }
  if (!closed_) {
    settle_parked();
    give_up_if_hopeless();
    serve_links();
  }
}

// One that has said that it leaves has answered all that it had begun. Else it may have begun the oldest: some of its answers
// may be lost with it.
void Pool::lose_flight(std::uint32_t slot, bool leaving, std::uint32_t* begun) {
  const bool bound = links_.bound(slot);
  const bool answered = links_.answered(slot);
  const bool retracted = links_.retracted(slot);
  links_.take_flight(links_.link_of(slot));
  if (is_range(slot)) {
    lose_range(slot, retracted || leaving || answered, begun);
  } else if (slots_[slot].task == kNoTask) {
    *begun += answered ? 0 : 1;
    release_host_slot(slot);
  } else if (retracted || leaving) {
    give_back(slot, bound);
  } else if (*begun >= config_.link_begun_most && !bound) {
    give_back(slot, false);
  } else {
    ++*begun;
    retry_or_fail(slot);
  }
}

// --- Feeding -----------------------------------------------------------------------------------------------

// Local daemons fall idle without telling: what a link held beyond its need would wait although they could run it.
bool Pool::may_prefetch() const { return links_.prefetch() > 0 && local_alive() == 0; }

bool Pool::links_hungry() const {
  if (closed_) {
    return false;
  }
  if (links_.next_with_own() != kNoIndex) {
    return true;
  }
  if (links_.any_prefetched() && (links_.next_idle() != kNoIndex || !may_prefetch())) {
    return true;
  }
  const bool room = links_.next_idle() != kNoIndex || (links_.next_spare() != kNoIndex && may_prefetch());
  return room && (links_.next_parked() != kNoIndex || fifos_[0].head != kNoTask || queue_.anything_ready());
}

bool Pool::one_for_idle_link() const {
  return !closed_ && local_alive() == 0 && links_.next_idle() != kNoIndex && links_.next_with_own() == kNoIndex &&
         links_.next_parked() == kNoIndex && !links_.any_prefetched() && unfinished_ <= links_online() &&
         spilled_ == 0 && queue_.ready_depth() == 1;
}

void Pool::feed_links() {
  if (closed_) {
    return;
  }
  for (std::uint32_t link = links_.next_with_own(); link != kNoIndex; link = links_.next_with_own()) {
    if (!feed_own(link)) {
      break;
    }
  }
  feed_shared();
  if (links_.any_prefetched()) {
    links_.retract_for_idle(!may_prefetch());
  }
}

void Pool::serve_links() {
  if (closed_) {
    return;
  }
  feed_links();
  if (spilled_ > 0) {
    refill();
  } else {
    start_waiting();
  }
}

// What goes to this link alone. False: no slot is free.
bool Pool::feed_own(std::uint32_t link) {
  if (links_.owes_replay(link)) {
    links_.send_replay(link);
    return true;
  }
  const std::uint32_t queue = kLinkQueueBase + link;
  for (std::uint32_t index = front_of(queue); index != kNoTask && links_.has_room(link); index = front_of(queue)) {
    const std::uint32_t slot = slot_for_bound();
    if (slot == kNoSlot) {
      return false;
    }
    std::uint32_t generation = 0;
    queue_.place_claimed(slot, content_for(index), &generation);
    const std::uint32_t next = table_[index].next;
    occupy(slot, generation, index);
    pop_front(queue, next);
    send_to_link(link, slot, true);
  }
  links_.queue_changed(link);
  return true;
}

// A link does not turn to the shared queue before its own is empty. So when all slots are taken by tasks that wait, the
// oldest of them must give up its slot, or nobody might ever go on.
std::uint32_t Pool::slot_for_bound() {
  for (;;) {
    const std::uint32_t slot = slot_for_task();
    std::uint32_t waiting = 0;
    std::uint32_t generation = 0;
    if (slot != kNoSlot || !queue_.claim_for_host(&waiting, &generation)) {
      return slot;
    }
    if (is_range(waiting)) {
      dissolve_range(waiting);
    } else {
      prepend(unplace(waiting, kReadyQueue));
    }
    queue_.release_claimed(waiting);
  }
}

void Pool::feed_shared() {
  const bool prefetch = may_prefetch();
  for (;;) {
    std::uint32_t link = links_.next_idle();
    if (link == kNoIndex && prefetch) {
      link = links_.next_spare();
    }
    const std::uint32_t slot = link == kNoIndex ? kNoSlot : next_shared_slot();
    if (slot == kNoSlot) {
      return;
    }
    send_to_link(link, slot, false);
  }
}

// The oldest task that waits for anybody, claimed; or kNoSlot.
std::uint32_t Pool::next_shared_slot() {
  std::uint32_t slot = links_.next_parked();
  if (slot != kNoIndex) {
    links_.unpark(slot);
    return slot;
  }
  std::uint32_t generation = 0;
  if (queue_.claim_for_host(&slot, &generation)) {
    return slot;
  }
  if (fifos_[0].head == kNoTask) {
    return kNoSlot;
  }
  refill();
  return queue_.claim_for_host(&slot, &generation) ? slot : kNoSlot;
}

void Pool::send_to_link(std::uint32_t link, std::uint32_t slot, bool bound) {
  const SlotUse& use = slots_[slot];
  // A local task may have scribbled over the slot: what says where bytes are comes from the host's own books.
  SlotContent content = queue_.content_of(slot);
  content.kind = use.kind;
  const std::uint32_t elements = is_range(slot) ? ranges_[use.range].count : 1;
  content.arg_bytes = is_range(slot) ? sizeof(std::uint32_t) * elements : use.bytes;
  content.arg_offset = use.area_offset;
  content.inline_arg = use.in_area ? nullptr : content.inline_arg;
  const Constant constant = use.constant == kNoConstant ? Constant() : constants_[use.constant];
  content.const_key = constant.key;
  content.const_offset = constant.offset;
  content.const_bytes = constant.bytes;
  if (trace_ != nullptr) {
    trace_->sent(slot, static_cast<std::uint16_t>(kLinkQueueBase + link),
                 static_cast<std::uint32_t>(links_.info()[link].pid));
  }
  links_.send(link, slot, link_task_id(slot, use.generation), content, use.constant, bound, elements);
}

// --- What links say ----------------------------------------------------------------------------------------

// The slot of a task that this link was sent; or kNoSlot.
std::uint32_t Pool::flight_of(std::uint32_t link, std::uint64_t id) const {
  const std::uint32_t slot = link_task_slot(id);
  const bool flies = links_.holds(slot) && links_.link_of(slot) == link;
  return flies && slots_[slot].generation == link_task_generation(id) ? slot : kNoSlot;
}

void Pool::on_link_sent(std::uint32_t link, std::uint64_t id) {
  if (links_.on_replay_sent(link, id)) {
    return;
  }
  const std::uint32_t slot = flight_of(link, id);
  if (slot == kNoSlot) {
    return;
  }
  const bool given_back = links_.retracted(slot) && slots_[slot].task != kNoTask;
  const bool bound = links_.bound(slot);
  if (!links_.on_sent(slot)) {
    return;
  }
  if (is_range(slot)) {
    release_range_slot(slot);
  } else {
    given_back ? give_back(slot, bound) : release_host_slot(slot);
  }
  settle_parked();
  serve_links();
}

void Pool::on_link_constant_sent(std::uint32_t link, std::uint64_t key) {
  const std::uint32_t constant = links_.on_constant_sent(link, key);
  if (constant != kNoConstant) {
    release_constant(constant);
  }
}

void Pool::on_link_result(std::uint32_t link, std::uint64_t id, const SlotResult& result) {
  if (links_.on_replay_done(link, id)) {
    discard_result(result);
    serve_links();
    return;
  }
  const std::uint32_t slot = flight_of(link, id);
  if (slot == kNoSlot || links_.answered(slot)) {
    discard_result(result);
    return;
  }
  if (is_range(slot)) {
    answer_whole_range(slot, result);
    serve_links();
    return;
  }
  learn_element(slot, result.element_ns);
  if (trace_ != nullptr && slots_[slot].task != kNoTask) {
    trace_->ran_remotely(slot, result.took_ns);
  }
  deliver(slot, result);
  if (links_.answer(slot, Links::Answer::kResult)) {
    release_host_slot(slot);
  }
  serve_links();
}

void Pool::on_link_retracted(std::uint32_t link, std::uint64_t id) {
  if (links_.on_replay_done(link, id)) {
    return;
  }
  const std::uint32_t slot = flight_of(link, id);
  if (slot == kNoSlot || links_.answered(slot)) {
    return;
  }
  const bool bound = links_.bound(slot);
  if (links_.answer(slot, Links::Answer::kRetracted)) {
    is_range(slot)                 ? release_range_slot(slot)
    : slots_[slot].task != kNoTask ? give_back(slot, bound)
                                   : release_host_slot(slot);
  }
  settle_parked();
  serve_links();
}

// --- Slots that the host holds -----------------------------------------------------------------------------

void Pool::release_host_slot(std::uint32_t slot) {
  free_slot_use(slot);
  queue_.release_claimed(slot);
}

void Pool::hand_over(std::uint32_t slot, std::uint32_t queue) {
  if (!requeue(slot, queue)) {
    append(unplace(slot, queue));
    queue_.release_claimed(slot);
  }
}

// A task that its link has not begun, and will not.
void Pool::give_back(std::uint32_t slot, bool bound) {
  if (!bound) {
    links_.park(slot);
  } else if (slots_[slot].kind == TaskKind::kEverywhere) {
    fail(slot);
  } else {
    hand_over(slot, pick_round_robin());
  }
}

void Pool::fail(std::uint32_t slot) {
  if (trace_ != nullptr) {
    trace_->ran_remotely(slot, 0);
  }
  resolve_death(slots_[slot].task, dying_);
  release_host_slot(slot);
}

// A task that its link may have begun.
void Pool::retry_or_fail(std::uint32_t slot) {
  SlotUse& use = slots_[slot];
  if (use.retries == 0 || use.kind == TaskKind::kEverywhere) {
    fail(slot);
    return;
  }
  --use.retries;
  --table_[use.task].retries;
  hand_over(slot, config_.dispatcher ? kReadyQueue : pick_round_robin());
}

// Parked tasks are for the next link that has room, before all others. Not if somebody else might take them: local daemons
// look into the shared queue only.
void Pool::settle_parked() {
  if (links_.next_parked() == kNoIndex || (local_alive() == 0 && links_online() > 0)) {
    return;
  }
  for (std::uint32_t slot = links_.next_parked(); slot != kNoIndex; slot = links_.next_parked()) {
    links_.unpark(slot);
    hand_over(slot, kReadyQueue);
  }
}

// --- Cancel, time, end -------------------------------------------------------------------------------------

// A task that waits claimed by the host, or that a link has: its slot is freed when that is allowed. False: neither.
bool Pool::cancel_in_hand(std::uint32_t index, std::uint64_t now_ns) {
  const std::uint32_t slot = table_[index].slot;
  if (links_.parked(slot)) {
    links_.unpark(slot);
    release_host_slot(slot);
    return true;
  }
  if (!links_.holds(slot)) {
    return false;
  }
  if (trace_ != nullptr) {
    trace_->ran_remotely(slot, 0);
  }
  slots_[slot].task = kNoTask;
  if (!links_.answered(slot)) {
    links_.cancel(slot);
    timers_.add({now_ns + config_.cancel_grace_ns, slots_[slot].generation, slot, TimerKind::kDoom});
  }
  return true;
}

// The time of a cancelled task is up. It runs, and nothing but the death of its process will end it; or it is still on its
// way, or behind another.
void Pool::kill_overdue(const Timer& timer, std::uint64_t now_ns) {
  if (links_.answered(timer.index)) {
    return;
  }
  if (links_.runs(timer.index)) {
    links_.kill(links_.link_of(timer.index));
  } else {
    const std::uint64_t grace_ns = std::max<std::uint64_t>(config_.cancel_grace_ns, 1);
    timers_.add({now_ns + grace_ns, timer.serial, timer.index, TimerKind::kDoom});
  }
}

// All tasks are resolved. Slots of those that links have are freed with their answers.
void Pool::reset_links() {
  for (std::uint32_t link = 0; link < links_.info().size(); ++link) {
    front_of(kLinkQueueBase + link);
    links_.queue_changed(link);
  }
  links_.stop_all();
}

}  // namespace setsuna::dispatch
