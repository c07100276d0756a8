#include "tests/net/fault_proxy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runtime/clock.hpp"

namespace setsuna::net {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  out.sin_port = htons(port);
  return out;
}

void at_once(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

FaultProxy::FaultProxy(std::uint16_t target_port)
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      target_(target_port) {
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener_.get(), 128) != 0 ||
      ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::system_error(errno, std::generic_category(), "a proxy for faults");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread(&FaultProxy::main, this);
}

FaultProxy::~FaultProxy() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  wake();
  thread_.join();
  for (Connection& connection : connections_) {
    reset(connection);
  }
}

void FaultProxy::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void FaultProxy::delay(std::uint64_t ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  weather_.delay_ns = ns;
  wake();
}

void FaultProxy::limit(std::uint64_t bytes_per_s) {
  const std::lock_guard<std::mutex> lock(mutex_);
  weather_.bytes_per_s = bytes_per_s;
  wake();
}

void FaultProxy::strike(const Fault& fault) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Connection& connection : connections_) {
    (fault.way == Fault::Way::kUp ? connection.up : connection.down).strike(fault);
  }
}

void FaultProxy::strike_next(const Fault& fault) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for_next_.push_back(fault);
}

void FaultProxy::freeze() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Connection& connection : connections_) {
    connection.frozen = true;
  }
  wake();
}

void FaultProxy::cut() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Connection& connection : connections_) {
    reset(connection);
    connection.over = true;
  }
  wake();
}

std::size_t FaultProxy::connections() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<std::size_t>(std::count_if(connections_.begin(), connections_.end(),
                                                [](const Connection& c) { return !c.frozen && !c.over; }));
}

void FaultProxy::reset(Connection& connection) {
  for (runtime::UniqueFd* fd : {&connection.near, &connection.far}) {
    const linger abort{1, 0};
    ::setsockopt(fd->get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    fd->reset();
  }
}

// --- The thread --------------------------------------------------------------------------------------------

void FaultProxy::main() {
  while (round()) {
  }
}

bool FaultProxy::round() {
  std::vector<pollfd> wanted{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
  std::uint64_t next = FaultPipe::kNever;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ended_) {
      return false;
    }
    const std::uint64_t now = runtime::monotonic_ns();
    for (const Connection& c : connections_) {
      if (c.frozen) {
        continue;
      }
      const auto events = [&](const FaultPipe& in, const FaultPipe& out) {
        return static_cast<short>((in.wants_input() ? POLLIN : 0) | (out.has_output(weather_, now) ? POLLOUT : 0));
      };
      const auto watch = [&](const runtime::UniqueFd& fd, short wants) {
        wanted.push_back({wants != 0 ? fd.get() : -1, wants, 0});  // poll() reports a hang-up even to who wants nothing
      };
      watch(c.near, events(c.up, c.down));
      watch(c.far, events(c.down, c.up));
      for (const FaultPipe* pipe : {&c.up, &c.down}) {
        // One that is due waits for room, which poll() sees.
        const std::uint64_t at = pipe->next_ns(weather_);
        next = at > now ? std::min(next, at) : next;
      }
    }
    next = next == FaultPipe::kNever ? next : next - now;
  }
  // Rounded up: not early, over and over.
  const int limit_ms =
      next == FaultPipe::kNever ? -1 : static_cast<int>(std::min<std::uint64_t>(next / 1'000'000 + 1, 60'000));
  ::poll(wanted.data(), wanted.size(), limit_ms);
  std::uint64_t told = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &told, sizeof told);
  const std::lock_guard<std::mutex> lock(mutex_);
  welcome();
  for (Connection& connection : connections_) {
    if (!connection.frozen && !connection.over) {
      move(connection);
    }
  }
  connections_.remove_if([](const Connection& connection) { return connection.over; });
  return true;
}

void FaultProxy::welcome() {
  for (;;) {
    runtime::UniqueFd near(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!near) {
      return;
    }
    runtime::UniqueFd far(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(target_);
    if (::connect(far.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      continue;  // the dialler sees an end without a word
    }
    at_once(near.get());
    at_once(far.get());
    Connection& made = connections_.emplace_back();
    made.near = std::move(near);
    made.far = std::move(far);
    for (const Fault& fault : for_next_) {
      (fault.way == Fault::Way::kUp ? made.up : made.down).strike(fault);
    }
    for_next_.clear();
  }
}

void FaultProxy::move(Connection& connection) {
  const std::uint64_t now = runtime::monotonic_ns();
  const FaultPipe::State up = connection.up.move(connection.near.get(), connection.far.get(), weather_, now);
  const FaultPipe::State down = connection.down.move(connection.far.get(), connection.near.get(), weather_, now);
  const bool broken = up == FaultPipe::State::kBroken || down == FaultPipe::State::kBroken;
  connection.over = broken || (up == FaultPipe::State::kOver && down == FaultPipe::State::kOver);
  if (connection.over) {
    connection.near.reset();
    connection.far.reset();
  }
}

}  // namespace setsuna::net
