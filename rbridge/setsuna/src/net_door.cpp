#include "net_door.hpp"

#include <algorithm>

#include "host.hpp"
#include "host_link.hpp"
#include "rbridge/embed/link_greeting.hpp"

namespace setsuna::host {

void NetDoor::start(Host& host, std::uint64_t profile, net::Reactor& reactor) {
  host_ = &host;
  profile_ = profile;
  listener_ = std::make_unique<net::Listener>(reactor, std::move(bound_), config_, *this, tls_);
}

bool NetDoor::forget_seat(std::uint32_t seat) {
  std::replace(seats_.begin(), seats_.end(), seat, kNoSeat);
  return std::all_of(seats_.begin(), seats_.end(), [](std::uint32_t left) { return left == kNoSeat; });
}

net::ConnectionSink* NetDoor::on_peer(std::unique_ptr<net::Connection>& connection, std::size_t url,
                                      std::string* refusal) {
  *refusal = embed::compare_greeting(connection->peer_greeting(), "the daemon at " + connection->peer());
  if (!refusal->empty()) {
    return nullptr;
  }
  const std::lock_guard<std::mutex> lock(host_->mutex());
  Profile* profile = host_->profile_by_serial(profile_);
  if (profile == nullptr) {
    *refusal = "it has just been reset";
    return nullptr;
  }
  const std::uint32_t seat = seats_[url];
  if (seat == kNoSeat) {
    *refusal = "this URL is not in use any more";
    return nullptr;
  }
  if (profile->seats.taken(seat)) {
    *refusal = "another daemon has this URL: each takes one, use one that is free";
    return nullptr;
  }
  profile->seats.take(seat, Seat::Occupant::kLink, dispatch::kNoLink);
  ++profile->links.open;
  return new HostLink(*host_, profile_, seat, std::move(connection));  // deletes itself when the connection has ended
}

void NetDoor::on_rejected(const std::string& sentence) {
  const std::lock_guard<std::mutex> lock(host_->mutex());
  if (Profile* profile = host_->profile_by_serial(profile_)) {
    profile->log(sentence);
  }
}

}  // namespace setsuna::host
