// Shared-memory allocation: the data plane's blocks. Every process allocates only in extents that it owns by the
// extent table, so allocation needs no lock and no shared bookkeeping, and a process killed at any instruction
// leaves nothing but words that the reaper sets right.
//
//   daemon: alloc() a result, publish its offset in a slot; free_own() if it was not published after all.
//   host:   alloc() arguments; host_release() any block, whoever made it and whether or not that process still lives;
//           reap() what a dead daemon owned.
//
// Offsets are counted from the start of the segment, so 0 is no block. Blocks are aligned to 64 bytes at least.
// One Arena object a process view; not thread-safe (the host's is used under the host's mutex).
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/assert.hpp"
#include "runtime/extent_heap.hpp"
#include "runtime/extent_table.hpp"
#include "runtime/huge.hpp"
#include "runtime/layout.hpp"
#include "runtime/poison.hpp"
#include "runtime/zero_table.hpp"

namespace setsuna::runtime {

// Where the bytes of the data area are. make_resident gives pages to whole extents (false: no memory; it must not fault).
template <class B>
concept ArenaBacking = requires(B& backing, std::uint64_t offset, std::uint64_t bytes) {
  { backing.make_resident(offset, bytes) } -> std::same_as<bool>;
  { backing.at(offset) } -> std::same_as<std::byte*>;
};

// The backing of a mapped segment.
struct SegmentBacking {
  std::byte* base = nullptr;  // of the shared map
  int fd = -1;                // of the segment; stays the caller's

  std::byte* at(std::uint64_t offset) const { return base + offset; }
  bool make_resident(std::uint64_t offset, std::uint64_t bytes) const {
    return runtime::make_resident(fd, base + offset, offset, static_cast<std::size_t>(bytes));
  }
};

// The heads of the stacks on which the host hands small blocks back: one 64-bit word a daemon record.
template <template <class> class Atom>
struct HandbackHeads {
  Atom<std::uint64_t>* first = nullptr;
  std::size_t stride = kPageBytes;  // bytes between the words of two daemons

  Atom<std::uint64_t>& of(std::uint32_t daemon) const {
    return *reinterpret_cast<Atom<std::uint64_t>*>(reinterpret_cast<char*>(first) + std::size_t{daemon} * stride);
  }
};

enum class AllocStatus : std::uint8_t {
  kOk,
  kTooLarge,   // larger than the whole data area: never
  kNoExtents,  // others own too much now: later perhaps
  kNoMemory,   // the system gives no more pages (or no memory for private bookkeeping)
};

struct Block {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // as asked for
  AllocStatus status = AllocStatus::kNoExtents;
  explicit operator bool() const { return status == AllocStatus::kOk; }
};

struct ArenaUse {
  std::uint64_t bytes_in_use = 0;      // in blocks of this owner, rounded up to what they occupy
  std::uint64_t bytes_high_water = 0;  // the most this owner ever had in use when it allocated
  std::uint64_t bytes_owned = 0;       // extents of this owner, adopted ones included
  std::uint64_t segment_backed = 0;    // bytes with pages in the whole segment: they stay until it goes
  std::uint64_t segment_total = 0;
};

struct ReapReport {
  std::uint32_t freed = 0;    // extents
  std::uint32_t adopted = 0;  // extents kept because of live blocks
};

template <ArenaBacking Backing, template <class> class Atom = std::atomic>
class BasicArena {
 public:
  using Table = ExtentTable<Atom>;
  using Heads = HandbackHeads<Atom>;

  static constexpr std::uint64_t kSmallMax = std::uint64_t{1} << 20;  // larger blocks are runs of whole extents

  // data_offset: of the first extent, from the start of the segment; a multiple of 2 MB, not 0.
  // keep_empty: empty extents kept for the next blocks; more go back to everybody.
  BasicArena(Backing backing, Table table, Heads heads, std::uint64_t data_offset, ExtentOwner me,
             std::uint32_t keep_empty = 1)
      : backing_(backing),
        table_(table),
        heads_(heads),
        data_offset_(data_offset),
        me_(me),
        keep_empty_(keep_empty),
        heap_(table.count()) {
    SETSUNA_ASSERT(data_offset % kExtentBytes == 0 && data_offset > 0);
    SETSUNA_ASSERT(is_host() || heads.first != nullptr);
  }
  BasicArena(const BasicArena&) = delete;
  BasicArena& operator=(const BasicArena&) = delete;

  std::byte* at(std::uint64_t offset) { return backing_.at(offset); }
  std::uint64_t max_block_bytes() const { return std::uint64_t{table_.count()} * kExtentBytes; }

  Block alloc(std::uint64_t bytes) {
    if (bytes > max_block_bytes()) {
      return failed(AllocStatus::kTooLarge);
    }
    drain();
    const Block block = bytes > kSmallMax ? alloc_run(bytes) : alloc_small(bytes);
    if (block) {
      // At least a link: the host may write one when it hands the block back.
      poison::enable(backing_.at(block.offset), std::max<std::uint64_t>(block.bytes, sizeof(std::uint64_t)));
      high_water_ = std::max(high_water_, heap_.used_bytes() + run_bytes_);
    }
    return block;
  }

  // A block that this process allocated and nobody else knows of any more.
  void free_own(std::uint64_t offset) {
    const std::uint32_t extent = extent_of(offset);
    const ExtentWord word = table_.word(extent);
    SETSUNA_ASSERT(word.owned_by(me_));
    if (word.kind() == ExtentKind::kRunHead) {
      SETSUNA_ASSERT(offset == offset_of(extent));
      run_bytes_ -= std::min(run_bytes_, std::uint64_t{word.run()} * kExtentBytes);
      table_.release_run(me_, extent);
      return;
    }
    SETSUNA_ASSERT(word.kind() == ExtentKind::kSmall);
    free_small(offset);
  }

  // Owner: takes back the small blocks that the host has released. alloc() does it too; an owner that is about to sleep may.
  void drain() {
    // Relaxed look: the usual case is empty, and the exchange decides.
    if (is_host() || heads_.of(me_.index).load(std::memory_order_relaxed) == 0) {
      return;
    }
    // ORDERING hand-back: acquire pairs with the release of hand_back(): the links are readable, and what the host read in
    // the blocks was read before they are written again. Taking all at once leaves no ABA.
    std::uint64_t offset = heads_.of(me_.index).exchange(0, std::memory_order_acquire);
    while (offset != 0) {
      const std::uint64_t next = link_of(offset).load(std::memory_order_relaxed);
      free_small(offset);
      offset = next;
    }
  }

  // Gives empty extents that are kept for the next blocks to everybody.
  void trim() {
    drain();
    while (heap_.empty_extents() > 0) {
      give_back(heap_.find_empty());
    }
  }

  // Host: a block that nothing refers to any more, whoever allocated it. False: there is no such block (a damaged offset).
  bool host_release(std::uint64_t offset) {
    SETSUNA_ASSERT(is_host());
    if (!in_data_area(offset)) {
      return false;
    }
    const std::uint32_t extent = extent_of(offset);
    const ExtentWord word = table_.word(extent);
    switch (word.kind()) {
      case ExtentKind::kRunHead: return release_run(offset, extent, word);
      case ExtentKind::kSmall:
        return word.owned_by(me_) ? free_small_if_found(offset) : hand_back(offset, word.owner());
      case ExtentKind::kAdopted: return release_adopted(extent);
      case ExtentKind::kFree:
      case ExtentKind::kClaiming:
      case ExtentKind::kRunTail: break;
    }
    return false;
  }

  // Could `owner` have a block of this size here? For offsets that come from another process: a task may have written
  // anywhere, and the host must not believe it.
  bool plausible(std::uint64_t offset, std::uint64_t bytes, ExtentOwner owner) const {
    if (!in_data_area(offset) || offset % ExtentHeap::kGranuleBytes != 0) {
      return false;
    }
    const std::uint32_t extent = extent_of(offset);
    const ExtentWord word = table_.word(extent);
    if (!word.owned_by(owner)) {
      return false;
    }
    if (word.kind() == ExtentKind::kRunHead) {
      return offset == offset_of(extent) && table_.fits(extent, word.run()) &&
             bytes <= std::uint64_t{word.run()} * kExtentBytes;
    }
    return word.kind() == ExtentKind::kSmall && bytes <= kSmallMax &&
           bytes <= offset_of(extent) + kExtentBytes - offset;
  }

  // Host: `dead` will not run again. `live`: ascending offsets of the blocks that somebody still refers to: results in
  // DONE slots (if plausible() before this call: afterwards they are not the dead daemon's any more) or in the host's
  // own books. Blocks of others among them do no harm. Extents with such blocks become the host's, and host_release() of
  // the last one frees the extent; all others are FREE at once.
  ReapReport reap(ExtentOwner dead, std::span<const std::uint64_t> live) {
    SETSUNA_ASSERT(is_host() && dead != me_);
    SETSUNA_ASSERT(std::is_sorted(live.begin(), live.end()));
    if (heads_.first != nullptr) {
      heads_.of(dead.index).store(0, std::memory_order_relaxed);  // its blocks are settled here; nobody else reads it
    }
    ReapReport report;
    for (std::uint32_t i = 0; i < table_.count();) {
      i += reap_extent(dead, i, live, &report);
    }
    return report;
  }

  // Gives pages to up to `extents` FREE extents, lowest first, in one call, so that later allocations find them warm.
  // Returns how many got some.
  std::uint32_t prewarm(std::uint32_t extents) {
    std::uint32_t warmed = 0;
    for (std::uint32_t i = 0; i < table_.count() && warmed < extents;) {
      const std::uint32_t end = end_of_bare(i, extents - warmed);
      if (end > i) {
        if (!backing_.make_resident(offset_of(i), std::uint64_t{end - i} * kExtentBytes)) {
          break;
        }
        note_backed(i, end);
        warmed += end - i;
      }
      i = end + 1;
    }
    return warmed;
  }

  ArenaUse use() const {
    const ExtentCensus census = table_.census(me_);
    ArenaUse out;
    out.bytes_in_use = heap_.used_bytes() + std::uint64_t{census.run} * kExtentBytes;
    out.bytes_high_water = std::max(high_water_, out.bytes_in_use);
    out.bytes_owned = std::uint64_t{census.small + census.run + census.adopted} * kExtentBytes;
    out.segment_backed = std::uint64_t{census.backed} * kExtentBytes;
    out.segment_total = std::uint64_t{census.total} * kExtentBytes;
    return out;
  }

  // At most so many extents get their pages in one call when small blocks need one more. At least 1.
  void set_growth(std::uint32_t extents) { growth_max_ = std::max<std::uint32_t>(1, extents); }

  ExtentOwner owner() const { return me_; }
  const Table& table() const { return table_; }
  const ExtentHeap& heap() const { return heap_; }

 private:
  // A claim that fails while another process is half-way through one is tried again: that one may be rolling back.
  static constexpr int kClaimPasses = 16;

  bool is_host() const { return me_.index == kHostOwner; }
  static Block failed(AllocStatus status) { return {0, 0, status}; }

  bool in_data_area(std::uint64_t offset) const {
    return offset >= data_offset_ && offset - data_offset_ < max_block_bytes();
  }
  std::uint32_t extent_of(std::uint64_t offset) const {
    SETSUNA_ASSERT(in_data_area(offset));
    return static_cast<std::uint32_t>((offset - data_offset_) / kExtentBytes);
  }
  std::uint64_t offset_of(std::uint32_t extent) const { return data_offset_ + std::uint64_t{extent} * kExtentBytes; }

  Atom<std::uint64_t>& link_of(std::uint64_t offset) {
    static_assert(sizeof(Atom<std::uint64_t>) == sizeof(std::uint64_t));
    return *reinterpret_cast<Atom<std::uint64_t>*>(backing_.at(offset));
  }

  // --- Small blocks ------------------------------------------------------------------------------------------

  Block alloc_small(std::uint64_t bytes) {
    const auto granules = static_cast<std::uint32_t>(
        std::max<std::uint64_t>(1, (bytes + ExtentHeap::kGranuleBytes - 1) / ExtentHeap::kGranuleBytes));
    ExtentHeap::Place place = heap_.alloc(granules);
    if (place.count == 0) {
      if (const AllocStatus status = grow(); status != AllocStatus::kOk) {
        return failed(status);
      }
      place = heap_.alloc(granules);
    }
    SETSUNA_ASSERT(place.count == granules);
    return {offset_of(place.extent) + std::uint64_t{place.granule} * ExtentHeap::kGranuleBytes, bytes,
            AllocStatus::kOk};
  }

  // One more extent for small blocks.
  AllocStatus grow() {
    std::uint32_t extent = kNoExtent;
    for (int pass = 0; pass < kClaimPasses && extent == kNoExtent; ++pass) {
      bool transient = false;
      extent = table_.claim_lowest(me_, ExtentKind::kSmall, &transient);
      if (extent == kNoExtent && !transient) {
        break;
      }
    }
    if (extent == kNoExtent) {
      return AllocStatus::kNoExtents;
    }
    if (!back_with_neighbours(extent) || !heap_.add_extent(extent)) {
      table_.release(me_, extent);
      return AllocStatus::kNoMemory;
    }
    poison::forbid(backing_.at(offset_of(extent)), kExtentBytes);
    return AllocStatus::kOk;
  }

  // Pages for an extent of this owner. If it has none yet, its free neighbours get theirs in the same call: a call costs
  // more than the pages, and whoever grows once usually grows again.
  bool back_with_neighbours(std::uint32_t extent) {
    if (table_.word(extent).backed()) {
      return true;
    }
    const std::uint32_t wanted = std::min(growth_, 1 + table_.count() / 16);
    growth_ = std::min(growth_ * 2, growth_max_);
    const std::uint32_t end = end_of_bare(extent + 1, wanted - 1);
    if (backing_.make_resident(offset_of(extent), std::uint64_t{end - extent} * kExtentBytes)) {
      table_.mark_backed(me_, extent);
      note_backed(extent + 1, end);
      return true;
    }
    return end > extent + 1 && back(extent, 1);  // memory for all was too much to ask
  }

  // FREE extents can be given pages without being claimed: it changes no content, so it does not matter who takes one
  // meanwhile, and nobody finds the table fuller than it is during the call.
  std::uint32_t end_of_bare(std::uint32_t from, std::uint32_t at_most) const {
    std::uint32_t end = from;
    while (end < table_.count() && end - from < at_most && table_.word(end).is_free() && !table_.word(end).backed()) {
      ++end;
    }
    return end;
  }
  void note_backed(std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) {
      table_.note_backed(i);
    }
  }

  // Pages for `count` extents of this owner, those that have some excepted.
  bool back(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = first; i < first + count;) {
      std::uint32_t end = i;
      while (end < first + count && !table_.word(end).backed()) {
        ++end;
      }
      if (end == i) {
        ++i;
        continue;
      }
      if (!backing_.make_resident(offset_of(i), std::uint64_t{end - i} * kExtentBytes)) {
        return false;
      }
      for (; i < end; ++i) {
        table_.mark_backed(me_, i);
      }
    }
    return true;
  }

  void free_small(std::uint64_t offset) {
    const bool found = free_small_if_found(offset);
    SETSUNA_ASSERT(found && "a block was freed that is not allocated");
  }

  bool free_small_if_found(std::uint64_t offset) {
    const std::uint32_t extent = extent_of(offset);
    const std::uint64_t inside = offset - offset_of(extent);
    if (inside % ExtentHeap::kGranuleBytes != 0) {
      return false;
    }
    const auto place = heap_.find(extent, static_cast<std::uint32_t>(inside / ExtentHeap::kGranuleBytes));
    if (place.count == 0) {
      return false;
    }
    heap_.free(place);
    poison::forbid(backing_.at(offset), std::size_t{place.count} * ExtentHeap::kGranuleBytes);
    if (heap_.is_empty(extent) && heap_.empty_extents() > keep_empty_) {
      give_back(extent);
    }
    return true;
  }

  void give_back(std::uint32_t extent) {
    heap_.remove_extent(extent);
    poison::enable(backing_.at(offset_of(extent)), kExtentBytes);
    table_.release(me_, extent);
  }

  // --- Large blocks ------------------------------------------------------------------------------------------

  Block alloc_run(std::uint64_t bytes) {
    const auto run = static_cast<std::uint32_t>((bytes + kExtentBytes - 1) / kExtentBytes);
    std::uint32_t head = claim_run(run);
    if (head == kNoExtent && heap_.empty_extents() > 0) {
      trim();
      head = claim_run(run);
    }
    if (head == kNoExtent) {
      return failed(AllocStatus::kNoExtents);
    }
    // Committed before it has pages: that may take milliseconds, and others should not take it for a claim in progress.
    table_.commit_run(me_, head, run);
    if (!back(head, run)) {
      table_.release_run(me_, head);
      return failed(AllocStatus::kNoMemory);
    }
    for (std::uint32_t i = head; i < head + run; ++i) {
      poison::enable(backing_.at(offset_of(i)), kExtentBytes);
    }
    // Counted anew: the host frees a daemon's runs without telling it. A look at the table is nothing beside filling a run.
    run_bytes_ = std::uint64_t{table_.census(me_).run} * kExtentBytes;
    return {offset_of(head), bytes, AllocStatus::kOk};
  }

  std::uint32_t claim_run(std::uint32_t run) {
    for (int pass = 0; pass < kClaimPasses; ++pass) {
      bool transient = false;
      const std::uint32_t head = table_.claim_run(me_, run, &transient);
      if (head != kNoExtent || !transient) {
        return head;
      }
    }
    return kNoExtent;
  }

  bool release_run(std::uint64_t offset, std::uint32_t extent, ExtentWord word) {
    if (offset != offset_of(extent) || !table_.fits(extent, word.run())) {
      return false;
    }
    if (word.owned_by(me_)) {
      run_bytes_ -= std::min(run_bytes_, std::uint64_t{word.run()} * kExtentBytes);
    }
    table_.release_run(word.owner(), extent);
    return true;
  }

  // --- Host: blocks of others --------------------------------------------------------------------------------

  bool hand_back(std::uint64_t offset, ExtentOwner owner) {
    if (offset % ExtentHeap::kGranuleBytes != 0 || heads_.first == nullptr) {
      return false;
    }
    Atom<std::uint64_t>& head = heads_.of(owner.index);
    std::uint64_t top = head.load(std::memory_order_relaxed);
    do {
      // Relaxed: published by the exchange of the head. Killed here, the host takes every daemon with it.
      link_of(offset).store(top, std::memory_order_relaxed);
      // ORDERING hand-back: release pairs with the acquire of drain().
    } while (!head.compare_exchange_strong(top, offset, std::memory_order_release, std::memory_order_relaxed));
    return true;
  }

  bool release_adopted(std::uint32_t extent) {
    SETSUNA_ASSERT(adopted_ && adopted_[extent] > 0);
    if (--adopted_[extent] == 0) {
      table_.release(me_, extent);
    }
    return true;
  }

  // Returns how many extents were dealt with.
  std::uint32_t reap_extent(ExtentOwner dead, std::uint32_t extent, std::span<const std::uint64_t> live,
                            ReapReport* report) {
    const ExtentWord word = table_.word(extent);
    if (!word.owned_by(dead)) {
      return 1;
    }
    const std::uint32_t alive = count_live(live, extent);
    if (alive > 0 && word.kind() == ExtentKind::kRunHead && is_whole_run(dead, extent, word.run())) {
      table_.adopt_run(me_, extent);
      report->adopted += word.run();
      return word.run();
    }
    if (alive > 0 && word.kind() == ExtentKind::kSmall && adopt_small(extent, alive)) {
      report->adopted += 1;
      return 1;
    }
    table_.release(dead, extent);
    report->freed += 1;
    return 1;
  }

  bool adopt_small(std::uint32_t extent, std::uint32_t alive) {
    if (!adopted_) {
      adopted_ = ZeroTable<std::uint32_t>(table_.count());
      SETSUNA_ASSERT(adopted_);
    }
    adopted_[extent] = alive;
    table_.adopt_small(me_, extent);
    return true;
  }

  bool is_whole_run(ExtentOwner owner, std::uint32_t head, std::uint32_t run) const {
    if (!table_.fits(head, run)) {
      return false;
    }
    for (std::uint32_t i = head + 1; i < head + run; ++i) {
      const ExtentWord word = table_.word(i);
      if (word.kind() != ExtentKind::kRunTail || !word.owned_by(owner)) {
        return false;
      }
    }
    return true;
  }

  // Distinct live offsets inside the extent.
  std::uint32_t count_live(std::span<const std::uint64_t> live, std::uint32_t extent) const {
    const std::uint64_t from = offset_of(extent);
    auto it = std::lower_bound(live.begin(), live.end(), from);
    std::uint32_t count = 0;
    for (std::uint64_t last = 0; it != live.end() && *it < from + kExtentBytes; ++it) {
      count += *it != last;
      last = *it;
    }
    return count;
  }

  Backing backing_;
  Table table_;
  Heads heads_;
  std::uint64_t data_offset_;
  ExtentOwner me_;
  std::uint32_t keep_empty_;
  std::uint32_t growth_ = 1;
  std::uint32_t growth_max_ = kGrowthExtents;
  ExtentHeap heap_;
  std::uint64_t run_bytes_ = 0;
  std::uint64_t high_water_ = 0;
  ZeroTable<std::uint32_t> adopted_;  // host: live blocks by adopted extent
};

using Arena = BasicArena<SegmentBacking>;
extern template class BasicArena<SegmentBacking>;

}  // namespace setsuna::runtime
