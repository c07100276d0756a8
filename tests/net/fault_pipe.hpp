// One way of a connection through a FaultProxy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace setsuna::net {

// What happens `after` so many further bytes on one way.
struct Fault {
  enum class Kind {
    kFlip,  // `count` bytes come out changed
    kDrop,  // `count` bytes are left out
    kEnd,   // what came before is passed on, then both ends see the end of the stream
  };
  enum class Way { kUp, kDown };  // up: from who has dialled to who listens

  Kind kind = Kind::kFlip;
  Way way = Way::kUp;
  std::uint64_t after = 0;
  std::uint64_t count = 1;
};

class FaultPipe {
 public:
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  struct Weather {
    std::uint64_t delay_ns = 0;
    std::uint64_t bytes_per_s = kUnlimited;
  };
  enum class State { kGoing, kOver, kBroken };  // over: all is passed on, and its end, too

  void strike(Fault fault);
  // Takes what `from` has and gives `to` what is due. Neither blocks.
  State move(int from, int to, const Weather& weather, std::uint64_t now_ns);
  // What poll() should look for at either end, and when to come again whatever it sees.
  bool wants_input() const noexcept { return !ended_ && held_ < kMostHeld; }
  bool has_output(const Weather& weather, std::uint64_t now_ns) const noexcept;
  std::uint64_t next_ns(const Weather& weather) const noexcept;

 private:
  static constexpr std::size_t kMostHeld = std::size_t{1} << 20;
  struct Piece {
    std::uint64_t came_ns = 0;
    std::vector<char> bytes;
  };

  void take(std::vector<char>& bytes);
  // False: `to` is broken.
  bool give(int to, const Weather& weather, std::uint64_t now_ns);

  std::deque<Piece> pieces_;
  std::size_t held_ = 0;
  std::size_t given_ = 0;  // of the first piece
  std::uint64_t taken_ = 0;
  std::uint64_t paid_until_ns_ = 0;  // by the rate
  std::vector<Fault> faults_;        // `after` counts from the first byte
  bool ended_ = false;
  bool told_ = false;  // `to`, that it has ended
  bool broken_ = false;
};

}  // namespace setsuna::net
