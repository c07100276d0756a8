// What both ends of one TLS connection derive from it, and no other connection has. It is no secret.
#pragma once

#include <array>
#include <cstddef>

namespace setsuna::net {

// Of the kind tls-exporter (RFC 9266). A proxy that ends TLS has another one on either side. All zero: there is none.
using ChannelBinding = std::array<std::byte, 32>;

}  // namespace setsuna::net
