// Connections over loopback, both ends in this process on a thread each: the time of a small message there and back, and of a
// large one, beside blocking sockets that do the same.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/dialler.hpp"
#include "net/listener.hpp"
#include "net/make_reactor.hpp"

namespace {

using namespace setsuna::net;

std::span<const std::byte> bytes(const std::vector<char>& data) { return std::as_bytes(std::span(data)); }

// Sends back what comes.
struct Echo final : ConnectionSink {
  std::unique_ptr<Connection> connection;
  std::vector<char> body;

  void on_open() override {}
  std::byte* on_begin(const MessageHeader& header, std::span<const std::byte>, std::string*) override {
    body.resize(header.body_bytes);
    return reinterpret_cast<std::byte*>(body.data());
  }
  void on_message(const MessageHeader& header, std::span<const std::byte>, std::span<const std::byte> b) override {
    connection->send(1, header.lane, header.id, {}, b, header.lane == Lane::kData ? 1 : 0);
  }
  void on_torn(const MessageHeader&) override {}
  void on_sent(std::uint64_t) override {}
  void on_closed(const std::string&) override { connection.reset(); }
};

struct Host final : ListenerEvents {
  Echo echo;
  ConnectionSink* on_peer(std::unique_ptr<Connection>& connection, std::size_t, std::string*) override {
    echo.connection = std::move(connection);
    return &echo;
  }
  void on_rejected(const std::string& sentence) override {
    std::fprintf(stderr, "%s\n", sentence.c_str());
    std::abort();
  }
};

struct Client final : ConnectionSink, DiallerEvents {
  std::unique_ptr<Connection> connection;
  std::vector<char> body;
  bool opened = false;
  std::size_t came = 0;

  void on_open() override { opened = true; }
  std::byte* on_begin(const MessageHeader& header, std::span<const std::byte>, std::string*) override {
    body.resize(header.body_bytes);
    return reinterpret_cast<std::byte*>(body.data());
  }
  void on_message(const MessageHeader&, std::span<const std::byte>, std::span<const std::byte>) override { ++came; }
  void on_torn(const MessageHeader&) override {}
  void on_sent(std::uint64_t) override {}
  void on_closed(const std::string&) override {}
  ConnectionSink* on_host(std::unique_ptr<Connection>& c, std::string*) override {
    connection = std::move(c);
    return this;
  }
  void on_failed(const std::string& sentence, bool) override {
    std::fprintf(stderr, "%s\n", sentence.c_str());
    std::abort();
  }
};

std::unique_ptr<Reactor> reactor() {
  ReactorChoice choice = ReactorChoice::kAutomatic;
  std::string error;
  reactor_choice_from_environment(choice, error);
  return make_reactor(choice).reactor;
}

// A host on a thread of its own and a client here, connected.
class World {
 public:
  explicit World(const std::string& scheme) {
    std::string error;
    MadeCertificate made;
    const std::string names[] = {"127.0.0.1"};
    make_certificate(names, 1, made, &error);
    const TlsContextPtr server = make_tls_server(made.certificate, made.key, nullptr, &error);
    const Url any[] = {parse_url(scheme + "://127.0.0.1:0").url.value()};
    BindResult bound = bind_urls(any);
    const Url url = bound.urls.at(0);
    std::atomic<Reactor*> host_reactor{nullptr};
    thread_ = std::thread([&host_reactor, &server, bound = std::move(bound)]() mutable {
      const std::unique_ptr<Reactor> own = reactor();
      Host host;
      const Listener listener(*own, std::move(bound), {"token", {}}, host, server);
      host_reactor.store(own.get(), std::memory_order_release);
      own->run();
      host.echo.connection.reset();
      own->close_all();
    });
    while ((host_reactor_ = host_reactor.load(std::memory_order_acquire)) == nullptr) {
      std::this_thread::yield();
    }
    own_ = reactor();
    dialler_ = std::make_unique<Dialler>(*own_, url, resolve(url), HandshakeConfig{"token", {}}, client_,
                                         make_tls_client(made.certificate, &error));
    dialler_->start();
    while (!client_.opened) {
      own_->run_once();
    }
  }
  ~World() {
    client_.connection.reset();
    own_->close_all();
    host_reactor_->stop();
    thread_.join();
  }

  void round_trip(Lane lane, const std::vector<char>& data) {
    client_.connection->send(1, lane, 1, {}, bytes(data), lane == Lane::kData ? 1 : 0);
    const std::size_t before = client_.came;
    while (client_.came == before) {
      own_->run_once();
    }
  }

 private:
  std::thread thread_;
  Reactor* host_reactor_ = nullptr;
  std::unique_ptr<Reactor> own_;
  Client client_;
  std::unique_ptr<Dialler> dialler_;
};

void connection(benchmark::State& state, const char* scheme) {
  World world(scheme);
  const std::vector<char> data(static_cast<std::size_t>(state.range(0)), 'x');
  const Lane lane = data.size() <= 64 ? Lane::kControl : Lane::kData;
  world.round_trip(lane, data);
  for (auto _ : state) {
    world.round_trip(lane, data);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * state.range(0) * 2);
}

void read_all(int fd, std::vector<char>& data) {
  for (std::size_t at = 0; at < data.size();) {
    const ssize_t got = ::recv(fd, data.data() + at, data.size() - at, 0);
    if (got <= 0) {
      return;
    }
    at += static_cast<std::size_t>(got);
  }
}

void write_all(int fd, const std::vector<char>& data) {
  for (std::size_t at = 0; at < data.size();) {
    const ssize_t sent = ::send(fd, data.data() + at, data.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) {
      return;
    }
    at += static_cast<std::size_t>(sent);
  }
}

void blocking_sockets(benchmark::State& state) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(listener, reinterpret_cast<sockaddr*>(&address), length);
  ::listen(listener, 1);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  const auto size = static_cast<std::size_t>(state.range(0));
  std::thread echo([listener, size] {
    const int fd = ::accept(listener, nullptr, nullptr);
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::vector<char> data(size, '\0');
    for (;;) {
      data.back() = '\0';
      read_all(fd, data);
      if (data.back() == '\0') {
        break;
      }
      write_all(fd, data);
    }
    ::close(fd);
  });
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  std::vector<char> data(size, 'x');
  for (auto _ : state) {
    write_all(fd, data);
    read_all(fd, data);
  }
  ::close(fd);
  echo.join();
  ::close(listener);
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * state.range(0) * 2);
}

BENCHMARK(blocking_sockets)->Arg(64)->Arg(80'000'000)->UseRealTime();
BENCHMARK_CAPTURE(connection, tcp, "tcp")->Arg(64)->Arg(80'000'000)->UseRealTime();
BENCHMARK_CAPTURE(connection, tls, "tls+tcp")->Arg(64)->Arg(80'000'000)->UseRealTime();
BENCHMARK_CAPTURE(connection, ws, "ws")->Arg(64)->Arg(80'000'000)->UseRealTime();
BENCHMARK_CAPTURE(connection, wss, "wss")->Arg(64)->Arg(80'000'000)->UseRealTime();

}  // namespace
