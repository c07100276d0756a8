#include "listen.hpp"

#include <span>
#include <stdexcept>

#include "net/tls_context.hpp"
#include "net/tls_library.hpp"
#include "net/unix_socket.hpp"
#include "rbridge/embed/link_greeting.hpp"

namespace setsuna::host {
namespace {

net::Url parsed(const std::string& text) {
  const net::ParsedUrl parsed = net::parse_url(text);
  if (!parsed.url) {
    throw std::runtime_error(parsed.error);
  }
  return *parsed.url;
}

LocalListener open_local(const net::Url& url, std::uint32_t seat) {
  net::SocketResult socket = net::listen_unix(url, SOCK_SEQPACKET);
  if (!socket) {
    throw std::runtime_error(socket.message);
  }
  LocalListener listener;
  listener.url = url;
  listener.seat = seat;
  listener.fd = std::move(socket.fd);
  return listener;
}

net::HandshakeConfig handshake(const Access& access) {
  net::HandshakeConfig config;
  if (!access.token.empty()) {
    config.token = access.token;
  }
  const dispatch::LinkGreeting greeting = embed::own_greeting();
  const auto bytes = std::as_bytes(std::span(&greeting, 1));
  config.greeting.assign(bytes.begin(), bytes.end());
  return config;
}

// WebSocket URLs that differ in their paths share a port; every other URL has its own.
std::vector<std::uint32_t>& group_of(const Opened& opened, std::vector<std::vector<std::uint32_t>>& groups,
                                     std::uint32_t seat) {
  net::Url wanted = opened.urls[seat];
  for (auto& group : groups) {
    net::Url other = opened.urls[group.front()];
    other.path = wanted.path;
    if (wanted.is_websocket() && other == wanted) {
      return group;
    }
  }
  return groups.emplace_back();
}

net::TlsContextPtr tls_for(const std::vector<net::Url>& urls, const Access& access) {
  if (!urls.front().is_tls()) {
    return {};
  }
  std::string error;
  net::TlsContextPtr made =
      net::make_tls_server(access.certificate, access.key, access.has_pass ? &access.pass : nullptr, &error);
  if (!made) {
    throw std::runtime_error("'tls': " + error);
  }
  return made;
}

void open_door(Opened& opened, const std::vector<std::uint32_t>& seats, const Access& access) {
  std::string error;
  if (net::tls_library(&error) == nullptr) {
    throw std::runtime_error(error);
  }
  std::vector<net::Url> urls;
  for (const std::uint32_t seat : seats) {
    urls.push_back(opened.urls[seat]);
  }
  net::BindResult bound = net::bind_urls(urls);
  if (!bound) {
    throw std::runtime_error(bound.message);
  }
  for (std::size_t i = 0; i < seats.size(); ++i) {
    opened.urls[seats[i]] = bound.urls[i];
  }
  opened.doors.push_back(std::make_unique<NetDoor>(std::move(bound), seats, handshake(access), tls_for(urls, access)));
}

}  // namespace

Opened open_listeners(const std::vector<std::string>& urls, const Access& access) {
  Opened opened;
  for (const std::string& text : urls) {
    opened.urls.push_back(parsed(text));
  }
  std::vector<std::vector<std::uint32_t>> ports;
  for (std::uint32_t seat = 0; seat < opened.urls.size(); ++seat) {
    if (opened.urls[seat].is_local()) {
      opened.local.push_back(open_local(opened.urls[seat], seat));
    } else {
      group_of(opened, ports, seat).push_back(seat);
    }
  }
  for (const std::vector<std::uint32_t>& seats : ports) {
    open_door(opened, seats, access);
  }
  return opened;
}

}  // namespace setsuna::host
