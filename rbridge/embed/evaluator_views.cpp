#include "rbridge/embed/evaluator_state.hpp"

#include <sys/mman.h>

#include <cstdlib>

namespace setsuna::embed::evaluation {

namespace {

// A view source and the hold bit that it keeps.
struct HeldSource {
  codec::ViewSource source;
  Attachment* of;
  std::uint16_t block;
};

}  // namespace

void release_source(codec::ViewSource* source) {
  auto* held = static_cast<HeldSource*>(source->owner);
  if (source->writable_given) {
    // Private copies of pages must not be seen by the next user of the block. Views are only made of whole extents.
    ::madvise(const_cast<std::uint8_t*>(source->base), runtime::align_up(source->len, runtime::kPageBytes),
              MADV_DONTNEED);
  }
  Attachment* of = held->of;
  --of->sources;
  if (of == attachment) {
    port->unhold(held->block);
  } else if (of->sources == 0) {
    delete of;  // the last of a host that was left before
  }
  std::free(held);
}

// Null: no views of this block (small, or no hold bit was free): values are copied.
codec::ViewSource* make_source(std::uint64_t offset, std::uint64_t bytes, std::uint16_t block) {
  if (block == runtime::kNoBlockId) {
    return nullptr;
  }
  auto* held = static_cast<HeldSource*>(std::calloc(1, sizeof(HeldSource)));
  if (held == nullptr) {
    return nullptr;
  }
  held->of = attachment;
  ++attachment->sources;
  held->block = block;
  held->source.base = reinterpret_cast<const std::uint8_t*>(attachment->segment.view()) + offset;
  held->source.len = bytes;
  held->source.on_release = release_source;
  held->source.owner = held;
  port->hold(block);
  return &held->source;
}

}  // namespace setsuna::embed::evaluation
