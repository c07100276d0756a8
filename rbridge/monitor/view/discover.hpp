// Hosts that may be looked at, found by the names of their sockets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace setsuna::monitor {

struct HostAddress {
  std::int32_t pid = 0;  // as the name says: a hint
  std::string name;      // of the abstract socket
  friend bool operator==(const HostAddress&, const HostAddress&) = default;
};

// From the text of /proc/net/unix: those that name this user, by pid.
std::vector<HostAddress> parse_sockets(std::string_view text, std::uint32_t uid);

// Empty with the reason in *error if the list cannot be read.
std::vector<HostAddress> find_hosts(std::string* error);

}  // namespace setsuna::monitor
