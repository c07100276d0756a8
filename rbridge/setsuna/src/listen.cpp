#include "listen.hpp"

#include <stdexcept>

#include "net/unix_socket.hpp"

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

}  // namespace

Opened open_listeners(const std::vector<std::string>& urls) {
  Opened opened;
  for (const std::string& text : urls) {
    opened.urls.push_back(parsed(text));
  }
  for (std::uint32_t seat = 0; seat < opened.urls.size(); ++seat) {
    if (opened.urls[seat].is_local()) {
      opened.local.push_back(open_local(opened.urls[seat], seat));
    }
  }
  return opened;
}

}  // namespace setsuna::host
