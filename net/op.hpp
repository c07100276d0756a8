// One started operation of a reactor.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "net/completion.hpp"
#include "net/reactor.hpp"

namespace setsuna::net {

enum class OpKind : std::uint8_t {
  kFree,
  kWatchReadable,
  kWatchWritable,
  kWatchPidfd,
  kAccept,
  kRecv,
  kSend,
  kConnect,
  kTimer,
  kClose,
};

// Its address is stable while it lives: the kernel reads message headers and addresses from here.
struct Op {
  struct SendState {
    iovec pieces[Reactor::kMaxSendPieces];
    std::size_t count;  // pieces left, the first may be used in part
    std::size_t first;
    std::int64_t done;  // bytes sent
    msghdr header;
    Op* next;  // behind this one on the same descriptor
    // Of sends without a copy:
    bool must_copy;         // this socket cannot do without
    bool in_use_by_kernel;  // `outcome` is known, but the bytes are still needed
    std::int32_t outcome;
  };
  struct ConnectState {
    sockaddr_storage address;
    socklen_t length;
  };
  struct TimerState {
    std::uint64_t deadline_ns;
    std::uint64_t order;
    std::size_t position;  // in the heap
  };
  union State {
    SendState send;
    ConnectState connect;
    TimerState timer;
  };

  std::uint32_t index = 0;
  std::uint32_t generation = 1;
  OpKind kind = OpKind::kFree;
  bool active = false;     // handed to the kernel (or to the timer heap): completions will come from there
  bool ready = false;      // its last completion is known and queued
  bool cancelled = false;  // the user wants it over
  bool silent = false;     // the handler has had its last call
  int fd = -1;
  Handler handler;
  std::int64_t result = 0;   // once ready
  Op* queue_next = nullptr;  // in the ready queue or the free list
  Op* fd_next = nullptr;     // other operations on the same descriptor
  Op* fd_previous = nullptr;
  State state{};

  Token token() const noexcept { return Token{(std::uint64_t{index} << 32) | generation}; }
};

}  // namespace setsuna::net
