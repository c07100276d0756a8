#include "net/dialler.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "net/tls_layer.hpp"
#include "net/tls_library.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::net {
namespace {

// HTTP leaves out the port that goes without saying.
std::string host_field(const Url& url) {
  const std::string host = url.ipv6 ? "[" + url.host + "]" : url.host;
  return url.port == (url.is_tls() ? 443 : 80) ? host : host + ":" + std::to_string(url.port);
}

}  // namespace

Dialler::Dialler(Reactor& reactor, Url url, ResolveResult found, HandshakeConfig config, DiallerEvents& events,
                 TlsContextPtr tls)
    : reactor_(reactor),
      url_(std::move(url)),
      config_(std::move(config)),
      events_(events),
      tls_(std::move(tls)),
      found_(std::move(found)) {
  SETSUNA_ASSERT(tls_ != nullptr || !url_.is_tls());
}

Dialler::~Dialler() {
  reactor_.forget(timer_);
  if (fd_ >= 0) {
    give_up(fd_);
  }
}

void Dialler::start() {
  std::string why;
  if (tls_library(&why) == nullptr) {
    return fail_later(why);
  }
  if (found_.addresses.empty()) {
    return fail_later(found_.message);
  }
  try_next();
}

void Dialler::give_up(int fd) {
  reactor_.forget(connect_);
  connect_ = {};
  reactor_.close(fd);
}

void Dialler::try_next() {
  while (next_ < found_.addresses.size()) {
    const SocketAddress& address = found_.addresses[next_++];
    const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      error_ = errno;
      continue;
    }
    fd_ = reactor_.adopt(fd);
    tune_tcp(fd_);
    connect_ = reactor_.connect(fd_, address.get(), address.length, Handler::to<&Dialler::on_connected>(this));
    timer_ = reactor_.timer(runtime::monotonic_ns() + kConnectNs, Handler::to<&Dialler::on_connect_timeout>(this));
    return;
  }
  fail_later("cannot connect to " + quote_for_message(format_url(url_)) + ": " + explain_connect_error(error_));
}

void Dialler::on_connected(const Completion& completion) {
  connect_ = {};
  reactor_.forget(timer_);
  timer_ = {};
  if (completion.result == 0) {
    return shake_hands();
  }
  error_ = static_cast<int>(-completion.result);
  reactor_.close(std::exchange(fd_, -1));
  if (error_ != ECANCELED) {  // else the reactor closes down
    try_next();
  }
}

void Dialler::on_connect_timeout(const Completion& completion) {
  timer_ = {};
  if (completion.result != 0) {
    return;
  }
  error_ = ETIMEDOUT;
  give_up(std::exchange(fd_, -1));
  try_next();
}

void Dialler::shake_hands() {
  StreamSetup setup;
  setup.reactor = &reactor_;
  setup.fd = std::exchange(fd_, -1);
  setup.peer = format_address(found_.addresses[next_ - 1]);
  setup.role = Handshake::Role::kDialler;
  setup.config = &config_;
  setup.maker = this;
  setup.deadline_ns = runtime::monotonic_ns() + kHandshakeNs;
  if (url_.is_tls()) {
    setup.layers.push(std::make_unique<TlsLayer>(*tls_, url_.host.c_str()));
  }
  if (url_.is_websocket()) {
    auto layer = std::make_unique<WebSocketLayer>(url_.path, host_field(url_), opened_tls_library());
    setup.websocket = layer.get();
    setup.layers.push(std::move(layer));
  }
  connection_ = std::make_unique<StreamConnection>(std::move(setup));
  connection_->start();
}

ConnectionSink* Dialler::on_proven(StreamConnection&, std::string* refusal) {
  std::unique_ptr<Connection> offered = std::move(connection_);
  ConnectionSink* sink = events_.on_host(offered, refusal);
  if (sink == nullptr) {
    SETSUNA_ASSERT(offered != nullptr);
    connection_.reset(static_cast<StreamConnection*>(offered.release()));
  }
  return sink;
}

void Dialler::on_failed(StreamConnection& connection, const std::string& reason) {
  const bool refused = connection.refused();
  const std::unique_ptr<StreamConnection> ended = std::move(connection_);
  const std::string sentence = "cannot connect to " + quote_for_message(format_url(url_)) + ": " + reason;
  events_.on_failed(sentence, refused);
}

void Dialler::fail_later(const std::string& cause) {
  failure_ = cause;
  timer_ = reactor_.timer(0, Handler::to<&Dialler::on_report>(this));
}

void Dialler::on_report(const Completion& completion) {
  timer_ = {};
  if (completion.result == 0) {
    events_.on_failed(std::string(failure_), false);
  }
}

}  // namespace setsuna::net
