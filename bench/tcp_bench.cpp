// What the loopback itself costs, without any of ours: the floor of every remote call. And nng and ZeroMQ over the same
// loopback, where they are installed.

#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<nng/nng.h>)
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#define HAVE_NNG 1
#endif
#if __has_include(<zmq.h>)
#include <zmq.h>
#define HAVE_ZMQ 1
#endif

namespace {

constexpr std::size_t kMessageBytes = 64;
constexpr std::size_t kBulkBytes = 80'000'000;

void must(bool holds) {
  if (!holds) {
    std::abort();
  }
}

bool send_all(int fd, const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
    if (sent <= 0) {
      return false;
    }
    bytes += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t got = ::recv(fd, bytes, count, 0);
    if (got <= 0) {
      return false;
    }
    bytes += got;
    count -= static_cast<std::size_t>(got);
  }
  return true;
}

// A blocking connection over the loopback to a thread that sends back each message whole.
class EchoPair {
 public:
  explicit EchoPair(std::size_t message_bytes) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    must(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0 && ::listen(listener, 1) == 0 &&
         ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    near_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(::connect(near_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    far_ = ::accept(listener, nullptr, nullptr);
    ::close(listener);
    const int on = 1;
    ::setsockopt(near_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::setsockopt(far_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    thread_ = std::thread([this, message_bytes] {
      std::vector<char> buffer(message_bytes);
      while (receive_all(far_, buffer.data(), buffer.size()) && send_all(far_, buffer.data(), buffer.size())) {
      }
    });
  }
  ~EchoPair() {
    ::shutdown(near_, SHUT_RDWR);
    thread_.join();
    ::close(near_);
    ::close(far_);
  }
  EchoPair(const EchoPair&) = delete;
  EchoPair& operator=(const EchoPair&) = delete;

  int fd() const { return near_; }

 private:
  int near_ = -1;
  int far_ = -1;
  std::thread thread_;
};

void echo(benchmark::State& state, std::size_t bytes) {
  EchoPair pair(bytes);
  std::vector<char> buffer(bytes, 'x');
  for (auto _ : state) {
    must(send_all(pair.fd(), buffer.data(), bytes) && receive_all(pair.fd(), buffer.data(), bytes));
  }
}

void tcp_ping_pong(benchmark::State& state) { echo(state, kMessageBytes); }
BENCHMARK(tcp_ping_pong)->UseRealTime();

// There and back, one after the other, as an argument goes and a result comes.
void tcp_echo_80MB(benchmark::State& state) { echo(state, kBulkBytes); }
BENCHMARK(tcp_echo_80MB)->UseRealTime();

#ifdef HAVE_NNG
void nng_ping_pong(benchmark::State& state) {
  nng_socket rep;
  nng_socket req;
  nng_listener listener;
  must(nng_rep0_open(&rep) == 0 && nng_listen(rep, "tcp://127.0.0.1:0", &listener, 0) == 0);
  nng_sockaddr address;
  must(nng_listener_getopt_sockaddr(listener, NNG_OPT_LOCADDR, &address) == 0);
  const std::string url = "tcp://127.0.0.1:" + std::to_string(ntohs(address.s_in.sa_port));
  must(nng_req0_open(&req) == 0 && nng_dial(req, url.c_str(), nullptr, 0) == 0);
  std::thread server([&] {
    char buffer[kMessageBytes];
    for (;;) {
      std::size_t bytes = sizeof(buffer);
      if (nng_recv(rep, buffer, &bytes, 0) != 0 || nng_send(rep, buffer, bytes, 0) != 0) {
        return;
      }
    }
  });
  char buffer[kMessageBytes] = {};
  for (auto _ : state) {
    std::size_t bytes = sizeof(buffer);
    must(nng_send(req, buffer, sizeof(buffer), 0) == 0 && nng_recv(req, buffer, &bytes, 0) == 0);
  }
  nng_close(req);
  nng_close(rep);
  server.join();
}
BENCHMARK(nng_ping_pong)->UseRealTime();
#endif

#ifdef HAVE_ZMQ
void zmq_ping_pong(benchmark::State& state) {
  void* context = zmq_ctx_new();
  void* rep = zmq_socket(context, ZMQ_REP);
  void* req = zmq_socket(context, ZMQ_REQ);
  char url[128];
  std::size_t url_bytes = sizeof(url);
  must(zmq_bind(rep, "tcp://127.0.0.1:*") == 0 && zmq_getsockopt(rep, ZMQ_LAST_ENDPOINT, url, &url_bytes) == 0 &&
       zmq_connect(req, url) == 0);
  std::thread server([&] {
    char buffer[kMessageBytes];
    for (;;) {
      const int bytes = zmq_recv(rep, buffer, sizeof(buffer), 0);
      if (bytes <= 0 || zmq_send(rep, buffer, static_cast<std::size_t>(bytes), 0) < 0) {
        return;  // an empty message is the end
      }
    }
  });
  char buffer[kMessageBytes] = {};
  for (auto _ : state) {
    must(zmq_send(req, buffer, sizeof(buffer), 0) >= 0 && zmq_recv(req, buffer, sizeof(buffer), 0) >= 0);
  }
  must(zmq_send(req, buffer, 0, 0) >= 0);
  server.join();
  const int now = 0;
  zmq_setsockopt(req, ZMQ_LINGER, &now, sizeof(now));
  zmq_close(req);
  zmq_close(rep);
  zmq_ctx_term(context);
}
BENCHMARK(zmq_ping_pong)->UseRealTime();
#endif

}  // namespace
