// Small messages that another thread than the reactor's writes to a connection's socket, while the reactor has nothing to
// send there: the way through the reactor thread costs a wake-up, which takes longer than the message.
//
// The sending side of a connection belongs to its reactor thread, which offers it here when nothing is queued or under way,
// and takes it back before it queues anything.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "net/connection.hpp"
#include "net/layer_stack.hpp"

namespace setsuna::net {

// Whether the peer must be heard from, and when it was. Written by the reactor thread, and by whoever sends directly.
// Relaxed: who changes `on` is ordered by DirectSender's mutex, or knows that no message is on its way.
struct Watch {
  std::atomic<bool> on{false};
  std::atomic<std::uint64_t> heard_ns{0};

  void begin(std::uint64_t now_ns) noexcept {
    heard_ns.store(now_ns, std::memory_order_relaxed);
    on.store(true, std::memory_order_relaxed);
  }
  bool is_on() const noexcept { return on.load(std::memory_order_relaxed); }
};

class DirectSender {
 public:
  static constexpr std::size_t kMaxBodyBytes = 1024;

  // --- Reactor thread

  // `layers`: frames go through these, which may be used by any thread. `watched`: somebody looks at the watch, soon.
  void offer(int fd, LayerStack& layers, bool watched);
  // Nobody writes to the socket any more. What a message from elsewhere has left over is to go before all else.
  std::vector<std::byte> take();
  std::size_t rest_bytes() const;

  // --- Any thread

  // `watch`, if not null, is on when this is not kNo.
  Connection::SentNow send(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                           std::span<const std::byte> body, Watch* watch) noexcept;

 private:
  mutable std::mutex mutex_;
  int fd_ = -1;  // -1: not offered, or a message could not be written whole
  LayerStack* layers_ = nullptr;
  bool watched_ = false;
  std::vector<std::byte> rest_;
  bool offered_ = false;  // the reactor thread's: not taken back yet
};

}  // namespace setsuna::net
