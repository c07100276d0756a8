// The random number streams of a range's elements. The first element's travels with the range; another's is as many streams
// on as its number is, so the numbers must ascend.
#pragma once

#include <cstdint>

#include "dispatch/rng_stream.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

class RangeStream {
 public:
  RangeStream() = default;
  RangeStream(std::uint32_t element, const StreamState& stream) : element_(element), stream_(stream) {}

  // Of the first element, or of one behind that which was asked for last.
  const StreamState& of(std::uint32_t element) {
    SETSUNA_ASSERT(element >= element_);
    for (; element_ < element; ++element_) {
      stream_ = next_stream(stream_);
    }
    return stream_;
  }

 private:
  std::uint32_t element_ = 0;
  StreamState stream_{};
};

}  // namespace setsuna::dispatch
