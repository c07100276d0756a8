// What the two reactors share: operations, timers, queues, ownership of descriptors, waking.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "net/op.hpp"
#include "net/op_table.hpp"
#include "net/owned_fds.hpp"
#include "net/reactor.hpp"
#include "net/timer_heap.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::net {

// The life of an operation: begin -> [start -> active] -> settle (its outcome is known) -> deliver (the handler's last
// call) -> released. Whatever becomes known inside a call of the user goes through the ready queue, so that handlers run
// only in run_once().
class ReactorCore : public Reactor {
 public:
  void wake() noexcept final;
  void stop() noexcept final;

  int adopt(int fd) final;
  Token close(int fd, Handler handler) final;

  Token watch_readable(int fd, Handler handler) final;
  Token watch_writable(int fd, Handler handler) final;
  Token watch_pidfd(int pidfd, Handler handler) final;
  Token accept(int listener, Handler handler) final;
  Token recv(int fd, Handler handler) final;
  Token send(int fd, std::span<const iovec> pieces, Handler handler) final;
  Token connect(int fd, const sockaddr* address, socklen_t length, Handler handler) final;
  Token timer(std::uint64_t deadline_ns, Handler handler) final;

  bool cancel(Token token) final;
  bool forget(Token token) final;
  void on_wake(Handler handler) final;

  std::size_t run_once() final;
  void run() final;
  void close_all() final;
  void abandon_in_child() noexcept final;
  std::size_t pending() const noexcept final { return table_.live(); }

  using Reactor::send;

 protected:
  static constexpr std::uint64_t kNoDeadline = UINT64_MAX;
  static constexpr std::uint64_t kDoNotWait = 0;

  // `wake_fd` is an eventfd in the blocking mode that the implementation wants.
  explicit ReactorCore(runtime::UniqueFd wake_fd);
  ~ReactorCore() override;

  // ---- for the implementation to provide ----

  // Sets the file status flags that it needs on a descriptor that is being adopted.
  virtual void prepare(int fd) = 0;
  // Hands an operation to the kernel: sets op.active, or calls make_ready.
  virtual void start(Op& op) = 0;
  // Ends an active operation: calls make_ready now, or sees to it that the kernel completes it.
  virtual void interrupt(Op& op) = 0;
  // Sleeps until the deadline (CLOCK_MONOTONIC, ns) or the first event, and handles what there is.
  virtual void wait(std::uint64_t deadline_ns) = 0;
  // An active operation of this descriptor is no longer active.
  virtual void interest_changed(int /*fd*/) {}

  // ---- for the implementation to use ----

  // One more completion of an active operation, straight to the handler. The operation may be gone afterwards.
  void deliver(Op& op, std::int64_t result, bool more, std::span<const std::byte> data = {});
  // The last completion, queued.
  void make_ready(Op& op, std::int64_t result);
  // Accepted sockets: moves, prepares, owns.
  int take_accepted(int fd);
  // The last completion of an operation that the kernel does not let go of yet: it lives on, silent, until it does.
  void deliver_last_early(Op& op, std::int64_t result);
  // The eventfd has been read: takes the bell's bits, calls the wake handler.
  void wake_arrived();

  Op* find(Token token) noexcept { return table_.find(token); }
  Op* first_on(int fd) noexcept;
  int wake_fd() const noexcept { return wake_fd_.load(std::memory_order_relaxed); }
  // What abandon_in_child closes beside the adopted ones. The implementation closes it otherwise.
  void set_backend_fd(int fd) noexcept { backend_fd_.store(fd, std::memory_order_relaxed); }
  bool abandoned() const noexcept { return abandoned_; }
  void assert_on_reactor_thread() const;
  // Before the implementation goes: no handler is called any more, the kernel gives back what it uses.
  void end_silently();

  // An error of accept that is about one connection, not about the listener.
  static bool concerns_one_connection(int error) noexcept;
  // Sends: what is left to send as a message header, and the progress of it. True once all is sent.
  static msghdr* next_message(Op& op) noexcept;
  static bool advance_send(Op& op, std::size_t bytes) noexcept;

 private:
  struct FdState {
    Op* first = nullptr;  // all operations on it, except close
    Op* close = nullptr;
    Op* send_head = nullptr;  // sends in order; only the head is active
    Op* send_tail = nullptr;
    bool pumping = false;
  };

  static constexpr std::uint32_t kRung = 1;  // a wake is under way: its ringer writes the eventfd, others need not
  static constexpr std::uint32_t kStop = 2;

  void ring(std::uint32_t bits) noexcept;
  Op& begin(OpKind kind, int fd, Handler handler);
  Token launch(Op& op);
  FdState& room_for(int fd);
  void link(Op& op);
  void unlink(Op& op) noexcept;
  FdState* state_of(int fd) noexcept;

  void end(Op& op);
  void settle(Op& op, std::int64_t result);
  void finish(Op& op);
  void finish_close(int fd);
  void pop_send(FdState& state, Op& op, std::int64_t result);
  void pump_sends(int fd);
  void cancel_queued_send(Op& op);
  void shut_and_close(int fd) noexcept;
  void close_adopted();

  void expire_timers();
  void deliver_ready();

  OpTable table_;
  TimerHeap timers_;
  std::vector<FdState> fds_;  // by descriptor
  Op* ready_head_ = nullptr;
  Op* ready_tail_ = nullptr;
  std::size_t delivered_ = 0;
  bool running_ = false;
  bool closing_ = false;
  bool abandoned_ = false;
  Handler wake_handler_;
  const std::thread::id thread_ = std::this_thread::get_id();

  OwnedFds owned_;
  std::atomic<int> wake_fd_;
  std::atomic<int> backend_fd_{-1};
  std::atomic<std::uint32_t> bell_{0};  // kRung, kStop
  bool stopped_ = false;
};

}  // namespace setsuna::net
