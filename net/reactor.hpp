// The reactor: everything that the host waits for in the kernel, in completion style, on one thread.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "net/completion.hpp"

namespace setsuna::net {

// Rules that hold for every operation:
// - One thread, the reactor thread, creates the reactor, starts operations and runs it. Others may only wake() and stop().
// - Starting never fails: what goes wrong arrives as a completion with -errno.
// - No handler runs inside a call that starts, cancels or closes: only inside run_once(), run() and close_all(), which a
//   handler may not call.
// - Each operation has exactly one last completion (more == false), also when it is cancelled; after forget() it has none.
// - A descriptor stays open until the operations on it are over: closed through close(), or, if it was never adopted, by
//   its owner after the last completions (or after forget()).
class Reactor {
 public:
  // Data of one send in at most this many pieces (a header, and the bytes that follow where they lie).
  static constexpr std::size_t kMaxSendPieces = 4;

  Reactor() = default;
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  virtual ~Reactor() = default;

  // ---- any thread ----

  // Makes the reactor thread call the wake handler soon, at least once after this call. Async-signal-safe. What the
  // caller wrote before is visible to the handler. Cheap while a wake is already under way.
  virtual void wake() noexcept = 0;

  // run() returns after the round it is in. The thread that ran it may destroy the reactor then, even if this call is still
  // on its way out.
  virtual void stop() noexcept = 0;

  // ---- reactor thread: descriptors ----

  // Takes ownership of a socket and prepares it for this reactor: close-on-exec, blocking mode as the implementation
  // needs it, number >= 1024 where the limits allow. Returns the number it has from now on. Required before accept, recv,
  // send and connect; accepted sockets come adopted. Adopted descriptors are what close_all() and abandon_in_child() close.
  virtual int adopt(int fd) = 0;

  // Cancels the operations on an adopted socket, waits for their last completions, shuts it down and closes it. Then
  // result 0. For what must still be sent, await the sends first. A second close of the same descriptor: -EALREADY.
  virtual Token close(int fd, Handler handler = {}) = 0;

  // ---- reactor thread: operations ----

  // Readiness of eventfds and of message sockets (which the owner reads itself). Edge-triggered: the handler reads until
  // EAGAIN. result: POLL* bits. A hang-up or error is the last completion (read what is left then).
  virtual Token watch_readable(int fd, Handler handler) = 0;

  // Once: result POLL* bits when it can be written, or hung up.
  virtual Token watch_writable(int fd, Handler handler) = 0;

  // Once: the process is dead, its address space gone. result: POLL* bits. Does not reap.
  virtual Token watch_pidfd(int pidfd, Handler handler) = 0;

  // result: an adopted, connected socket, again and again. An error is last (EMFILE, say: start again when there is room).
  virtual Token accept(int listener, Handler handler) = 0;

  // data: the bytes that came, result their number, again and again. Last: 0 at the end of the stream, or an error. To
  // pause, cancel: what was read by then still arrives before -ECANCELED.
  virtual Token recv(int fd, Handler handler) = 0;

  // Sends all bytes, or fails. result: their number. The bytes (not the array of pieces) stay valid until the completion,
  // also after cancel(); a send cannot be forgotten. Sends on one descriptor go out in the order of the calls; when one
  // fails or is cancelled, those queued behind it end with the same error, since the stream is torn.
  virtual Token send(int fd, std::span<const iovec> pieces, Handler handler) = 0;

  // result 0. The address is copied.
  virtual Token connect(int fd, const sockaddr* address, socklen_t length, Handler handler) = 0;

  // Once, at a CLOCK_MONOTONIC time in nanoseconds: result 0. Equal deadlines fire in the order they were set.
  virtual Token timer(std::uint64_t deadline_ns, Handler handler) = 0;

  // Ends an operation early: its last completion is -ECANCELED, or its own if that was faster. False: there is no such
  // operation any more.
  virtual bool cancel(Token token) = 0;

  // Like cancel, but the handler is never called again. Not for sends. An unadopted descriptor may be closed right after.
  virtual bool forget(Token token) = 0;

  // Called on the reactor thread after wake()s, several of which may share one call.
  virtual void on_wake(Handler handler) = 0;

  // ---- reactor thread: running ----

  // Sleeps until something is to do (without any timeout when there is no timer), does it, returns the number of handler
  // calls (which may be 0).
  virtual std::size_t run_once() = 0;

  // run_once() until stop().
  virtual void run() = 0;

  // Cancels all operations (timers and watches too), runs until each has had its last completion, closes all adopted
  // descriptors. Operations started meanwhile end with -ECANCELED. The reactor is empty and usable afterwards.
  virtual void close_all() = 0;

  // In the child of a fork (the forking thread may be any): closes what this reactor has open without touching state that
  // it shares with the parent. Async-signal-safe. wake() and stop() are without effect then; nothing else may be called,
  // and the object must be leaked, since its memory may have been caught half-written.
  virtual void abandon_in_child() noexcept = 0;

  // Operations whose last completion is still to come.
  virtual std::size_t pending() const noexcept = 0;

  // "io_uring" or "epoll".
  virtual const char* name() const noexcept = 0;

  // One piece of bytes.
  Token send(int fd, std::span<const std::byte> bytes, Handler handler) {
    const iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    return send(fd, std::span<const iovec>(&piece, 1), handler);
  }
};

}  // namespace setsuna::net
