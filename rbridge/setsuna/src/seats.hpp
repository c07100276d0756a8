// The URLs at which a profile listens, and who sits there. With one URL each, a seat is for one daemon at a time; a shared
// URL is one seat that never fills. Under the host's mutex. No R in here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "net/url.hpp"

namespace setsuna::host {

inline constexpr std::uint32_t kNoSeat = 0xFFFFFFFF;

struct Seat {
  enum class Occupant : std::uint8_t { kNobody, kDaemon, kLink };

  net::Url url;
  std::string text;  // as users see it, with the port that was taken
  Occupant occupant = Occupant::kNobody;
  std::uint32_t index = 0;     // of the daemon or link
  std::uint32_t instance = 0;  // daemons that have sat here
  // Of the last one that left.
  std::uint64_t assigned = 0;
  std::uint64_t completed = 0;
};

class Seats {
 public:
  // `shared`: one URL for any number of daemons.
  void open(std::vector<net::Url> urls, bool shared);

  bool shared() const { return shared_; }
  std::uint32_t count() const { return static_cast<std::uint32_t>(seats_.size()); }
  const Seat& operator[](std::uint32_t seat) const { return seats_[seat]; }
  void set_url(std::uint32_t seat, const net::Url& url);

  // The lowest that is free, or kNoSeat. Also kNoSeat if nobody needs one.
  std::uint32_t free_seat() const;
  bool taken(std::uint32_t seat) const { return !shared_ && seats_[seat].occupant != Seat::Occupant::kNobody; }

  void take(std::uint32_t seat, Seat::Occupant occupant, std::uint32_t index);
  // The link that it was kept for has its number.
  void sit_down(std::uint32_t seat, std::uint32_t link) { seats_[seat].index = link; }
  // The seat that this one has, or kNoSeat.
  std::uint32_t seat_of(Seat::Occupant occupant, std::uint32_t index) const;
  void leave(std::uint32_t seat, std::uint64_t assigned, std::uint64_t completed);

 private:
  std::vector<Seat> seats_;
  bool shared_ = true;
};

}  // namespace setsuna::host
