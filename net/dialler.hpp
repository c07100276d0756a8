// Connects to a host.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "net/connection.hpp"
#include "net/handshake.hpp"
#include "net/reactor.hpp"
#include "net/stream_connection.hpp"
#include "net/tcp_socket.hpp"
#include "net/tls_context.hpp"
#include "net/url.hpp"

namespace setsuna::net {

class DiallerEvents {
 public:
  // The host knows the token: take the connection (move from it) and return its sink; on_open() of that follows. Or return
  // null and set *refusal, a clause that is told to the host; on_failed() follows then. The dialler stays during the call.
  virtual ConnectionSink* on_host(std::unique_ptr<Connection>& connection, std::string* refusal) = 0;

  // One sentence that names the URL and the cause. `refused`: somebody listens there, and one side did not want the other (not
  // told of a refusal by on_host()). The dialler may be destroyed from inside it.
  virtual void on_failed(const std::string& sentence, bool refused) = 0;

 protected:
  ~DiallerEvents() = default;
};

// One attempt, on the reactor thread: the addresses in turn until one accepts. Destroyed before it reports, it gives up
// silently; once the connection is open it is of no more use.
class Dialler final : ConnectionMaker {
 public:
  static constexpr std::uint64_t kConnectNs = 10'000'000'000;    // for each address
  static constexpr std::uint64_t kHandshakeNs = 15'000'000'000;  // longer than the host's, so that it can say why not

  // `found`: resolve(url), which takes its time, so that it may be done on another thread. `tls`: needed for tls+tcp and wss.
  Dialler(Reactor& reactor, Url url, ResolveResult found, HandshakeConfig config, DiallerEvents& events,
          TlsContextPtr tls = {});
  ~Dialler();
  Dialler(const Dialler&) = delete;
  Dialler& operator=(const Dialler&) = delete;

  // What comes of it is told in later rounds of the reactor, never inside this call.
  void start();

 private:
  ConnectionSink* on_proven(StreamConnection& connection, std::string* refusal) override;
  void on_failed(StreamConnection& connection, const std::string& reason) override;

  void try_next();
  void on_connected(const Completion& completion);
  void on_connect_timeout(const Completion& completion);
  void on_report(const Completion& completion);
  void give_up(int fd);
  void fail_later(const std::string& cause);
  void shake_hands();

  Reactor& reactor_;
  const Url url_;
  const HandshakeConfig config_;
  DiallerEvents& events_;
  const TlsContextPtr tls_;
  ResolveResult found_;
  std::size_t next_ = 0;
  int fd_ = -1;
  Token connect_;
  Token timer_;
  int error_ = 0;  // of the last address
  std::string failure_;
  std::unique_ptr<StreamConnection> connection_;
};

}  // namespace setsuna::net
