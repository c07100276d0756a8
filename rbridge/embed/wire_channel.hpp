// One end of the host-zygote socket: whole messages with descriptors, never blocking.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "rbridge/embed/zygote_wire.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::embed {

struct Received {
  enum class Status { message, empty, closed, damaged };
  Status status = Status::empty;
  AnyMessage message;
  std::vector<runtime::UniqueFd> fds;
  bool fds_lost = false;  // the kernel could not give us all descriptors (RLIMIT_NOFILE)
};

// Not thread-safe.
class WireChannel {
 public:
  WireChannel() = default;
  explicit WireChannel(runtime::UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const noexcept { return socket_.get(); }
  bool open() const noexcept { return static_cast<bool>(socket_); }
  void close() noexcept;

  // Sends now if nothing waits before it and the socket takes it, else keeps it (and its descriptors) for flush(). A peer
  // that is gone swallows everything.
  void send(const AnyMessage& message, std::vector<runtime::UniqueFd> fds = {});
  bool wants_write() const noexcept { return !waiting_.empty(); }
  void flush();

  Received receive();

 private:
  struct Outgoing {
    AnyMessage message;
    std::vector<runtime::UniqueFd> fds;
  };
  int try_send(const Outgoing& out) noexcept;  // 0 or errno

  runtime::UniqueFd socket_;
  std::deque<Outgoing> waiting_;
};

}  // namespace setsuna::embed
