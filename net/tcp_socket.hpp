// TCP sockets: listening at a URL, the addresses that a URL stands for, and how a connection is set up.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "net/url.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::net {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
};

// "127.0.0.1:40522", "[::1]:40522".
std::string format_address(const SocketAddress& address);

struct ListenResult {
  runtime::UniqueFd fd;
  Url url;              // as given, with the port that it has got
  std::string message;  // when there is no socket: names the URL, the cause, and what to do

  explicit operator bool() const noexcept { return static_cast<bool>(fd); }
};

// Listens at a tcp, tls+tcp, ws or wss URL. No host, or this machine's own name: on every address, IPv4 and IPv6. Looks
// names up, so it may take its time. Any thread.
ListenResult listen_tcp(const Url& url);

struct ResolveResult {
  std::vector<SocketAddress> addresses;  // to be tried in this order
  std::string message;                   // when there are none
};

// The addresses to dial for a tcp, tls+tcp, ws or wss URL. Looks names up, so it may take its time. Any thread.
ResolveResult resolve(const Url& url);

// What a failed connect means and what to do, as an ending for a sentence; `error` is an errno.
std::string explain_connect_error(int error);

// Small messages at once; a peer that is gone without a word is found by the kernel within 30 s.
void tune_tcp(int fd) noexcept;

}  // namespace setsuna::net
