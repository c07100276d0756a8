#include "seats.hpp"

#include "runtime/assert.hpp"

namespace setsuna::host {

void Seats::open(std::vector<net::Url> urls, bool shared) {
  SETSUNA_ASSERT(seats_.empty() && (!shared || urls.size() <= 1));
  shared_ = shared;
  for (const net::Url& url : urls) {
    seats_.emplace_back();
    set_url(count() - 1, url);
  }
}

void Seats::set_url(std::uint32_t seat, const net::Url& url) {
  seats_[seat].url = url;
  seats_[seat].text = net::format_url(url);
}

std::uint32_t Seats::free_seat() const {
  for (std::uint32_t i = 0; !shared_ && i < count(); ++i) {
    if (!taken(i)) {
      return i;
    }
  }
  return kNoSeat;
}

void Seats::take(std::uint32_t seat, Seat::Occupant occupant, std::uint32_t index) {
  if (shared_) {
    return;
  }
  SETSUNA_ASSERT(!taken(seat));
  Seat& taken_seat = seats_[seat];
  taken_seat.occupant = occupant;
  taken_seat.index = index;
  ++taken_seat.instance;
  taken_seat.assigned = taken_seat.completed = 0;
}

std::uint32_t Seats::seat_of(Seat::Occupant occupant, std::uint32_t index) const {
  for (std::uint32_t i = 0; !shared_ && i < count(); ++i) {
    if (seats_[i].occupant == occupant && seats_[i].index == index) {
      return i;
    }
  }
  return kNoSeat;
}

void Seats::leave(std::uint32_t seat, std::uint64_t assigned, std::uint64_t completed) {
  Seat& left = seats_[seat];
  left.occupant = Seat::Occupant::kNobody;
  left.assigned = assigned;
  left.completed = completed;
}

}  // namespace setsuna::host
