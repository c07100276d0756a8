#include "net/listener.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "net/tcp_socket.hpp"
#include "net/tls_layer.hpp"
#include "net/tls_library.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::net {
namespace {

constexpr std::uint64_t kPauseNs = 200 * runtime::kNanosPerMilli;  // without descriptors, until some may be free

// By what was asked for: of those that take any free port, all take the same.
bool share_port(const Url& one, const Url& other) {
  return one.is_websocket() && one.scheme == other.scheme && one.host == other.host && one.port == other.port;
}

std::string peer_of(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return "a peer that is gone";
  }
  return format_address(address);
}

// The URLs that share a port with an earlier one get its port; false: *message says why.
bool bind_one(BindResult& out, std::span<const Url> asked, std::size_t index, std::string* message) {
  Url& url = out.urls[index];
  for (BoundPort& port : out.ports) {
    if (share_port(asked[port.urls.front()], asked[index])) {
      url.port = out.urls[port.urls.front()].port;
      port.urls.push_back(index);
      return true;
    }
  }
  ListenResult listening = listen_tcp(url);
  if (!listening) {
    *message = std::move(listening.message);
    return false;
  }
  url = listening.url;
  out.ports.push_back({std::move(listening.fd), {index}});
  return true;
}

}  // namespace

BindResult bind_urls(std::span<const Url> urls) {
  BindResult out;
  if (tls_library(&out.message) == nullptr) {
    return out;
  }
  out.urls.assign(urls.begin(), urls.end());
  for (std::size_t i = 0; i < urls.size() && out.message.empty(); ++i) {
    if (urls[i].is_local()) {
      out.message = "cannot listen at " + quote_for_message(format_url(urls[i])) + " for other machines: it is local";
    } else {
      bind_one(out, urls, i, &out.message);
    }
  }
  if (!out.message.empty()) {
    out.ports.clear();
  }
  return out;
}

Listener::Listener(Reactor& reactor, BindResult bound, HandshakeConfig config, ListenerEvents& events,
                   TlsContextPtr tls)
    : reactor_(reactor),
      urls_(std::move(bound.urls)),
      config_(std::move(config)),
      events_(events),
      tls_(std::move(tls)) {
  SETSUNA_ASSERT(bound.message.empty());
  for (BoundPort& from : bound.ports) {
    auto port = std::make_unique<Port>();
    port->listener = this;
    port->fd = reactor_.adopt(from.fd.release());
    port->urls = std::move(from.urls);
    SETSUNA_ASSERT(tls_ != nullptr || !urls_[port->urls.front()].is_tls());
    for (const std::size_t url : port->urls) {
      port->paths.push_back(urls_[url].path);
    }
    start_accept(*port);
    ports_.push_back(std::move(port));
  }
}

Listener::~Listener() {
  for (const std::unique_ptr<Port>& port : ports_) {
    reactor_.forget(port->accept);
    reactor_.forget(port->pause);
    // The port is free at once: the close waits until the kernel has let go of the accept.
    ::shutdown(port->fd, SHUT_RDWR);
    reactor_.close(port->fd);
  }
}

void Listener::start_accept(Port& port) {
  port.progress = false;
  port.accept = reactor_.accept(port.fd, Handler::to<&Port::on_accept>(&port));
}

void Listener::on_accept(Port& port, const Completion& completion) {
  if (completion.result >= 0) {
    port.progress = true;
    welcome(port, static_cast<int>(completion.result));
  }
  if (completion.more) {
    return;
  }
  port.accept = {};
  if (completion.result == -ECANCELED) {
    return;
  }
  if (port.progress) {  // it had come ahead of us; the ones that came have moved out of the way by now
    return start_accept(port);
  }
  const std::uint64_t when = runtime::monotonic_ns() + kPauseNs;
  port.pause = reactor_.timer(when, Handler::to<&Port::on_pause>(&port));
}

void Listener::on_pause(Port& port, const Completion& completion) {
  port.pause = {};
  if (completion.result == 0) {
    start_accept(port);
  }
}

void Listener::welcome(Port& port, int fd) {
  tune_tcp(fd);
  StreamSetup setup;
  setup.reactor = &reactor_;
  setup.fd = fd;
  setup.peer = peer_of(fd);
  setup.role = Handshake::Role::kHost;
  setup.config = &config_;
  setup.maker = this;
  setup.deadline_ns = runtime::monotonic_ns() + handshake_ns_;
  const Url& url = urls_[port.urls.front()];
  if (url.is_tls()) {
    setup.layers.push(std::make_unique<TlsLayer>(*tls_, nullptr));
  }
  if (url.is_websocket()) {
    auto layer = std::make_unique<WebSocketLayer>(port.paths, opened_tls_library());
    setup.websocket = layer.get();
    setup.layers.push(std::move(layer));
  }
  auto connection = std::make_unique<StreamConnection>(std::move(setup));
  StreamConnection* key = connection.get();
  waiting_.emplace(key, Waiting{std::move(connection), &port});
  key->start();
}

// The layer has let in none but these.
std::size_t Listener::url_of(const Port& port, const std::string& path) const {
  for (const std::size_t url : port.urls) {
    if (urls_[url].path == path) {
      return url;
    }
  }
  return port.urls.front();
}

ConnectionSink* Listener::on_proven(StreamConnection& connection, std::string* refusal) {
  const auto it = waiting_.find(&connection);
  SETSUNA_ASSERT(it != waiting_.end());
  std::unique_ptr<Connection> offered = std::move(it->second.connection);
  ConnectionSink* sink = events_.on_peer(offered, url_of(*it->second.port, connection.path()), refusal);
  if (sink != nullptr) {
    SETSUNA_ASSERT(offered == nullptr);
    waiting_.erase(it);
    return sink;
  }
  SETSUNA_ASSERT(offered != nullptr);
  it->second.connection.reset(static_cast<StreamConnection*>(offered.release()));  // until it has been told
  return nullptr;
}

void Listener::on_failed(StreamConnection& connection, const std::string& reason) {
  const auto it = waiting_.find(&connection);
  SETSUNA_ASSERT(it != waiting_.end());
  const std::string url = quote_for_message(format_url(urls_[url_of(*it->second.port, connection.path())]));
  const std::string sentence = "refused a connection from " + connection.peer() + " at " + url + ": " + reason;
  waiting_.erase(it);
  events_.on_rejected(sentence);
}

}  // namespace setsuna::net
