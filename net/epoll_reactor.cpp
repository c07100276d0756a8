#include "net/epoll_reactor.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "net/descriptors.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::net {
namespace {

constexpr int kEvents = 256;                // a round
constexpr std::size_t kBuffer = 64 * 1024;  // bytes a read
constexpr int kReads = 8;                   // a descriptor and round
constexpr int kAccepts = 64;                // a listener and round
constexpr std::uint32_t kTrouble = EPOLLHUP | EPOLLERR;

static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLHUP == POLLHUP && EPOLLERR == POLLERR,
              "completions carry POLL* bits");

std::uint32_t events_of(OpKind kind) noexcept {
  switch (kind) {
    case OpKind::kWatchReadable: return EPOLLIN | EPOLLET;
    case OpKind::kWatchPidfd:
    case OpKind::kAccept:
    case OpKind::kRecv: return EPOLLIN;
    case OpKind::kWatchWritable:
    case OpKind::kSend:
    case OpKind::kConnect: return EPOLLOUT;
    default: return 0;
  }
}

}  // namespace

std::unique_ptr<EpollReactor> EpollReactor::create(std::string& why) {
  runtime::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  runtime::UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !wake) {
    why = std::string(epoll ? "eventfd: " : "epoll_create1: ") + std::strerror(errno);
    return nullptr;
  }
  epoll = runtime::UniqueFd(move_high(epoll.release()));
  return std::make_unique<EpollReactor>(std::move(epoll), std::move(wake));
}

EpollReactor::EpollReactor(runtime::UniqueFd epoll, runtime::UniqueFd wake)
    : ReactorCore(std::move(wake)), epoll_(epoll.release()), buffer_(std::make_unique<std::byte[]>(kBuffer)) {
  set_backend_fd(epoll_);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<std::uint32_t>(wake_fd());
  const int added = ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_fd(), &event);
  SETSUNA_ASSERT(added == 0);
}

EpollReactor::~EpollReactor() {
  if (!abandoned()) {
    end_silently();
    ::close(epoll_);
  }
}

void EpollReactor::prepare(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

// ---- what the kernel is to watch ----

std::uint32_t EpollReactor::interest(int fd) noexcept {
  std::uint32_t events = 0;
  for (Op* op = first_on(fd); op != nullptr; op = op->fd_next) {
    events |= op->active ? events_of(op->kind) : 0;
  }
  return events;
}

// 0 or -errno. A descriptor that nobody waits for is taken out at once: hang-ups are reported for registered ones whether
// asked for or not, and a copy in a forked child would keep a registration alive beyond the close.
int EpollReactor::update(int fd) {
  const auto slot = static_cast<std::size_t>(fd);
  if (slot >= registrations_.size()) {
    registrations_.resize(std::max(slot + 1, registrations_.size() * 2));
  }
  Registration& registration = registrations_[slot];
  const std::uint32_t events = interest(fd);
  if (events == registration.events) {
    return 0;
  }
  epoll_event event{};
  if (events == 0) {
    registration.events = 0;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &event);
    return 0;
  }
  const bool known = registration.events != 0;
  registration.generation += known ? 0 : 1;
  event.events = events;
  event.data.u64 = (std::uint64_t{registration.generation} << 32) | static_cast<std::uint32_t>(fd);
  if (::epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0) {
    return -errno;
  }
  registration.events = events;
  return 0;
}

void EpollReactor::interest_changed(int fd) { update(fd); }

void EpollReactor::start(Op& op) {
  Attempt attempt{true, 0};
  if (op.kind == OpKind::kSend) {
    attempt = try_send(op);
  } else if (op.kind == OpKind::kConnect) {
    attempt = try_connect(op);
  }
  if (!attempt.blocked) {
    make_ready(op, attempt.result);
    return;
  }
  op.active = true;
  if (const int error = update(op.fd); error != 0) {
    make_ready(op, error);
  }
}

void EpollReactor::interrupt(Op& op) { make_ready(op, -ECANCELED); }

EpollReactor::Attempt EpollReactor::try_send(Op& op) {
  while (const msghdr* message = next_message(op)) {
    const ssize_t sent = ::sendmsg(op.fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      advance_send(op, static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      return {true, 0};
    } else if (errno != EINTR) {
      return {false, -errno};
    }
  }
  return {false, op.state.send.done};
}

EpollReactor::Attempt EpollReactor::try_connect(Op& op) {
  const auto& connect = op.state.connect;
  if (::connect(op.fd, reinterpret_cast<const sockaddr*>(&connect.address), connect.length) == 0) {
    return {false, 0};
  }
  return errno == EINPROGRESS || errno == EINTR ? Attempt{true, 0} : Attempt{false, -errno};
}

// ---- what it says ----

int EpollReactor::sleep_until(std::uint64_t deadline_ns, epoll_event* events, int capacity) {
  if (deadline_ns == kNoDeadline) {
    return ::epoll_wait(epoll_, events, capacity, -1);
  }
  const std::uint64_t now = deadline_ns == kDoNotWait ? 0 : runtime::monotonic_ns();
  const std::uint64_t left_ns = deadline_ns > now ? deadline_ns - now : 0;
  if (left_ns == 0) {
    return ::epoll_wait(epoll_, events, capacity, 0);
  }
#ifdef SYS_epoll_pwait2
  const timespec left = runtime::to_timespec(left_ns);
  const long got = ::syscall(SYS_epoll_pwait2, epoll_, events, capacity, &left, nullptr, 0);
  if (got >= 0 || (errno != ENOSYS && errno != EPERM)) {
    return static_cast<int>(got);
  }
#endif
  // Before Linux 5.11, or filtered: whole milliseconds, rounded up so that the timer is due when we return.
  const std::uint64_t left_ms = std::min<std::uint64_t>(left_ns / runtime::kNanosPerMilli + 1, INT_MAX);
  return ::epoll_wait(epoll_, events, capacity, static_cast<int>(left_ms));
}

void EpollReactor::wait(std::uint64_t deadline_ns) {
  epoll_event events[kEvents];
  const int count = sleep_until(deadline_ns, events, kEvents);
  SETSUNA_ASSERT(count >= 0 || errno == EINTR);
  for (int i = 0; i < count; ++i) {
    handle(events[i]);
  }
}

void EpollReactor::handle(const epoll_event& event) {
  const int fd = static_cast<int>(event.data.u64 & 0xffffffffu);
  if (fd == wake_fd()) {
    std::uint64_t count;
    while (::read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
    wake_arrived();
    return;
  }
  const Registration& registration = registrations_[static_cast<std::size_t>(fd)];
  if (registration.events == 0 || registration.generation != event.data.u64 >> 32) {
    return;  // an earlier handler of this round ended it
  }
  // Handlers may end any operation and start others: work from names, and only on those that were there.
  scratch_.clear();
  for (Op* op = first_on(fd); op != nullptr; op = op->fd_next) {
    if (op->active) {
      scratch_.push_back(op->token());
    }
  }
  for (const Token token : scratch_) {
    if (Op* op = find(token); op != nullptr && op->active) {
      handle_op(*op, event.events);
    }
  }
}

void EpollReactor::handle_op(Op& op, std::uint32_t events) {
  if ((events & ((events_of(op.kind) & (EPOLLIN | EPOLLOUT)) | kTrouble)) == 0) {
    return;
  }
  const auto bits = static_cast<std::int64_t>(events & (EPOLLIN | EPOLLOUT | kTrouble));
  switch (op.kind) {
    case OpKind::kWatchReadable: return deliver(op, bits, (events & kTrouble) == 0);
    case OpKind::kWatchWritable:
    case OpKind::kWatchPidfd: return deliver(op, bits, false);
    case OpKind::kAccept: return handle_accept(op.token());
    case OpKind::kRecv: return handle_recv(op.token());
    case OpKind::kConnect: return handle_connect(op);
    case OpKind::kSend:
      if (const Attempt attempt = try_send(op); !attempt.blocked) {
        deliver(op, attempt.result, false);
      }
      return;
    default: SETSUNA_ASSERT(false);
  }
}

void EpollReactor::handle_recv(Token token) {
  for (int reads = 0; reads < kReads; ++reads) {
    Op* op = find(token);
    if (op == nullptr || !op->active) {
      return;
    }
    const ssize_t got = ::recv(op->fd, buffer_.get(), kBuffer, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0 && errno == EAGAIN) {
      return;
    }
    if (got <= 0) {
      return deliver(*op, got == 0 ? 0 : -errno, false);
    }
    const auto size = static_cast<std::size_t>(got);
    deliver(*op, got, true, std::span<const std::byte>(buffer_.get(), size));
    if (size < kBuffer) {
      return;  // most likely all there is; level-triggered, so nothing is lost if not
    }
  }
}

void EpollReactor::handle_accept(Token token) {
  for (int accepts = 0; accepts < kAccepts; ++accepts) {
    Op* op = find(token);
    if (op == nullptr || !op->active) {
      return;
    }
    const int fd = ::accept4(op->fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      deliver(*op, take_accepted(fd), true);
    } else if (errno == EAGAIN) {
      return;
    } else if (!concerns_one_connection(errno)) {
      return deliver(*op, -errno, false);
    }
  }
}

void EpollReactor::handle_connect(Op& op) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(op.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
    error = errno;
  }
  deliver(op, -error, false);
}

}  // namespace setsuna::net
