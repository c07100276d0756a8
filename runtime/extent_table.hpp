// The extent table: one 64-bit word per 2 MB extent of the data area says who owns it. As with task slots the
// word is the only truth; whatever a process knows beyond it is private and dies with the process.
//
//   FREE -any-> SMALL(owner)                     owner cuts it into blocks, by private bookkeeping
//   FREE -any-> CLAIMING(owner) x k -> RUN_HEAD(k), RUN_TAIL x (k-1): one large block
//   SMALL/RUN of a dead owner -reaper-> ADOPTED/RUN of the host (live blocks inside), or FREE
//
// A process may be killed between any two of these steps: every extent then still names its owner, and whatever
// is not a committed run or a SMALL extent with live blocks is garbage that the reaper may free.
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/assert.hpp"
#include "runtime/layout.hpp"

namespace setsuna::runtime {

inline constexpr std::uint32_t kNoExtent = 0xFFFFFFFF;
inline constexpr std::uint32_t kMaxExtents = 32768;  // 64 GB

enum class ExtentKind : std::uint8_t { kFree = 0, kSmall, kClaiming, kRunHead, kRunTail, kAdopted };

struct ExtentOwner {
  std::uint32_t index = 0;  // daemon index, or kHostOwner
  std::uint32_t epoch = 0;  // 16 bits are kept
  friend bool operator==(const ExtentOwner&, const ExtentOwner&) = default;
};

// kind:4 | owner index:12 | owner epoch:16 | backed:1 | unused:15 | run length:16
class ExtentWord {
 public:
  constexpr ExtentWord() = default;
  constexpr explicit ExtentWord(std::uint64_t bits) : bits_(bits) {}

  static constexpr ExtentWord make(ExtentKind kind, ExtentOwner owner, bool backed, std::uint32_t run = 0) {
    return ExtentWord((static_cast<std::uint64_t>(kind) << 60) | (std::uint64_t{owner.index & 0xFFFU} << 48) |
                      (std::uint64_t{owner.epoch & 0xFFFFU} << 32) | (std::uint64_t{backed} << 31) | (run & 0xFFFFU));
  }
  static constexpr ExtentWord free(bool backed) { return make(ExtentKind::kFree, {}, backed); }

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr ExtentKind kind() const { return static_cast<ExtentKind>(bits_ >> 60); }
  constexpr bool is_free() const { return kind() == ExtentKind::kFree; }
  constexpr ExtentOwner owner() const {
    return {static_cast<std::uint32_t>(bits_ >> 48) & 0xFFFU, static_cast<std::uint32_t>(bits_ >> 32) & 0xFFFFU};
  }
  constexpr bool owned_by(ExtentOwner who) const {
    return !is_free() && owner() == ExtentOwner{who.index & 0xFFFU, who.epoch & 0xFFFFU};
  }
  // Has pages: first use costs no zeroing and cannot fail. Kept when the extent becomes FREE.
  constexpr bool backed() const { return ((bits_ >> 31) & 1U) != 0; }
  constexpr std::uint32_t run() const { return static_cast<std::uint32_t>(bits_) & 0xFFFFU; }
  constexpr ExtentWord with_backed() const { return ExtentWord(bits_ | (std::uint64_t{1} << 31)); }

 private:
  std::uint64_t bits_ = 0;
};

struct ExtentCensus {
  std::uint32_t total = 0;
  std::uint32_t free = 0;
  std::uint32_t backed = 0;  // with pages, free or not: the high-water mark of the whole segment
  std::uint32_t small = 0;   // of the owner asked for
  std::uint32_t run = 0;     // likewise: extents in large blocks
  std::uint32_t adopted = 0;
};

// A view of the table in shared memory; copyable, owns nothing. All-zero memory is a valid table of FREE extents.
template <template <class> class Atom = std::atomic>
class ExtentTable {
 public:
  ExtentTable(Atom<std::uint64_t>* words, std::uint32_t count) : words_(words), count_(count) {
    SETSUNA_ASSERT(count >= 1 && count <= kMaxExtents);
  }

  std::uint32_t count() const { return count_; }

  // Relaxed: the caller owns the extent, or learned of a block in it through an acquire of its own (the slot's word), or only
  // looks for what to try.
  ExtentWord word(std::uint32_t extent) const {
    SETSUNA_ASSERT(extent < count_);
    return ExtentWord(words_[extent].load(std::memory_order_relaxed));
  }

  // Claims the lowest FREE extent: low ones are warm. kNoExtent when there is none; `*transient` is set when another
  // process was in the middle of a claim that it may yet roll back.
  std::uint32_t claim_lowest(ExtentOwner owner, ExtentKind kind, bool* transient) {
    for (std::uint32_t i = 0; i < count_; ++i) {
      ExtentWord seen = word(i);
      if (claim(i, &seen, owner, kind)) {
        return i;
      }
      *transient |= seen.kind() == ExtentKind::kClaiming;
    }
    return kNoExtent;
  }

  // Claims the lowest `run` contiguous FREE extents as CLAIMING; the caller commits or releases them. All or nothing.
  std::uint32_t claim_run(ExtentOwner owner, std::uint32_t run, bool* transient) {
    SETSUNA_ASSERT(run >= 1);
    std::uint32_t head = 0;
    while (run <= count_ && head <= count_ - run) {
      std::uint32_t end = free_until(head, head + run, transient);
      if (end == head + run) {
        end = claim_until(owner, head, head + run);
        if (end == head + run) {
          return head;
        }
        *transient = true;  // lost a race; the winner may roll back as we do now
        release_claimed(owner, head, end - head);
      }
      head = end + 1;
    }
    return kNoExtent;
  }

  // CLAIMING x run -> one large block. In any order: nobody refers to the block before this returns, and the reaper takes
  // a run for one only if it is whole.
  void commit_run(ExtentOwner owner, std::uint32_t head, std::uint32_t run) {
    SETSUNA_ASSERT(run >= 1 && head < count_ && run <= count_ - head);
    for (std::uint32_t i = head + 1; i < head + run; ++i) {
      // Relaxed: nobody but this process and, after its death, the reaper reads an extent in CLAIMING or its successor.
      words_[i].store(ExtentWord::make(ExtentKind::kRunTail, owner, word(i).backed()).bits(),
                      std::memory_order_relaxed);
    }
    words_[head].store(ExtentWord::make(ExtentKind::kRunHead, owner, word(head).backed(), run).bits(),
                       std::memory_order_relaxed);
  }

  // By the owner, before it tells anyone of a block in it. Relaxed: read by later claimers through the FREE that follows it.
  void mark_backed(ExtentOwner owner, std::uint32_t extent) {
    const ExtentWord seen = word(extent);
    SETSUNA_ASSERT(seen.owned_by(owner));
    words_[extent].store(seen.with_backed().bits(), std::memory_order_relaxed);
  }

  // By anyone who has given a FREE extent pages. If it is not FREE any more, its owner sees to it.
  // Relaxed: that there are pages is the kernel's word, not another process's; and as a read-modify-write it leaves the
  // hand-over between the last owner's release and the next one's acquire intact.
  void note_backed(std::uint32_t extent) {
    std::uint64_t expected = ExtentWord::free(false).bits();
    words_[extent].compare_exchange_strong(expected, ExtentWord::free(true).bits(), std::memory_order_relaxed,
                                           std::memory_order_relaxed);
  }

  // One extent of `owner` -> FREE.
  void release(ExtentOwner owner, std::uint32_t extent) {
    ExtentWord seen = word(extent);
    SETSUNA_ASSERT(seen.owned_by(owner));
    std::uint64_t expected = seen.bits();
    // ORDERING extent hand-over: release pairs with the acquire in claim(): the next owner's stores come after everything
    // that this process has read or written in the extent.
    const bool mine = words_[extent].compare_exchange_strong(expected, ExtentWord::free(seen.backed()).bits(),
                                                             std::memory_order_release, std::memory_order_relaxed);
    SETSUNA_ASSERT(mine && "an extent was released twice");
  }

  void release_claimed(ExtentOwner owner, std::uint32_t head, std::uint32_t run) {
    for (std::uint32_t i = head; i < head + run; ++i) {
      release(owner, i);
    }
  }

  // A committed large block -> FREE, its head first: what a death leaves is tails without a head, no half block.
  void release_run(ExtentOwner owner, std::uint32_t head) {
    const ExtentWord seen = word(head);
    SETSUNA_ASSERT(seen.owned_by(owner) && seen.kind() == ExtentKind::kRunHead && fits(head, seen.run()));
    release_claimed(owner, head, seen.run());
  }

  // Reaper: what the dead owned becomes the host's. Relaxed stores: the dead cannot read them, other daemons only look
  // for FREE, and the host reads its own.
  void adopt_small(ExtentOwner heir, std::uint32_t extent) {
    words_[extent].store(ExtentWord::make(ExtentKind::kAdopted, heir, word(extent).backed()).bits(),
                         std::memory_order_relaxed);
  }
  void adopt_run(ExtentOwner heir, std::uint32_t head) { commit_run(heir, head, word(head).run()); }

  bool fits(std::uint32_t head, std::uint32_t run) const { return run >= 1 && head < count_ && run <= count_ - head; }

  ExtentCensus census(ExtentOwner owner) const {
    ExtentCensus out;
    out.total = count_;
    for (std::uint32_t i = 0; i < count_; ++i) {
      const ExtentWord seen = word(i);
      out.free += seen.is_free();
      out.backed += seen.backed();
      if (seen.owned_by(owner)) {
        out.small += seen.kind() == ExtentKind::kSmall;
        out.adopted += seen.kind() == ExtentKind::kAdopted;
        out.run += seen.kind() == ExtentKind::kRunHead || seen.kind() == ExtentKind::kRunTail;
      }
    }
    return out;
  }

 private:
  // On failure *seen is the word that was in the way.
  bool claim(std::uint32_t extent, ExtentWord* seen, ExtentOwner owner, ExtentKind kind) {
    while (seen->is_free()) {
      std::uint64_t expected = seen->bits();
      // ORDERING extent hand-over: acquire pairs with the release in release().
      if (words_[extent].compare_exchange_strong(expected, ExtentWord::make(kind, owner, seen->backed()).bits(),
                                                 std::memory_order_acquire, std::memory_order_relaxed)) {
        return true;
      }
      *seen = ExtentWord(expected);  // still FREE if somebody has just given it pages
    }
    return false;
  }

  std::uint32_t free_until(std::uint32_t from, std::uint32_t to, bool* transient) const {
    for (std::uint32_t i = from; i < to; ++i) {
      const ExtentWord seen = word(i);
      if (!seen.is_free()) {
        *transient |= seen.kind() == ExtentKind::kClaiming;
        return i;
      }
    }
    return to;
  }

  std::uint32_t claim_until(ExtentOwner owner, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) {
      ExtentWord seen = word(i);
      if (!claim(i, &seen, owner, ExtentKind::kClaiming)) {
        return i;
      }
    }
    return to;
  }

  Atom<std::uint64_t>* words_;
  std::uint32_t count_;
};

}  // namespace setsuna::runtime
