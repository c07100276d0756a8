#include "rbridge/monitor/view/metrics_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "rbridge/monitor/view/http_request.hpp"
#include "rbridge/monitor/view/peer_owner.hpp"
#include "runtime/clock.hpp"

namespace setsuna::monitor {
namespace {

constexpr std::uint64_t kPatienceNs = 5'000'000'000;  // with one peer
constexpr int kBacklog = 64;

}  // namespace

std::uint16_t MetricsServer::listen(std::uint16_t port, std::string* error) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  const int on = 1;
  listener_ = runtime::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_ || ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(listener_.get(), generic, length) != 0 || ::listen(listener_.get(), kBacklog) != 0 ||
      ::getsockname(listener_.get(), generic, &length) != 0) {
    const int cause = errno;
    *error = "cannot listen at 127.0.0.1, port " + std::to_string(port) + ": " + std::strerror(cause) +
             (cause == EADDRINUSE ? "; choose another --port" : "");
    return 0;
  }
  return ntohs(address.sin_port);
}

// Who it is, is asked at once: of a connection that its peer closes, the kernel forgets the owner.
void MetricsServer::accept_one() {
  runtime::UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) {
    return;
  }
  Peer peer{std::move(fd), runtime::monotonic_ns() + kPatienceNs, {}, {}};
  if (peer_owner(peer.fd.get()) != static_cast<std::uint32_t>(::geteuid())) {
    peer.response = make_response(403, {}, false);
  }
  peers_.push_back(std::move(peer));
}

// False: it is done with.
bool MetricsServer::read_some(Peer* peer) {
  char buffer[2048];
  const ssize_t got = ::recv(peer->fd.get(), buffer, sizeof(buffer), 0);
  if (got <= 0) {
    return got < 0 && (errno == EAGAIN || errno == EINTR);
  }
  if (!peer->response.empty()) {
    return true;  // nobody reads it
  }
  peer->request.append(buffer, static_cast<std::size_t>(got));
  if (is_complete(peer->request)) {
    bool head = false;
    const int status = judge_request(peer->request, &head);
    peer->response = make_response(status, status == 200 ? body_() : std::string(), head);
  } else if (peer->request.size() > kRequestBytesMax) {
    peer->response = make_response(400, {}, false);
  }
  return true;
}

bool MetricsServer::send_some(Peer* peer) {
  while (!peer->answered && !peer->response.empty()) {
    const ssize_t sent =
        ::send(peer->fd.get(), peer->response.data() + peer->sent, peer->response.size() - peer->sent, MSG_NOSIGNAL);
    if (sent < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    peer->sent += static_cast<std::size_t>(sent);
    if (peer->sent == peer->response.size()) {
      ::shutdown(peer->fd.get(), SHUT_WR);
      peer->answered = true;
    }
  }
  return true;
}

bool MetricsServer::serve(Peer* peer) { return read_some(peer) && send_some(peer); }

int MetricsServer::wait_ms() const {
  std::uint64_t first = 0;
  for (const Peer& peer : peers_) {
    first = first == 0 ? peer.deadline_ns : std::min(first, peer.deadline_ns);
  }
  const std::uint64_t now = runtime::monotonic_ns();
  return first == 0 ? -1 : first <= now ? 0 : static_cast<int>((first - now) / 1'000'000) + 1;
}

void MetricsServer::run(int stop_fd) {
  for (;;) {
    std::vector<pollfd> waiting{{stop_fd, POLLIN, 0}};
    waiting.push_back({peers_.size() < kMostPeers ? listener_.get() : -1, POLLIN, 0});
    for (const Peer& peer : peers_) {
      const bool sends = !peer.response.empty() && !peer.answered;
      waiting.push_back({peer.fd.get(), static_cast<short>(POLLIN | (sends ? POLLOUT : 0)), 0});
    }
    if (::poll(waiting.data(), waiting.size(), wait_ms()) < 0 && errno != EINTR) {
      return;
    }
    if (waiting[0].revents != 0) {
      return;
    }
    const std::uint64_t now = runtime::monotonic_ns();
    std::size_t i = 2;  // behind those two
    std::erase_if(peers_, [&](Peer& peer) {
      const bool ready = waiting[i++].revents != 0;
      return now >= peer.deadline_ns || (ready && !serve(&peer));
    });
    if (waiting[1].revents != 0) {
      accept_one();
    }
  }
}

}  // namespace setsuna::monitor
