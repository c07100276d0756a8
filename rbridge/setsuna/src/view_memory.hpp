// How much memory the results keep that R vectors view. R sees only the small view objects, so that it would not collect them:
// past a mark it is asked to. R's main thread only.
#pragma once

#include <cstdint>

namespace setsuna::host {

class ViewMemory {
 public:
  // Before views of `bytes` more are made: collects garbage if there are many. May jump.
  static void make_room(std::uint64_t bytes);
  static void add(std::uint64_t bytes);
  static void remove(std::uint64_t bytes);
};

}  // namespace setsuna::host
