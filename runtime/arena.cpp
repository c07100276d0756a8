#include "runtime/arena.hpp"

namespace setsuna::runtime {

template class BasicArena<SegmentBacking>;

}  // namespace setsuna::runtime
