#include "net/tcp_socket.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

using runtime::UniqueFd;

constexpr int kBacklog = 4096;  // the system caps it (net.core.somaxconn)
constexpr int kKeepIdleSeconds = 15;
constexpr int kKeepIntervalSeconds = 5;
constexpr int kKeepCount = 3;
constexpr unsigned kUserTimeoutMs = 30'000;

bool same_name(std::string_view one, std::string_view other) noexcept {
  return one.size() == other.size() && ::strncasecmp(one.data(), other.data(), one.size()) == 0;
}

// The name may be written with or without its domain.
bool is_own_name(const std::string& host) {
  char own[256] = {};
  if (host.empty() || ::gethostname(own, sizeof own - 1) != 0 || own[0] == '\0') {
    return false;
  }
  const std::string_view full(own);
  const std::string_view given(host);
  const auto first_label = [](std::string_view name) { return name.substr(0, name.find('.')); };
  return same_name(given, full) || same_name(given, first_label(full)) ||
         (full.find('.') == std::string_view::npos && same_name(first_label(given), full));
}

const char* listen_advice(int error) {
  switch (error) {
    case EADDRINUSE: return "another process listens there: choose another port, or 0 for a free one";
    case EADDRNOTAVAIL: return "this machine has no such address: use one of its own, or no host for all of them";
    case EACCES: return "ports below 1024 need root: choose a higher one, or 0 for a free one";
    case EAFNOSUPPORT: return "this machine has no such kind of address: use an IPv4 address";
    case EMFILE:
    case ENFILE: return "too many open files: raise the limit (ulimit -n)";
    default: return "";
  }
}

std::string sentence(const char* what, const Url& url, const std::string& cause, const std::string& advice) {
  std::string message = std::string(what) + " " + quote_for_message(format_url(url)) + ": " + cause;
  return advice.empty() ? message : message + "; " + advice;
}

// Empty host: the wildcard addresses, IPv6 (which takes IPv4 along) first.
int look_up(const Url& url, const char* host, int flags, std::vector<SocketAddress>& out, int& system_error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host, std::to_string(url.port).c_str(), &hints, &found);
  system_error = errno;
  if (error != 0) {
    return error;
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  for (const addrinfo* it = found; it != nullptr; it = it->ai_next) {
    SocketAddress address;
    SETSUNA_ASSERT(it->ai_addrlen <= sizeof address.storage);
    std::memcpy(&address.storage, it->ai_addr, it->ai_addrlen);
    address.length = it->ai_addrlen;
    out.push_back(address);
  }
  return 0;
}

std::string resolve_failure(const char* what, const Url& url, int error, int system_error) {
  const std::string cause = "the host " + quote_for_message(url.host, 100) + " cannot be resolved: " +
                            (error == EAI_SYSTEM ? std::strerror(system_error) : ::gai_strerror(error));
  return sentence(what, url, cause, error == EAI_AGAIN ? "the name server does not answer" : "check its spelling");
}

std::vector<SocketAddress> wildcards(std::uint16_t port) {
  SocketAddress six;
  auto& in6 = reinterpret_cast<sockaddr_in6&>(six.storage);
  in6.sin6_family = AF_INET6;
  in6.sin6_addr = in6addr_any;
  in6.sin6_port = htons(port);
  six.length = sizeof in6;
  SocketAddress four;
  auto& in4 = reinterpret_cast<sockaddr_in&>(four.storage);
  in4.sin_family = AF_INET;
  in4.sin_addr.s_addr = htonl(INADDR_ANY);
  in4.sin_port = htons(port);
  four.length = sizeof in4;
  return {six, four};
}

// 0 or errno.
int listen_at(const SocketAddress& address, UniqueFd& out) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    return errno;
  }
  const int on = 1;
  const int off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.family() == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (::bind(fd.get(), address.get(), address.length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return errno;
  }
  out = std::move(fd);
  return 0;
}

std::uint16_t bound_port(int fd) noexcept {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return 0;
  }
  return ntohs(address.family() == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_port
                                            : reinterpret_cast<const sockaddr_in&>(address.storage).sin_port);
}

}  // namespace

std::string format_address(const SocketAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.family() == AF_INET) {
    const auto& in4 = reinterpret_cast<const sockaddr_in&>(address.storage);
    ::inet_ntop(AF_INET, &in4.sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(in4.sin_port));
  }
  if (address.family() == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
    const std::string port = ":" + std::to_string(ntohs(in6.sin6_port));
    if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {  // an IPv4 peer of a listener on every address
      ::inet_ntop(AF_INET, &in6.sin6_addr.s6_addr[12], text.data(), text.size());
      return text.data() + port;
    }
    ::inet_ntop(AF_INET6, &in6.sin6_addr, text.data(), text.size());
    return "[" + std::string(text.data()) + "]" + port;
  }
  return "a local process";
}

ListenResult listen_tcp(const Url& url) {
  static constexpr char kWhat[] = "cannot listen at";
  SETSUNA_ASSERT(!url.is_local());
  ListenResult out;
  out.url = url;
  std::vector<SocketAddress> addresses;
  if (url.host.empty() || is_own_name(url.host)) {
    addresses = wildcards(url.port);
  } else {
    int system_error = 0;
    if (const int error = look_up(url, url.host.c_str(), AI_PASSIVE, addresses, system_error); error != 0) {
      out.message = resolve_failure(kWhat, url, error, system_error);
      return out;
    }
  }
  int error = EADDRNOTAVAIL;
  for (const SocketAddress& address : addresses) {
    error = listen_at(address, out.fd);
    if (error == 0) {
      out.url.port = bound_port(out.fd.get());
      return out;
    }
    if (error == EADDRINUSE) {
      break;  // not at another address of that name instead, which its user would not expect
    }
  }
  out.message = sentence(kWhat, url, std::strerror(error), listen_advice(error));
  return out;
}

ResolveResult resolve(const Url& url) {
  static constexpr char kWhat[] = "cannot connect to";
  SETSUNA_ASSERT(!url.is_local());
  ResolveResult out;
  if (url.host.empty()) {
    out.message = sentence(kWhat, url, "it names no host", "write the host's name or address before the port");
  } else if (url.port == 0) {
    out.message = sentence(kWhat, url, "port 0 is no port to dial", "write the port that the host listens at");
  } else {
    int system_error = 0;
    if (const int error = look_up(url, url.host.c_str(), 0, out.addresses, system_error); error != 0) {
      out.message = resolve_failure(kWhat, url, error, system_error);
    }
  }
  return out;
}

std::string explain_connect_error(int error) {
  std::string cause = std::strerror(error);
  switch (error) {
    case ECONNREFUSED: return cause + "; nobody listens there: start the host first, and check the port";
    case ETIMEDOUT: return cause + "; the machine does not answer: check the address, and firewalls on the way";
    case EHOSTUNREACH:
    case ENETUNREACH: return cause + "; there is no way to that machine from here: check the address";
    case EMFILE:
    case ENFILE: return cause + "; raise the limit (ulimit -n)";
    default: return cause;
  }
}

void tune_tcp(int fd) noexcept {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepIdleSeconds, sizeof kKeepIdleSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepIntervalSeconds, sizeof kKeepIntervalSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kKeepCount, sizeof kKeepCount);
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMs, sizeof kUserTimeoutMs);
}

}  // namespace setsuna::net
