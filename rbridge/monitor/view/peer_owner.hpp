// Whose process is at the other end of a TCP connection within this machine. The kernel lists the owner of each socket.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace setsuna::monitor {

// From the text of /proc/net/tcp: the owner of the established connection from `peer` to `own`. Empty: there is none (any
// more). A connection that its peer has closed does not count: the kernel forgets whose it was.
std::optional<std::uint32_t> parse_owner(std::string_view text, const sockaddr_in& peer, const sockaddr_in& own);

// Of a connected socket. Also empty if the peer is not on this machine.
std::optional<std::uint32_t> peer_owner(int fd);

}  // namespace setsuna::monitor
