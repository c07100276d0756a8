#include "runtime/extent_heap.hpp"

#include <bit>
#include <cstring>

#include "runtime/extent_table.hpp"

namespace setsuna::runtime {

ExtentHeap::ExtentHeap(std::uint32_t extent_count) : metas_(extent_count), extent_count_(extent_count) {
  for (auto& head : heads_) {
    head = kNil;
  }
}

ExtentHeap::~ExtentHeap() {
  for (std::uint32_t i = 0, left = extents_; left > 0 && i < extent_count_; ++i) {
    left -= metas_[i] != nullptr;
    std::free(metas_[i]);
  }
  std::free(spare_);
}

bool ExtentHeap::add_extent(std::uint32_t extent) {
  if (!metas_) {
    return false;
  }
  SETSUNA_ASSERT(extent < extent_count_ && metas_[extent] == nullptr);
  Meta* meta = spare_ != nullptr ? spare_ : static_cast<Meta*>(std::malloc(sizeof(Meta)));
  if (meta == nullptr) {
    return false;
  }
  spare_ = nullptr;
  std::memset(meta->starts, 0, sizeof meta->starts);
  meta->used = 0;
  metas_[extent] = meta;
  ++extents_;
  ++empty_extents_;
  push(extent, 0, kGranules);
  return true;
}

void ExtentHeap::remove_extent(std::uint32_t extent) {
  SETSUNA_ASSERT(owns(extent) && is_empty(extent));
  unlink(extent, 0);
  std::free(spare_);
  spare_ = metas_[extent];
  metas_[extent] = nullptr;
  --extents_;
  --empty_extents_;
}

ExtentHeap::Place ExtentHeap::alloc(std::uint32_t granules) {
  SETSUNA_ASSERT(granules >= 1 && granules <= kGranules);
  const std::uint32_t id = find_fit(granules);
  if (id == kNil) {
    return {};
  }
  const std::uint32_t extent = id / kGranules;
  const std::uint32_t granule = id % kGranules;
  Meta& meta = *metas_[extent];
  const std::uint32_t found = meta.tag[granule];
  unlink(extent, granule);
  if (found > granules) {
    push(extent, granule + granules, found - granules);
  }
  tag_block(meta, granule, granules, kUsed);
  empty_extents_ -= meta.used == 0;
  meta.used += granules;
  used_ += granules;
  ++blocks_;
  return {extent, granule, granules};
}

ExtentHeap::Place ExtentHeap::find(std::uint32_t extent, std::uint32_t granule) const {
  if (extent >= extent_count_ || !owns(extent) || granule >= kGranules) {
    return {};
  }
  const Meta& meta = *metas_[extent];
  const bool starts = ((meta.starts[granule / 64] >> (granule % 64)) & 1U) != 0;
  if (!starts || (meta.tag[granule] & kUsed) == 0) {
    return {};
  }
  return {extent, granule, static_cast<std::uint32_t>(meta.tag[granule] & ~kUsed)};
}

void ExtentHeap::free(Place block) {
  Meta& meta = *metas_[block.extent];
  SETSUNA_ASSERT(meta.tag[block.granule] == (block.count | kUsed));
  meta.used -= block.count;
  used_ -= block.count;
  --blocks_;
  empty_extents_ += meta.used == 0;

  std::uint32_t first = block.granule;
  std::uint32_t count = block.count;
  const std::uint32_t after = first + count;
  if (after < kGranules && (meta.tag[after] & kUsed) == 0) {
    count += meta.tag[after];
    unlink(block.extent, after);
  }
  if (first > 0 && (meta.tag[first - 1] & kUsed) == 0) {
    meta.starts[first / 64] &= ~(std::uint64_t{1} << (first % 64));
    const std::uint32_t before = meta.tag[first - 1];
    first -= before;
    count += before;
    unlink(block.extent, first);
  }
  push(block.extent, first, count);
}

std::uint32_t ExtentHeap::find_empty() const {
  for (std::uint32_t i = 0; empty_extents_ > 0 && i < extent_count_; ++i) {
    if (metas_[i] != nullptr && is_empty(i)) {
      return i;
    }
  }
  return kNoExtent;
}

// Exact below 8 granules, eight bins an octave above.
std::uint32_t ExtentHeap::bin_of(std::uint32_t granules) {
  const auto octave = static_cast<std::uint32_t>(std::bit_width(granules)) - 1;
  if (octave < kSubBits) {
    return granules;
  }
  const std::uint32_t shift = octave - kSubBits;
  return (shift << kSubBits) + (granules >> shift);
}

void ExtentHeap::tag_block(Meta& meta, std::uint32_t granule, std::uint32_t count, std::uint16_t flag) {
  const auto tag = static_cast<std::uint16_t>(count | flag);
  meta.tag[granule] = tag;
  meta.tag[granule + count - 1] = tag;
  meta.starts[granule / 64] |= std::uint64_t{1} << (granule % 64);
}

void ExtentHeap::push(std::uint32_t extent, std::uint32_t granule, std::uint32_t count) {
  Meta& meta = *metas_[extent];
  tag_block(meta, granule, count, 0);
  const std::uint32_t bin = bin_of(count);
  const std::uint32_t id = id_of(extent, granule);
  const std::uint32_t old = heads_[bin];
  meta.next[granule] = old;
  meta.previous[granule] = kNil;
  if (old != kNil) {
    metas_[old / kGranules]->previous[old % kGranules] = id;
  }
  heads_[bin] = id;
  filled_[bin / 64] |= std::uint64_t{1} << (bin % 64);
}

// Takes a free block out of its bin; its start bit goes too.
void ExtentHeap::unlink(std::uint32_t extent, std::uint32_t granule) {
  Meta& meta = *metas_[extent];
  SETSUNA_ASSERT((meta.tag[granule] & kUsed) == 0);
  const std::uint32_t bin = bin_of(meta.tag[granule]);
  const std::uint32_t next = meta.next[granule];
  const std::uint32_t previous = meta.previous[granule];
  if (next != kNil) {
    metas_[next / kGranules]->previous[next % kGranules] = previous;
  }
  if (previous != kNil) {
    metas_[previous / kGranules]->next[previous % kGranules] = next;
  } else {
    SETSUNA_ASSERT(heads_[bin] == id_of(extent, granule));
    heads_[bin] = next;
    if (next == kNil) {
      filled_[bin / 64] &= ~(std::uint64_t{1} << (bin % 64));
    }
  }
  meta.starts[granule / 64] &= ~(std::uint64_t{1} << (granule % 64));
}

std::uint32_t ExtentHeap::first_bin_from(std::uint32_t bin) const {
  for (std::uint32_t w = bin / 64; w < (kBins + 63) / 64; ++w) {
    std::uint64_t bits = filled_[w];
    if (w == bin / 64) {
      bits &= ~std::uint64_t{0} << (bin % 64);
    }
    if (bits != 0) {
      return w * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
    }
  }
  return kBins;
}

std::uint32_t ExtentHeap::find_fit(std::uint32_t granules) const {
  // Blocks of a higher bin all fit; those of the request's own bin may be a little smaller. So: a short look there (a snug
  // fit), then the higher bins, and only when they are empty the rest of its own.
  constexpr int kTries = 8;
  const std::uint32_t own = bin_of(granules);
  std::uint32_t id = heads_[own];
  for (int tries = 0; id != kNil; ++tries, id = metas_[id / kGranules]->next[id % kGranules]) {
    if (metas_[id / kGranules]->tag[id % kGranules] >= granules) {
      return id;
    }
    if (tries == kTries) {
      if (const std::uint32_t bin = first_bin_from(own + 1); bin < kBins) {
        return heads_[bin];
      }
    }
  }
  const std::uint32_t bin = first_bin_from(own + 1);
  return bin < kBins ? heads_[bin] : kNil;
}

bool ExtentHeap::check() const {
  std::uint64_t used = 0, blocks = 0, free_blocks = 0, listed = 0;
  std::uint32_t extents = 0, empty = 0;
  for (std::uint32_t e = 0; metas_ && e < extent_count_; ++e) {
    if (metas_[e] == nullptr) {
      continue;
    }
    const Meta& meta = *metas_[e];
    std::uint32_t used_here = 0, starts = 0, seen = 0;
    bool free_before = false;
    for (std::uint32_t g = 0; g < kGranules;) {
      const std::uint32_t count = meta.tag[g] & ~kUsed;
      const bool free = (meta.tag[g] & kUsed) == 0;
      const bool starts_here = ((meta.starts[g / 64] >> (g % 64)) & 1U) != 0;
      if (count == 0 || count > kGranules - g || meta.tag[g + count - 1] != meta.tag[g] || !starts_here ||
          (free && free_before)) {
        return false;
      }
      used_here += free ? 0 : count;
      free_blocks += free;
      blocks += !free;
      ++seen;
      free_before = free;
      g += count;
    }
    for (const std::uint64_t bits : meta.starts) {
      starts += static_cast<std::uint32_t>(std::popcount(bits));
    }
    if (starts != seen || used_here != meta.used) {
      return false;
    }
    used += used_here;
    empty += used_here == 0;
    ++extents;
  }
  for (std::uint32_t bin = 0; bin < kBins; ++bin) {
    for (std::uint32_t id = heads_[bin]; id != kNil; id = metas_[id / kGranules]->next[id % kGranules]) {
      if (bin_of(metas_[id / kGranules]->tag[id % kGranules]) != bin) {
        return false;
      }
      ++listed;
    }
    if ((heads_[bin] == kNil) != (((filled_[bin / 64] >> (bin % 64)) & 1U) == 0)) {
      return false;
    }
  }
  return listed == free_blocks && used == used_ && blocks == blocks_ && extents == extents_ && empty == empty_extents_;
}

}  // namespace setsuna::runtime
