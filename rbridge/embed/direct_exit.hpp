// The short way of a result to the host: the evaluator's thread sends it itself, while it is the only thing that the relay
// has in hand; the relay's thread, which would have to be waked for it, looks at it with the next task.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>

#include "dispatch/link_wire.hpp"
#include "net/connection.hpp"
#include "net/reactor.hpp"

namespace setsuna::embed {

class DirectExit {
 public:
  struct Task {
    std::uint64_t id = 0;
    std::uint64_t published_ns = 0;
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;
  };

  // --- The relay's thread

  void open(net::Connection* connection, net::Reactor* reactor);
  void close();
  // Before the task is READY.
  void offer(const Task& task);
  // True: a task was offered. What of it is done now must be looked at, as nobody may have waked us; whoever completes it
  // later will.
  bool withdraw();
  // Of a task that is DONE: the host has its result.
  bool told(std::uint32_t slot, std::uint32_t generation) const;

  // --- The evaluator's thread

  // Before the task is DONE. True: its result is on the way to the host.
  bool tell(std::uint32_t slot, std::uint32_t generation, dispatch::LinkResult result,
            std::span<const std::byte> body) noexcept;
  // After that. False: the relay must be waked.
  bool may_rest(std::uint32_t slot, std::uint32_t generation) noexcept;
  // In a child that a task has forked: the descriptor is closed there, and its number may come to mean something else.
  void abandon_in_child() noexcept { offered_.store(kNothing, std::memory_order_relaxed); }  // there is one thread only

 private:
  static constexpr std::uint64_t kNothing = 0;

  std::mutex mutex_;  // keeps the connection from going while something is sent
  net::Connection* connection_ = nullptr;
  net::Reactor* reactor_ = nullptr;
  Task task_;  // what `offered_` names
  std::atomic<std::uint64_t> offered_{kNothing};
  std::atomic<std::uint64_t> told_{kNothing};
};

}  // namespace setsuna::embed
