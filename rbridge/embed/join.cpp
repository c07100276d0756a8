#include "rbridge/embed/join.hpp"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>
#include <thread>

#include "net/descriptors.hpp"
#include "net/signals.hpp"
#include "net/unix_socket.hpp"
#include "net/url.hpp"
#include "rbridge/embed/build_id.hpp"
#include "rbridge/embed/zygote_wire.hpp"
#include "runtime/layout.hpp"

namespace setsuna::embed {
namespace {

std::atomic<std::uint32_t> hosts_joined{0};

bool exchange(int fd, const std::string& url, net::ReceivedMessage* message, JoinReply* reply, std::string* error,
              bool* retry) {
  JoinRequest request{};
  request.magic = kJoinMagic;
  request.version = kJoinVersion;
  request.layout_hash = runtime::kLayoutHash;
  request.build_id[0] = build_id().low;
  request.build_id[1] = build_id().high;
  request.pid = ::getpid();
  ssize_t sent = 0;
  do {
    sent = net::send_message(fd, std::as_bytes(std::span(&request, 1)), {}, net::Blocking::kYes);
  } while (sent == -EINTR);
  if (sent < 0) {
    *error = "the host at '" + url + "' hung up: " + std::strerror(static_cast<int>(-sent));
    *retry = sent == -EPIPE || sent == -ECONNRESET;
    return false;
  }
  do {
    *message = net::receive_message(fd, std::as_writable_bytes(std::span(reply, 1)), net::Blocking::kYes);
  } while (message->bytes == -EINTR);
  if (message->bytes == 0 || message->bytes == -ECONNRESET) {
    *error = "the host at '" + url + "' hung up: it was just reset";
    *retry = true;
    return false;
  }
  if (message->bytes != static_cast<ssize_t>(sizeof(JoinReply)) || reply->magic != kJoinMagic) {
    *error = "what listens at '" + url + "' is not a setsuna host of this version";
    return false;
  }
  reply->message[sizeof(reply->message) - 1] = '\0';
  if (reply->welcome == 0) {
    *error = "the host at '" + url + "' refused: " + reply->message;
    return false;
  }
  return true;
}

}  // namespace

bool join_profile(const std::string& url, Joined* joined, std::string* error, bool* retry) {
  *retry = false;
  const net::ParsedUrl parsed = net::parse_url(url);
  if (!parsed.url) {
    *error = parsed.error;
    return false;
  }
  if (!parsed.url->is_local()) {
    *error =
        "'" + url + "' is on the network: this version joins hosts of the same machine only, at abstract:// or ipc://";
    return false;
  }
  net::SocketResult socket = net::connect_unix(*parsed.url, SOCK_SEQPACKET);
  if (!socket) {
    *error = socket.message;
    *retry = socket.error == ECONNREFUSED || socket.error == ENOENT;
    return false;
  }
  net::ReceivedMessage message;
  if (!exchange(socket.fd.get(), url, &message, &joined->reply, error, retry)) {
    return false;
  }
  if (message.fd_count != kJoinFds) {
    *error = "the host at '" + url + "' sent no shared memory";
    return false;
  }
  runtime::UniqueFd* to[kJoinFds] = {&joined->segment, &joined->host_page, &joined->doorbell, &joined->host_pidfd};
  for (std::size_t i = 0; i < kJoinFds; ++i) {
    *to[i] = runtime::UniqueFd(net::move_high(message.fds[i].release()));
  }
  return true;
}

void watch_host(runtime::UniqueFd host_pidfd, bool interrupt, int raise_signal) {
  const pthread_t main_thread = ::pthread_self();
  const int fd = host_pidfd.release();
  const std::uint32_t host = hosts_joined.fetch_add(1, std::memory_order_relaxed) + 1;
  const net::SignalsBlocked blocked;
  std::thread([=] {
    pollfd entry{fd, POLLIN, 0};
    while (::poll(&entry, 1, -1) < 0 && errno == EINTR) {
    }
    ::close(fd);
    if (hosts_joined.load(std::memory_order_relaxed) != host) {
      return;  // this daemon has found another host since
    }
    ::pthread_kill(main_thread, host_gone_signal());
    if (interrupt) {
      ::pthread_kill(main_thread, SIGINT);
    }
    if (raise_signal > 0) {
      ::pthread_kill(main_thread, raise_signal);
    }
  }).detach();
}

}  // namespace setsuna::embed
