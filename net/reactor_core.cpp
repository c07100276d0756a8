#include "net/reactor_core.hpp"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "net/descriptors.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::net {

ReactorCore::ReactorCore(runtime::UniqueFd wake_fd) : wake_fd_(move_high(wake_fd.release())) {
  SETSUNA_ASSERT(this->wake_fd() >= 0);
}

ReactorCore::~ReactorCore() {
  if (!abandoned_) {
    ::close(wake_fd());
  }
}

void ReactorCore::assert_on_reactor_thread() const { SETSUNA_ASSERT(thread_ == std::this_thread::get_id()); }

// ---- waking ----

void ReactorCore::wake() noexcept { ring(kRung); }

void ReactorCore::stop() noexcept { ring(kRung | kStop); }

// Touches nothing of the reactor after the write (or, without one, after fetch_or): whoever sees the stop may destroy it.
// That is safe because stop is seen in wake_arrived() only, and the eventfd is readable only when the one ringer that found
// the bell silent has written it.
void ReactorCore::ring(std::uint32_t bits) noexcept {
  const int fd = wake_fd();
  // ORDERING bell: acq_rel on one word by both sides. Found rung: the reactor has yet to take these bits, and its exchange
  // in wake_arrived() acquires what this one released. Found silent: we write.
  const bool rung = (bell_.fetch_or(bits, std::memory_order_acq_rel) & kRung) != 0;
  if (rung || fd < 0) {  // negative: abandoned
    return;
  }
  const int saved_errno = errno;
  const std::uint64_t one = 1;
  // Not ::write: ThreadSanitizer knows no order between a write of a moved descriptor and the close in the destructor, and
  // would report the two. The order is the one above.
  while (::syscall(SYS_write, fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
  errno = saved_errno;
}

void ReactorCore::wake_arrived() {
  // ORDERING bell: acquires what ringers released, and only after the eventfd was read. The other way round a ring between
  // the two would be read away with the bit left set, and every later ringer would believe that one is under way.
  const std::uint32_t bits = bell_.exchange(0, std::memory_order_acq_rel);
  stopped_ = stopped_ || (bits & kStop) != 0;
  if (wake_handler_) {
    ++delivered_;
    wake_handler_(Completion{});
  }
}

void ReactorCore::on_wake(Handler handler) {
  assert_on_reactor_thread();
  wake_handler_ = handler;
}

// ---- running ----

std::size_t ReactorCore::run_once() {
  assert_on_reactor_thread();
  SETSUNA_ASSERT(!running_);  // not from a handler
  running_ = true;
  const std::size_t before = delivered_;
  std::uint64_t deadline = kNoDeadline;
  if (ready_head_ != nullptr) {
    deadline = kDoNotWait;
  } else if (!timers_.empty()) {
    deadline = timers_.top().state.timer.deadline_ns;
  }
  wait(deadline);
  expire_timers();
  deliver_ready();
  running_ = false;
  return delivered_ - before;
}

void ReactorCore::run() {
  while (!stopped_) {
    run_once();
  }
  stopped_ = false;  // run() can be called again
}

void ReactorCore::expire_timers() {
  if (timers_.empty()) {
    return;
  }
  const std::uint64_t now = runtime::monotonic_ns();
  while (!timers_.empty() && timers_.top().state.timer.deadline_ns <= now) {
    Op& op = timers_.top();
    timers_.remove(op);
    make_ready(op, 0);
  }
}

// Only what is queued now: what handlers add waits for the next round, after the kernel's events had their turn.
void ReactorCore::deliver_ready() {
  Op* const last = ready_tail_;
  while (ready_head_ != nullptr) {
    Op& op = *ready_head_;
    const bool at_last = &op == last;
    ready_head_ = op.queue_next;
    if (ready_head_ == nullptr) {
      ready_tail_ = nullptr;
    }
    deliver(op, op.result, false);
    if (at_last) {
      return;
    }
  }
}

// ---- the life of an operation ----

ReactorCore::FdState* ReactorCore::state_of(int fd) noexcept {
  return fd >= 0 && static_cast<std::size_t>(fd) < fds_.size() ? &fds_[static_cast<std::size_t>(fd)] : nullptr;
}

Op* ReactorCore::first_on(int fd) noexcept {
  FdState* state = state_of(fd);
  return state != nullptr ? state->first : nullptr;
}

Op& ReactorCore::begin(OpKind kind, int fd, Handler handler) {
  assert_on_reactor_thread();
  Op& op = table_.acquire(kind, fd, handler);
  FdState* state = state_of(fd);
  if (fd < 0 && kind != OpKind::kTimer) {
    make_ready(op, -EBADF);
  } else if (closing_ || (state != nullptr && state->close != nullptr)) {
    op.fd = -1;  // not an operation on the descriptor: the close does not wait for it
    make_ready(op, -ECANCELED);
  } else if (kind != OpKind::kTimer) {
    link(op);
  }
  return op;
}

Token ReactorCore::launch(Op& op) {
  if (!op.ready) {
    start(op);
  }
  return op.token();
}

ReactorCore::FdState& ReactorCore::room_for(int fd) {
  const auto slot = static_cast<std::size_t>(fd);
  if (slot >= fds_.size()) {
    fds_.resize(std::max(slot + 1, fds_.size() * 2));
  }
  return fds_[slot];
}

void ReactorCore::link(Op& op) {
  Op*& first = room_for(op.fd).first;
  op.fd_next = first;
  if (first != nullptr) {
    first->fd_previous = &op;
  }
  first = &op;
}

void ReactorCore::unlink(Op& op) noexcept {
  FdState* state = state_of(op.fd);
  if (state == nullptr || op.kind == OpKind::kClose) {
    return;
  }
  if (op.fd_previous != nullptr) {
    op.fd_previous->fd_next = op.fd_next;
  } else {
    SETSUNA_ASSERT(state->first == &op);
    state->first = op.fd_next;
  }
  if (op.fd_next != nullptr) {
    op.fd_next->fd_previous = op.fd_previous;
  }
}

// The outcome is known: the kernel (or the heap) has nothing more to say about it.
void ReactorCore::settle(Op& op, std::int64_t result) {
  SETSUNA_ASSERT(!op.ready);
  const bool was_active = op.active;
  op.active = false;
  if (was_active && op.fd >= 0) {
    interest_changed(op.fd);
  }
  FdState* state = state_of(op.fd);
  if (op.kind == OpKind::kSend && state != nullptr && state->send_head == &op) {
    pop_send(*state, op, result);
  }
}

void ReactorCore::make_ready(Op& op, std::int64_t result) {
  settle(op, result);
  op.ready = true;
  op.result = result;
  op.queue_next = nullptr;
  if (ready_tail_ != nullptr) {
    ready_tail_->queue_next = &op;
  } else {
    ready_head_ = &op;
  }
  ready_tail_ = &op;
}

void ReactorCore::deliver(Op& op, std::int64_t result, bool more, std::span<const std::byte> data) {
  const Completion completion{op.token(), result, more, data};
  const Handler handler = op.handler;
  const bool silent = op.silent;
  if (!more) {
    if (!op.ready) {
      settle(op, result);
    }
    finish(op);  // before the call: the handler may start the next operation, or close
  }
  if (!silent && handler) {
    ++delivered_;
    handler(completion);
  }
}

void ReactorCore::deliver_last_early(Op& op, std::int64_t result) {
  const Completion completion{op.token(), result, false, {}};
  const Handler handler = op.handler;
  const bool silent = op.silent;
  op.silent = true;
  end(op);
  if (!silent && handler) {
    ++delivered_;
    handler(completion);
  }
}

void ReactorCore::finish(Op& op) {
  const int fd = op.fd;
  const bool was_close = op.kind == OpKind::kClose;
  unlink(op);
  table_.release(op);
  FdState* state = state_of(fd);
  if (!was_close && state != nullptr && state->close != nullptr && state->first == nullptr) {
    finish_close(fd);
  }
}

// Ends an operation for the user's reasons.
void ReactorCore::end(Op& op) {
  if (op.ready || op.cancelled || op.kind == OpKind::kClose) {
    return;
  }
  op.cancelled = true;
  if (op.kind == OpKind::kTimer) {
    timers_.remove(op);
    make_ready(op, -ECANCELED);
  } else if (op.active) {
    interrupt(op);
  } else if (op.kind == OpKind::kSend) {
    cancel_queued_send(op);
  } else {
    make_ready(op, -ECANCELED);
  }
}

bool ReactorCore::cancel(Token token) {
  assert_on_reactor_thread();
  Op* op = table_.find(token);
  if (op == nullptr || op->silent) {
    return false;
  }
  end(*op);
  return true;
}

bool ReactorCore::forget(Token token) {
  assert_on_reactor_thread();
  Op* op = table_.find(token);
  if (op == nullptr || op->silent) {
    return false;
  }
  SETSUNA_ASSERT(op->kind != OpKind::kSend);  // its bytes are in use
  op->silent = true;
  end(*op);
  return true;
}

// ---- operations ----

Token ReactorCore::watch_readable(int fd, Handler handler) {
  return launch(begin(OpKind::kWatchReadable, fd, handler));
}
Token ReactorCore::watch_writable(int fd, Handler handler) {
  return launch(begin(OpKind::kWatchWritable, fd, handler));
}
Token ReactorCore::watch_pidfd(int pidfd, Handler handler) {
  return launch(begin(OpKind::kWatchPidfd, pidfd, handler));
}

Token ReactorCore::accept(int listener, Handler handler) {
  SETSUNA_ASSERT(listener < 0 || owned_.contains(listener));
  return launch(begin(OpKind::kAccept, listener, handler));
}

Token ReactorCore::recv(int fd, Handler handler) {
  SETSUNA_ASSERT(fd < 0 || owned_.contains(fd));
  return launch(begin(OpKind::kRecv, fd, handler));
}

Token ReactorCore::connect(int fd, const sockaddr* address, socklen_t length, Handler handler) {
  SETSUNA_ASSERT(fd < 0 || owned_.contains(fd));
  SETSUNA_ASSERT(length <= sizeof(sockaddr_storage));
  Op& op = begin(OpKind::kConnect, fd, handler);
  std::memcpy(&op.state.connect.address, address, length);
  op.state.connect.length = length;
  return launch(op);
}

Token ReactorCore::timer(std::uint64_t deadline_ns, Handler handler) {
  Op& op = begin(OpKind::kTimer, -1, handler);
  if (!op.ready) {
    op.state.timer.deadline_ns = std::min(deadline_ns, kNoDeadline - 1);
    timers_.insert(op);
    op.active = true;
  }
  return op.token();
}

// ---- sends: one at a time a descriptor ----

Token ReactorCore::send(int fd, std::span<const iovec> pieces, Handler handler) {
  SETSUNA_ASSERT(fd < 0 || owned_.contains(fd));
  SETSUNA_ASSERT(pieces.size() <= kMaxSendPieces);
  Op& op = begin(OpKind::kSend, fd, handler);
  if (op.ready) {
    return op.token();
  }
  op.state.send = Op::SendState{};
  std::copy(pieces.begin(), pieces.end(), op.state.send.pieces);
  op.state.send.count = pieces.size();
  FdState& state = *state_of(fd);
  if (state.send_tail != nullptr) {
    state.send_tail->state.send.next = &op;
  } else {
    state.send_head = &op;
  }
  state.send_tail = &op;
  pump_sends(fd);
  return op.token();
}

// Starts the head. A loop and not a recursion: each start may settle at once and uncover the next.
void ReactorCore::pump_sends(int fd) {
  FdState& state = *state_of(fd);
  if (state.pumping) {
    return;
  }
  state.pumping = true;
  while (state.send_head != nullptr && !state.send_head->active) {
    start(*state.send_head);
  }
  state.pumping = false;
}

void ReactorCore::pop_send(FdState& state, Op& op, std::int64_t result) {
  Op* next = op.state.send.next;
  if (result < 0) {
    state.send_head = state.send_tail = nullptr;
    while (next != nullptr) {
      Op& failed = *next;
      next = failed.state.send.next;
      make_ready(failed, result);
    }
    return;
  }
  state.send_head = next;
  if (next == nullptr) {
    state.send_tail = nullptr;
  } else {
    pump_sends(op.fd);
  }
}

// The head is active and stays; this one and all behind it end.
void ReactorCore::cancel_queued_send(Op& op) {
  FdState& state = *state_of(op.fd);
  Op* previous = state.send_head;
  while (previous->state.send.next != &op) {
    previous = previous->state.send.next;
    SETSUNA_ASSERT(previous != nullptr);
  }
  previous->state.send.next = nullptr;
  state.send_tail = previous;
  for (Op* it = &op; it != nullptr;) {
    Op& ended = *it;
    it = ended.state.send.next;
    ended.cancelled = true;
    make_ready(ended, -ECANCELED);
  }
}

msghdr* ReactorCore::next_message(Op& op) noexcept {
  Op::SendState& send = op.state.send;
  while (send.count > 0 && send.pieces[send.first].iov_len == 0) {
    ++send.first;
    --send.count;
  }
  if (send.count == 0) {
    return nullptr;
  }
  send.header = msghdr{};
  send.header.msg_iov = &send.pieces[send.first];
  send.header.msg_iovlen = send.count;
  return &send.header;
}

bool ReactorCore::advance_send(Op& op, std::size_t bytes) noexcept {
  Op::SendState& send = op.state.send;
  send.done += static_cast<std::int64_t>(bytes);
  while (send.count > 0) {
    iovec& piece = send.pieces[send.first];
    const std::size_t part = std::min(bytes, piece.iov_len);
    piece.iov_base = static_cast<char*>(piece.iov_base) + part;
    piece.iov_len -= part;
    bytes -= part;
    if (piece.iov_len > 0) {
      return false;
    }
    ++send.first;
    --send.count;
  }
  SETSUNA_ASSERT(bytes == 0);
  return true;
}

// ---- descriptors ----

int ReactorCore::adopt(int fd) {
  assert_on_reactor_thread();
  SETSUNA_ASSERT(fd >= 0);
  const int own = move_high(fd);
  prepare(own);
  owned_.add(own);
  return own;
}

int ReactorCore::take_accepted(int fd) {
  const int own = move_high(fd);
  owned_.add(own);
  return own;
}

Token ReactorCore::close(int fd, Handler handler) {
  assert_on_reactor_thread();
  Op& op = table_.acquire(OpKind::kClose, fd, handler);
  const Token token = op.token();
  if (!owned_.contains(fd)) {
    op.fd = -1;
    make_ready(op, -EBADF);
    return token;
  }
  FdState& state = room_for(fd);
  if (state.close != nullptr) {
    op.fd = -1;
    make_ready(op, -EALREADY);
    return token;
  }
  state.close = &op;
  for (Op* it = state.first; it != nullptr; it = it->fd_next) {
    end(*it);  // none leaves the list before its last completion is delivered
  }
  if (state.first == nullptr) {
    finish_close(fd);
  }
  return token;
}

void ReactorCore::finish_close(int fd) {
  Op& op = *fds_[static_cast<std::size_t>(fd)].close;
  fds_[static_cast<std::size_t>(fd)] = FdState{};
  shut_and_close(fd);
  op.fd = -1;  // the number may be used again before the completion is delivered
  make_ready(op, 0);
}

// shutdown first: a copy of the descriptor in a forked child must not keep the connection open.
void ReactorCore::shut_and_close(int fd) noexcept {
  ::shutdown(fd, SHUT_RDWR);
  owned_.remove(fd);
  ::close(fd);
}

bool ReactorCore::concerns_one_connection(int error) noexcept {
  switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case EINTR:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT: return true;
    default: return false;
  }
}

void ReactorCore::close_adopted() {
  std::vector<int> fds;
  owned_.visit([&fds](int fd) { fds.push_back(fd); });
  for (const int fd : fds) {
    shut_and_close(fd);
  }
}

void ReactorCore::close_all() {
  assert_on_reactor_thread();
  SETSUNA_ASSERT(!closing_);
  closing_ = true;
  table_.for_each([this](Op& op) { end(op); });
  while (table_.live() > 0) {
    run_once();
  }
  close_adopted();
  closing_ = false;
}

void ReactorCore::end_silently() {
  if (abandoned_) {
    return;
  }
  wake_handler_ = {};
  table_.for_each([](Op& op) { op.silent = true; });
  close_all();
}

void ReactorCore::abandon_in_child() noexcept {
  abandoned_ = true;
  owned_.visit([](int fd) { ::close(fd); });
  ::close(backend_fd_.exchange(-1, std::memory_order_relaxed));
  ::close(wake_fd_.exchange(-1, std::memory_order_relaxed));
}

}  // namespace setsuna::net
