// Which reactor runs, and why.
#pragma once

#include <memory>
#include <string>

#include "net/reactor.hpp"
#include "net/ring_options.hpp"

namespace setsuna::net {

enum class ReactorChoice { kAutomatic, kIoUring, kEpoll };

// From the environment variable SETSUNA_REACTOR: io_uring, epoll, or unset (automatic). Anything else: false, and `error`
// says what may be written. Call it on R's thread: the environment may not be read while R changes it.
bool reactor_choice_from_environment(ReactorChoice& choice, std::string& error);

struct MadeReactor {
  std::unique_ptr<Reactor> reactor;
  std::string backend;  // for the user: "io_uring (single issuer, deferred task work)", "epoll (io_uring_setup: ...)"
  std::string error;    // when there is none
};

// Call it on the thread that will run the reactor. Automatic: io_uring where a trial ring works, else epoll.
// `asked_by`: who has made the choice, for messages.
MadeReactor make_reactor(ReactorChoice choice, const RingOptions& ring = {},
                         const std::string& asked_by = "SETSUNA_REACTOR");

}  // namespace setsuna::net
