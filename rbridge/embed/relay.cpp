#include "rbridge/embed/relay.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/clock.hpp"
#include "runtime/gate.hpp"

namespace setsuna::embed {

using dispatch::bytes_of;
using dispatch::LinkCancel;
using dispatch::LinkLeaving;
using dispatch::LinkMessage;
using dispatch::LinkResult;
using dispatch::LinkStop;
using dispatch::LinkTask;
using dispatch::LinkWelcome;
using net::Lane;
using net::MessageHeader;
using runtime::DaemonState;
using runtime::kInlineArgBytes;
using runtime::kInlineResultBytes;
using runtime::kNoSlot;
using runtime::kReadyQueue;
using runtime::ResultStatus;

Relay::Relay(PrivateSegment& segment, RelayProcess& process, RelayOptions options, DirectExit* exit)
    : segment_(segment), process_(process), options_(std::move(options)), exit_(exit), jobs_(PrivateSegment::kSlots) {
  SETSUNA_ASSERT(options_.no_room_task.size() <= kInlineArgBytes);
  segment_.port().arm_gate(runtime::GateWord::event());
}

void Relay::end(const std::string& reason) {
  if (connection_ != nullptr) {
    connection_->close(reason);
  }
}

// What the peer did makes it useless to go on.
void Relay::fail(const std::string& what) {
  fault_ = true;
  end(what);
}

// --- What the host says ------------------------------------------------------------------------------------

std::byte* Relay::on_begin(const MessageHeader& header, std::span<const std::byte>, std::string*) {
  const bool large_task = header.type == type_of(LinkMessage::kTask) && header.body_bytes > kInlineArgBytes;
  if (!large_task && header.type != type_of(LinkMessage::kConstant)) {
    return nullptr;
  }
  incoming_ = segment_.reserve(header.body_bytes);
  return incoming_ ? segment_.arena().at(incoming_.offset) : nullptr;
}

void Relay::on_torn(const MessageHeader&) {
  if (incoming_) {
    segment_.retire(std::exchange(incoming_, {}));
  }
}

void Relay::on_message(const MessageHeader& header, std::span<const std::byte> head, std::span<const std::byte> body) {
  const auto type = static_cast<LinkMessage>(header.type);
  const bool work = type != LinkMessage::kWelcome && type != LinkMessage::kKill && type != LinkMessage::kStop;
  if (work && !welcomed_) {
    fail("the host sent work before its welcome");
    return;
  }
  switch (type) {
    case LinkMessage::kWelcome: take_welcome(head, body); break;
    case LinkMessage::kConstant: take_constant(header.id, body); break;
    case LinkMessage::kTask: take_task(header.id, head, body); break;
    default: take_order(header, head); break;
  }
}

void Relay::take_welcome(std::span<const std::byte> head, std::span<const std::byte> hooks) {
  LinkWelcome welcome;
  if (welcomed_ || !read_head(head, &welcome)) {
    fail("the host sent a damaged welcome");
    return;
  }
  welcomed_ = true;
  process_.on_welcome(welcome, hooks);
}

void Relay::take_constant(std::uint64_t key, std::span<const std::byte> body) {
  forget(key);
  Room room = std::exchange(incoming_, {});
  if (!room && !body.empty()) {
    room = segment_.reserve(body.size());  // some may have become free meanwhile
    if (room) {
      std::memcpy(segment_.arena().at(room.offset), body.data(), body.size());
    }
  }
  constants_.emplace(key, Constant{room, body.size()});
}

void Relay::forget(std::uint64_t key) {
  const auto found = constants_.find(key);
  if (found == constants_.end()) {
    return;
  }
  if (found->second.room) {
    segment_.retire(found->second.room);
  }
  constants_.erase(found);
}

void Relay::take_task(std::uint64_t id, std::span<const std::byte> head, std::span<const std::byte> body) {
  if (exit_ != nullptr && exit_->withdraw()) {
    collect();  // the evaluator has not waked us for what it told the host itself
  }
  Job job;
  job.id = id;
  job.arg_bytes = body.size();
  job.room = std::exchange(incoming_, {});
  const bool sound = read_head(head, &job.task) && job.task.kind >= runtime::TaskKind::kEval &&
                     job.task.kind <= runtime::TaskKind::kMapRange && slots_.count(id) == 0 &&
                     (!job.is_range() || (job.count() > 0 && job.count() <= runtime::kRangeMax));
  if (!sound || (job.task.const_key != 0 && constants_.count(job.task.const_key) == 0)) {
    if (job.room) {
      segment_.retire(job.room);
    }
    fail(sound ? "the host sent a task whose constant it has not sent" : "the host sent a damaged task");
    return;
  }
  receive_arguments(job, body);
  if (job.task.const_key != 0 && !constants_.at(job.task.const_key).room) {
    replace_by_error(job);
  }
  waiting_.push_back(std::move(job));
  publish_waiting();
}

void Relay::receive_arguments(Job& job, std::span<const std::byte> body) {
  if (job.room) {
    return;
  }
  if (body.size() <= kInlineArgBytes) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(body.data());
    job.inline_arg.assign(from, from + body.size());
    return;
  }
  job.room = segment_.reserve(body.size());
  if (job.room) {
    std::memcpy(segment_.arena().at(job.room.offset), body.data(), body.size());
  } else {
    replace_by_error(job);
  }
}

// The bytes have no room in this daemon's memory.
void Relay::replace_by_error(Job& job) {
  if (job.room) {
    segment_.retire(std::exchange(job.room, {}));
  }
  job.task.kind = runtime::TaskKind::kEval;
  job.task.flags = 0;
  job.task.const_key = 0;
  job.inline_arg = options_.no_room_task;
  job.arg_bytes = job.inline_arg.size();
}

void Relay::take_order(const MessageHeader& header, std::span<const std::byte> head) {
  switch (static_cast<LinkMessage>(header.type)) {
    case LinkMessage::kForget: forget(header.id); break;
    case LinkMessage::kCancel: {
      LinkCancel element;
      read_head(head, &element) ? cancel_element(header.id, element.position) : cancel(header.id);
      break;
    }
    case LinkMessage::kRetract: retract(header.id); break;
    case LinkMessage::kKill: process_.end_now(); break;
    case LinkMessage::kStop: {
      LinkStop stop;
      final_ = read_head(head, &stop) && stop.final != 0;
      segment_.stop(final_);
      break;
    }
    default: fail("the host sent a message of an unknown kind");
  }
}

// --- Tasks -------------------------------------------------------------------------------------------------

// Few at a time: see kLinkAhead.
void Relay::publish_waiting() {
  while (!waiting_.empty() && !leaving_ && weight_ + waiting_.front().weight() <= dispatch::kLinkAhead) {
    const std::uint32_t slot = segment_.port().acquire_slot();
    if (slot == kNoSlot) {
      return;
    }
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    publish(std::move(job), slot);
  }
}

void Relay::publish(Job job, std::uint32_t slot) {
  auto& to = segment_.port().slot(slot);
  to.kind = job.task.kind;
  to.flags = job.task.flags;
  to.arg_bytes = job.arg_bytes;
  to.arg_offset = job.room.offset;
  to.arg_block = job.room.hold;
  to.const_key = job.task.const_key;
  to.const_bytes = 0;
  to.const_block = runtime::kNoBlockId;
  to.task = job.id;
  to.taken.store(job.taken, std::memory_order_relaxed);  // READY releases it
  to.progress.store(0, std::memory_order_relaxed);
  to.elapsed_ns = 0;
  std::memcpy(to.rng, job.task.rng, sizeof(to.rng));
  if (job.task.const_key != 0) {
    const Constant& constant = constants_.at(job.task.const_key);
    to.const_offset = constant.room.offset;
    to.const_bytes = constant.bytes;
    to.const_block = constant.room.hold;
  }
  if (!job.room) {
    std::memcpy(to.arg, job.inline_arg.data(), job.inline_arg.size());
    job.inline_arg.clear();
  }
  job.published_ns = runtime::monotonic_ns();
  offer_exit(job, slot);
  segment_.port().publish(slot, kReadyQueue, &job.generation);
  slots_[job.id] = slot;
  weight_ += job.weight();
  jobs_[slot] = std::move(job);
  segment_.port().wake_for(kReadyQueue);
}

// If nothing else waits for this thread to hear that the task is done.
void Relay::offer_exit(const Job& job, std::uint32_t slot) {
  if (exit_ != nullptr && connection_ != nullptr && slots_.empty() && waiting_.empty() && !job.is_range() &&
      !job.room) {
    exit_->offer({job.id, job.published_ns, slot, segment_.port().word(slot).generation() + 1});
  }
}

// True: the task had not begun, and will not.
bool Relay::take_back(std::uint64_t id) {
  Room room;
  if (const auto found = slots_.find(id); found != slots_.end()) {
    Job& job = jobs_[found->second];
    if (!segment_.port().cancel_ready(found->second, job.generation)) {
      return false;
    }
    room = job.room;
    weight_ -= job.weight();
    job = Job();
    slots_.erase(found);
  } else {
    auto waiting = waiting_.begin();
    while (waiting != waiting_.end() && waiting->id != id) {
      ++waiting;
    }
    if (waiting == waiting_.end()) {
      return false;
    }
    room = waiting->room;
    waiting_.erase(waiting);
  }
  if (room) {
    segment_.retire(room);
  }
  publish_waiting();
  return true;
}

void Relay::cancel(std::uint64_t id) {
  if (take_back(id)) {
    const LinkResult result{ResultStatus::kCancelled};
    connection_->send(type_of(LinkMessage::kResult), Lane::kData, id, bytes_of(result), {}, 0);
    return;
  }
  const auto found = slots_.find(id);
  if (found != slots_.end() &&
      segment_.port().request_cancel(found->second, jobs_[found->second].generation) != kNoSlot) {
    process_.interrupt_task();
  }
}

void Relay::retract(std::uint64_t id) {
  if (take_back(id)) {
    connection_->send_control(type_of(LinkMessage::kRetracted), id);
  } else if (const auto found = slots_.find(id); found != slots_.end() && jobs_[found->second].is_range()) {
    report_range(jobs_[found->second], found->second, false);
  }
}

// --- What the evaluator did --------------------------------------------------------------------------------

void Relay::on_doorbell() {
  segment_.doorbell().drain();
  // First: what was done before the evaluator left is seen by the harvest below. Acquire: pairs with Evaluator::leave().
  const bool left =
      segment_.daemon().state.load(std::memory_order_acquire) == static_cast<std::uint32_t>(DaemonState::kLeaving);
  collect();
  publish_waiting();
  if (left && !leaving_) {
    leaving_ = true;
    send_leaving();
    process_.on_left();
  }
}

void Relay::collect() {
  do {
    harvest();
    segment_.port().arm_gate(runtime::GateWord::event());
  } while (segment_.port().anything_done());
  segment_.sweep_held();
}

void Relay::harvest() {
  segment_.port().harvest([this](std::uint32_t slot, const runtime::SlotWord& word) {
    Job job = std::move(jobs_[slot]);
    jobs_[slot] = Job();
    slots_.erase(job.id);
    weight_ -= job.weight();
    if (job.is_range()) {
      report_range(job, slot, true);
    } else if (exit_ == nullptr || !exit_->told(slot, job.generation)) {
      send_result(job, slot, word);
    }
    if (job.room) {
      segment_.retire(job.room);
    }
  });
}

std::uint32_t Relay::microseconds_taken(std::uint64_t published_ns) {
  const std::uint64_t now = runtime::monotonic_ns();
  const std::uint64_t took_us = (now - std::max(published_ns, last_done_ns_)) / 1000;
  last_done_ns_ = now;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(took_us, 0xFFFFFFFFU));
}

// A task may have scribbled over the segment: what it says of its result is checked before it is believed.
void Relay::send_result(const Job& job, std::uint32_t slot, const runtime::SlotWord& word) {
  const auto& from = segment_.port().slot(slot);
  LinkResult result{static_cast<ResultStatus>(from.result_status), microseconds_taken(job.published_ns),
                    from.elapsed_ns};
  std::uint64_t bytes = from.result_bytes;
  const std::uint64_t offset = from.result_offset;
  bool in_area = offset != 0;
  if (from.result_status > static_cast<std::uint32_t>(ResultStatus::kDamaged) ||
      !(in_area ? segment_.arena().plausible(offset, bytes, {word.owner(), word.epoch()})
                : bytes <= kInlineResultBytes)) {
    result.status = ResultStatus::kDamaged;
    bytes = 0;
    in_area = false;
  }
  const std::byte* data = in_area ? segment_.arena().at(offset) : reinterpret_cast<const std::byte*>(from.result);
  if (connection_ != nullptr) {
    // Inline: copied by send(), since the slot is free after this. Else the ticket is the block's offset.
    connection_->send(type_of(LinkMessage::kResult), Lane::kData, job.id, bytes_of(result), {data, bytes},
                      in_area ? offset : 0);
  } else if (in_area) {
    segment_.arena().host_release(offset);
  }
}

void Relay::on_sent(std::uint64_t ticket) { segment_.arena().host_release(ticket); }

void Relay::send_leaving() {
  if (connection_ == nullptr) {
    return;
  }
  std::vector<std::uint64_t> unbegun;
  for (const Job& job : waiting_) {
    unbegun.push_back(job.id);
  }
  for (const auto& entry : slots_) {
    unbegun.push_back(entry.first);
  }
  for (const std::uint64_t id : unbegun) {
    retract(id);
  }
  const LinkLeaving leaving{segment_.daemon().exit_code.load(std::memory_order_relaxed)};
  connection_->send_control(type_of(LinkMessage::kLeaving), 0, bytes_of(leaving));
  connection_->close("the daemon has left");
}

// --- The end -----------------------------------------------------------------------------------------------

void Relay::on_closed(const std::string& reason) {
  connection_ = nullptr;
  if (!leaving_) {
    segment_.stop(false);
    if (options_.interrupt_at_end) {
      interrupt_all();
    }
  }
  const bool sent_away = final_ && !welcomed_;
  process_.on_end(reason, fault_      ? RelayEnd::kFault
                          : leaving_  ? RelayEnd::kLeft
                          : sent_away ? RelayEnd::kSentAway
                                      : RelayEnd::kLost);
}

// By the way of a cancel, which cannot hit anything but the task that runs.
void Relay::interrupt_all() {
  for (const auto& [id, slot] : slots_) {
    if (jobs_[slot].is_range()) {
      interrupt_range(jobs_[slot], slot);
    } else if (segment_.port().request_cancel(slot, jobs_[slot].generation) != kNoSlot) {
      process_.interrupt_task();
    }
  }
}

}  // namespace setsuna::embed
