#include "net/uring_reactor.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "net/descriptors.hpp"
#include "net/unix_socket.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::net {
namespace {

constexpr unsigned kSubmissions = 256;
constexpr unsigned kCompletions = 4096;                      // more are kept by the kernel until there is room
constexpr std::size_t kMaxSendBytes = std::size_t{1} << 30;  // a request; its length and result are 32 bits wide
constexpr int kTrouble = POLLHUP | POLLERR | POLLNVAL;

// user_data that is no token (tokens have a generation, the low 32 bits, that is not 0).
constexpr std::uint64_t kIgnored = 0;
constexpr std::uint64_t kWake = std::uint64_t{1} << 32;
constexpr std::uint64_t kTrial = std::uint64_t{2} << 32;

struct SetUp {
  unsigned flags;
  const char* description;
};

// By RingKind. DEFER_TASKRUN: completions are worked on when the reactor asks, not in the middle of its computing.
constexpr std::array<SetUp, 4> kSetUps = {{
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, "single issuer, deferred task work"},
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN, "single issuer, cooperative task work"},
    {IORING_SETUP_COOP_TASKRUN, "cooperative task work"},
    {0, "plain ring"},
}};

constexpr std::array<int, 8> kOpcodes = {IORING_OP_READ,    IORING_OP_POLL_ADD,    IORING_OP_ACCEPT,
                                         IORING_OP_CONNECT, IORING_OP_SENDMSG,     IORING_OP_SEND,
                                         IORING_OP_RECV,    IORING_OP_ASYNC_CANCEL};

std::string refusal(int error) {
  std::string text = std::string("io_uring_setup: ") + std::strerror(error);
  switch (error) {
    case EPERM:
    case EACCES: return text + " (refused: a container's seccomp filter or the sysctl kernel.io_uring_disabled)";
    case ENOSYS: return text + " (the kernel has no io_uring)";
    case ENOMEM: return text + " (the limit of locked memory, ulimit -l)";
    default: return text;
  }
}

__kernel_timespec to_kernel(std::uint64_t ns) noexcept {
  return {static_cast<long long>(ns / runtime::kNanosPerSecond), static_cast<long long>(ns % runtime::kNanosPerSecond)};
}

}  // namespace

// ---- opening ----

std::unique_ptr<UringReactor> UringReactor::create(std::string& why, const RingOptions& options) {
  runtime::UniqueFd wake(::eventfd(0, EFD_CLOEXEC));  // blocking mode: a read on the ring waits instead of failing
  if (!wake) {
    why = std::string("eventfd: ") + std::strerror(errno);
    return nullptr;
  }
  auto reactor = std::make_unique<UringReactor>(std::move(wake));
  return reactor->open(why, options) ? std::move(reactor) : nullptr;
}

UringReactor::UringReactor(runtime::UniqueFd wake) : ReactorCore(std::move(wake)) {}

bool UringReactor::open(std::string& why, const RingOptions& options) {
  std::string description;
  if (!set_up_ring(description, options.best)) {
    why = description;
    return false;
  }
  if (!probe(why, options.send_zc_bytes) || !buffers_.open(&ring_, why) || !try_out(why)) {
    ::io_uring_queue_exit(&ring_);
    return false;
  }
  set_backend_fd(ring_.ring_fd);
  start_wake();
  submit();
  open_ = true;
  why = description;
  if (send_zc_bytes_ > 0) {
    why += "; sends from " + std::to_string(send_zc_bytes_) + " bytes on without a copy";
  }
  return true;
}

bool UringReactor::set_up_ring(std::string& why, RingKind best) {
  for (auto kind = static_cast<std::size_t>(best); kind < kSetUps.size(); ++kind) {
    const SetUp& set_up = kSetUps[kind];
    io_uring_params params{};
    params.flags = set_up.flags | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = kCompletions;
    const int error = ::io_uring_queue_init_params(kSubmissions, &ring_, &params);
    if (error == 0) {
      const int high = move_high(ring_.ring_fd);
      ring_.ring_fd = ring_.enter_ring_fd = high;
      ::io_uring_ring_dontfork(&ring_);
      why = set_up.description;
      return true;
    }
    why = refusal(-error);
    if (error != -EINVAL) {  // EINVAL: an older kernel does not know a flag
      return false;
    }
  }
  return false;
}

bool UringReactor::probe(std::string& why, std::size_t send_zc_bytes) {
  constexpr unsigned kFeatures = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL;
  if ((ring_.features & kFeatures) != kFeatures) {
    why = "io_uring of this kernel lacks features (Linux 6.0 has them)";
    return false;
  }
  io_uring_probe* probe = ::io_uring_get_probe_ring(&ring_);
  bool all = probe != nullptr;
  for (const int opcode : kOpcodes) {
    all = all && ::io_uring_opcode_supported(probe, opcode) != 0;
  }
  if (all && ::io_uring_opcode_supported(probe, IORING_OP_SEND_ZC) != 0 &&
      ::io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC) != 0) {
    send_zc_bytes_ = send_zc_bytes;
  }
  ::io_uring_free_probe(probe);
  if (!all) {
    why = "io_uring of this kernel lacks operations, or they are disabled (Linux 6.0 has them)";
  }
  return all;
}

// A multishot receive that takes a byte and then the end of the stream: the newest of what is needed, all together.
bool UringReactor::try_out(std::string& why) {
  runtime::UniqueFd near;
  runtime::UniqueFd far;
  if (const int error = socket_pair(SOCK_STREAM, near, far); error != 0) {
    why = std::string("socketpair: ") + std::strerror(-error);
    return false;
  }
  io_uring_sqe* entry = next_entry();
  ::io_uring_prep_recv_multishot(entry, near.get(), nullptr, 0, 0);
  entry->flags |= IOSQE_BUFFER_SELECT;
  entry->buf_group = BufferRing::kGroup;
  ::io_uring_sqe_set_data64(entry, kTrial);
  bool good = ::send(far.get(), "", 1, MSG_NOSIGNAL) == 1;
  for (int step = 0; good && step < 2; ++step) {
    io_uring_cqe* completion = nullptr;
    __kernel_timespec patience = to_kernel(5 * runtime::kNanosPerSecond);
    const int got = ::io_uring_submit_and_wait_timeout(&ring_, &completion, 1, &patience, nullptr);
    if (got < 0 || completion == nullptr) {
      good = false;
      break;
    }
    const bool more = (completion->flags & IORING_CQE_F_MORE) != 0;
    const bool buffer = (completion->flags & IORING_CQE_F_BUFFER) != 0;
    good = step == 0 ? completion->res == 1 && more && buffer : completion->res == 0 && !more;
    if (buffer) {
      buffers_.recycle(completion->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    ::io_uring_cqe_seen(&ring_, completion);
    far.reset();
  }
  if (!good) {
    why = "io_uring of this kernel lacks multishot receive (Linux 6.0 has it)";
  }
  return good;
}

UringReactor::~UringReactor() {
  if (abandoned() || !open_) {
    return;
  }
  end_silently();
  end_wake();
  ::io_uring_queue_exit(&ring_);
}

// Requests on a non-blocking descriptor may fail with EAGAIN instead of waiting, depending on request and kernel.
void UringReactor::prepare(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

// ---- submitting ----

io_uring_sqe* UringReactor::next_entry() {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    submit();
    entry = ::io_uring_get_sqe(&ring_);
  }
  SETSUNA_ASSERT(entry != nullptr);
  return entry;
}

void UringReactor::submit() {
  int result;
  do {
    result = ::io_uring_submit(&ring_);
  } while (result == -EINTR);
  SETSUNA_ASSERT(result >= 0);
}

void UringReactor::start(Op& op) {
  if (op.kind == OpKind::kSend) {
    if (!start_send(op)) {
      make_ready(op, op.state.send.done);
    }
    return;
  }
  io_uring_sqe* entry = next_entry();
  switch (op.kind) {
    case OpKind::kWatchReadable: ::io_uring_prep_poll_multishot(entry, op.fd, POLLIN); break;
    case OpKind::kWatchWritable: ::io_uring_prep_poll_add(entry, op.fd, POLLOUT); break;
    case OpKind::kWatchPidfd: ::io_uring_prep_poll_add(entry, op.fd, POLLIN); break;
    case OpKind::kAccept: ::io_uring_prep_multishot_accept(entry, op.fd, nullptr, nullptr, SOCK_CLOEXEC); break;
    case OpKind::kRecv: start_recv(entry, op); break;
    case OpKind::kConnect:
      ::io_uring_prep_connect(entry, op.fd, reinterpret_cast<const sockaddr*>(&op.state.connect.address),
                              op.state.connect.length);
      break;
    default: SETSUNA_ASSERT(false);
  }
  ::io_uring_sqe_set_data64(entry, op.token().value);
  op.active = true;
}

void UringReactor::start_recv(io_uring_sqe* entry, const Op& op) {
  ::io_uring_prep_recv_multishot(entry, op.fd, nullptr, 0, 0);
  entry->flags |= IOSQE_BUFFER_SELECT;
  entry->buf_group = BufferRing::kGroup;
}

// False: nothing is left to send. MSG_WAITALL: the kernel goes on by itself when only part of it went out.
bool UringReactor::start_send(Op& op) {
  const msghdr* message = next_message(op);
  if (message == nullptr) {
    return false;
  }
  io_uring_sqe* entry = next_entry();
  const iovec& first = message->msg_iov[0];
  const bool uncopied = may_skip_copy(op, *message);
  if (message->msg_iovlen == 1 || first.iov_len > kMaxSendBytes) {
    const std::size_t bytes = std::min(first.iov_len, kMaxSendBytes);
    if (uncopied) {
      ::io_uring_prep_send_zc(entry, op.fd, first.iov_base, bytes, MSG_NOSIGNAL | MSG_WAITALL, 0);
    } else {
      ::io_uring_prep_send(entry, op.fd, first.iov_base, bytes, MSG_NOSIGNAL | MSG_WAITALL);
    }
  } else if (uncopied) {
    ::io_uring_prep_sendmsg_zc(entry, op.fd, message, MSG_NOSIGNAL | MSG_WAITALL);
  } else {
    ::io_uring_prep_sendmsg(entry, op.fd, message, MSG_NOSIGNAL | MSG_WAITALL);
  }
  ::io_uring_sqe_set_data64(entry, op.token().value);
  op.active = true;
  return true;
}

bool UringReactor::may_skip_copy(const Op& op, const msghdr& message) const {
  if (send_zc_bytes_ == 0 || op.state.send.must_copy) {
    return false;
  }
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < message.msg_iovlen; ++i) {
    bytes += message.msg_iov[i].iov_len;
  }
  return bytes >= send_zc_bytes_;
}

void UringReactor::interrupt(Op& op) {
  if (op.kind == OpKind::kSend && op.state.send.in_use_by_kernel) {
    // It is under way, and a peer that has gone silent would let us wait for its acknowledgement. Disconnecting makes the
    // kernel drop what it holds; the stream is torn anyway.
    sockaddr nowhere{};
    nowhere.sa_family = AF_UNSPEC;
    static_cast<void>(::connect(op.fd, &nowhere, sizeof nowhere));
    return;
  }
  io_uring_sqe* entry = next_entry();
  ::io_uring_prep_cancel64(entry, op.token().value, 0);
  ::io_uring_sqe_set_data64(entry, kIgnored);
}

// The eventfd is read by the ring itself: one system call less for each wake.
void UringReactor::start_wake() {
  io_uring_sqe* entry = next_entry();
  ::io_uring_prep_read(entry, wake_fd(), &wake_count_, sizeof wake_count_, 0);
  ::io_uring_sqe_set_data64(entry, kWake);
}

// The kernel holds the address of wake_count_ until then.
void UringReactor::end_wake() {
  io_uring_sqe* entry = next_entry();
  ::io_uring_prep_cancel64(entry, kWake, 0);
  ::io_uring_sqe_set_data64(entry, kIgnored);
  for (bool ended = false; !ended;) {
    const int result = ::io_uring_submit_and_wait(&ring_, 1);
    SETSUNA_ASSERT(result >= 0 || result == -EINTR);
    io_uring_cqe* completion;
    while (::io_uring_peek_cqe(&ring_, &completion) == 0) {
      ended = ended || completion->user_data == kWake;
      ::io_uring_cqe_seen(&ring_, completion);
    }
  }
}

// ---- completions ----

void UringReactor::wait(std::uint64_t deadline_ns) {
  int result;
  io_uring_cqe* completion = nullptr;
  if (deadline_ns == kDoNotWait) {
    result = ::io_uring_submit_and_get_events(&ring_);
  } else if (deadline_ns == kNoDeadline) {
    result = ::io_uring_submit_and_wait(&ring_, 1);
  } else {
    const std::uint64_t now = runtime::monotonic_ns();
    __kernel_timespec left = to_kernel(deadline_ns > now ? deadline_ns - now : 0);
    result = ::io_uring_submit_and_wait_timeout(&ring_, &completion, 1, &left, nullptr);
  }
  SETSUNA_ASSERT(result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY);

  // Until the queue is empty, but not for ever: timers want their turn.
  for (unsigned i = 0; i < kCompletions && ::io_uring_peek_cqe(&ring_, &completion) == 0; ++i) {
    const io_uring_cqe copy = *completion;
    ::io_uring_cqe_seen(&ring_, completion);
    handle(copy);
  }
  restart_starved();
}

// ENOBUFS ended them; by now every buffer is back. The first of them may take all again, as it did when it was the first to
// find none: it comes last.
void UringReactor::restart_starved() {
  if (starved_.empty()) {
    return;
  }
  buffers_.starved(starved_.size());
  std::rotate(starved_.begin(), starved_.begin() + 1, starved_.end());
  for (const Token token : starved_) {
    restart(token);
  }
  starved_.clear();
}

void UringReactor::handle(const io_uring_cqe& completion) {
  if (completion.user_data == kIgnored) {
    return;
  }
  if (completion.user_data == kWake) {
    SETSUNA_ASSERT(completion.res == sizeof wake_count_ || completion.res == -EINTR);
    wake_arrived();
    start_wake();
    return;
  }
  if (Op* op = find(Token{completion.user_data}); op != nullptr) {
    handle_op(*op, completion.res, completion.flags);
  }
  if ((completion.flags & IORING_CQE_F_BUFFER) != 0) {
    buffers_.recycle(completion.flags >> IORING_CQE_BUFFER_SHIFT);
  }
}

void UringReactor::handle_op(Op& op, int result, unsigned flags) {
  const Token token = op.token();
  op.active = (flags & IORING_CQE_F_MORE) != 0;
  if (op.cancelled && result == -EINTR) {
    result = -ECANCELED;  // it was in the middle of a blocking call
  }
  switch (op.kind) {
    case OpKind::kWatchReadable: handle_watch(op, result); break;
    case OpKind::kAccept: handle_accept(op, result); break;
    case OpKind::kRecv:
      if (result == -ENOBUFS) {
        starved_.push_back(token);
        return;
      }
      handle_recv(op, result, flags);
      break;
    case OpKind::kSend:
      if (handle_uncopied(op, &result, flags)) {
        return;
      }
      handle_send(op, result);
      break;
    default: deliver(op, result, false); break;
  }
  restart(token);
}

// An operation that goes on, but that the kernel has let go of.
void UringReactor::restart(Token token) {
  Op* op = find(token);
  if (op == nullptr || op->active || op->ready) {
    return;
  }
  if (op->cancelled) {
    make_ready(*op, -ECANCELED);
  } else {
    start(*op);
  }
}

void UringReactor::handle_watch(Op& op, int result) {
  const bool last = result < 0 || (result & kTrouble) != 0;
  if (last && op.active) {
    deliver_last_early(op, result);
  } else {
    deliver(op, result, !last);
  }
}

void UringReactor::handle_accept(Op& op, int result) {
  if (result >= 0 && op.silent) {
    ::close(result);
  } else if (result >= 0) {
    deliver(op, take_accepted(result), true);
  } else if (!concerns_one_connection(-result)) {
    deliver(op, result, false);
  }
}

void UringReactor::handle_recv(Op& op, int result, unsigned flags) {
  if (result > 0) {
    SETSUNA_ASSERT((flags & IORING_CQE_F_BUFFER) != 0);
    deliver(op, result, true, buffers_.view(flags >> IORING_CQE_BUFFER_SHIFT, static_cast<std::size_t>(result)));
  } else {
    deliver(op, result, false);
  }
}

// Without a copy there are two completions: the outcome, and later the notice that the bytes are not needed any more. True:
// the send is not over yet. Else `result` is its outcome.
bool UringReactor::handle_uncopied(Op& op, int* result, unsigned flags) {
  Op::SendState& send = op.state.send;
  if ((flags & IORING_CQE_F_NOTIF) != 0) {
    send.in_use_by_kernel = false;
    *result = send.outcome;
  } else if ((flags & IORING_CQE_F_MORE) != 0) {
    send.in_use_by_kernel = true;
    send.outcome = *result;
    if (op.cancelled) {
      interrupt(op);
    }
    return true;
  }
  if (*result == -EOPNOTSUPP && !send.must_copy && send_zc_bytes_ > 0) {  // not on this kind of socket
    send.must_copy = true;
    restart(op.token());
    return true;
  }
  return false;
}

void UringReactor::handle_send(Op& op, int result) {
  if (result < 0) {
    deliver(op, result, false);
  } else if (advance_send(op, static_cast<std::size_t>(result))) {
    deliver(op, op.state.send.done, false);
  } else if (op.cancelled) {
    deliver(op, -ECANCELED, false);
  } else {
    const bool started = start_send(op);
    SETSUNA_ASSERT(started);
  }
}

}  // namespace setsuna::net
