#include "rbridge/embed/direct_exit.hpp"

#include <algorithm>

#include "runtime/clock.hpp"
#include "runtime/slot_word.hpp"

namespace setsuna::embed {

using SentNow = net::Connection::SentNow;

void DirectExit::open(net::Connection* connection, net::Reactor* reactor) {
  const std::lock_guard<std::mutex> lock(mutex_);
  connection_ = connection;
  reactor_ = reactor;
}

void DirectExit::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  connection_ = nullptr;
}

void DirectExit::offer(const Task& task) {
  task_ = task;
  // Release: who finds its task offered reads task_. That thread does not read it any more when the next one is offered: the
  // relay has seen its task DONE.
  offered_.store(runtime::task_key(task.slot, task.generation), std::memory_order_release);
}

bool DirectExit::withdraw() {
  // ORDERING exit/rest: both sides read-modify-write. If may_rest() came first, its release and this acquire let the relay
  // see the task DONE; else it finds nothing offered, and wakes the relay.
  return offered_.exchange(kNothing, std::memory_order_acq_rel) != kNothing;
}

bool DirectExit::may_rest(std::uint32_t slot, std::uint32_t generation) noexcept {
  return offered_.fetch_or(0, std::memory_order_acq_rel) == runtime::task_key(slot, generation);  // ORDERING exit/rest
}

bool DirectExit::told(std::uint32_t slot, std::uint32_t generation) const {
  return told_.load(std::memory_order_relaxed) ==
         runtime::task_key(slot, generation);  // DONE, which came after it, was acquired
}

bool DirectExit::tell(std::uint32_t slot, std::uint32_t generation, dispatch::LinkResult result,
                      std::span<const std::byte> body) noexcept {
  if (offered_.load(std::memory_order_acquire) != runtime::task_key(slot, generation)) {
    return false;
  }
  const std::uint64_t took_us = (runtime::monotonic_ns() - task_.published_ns) / runtime::kNanosPerMicro;
  result.took_us = static_cast<std::uint32_t>(std::min<std::uint64_t>(took_us, 0xFFFFFFFFU));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (connection_ == nullptr) {
    return false;
  }
  const SentNow sent = connection_->send_now(dispatch::type_of(dispatch::LinkMessage::kResult), task_.id,
                                             dispatch::bytes_of(result), body, false);
  if (sent == SentNow::kPart) {
    reactor_->wake();
  }
  if (sent != SentNow::kNo) {
    told_.store(runtime::task_key(slot, generation), std::memory_order_relaxed);  // DONE releases it
  }
  return sent != SentNow::kNo;
}

}  // namespace setsuna::embed
