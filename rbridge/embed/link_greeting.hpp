// What hosts and remote daemons say of themselves in the handshake, and how one finds that the other is of another make.
#pragma once

#include <span>
#include <string>

#include "dispatch/link_wire.hpp"

namespace setsuna::embed {

dispatch::LinkGreeting own_greeting();

// Empty, or a sentence that says how the peer differs and what to do. `who`: "the host at 'tcp://...'", "the daemon at ...".
std::string compare_greeting(std::span<const std::byte> peer, const std::string& who);

}  // namespace setsuna::embed
