// A process's private bookkeeping of the small blocks in the extents that it owns: a two-level good-fit heap
// (bins of free blocks by size, coalescing at both ends) whose state lies entirely outside the shared memory. Nothing
// that another process scribbles there can damage it, and nothing of it survives the process.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "runtime/assert.hpp"
#include "runtime/layout.hpp"
#include "runtime/zero_table.hpp"

namespace setsuna::runtime {

class ExtentHeap {
 public:
  static constexpr std::uint32_t kGranuleBytes = 256;  // unit of allocation; tiny payloads travel in the slot anyway
  static constexpr std::uint32_t kGranules = kExtentBytes / kGranuleBytes;

  struct Place {
    std::uint32_t extent;
    std::uint32_t granule;
    std::uint32_t count;  // granules; 0: nothing found
  };

  explicit ExtentHeap(std::uint32_t extent_count);
  ~ExtentHeap();
  ExtentHeap(const ExtentHeap&) = delete;
  ExtentHeap& operator=(const ExtentHeap&) = delete;

  // False when there is no memory for the bookkeeping itself. The extent starts as one free block.
  bool add_extent(std::uint32_t extent);
  // The extent must be empty.
  void remove_extent(std::uint32_t extent);
  bool owns(std::uint32_t extent) const { return metas_ && metas_[extent] != nullptr; }

  // Count 0 when no free block is large enough: add an extent.
  Place alloc(std::uint32_t granules);
  // Count 0 when no allocated block starts there.
  Place find(std::uint32_t extent, std::uint32_t granule) const;
  void free(Place block);

  std::uint32_t extents() const { return extents_; }
  std::uint32_t empty_extents() const { return empty_extents_; }
  bool is_empty(std::uint32_t extent) const { return metas_[extent]->used == 0; }
  // An empty extent, or kNoExtent's value: for giving cached ones back. The search is linear; only a full table asks.
  std::uint32_t find_empty() const;
  std::uint64_t used_bytes() const { return std::uint64_t{used_} * kGranuleBytes; }
  std::uint64_t blocks() const { return blocks_; }

  // Every count and list agrees with the block chain; for tests.
  bool check() const;

 private:
  static constexpr std::uint32_t kNil = 0xFFFFFFFF;
  static constexpr std::uint32_t kSubBits = 3;
  static constexpr std::uint32_t kBins = 96;  // bin_of(kGranules) is 88
  static constexpr std::uint16_t kUsed = 0x8000;

  struct Meta {
    std::uint64_t starts[kGranules / 64];  // bit: a block, free or allocated, starts here
    std::uint32_t used;                    // allocated granules
    std::uint16_t tag[kGranules];          // at a block's first and last granule: its length, and kUsed
    std::uint32_t next[kGranules];         // free lists; valid at the first granule of a free block
    std::uint32_t previous[kGranules];
  };

  static std::uint32_t bin_of(std::uint32_t granules);
  static std::uint32_t id_of(std::uint32_t extent, std::uint32_t granule) { return extent * kGranules + granule; }

  void tag_block(Meta& meta, std::uint32_t granule, std::uint32_t count, std::uint16_t flag);
  void push(std::uint32_t extent, std::uint32_t granule, std::uint32_t count);
  void unlink(std::uint32_t extent, std::uint32_t granule);
  std::uint32_t find_fit(std::uint32_t granules) const;
  std::uint32_t first_bin_from(std::uint32_t bin) const;

  ZeroTable<Meta*> metas_;  // by extent
  std::uint32_t extent_count_;
  std::uint32_t extents_ = 0;
  std::uint32_t empty_extents_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t blocks_ = 0;
  Meta* spare_ = nullptr;  // bookkeeping of the last removed extent: extents come and go at the edge of a size
  std::uint32_t heads_[kBins];
  std::uint64_t filled_[(kBins + 63) / 64] = {};
};

}  // namespace setsuna::runtime
