#include "monitor_door.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "host.hpp"
#include "monitor_facts.hpp"
#include "net/unix_socket.hpp"
#include "runtime/clock.hpp"

namespace setsuna::host {
namespace {

constexpr std::uint64_t kListenAgainNs = 1'000'000'000;

}  // namespace

bool MonitorDoor::wanted(bool* wants, std::string* error) {
  const char* text = std::getenv("SETSUNA_MONITOR");
  const std::string value = text == nullptr || text[0] == '\0' ? "on" : text;
  *wants = value == "on";
  if (value != "on" && value != "off") {
    *error = "the environment variable SETSUNA_MONITOR must be \"on\" or \"off\", not \"" + value + "\"";
    return false;
  }
  return true;
}

bool MonitorDoor::listen() {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) {
    problem_ = std::string("no random name for its socket: ") + std::strerror(errno);
    return false;
  }
  char name[96];
  std::snprintf(name, sizeof(name), "%s%u-%d-%016llx", monitor::kMonitorPrefix, static_cast<unsigned>(::geteuid()),
                static_cast<int>(::getpid()), static_cast<unsigned long long>(random));
  net::Url url;
  url.scheme = net::Scheme::kAbstract;
  url.path = name;
  net::SocketResult socket = net::listen_unix(url, SOCK_SEQPACKET);
  problem_ = socket.message;
  listener_ = std::move(socket.fd);
  return static_cast<bool>(listener_);
}

void MonitorDoor::start(net::Reactor& reactor) {
  reactor_ = &reactor;
  adopted_ = reactor.adopt(listener_.release());
  reactor.accept(adopted_, net::Handler::to<&MonitorDoor::on_visitor>(this));
}

void MonitorDoor::on_listen_again(const net::Completion&) {
  reactor_->accept(adopted_, net::Handler::to<&MonitorDoor::on_visitor>(this));
}

void MonitorDoor::on_visitor(const net::Completion& completion) {
  if (completion.result == -ECANCELED) {
    return;
  }
  if (completion.result < 0) {  // no descriptor was left, most likely
    reactor_->timer(runtime::monotonic_ns() + kListenAgainNs, net::Handler::to<&MonitorDoor::on_listen_again>(this));
    return;
  }
  const int fd = static_cast<int>(completion.result);
  if (!net::peer_is_same_user(fd) || guests_ == kMostGuests) {
    reactor_->close(fd);
    return;
  }
  ++guests_;
  reactor_->watch_readable(fd, net::Handler(&MonitorDoor::on_question, new Guest{this, fd}));
}

void MonitorDoor::on_question(void* context, const net::Completion& completion) {
  auto* guest = static_cast<Guest*>(context);
  MonitorDoor* door = guest->door;
  const bool stays = guest->fd >= 0 && completion.result >= 0 && door->answer_all(guest->fd);
  if (guest->fd >= 0 && (!stays || !completion.more)) {
    door->reactor_->close(guest->fd);  // ends this watch as well
    guest->fd = -1;
  }
  if (!completion.more) {
    --door->guests_;
    delete guest;
  }
}

// False: the guest has left, or does not read its answers.
bool MonitorDoor::answer_all(int fd) {
  for (;;) {
    monitor::MonitorRequest request{};
    const auto buffer = std::as_writable_bytes(std::span(&request, 1));
    const net::ReceivedMessage message = net::receive_message(fd, buffer, net::Blocking::kNo);
    if (message.bytes == -EAGAIN || message.bytes == -EINTR) {
      return true;
    }
    if (message.bytes != static_cast<ssize_t>(sizeof(request))) {
      return false;
    }
    const MonitorAnswer answer = answer_monitor(host_, request);
    const int fds[] = {answer.fd.get()};
    const std::span<const int> given = answer.fd ? std::span<const int>(fds) : std::span<const int>();
    if (answer.bytes.empty() || net::send_message(fd, answer.bytes, given, net::Blocking::kNo) < 0) {
      return false;
    }
  }
}

}  // namespace setsuna::host
