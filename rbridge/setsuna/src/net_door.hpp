// A profile's listener on the network: who may come in, and where they sit. Reactor thread; lives as long as its profile.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/listener.hpp"

namespace setsuna::host {

class Host;

class NetDoor final : public net::ListenerEvents {
 public:
  // `seats`: of each of the bound URLs.
  NetDoor(net::BindResult bound, std::vector<std::uint32_t> seats, net::HandshakeConfig config, net::TlsContextPtr tls)
      : bound_(std::move(bound)), seats_(std::move(seats)), config_(std::move(config)), tls_(std::move(tls)) {}

  bool open() const { return listener_ != nullptr; }
  // Its only URL is that of this seat.
  void leads_to(std::uint32_t seat) { seats_.assign(1, seat); }
  // A seat has another URL now. True: nothing is left here.
  bool forget_seat(std::uint32_t seat);
  void start(Host& host, std::uint64_t profile, net::Reactor& reactor);

  // net::ListenerEvents
  net::ConnectionSink* on_peer(std::unique_ptr<net::Connection>& connection, std::size_t url,
                               std::string* refusal) override;
  void on_rejected(const std::string& sentence) override;

 private:
  net::BindResult bound_;  // until it starts
  std::vector<std::uint32_t> seats_;
  net::HandshakeConfig config_;
  net::TlsContextPtr tls_;
  Host* host_ = nullptr;
  std::uint64_t profile_ = 0;  // serial
  std::unique_ptr<net::Listener> listener_;
};

}  // namespace setsuna::host
