// Accepts connections at one or more URLs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/connection.hpp"
#include "net/handshake.hpp"
#include "net/reactor.hpp"
#include "net/stream_connection.hpp"
#include "net/tls_context.hpp"
#include "net/url.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::net {

// A socket that listens, for one URL, or for several ws or wss URLs that differ in their paths only.
struct BoundPort {
  runtime::UniqueFd fd;
  std::vector<std::size_t> urls;  // positions in BindResult::urls
};

struct BindResult {
  std::vector<BoundPort> ports;
  std::vector<Url> urls;  // as given, with the ports that they have got
  std::string message;    // not empty: why it failed; there are no ports then

  explicit operator bool() const noexcept { return message.empty(); }
};

// Listens at all of them or at none. Any thread; looks names up, so it may take its time. Peers queue in the kernel until
// a Listener takes the ports over. Local URLs are refused.
BindResult bind_urls(std::span<const Url> urls);

class ListenerEvents {
 public:
  // A peer knows the token: path(), peer() and peer_greeting() of `connection` tell who it is, `url` at which URL it came.
  // Take the connection (move from it) and return its sink; on_open() of that follows. Or return null and set *refusal, a
  // clause that is told to the peer; the connection is not taken then.
  virtual ConnectionSink* on_peer(std::unique_ptr<Connection>& connection, std::size_t url, std::string* refusal) = 0;

  // One sentence for the log: a peer was refused (also by on_peer), or did not speak as it should.
  virtual void on_rejected(const std::string& sentence) = 0;

 protected:
  ~ListenerEvents() = default;
};

// On the reactor thread. Connections that are open live on when the listener is destroyed; others end.
class Listener final : ConnectionMaker {
 public:
  static constexpr std::uint64_t kHandshakeNs = 10'000'000'000;  // for a peer, from its first byte to its last proof

  // `bound` must not have failed. `tls`: needed where a URL is tls+tcp or wss.
  Listener(Reactor& reactor, BindResult bound, HandshakeConfig config, ListenerEvents& events, TlsContextPtr tls = {});
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  const std::vector<Url>& urls() const noexcept { return urls_; }
  // For peers that come from now on.
  void set_handshake_limit(std::uint64_t ns) noexcept { handshake_ns_ = ns; }
  // Accepted, and not yet open or gone.
  std::size_t waiting() const noexcept { return waiting_.size(); }

 private:
  struct Port {
    Listener* listener = nullptr;
    int fd = -1;
    std::vector<std::size_t> urls;
    std::vector<std::string> paths;  // of them, in this order; ws and wss only
    Token accept;
    Token pause;
    bool progress = false;  // a connection came since the accept was started
    void on_accept(const Completion& completion) { listener->on_accept(*this, completion); }
    void on_pause(const Completion& completion) { listener->on_pause(*this, completion); }
  };
  struct Waiting {
    std::unique_ptr<StreamConnection> connection;
    Port* port = nullptr;
  };

  ConnectionSink* on_proven(StreamConnection& connection, std::string* refusal) override;
  void on_failed(StreamConnection& connection, const std::string& reason) override;

  void start_accept(Port& port);
  void on_accept(Port& port, const Completion& completion);
  void on_pause(Port& port, const Completion& completion);
  void welcome(Port& port, int fd);
  std::size_t url_of(const Port& port, const std::string& path) const;

  Reactor& reactor_;
  const std::vector<Url> urls_;
  const HandshakeConfig config_;
  ListenerEvents& events_;
  const TlsContextPtr tls_;
  std::uint64_t handshake_ns_ = kHandshakeNs;
  std::vector<std::unique_ptr<Port>> ports_;
  std::unordered_map<StreamConnection*, Waiting> waiting_;
};

}  // namespace setsuna::net
