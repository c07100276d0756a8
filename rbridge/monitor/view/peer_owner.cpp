#include "rbridge/monitor/view/peer_owner.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "rbridge/monitor/view/read_file.hpp"

namespace setsuna::monitor {
namespace {

// As the kernel writes it: the address as a number of this machine's byte order, the port as a number.
std::string hex_of(const sockaddr_in& address) {
  char text[16];
  std::snprintf(text, sizeof(text), "%08X:%04X", static_cast<unsigned>(address.sin_addr.s_addr),
                static_cast<unsigned>(ntohs(address.sin_port)));
  return text;
}

bool is_loopback(const sockaddr_in& address) { return (ntohl(address.sin_addr.s_addr) >> 24) == 127; }

}  // namespace

// A line: "  0: LOCAL REMOTE STATE TX:RX TIMER:WHEN RETRANSMITS UID ...", state 01 is "established".
std::optional<std::uint32_t> parse_owner(std::string_view text, const sockaddr_in& peer, const sockaddr_in& own) {
  const std::string wanted = ": " + hex_of(peer) + " " + hex_of(own) + " 01 ";
  const std::size_t at = text.find(wanted);
  if (at == std::string_view::npos) {
    return {};
  }
  const std::string rest(text.substr(at + wanted.size(), 128));
  unsigned uid = 0;
  if (std::sscanf(rest.c_str(), "%*x:%*x %*x:%*x %*x %u", &uid) != 1) {
    return {};
  }
  return uid;
}

std::optional<std::uint32_t> peer_owner(int fd) {
  sockaddr_in peer{}, own{};
  socklen_t peer_length = sizeof(peer), own_length = sizeof(own);
  std::string text;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_length) != 0 || !is_loopback(peer) ||
      !read_file("/proc/net/tcp", &text)) {
    return {};
  }
  return parse_owner(text, peer, own);
}

}  // namespace setsuna::monitor
