// The layout of the shared segment. This header is its specification: every offset that two processes agree
// on is pinned by a static_assert, and kLayoutHash changes with any of them.
//
//   [SegmentHeader 4 KB][Control 4 KB][DaemonRecord 4 KB x daemons][cells 8 B x slots][done bits][extent table]
//   [TaskSlot 1 KB x slots] ... up to data_offset, then the data area: 2 MB extents.
//
// Structures are templates over the atomic type, so that the same source runs over std::atomic in production
// and over the atomics of a deterministic scheduler in tests.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace setsuna::runtime {

inline constexpr std::uint64_t kSegmentMagic = 0x414E55535445530AULL;  // "\nSETSUNA", little endian
inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr std::uint32_t kMaxDaemons = 1024;
inline constexpr std::uint32_t kIdleWords = kMaxDaemons / 64;
inline constexpr std::uint32_t kDefaultSlots = 16384;  // a cell's slot index allows 65,535
inline constexpr std::uint32_t kMailboxCells = 256;
inline constexpr std::uint32_t kHoldBits = 4096;  // shared argument blocks that can be viewed at a time
inline constexpr std::uint32_t kNoBlockId = 0xFFFF;
inline constexpr std::uint32_t kHostOwner = 0xFFF;  // owner index of the host in extents and words
inline constexpr std::uint32_t kHostEpoch = 1;      // its epoch in words: it lives as long as the segment
inline constexpr std::size_t kInlineArgBytes = 448;
inline constexpr std::size_t kInlineResultBytes = 448;
inline constexpr std::size_t kExtentBytes = std::size_t{2} << 20;
inline constexpr std::uint32_t kGrowthExtents = 8;  // made resident ahead of need, at most: the default
inline constexpr std::size_t kPageBytes = 4096;

// Written once by the host before the descriptor is shared, constant afterwards. Compared before anything else
// in the segment is trusted.
struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t protocol_version;
  std::uint32_t slot_count;   // power of two, <= 32768; also the size of the ready ring
  std::uint64_t layout_hash;  // kLayoutHash of the builder
  std::uint64_t build_id[2];  // hash of the package version and its R version
  std::uint64_t total_bytes;  // of the memfd
  std::uint64_t control_offset;
  std::uint64_t daemons_offset;
  std::uint64_t cells_offset;
  std::uint64_t done_bits_offset;
  std::uint64_t extent_table_offset;
  std::uint64_t slots_offset;
  std::uint64_t data_offset;  // 2 MB aligned
  std::uint32_t extent_count;
  std::uint32_t daemon_max;  // records present, <= kMaxDaemons
  std::uint32_t host_pid;
  std::uint32_t host_uid;
  char profile[128];  // name, NUL-terminated, for tools that look at a running host
};
static_assert(sizeof(SegmentHeader) <= kPageBytes);
static_assert(offsetof(SegmentHeader, slot_count) == 12 && offsetof(SegmentHeader, layout_hash) == 16 &&
              offsetof(SegmentHeader, total_bytes) == 40 && offsetof(SegmentHeader, control_offset) == 48 &&
              offsetof(SegmentHeader, data_offset) == 96 && offsetof(SegmentHeader, extent_count) == 104 &&
              offsetof(SegmentHeader, profile) == 120);

// One page per host process, shared by the segments of all its profiles: the word on which the R thread sleeps.
template <template <class> class Atom>
struct HostPage {
  alignas(64) Atom<std::uint32_t> futex;  // bumped by whoever wakes the R thread
  Atom<std::uint32_t>
      cpu;  // last CPU of the R thread, for peers that spin; 0: unknown, or a wake before its time is of no use
};

template <template <class> class Atom>
struct Control {
  alignas(64) Atom<std::uint64_t> ring_head;  // next ticket to take
  alignas(64) Atom<std::uint64_t> ring_tail;  // next ticket to give
  alignas(64) Atom<std::uint64_t> host_gate;  // see gate.hpp
  alignas(64) Atom<std::uint64_t> refill_gate;
  alignas(
      64) std::array<Atom<std::uint64_t>, kIdleWords> idle;  // bit per daemon: parked, and nobody has claimed its wake
  alignas(64) Atom<std::uint32_t> low_water;                 // ready tasks below which a claim wakes the reactor
  Atom<std::uint32_t> spin_us;                               // bounded spin before parking; 0: none but kLookOutUs
  Atom<std::uint32_t> flags;                                 // kControlClosing
  // Set by the host before the segment is shared.
  Atom<std::uint32_t> inline_bytes;           // results up to this size lie in the slot; at most kInlineResultBytes
  Atom<std::uint32_t> growth_extents;         // see Arena
  Atom<std::uint32_t> encoding;               // how results are to be encoded: means nothing here
  Atom<std::uint64_t> trace_offset;           // trace_area.hpp; 0: tasks leave no stamps
  alignas(64) Atom<std::uint32_t> announced;  // see announcement.hpp
};
inline constexpr std::uint32_t kControlClosing = 1;  // daemons finish what they hold and exit
inline constexpr std::uint32_t kControlFinal = 2;    // with it: also those that would wait for another host

enum class DaemonState : std::uint32_t { kVacant = 0, kStarting, kLive, kLeaving, kDead };

template <template <class> class Atom>
struct DaemonRecord {
  // Line 0: parking. Written by wakers and by the daemon.
  alignas(64) Atom<std::uint32_t> futex;  // 0: may sleep, 1: woken
  Atom<std::uint32_t> stop;               // 1: leave at the next safe point (SIGTERM-free shutdown of one daemon)
  // Line 1: identity, written by the host (epoch, state kStarting) and the daemon (the rest).
  alignas(64) Atom<std::uint32_t> state;  // DaemonState
  Atom<std::uint32_t> epoch;
  Atom<std::uint32_t> pid;
  Atom<std::uint32_t> cpu;
  Atom<std::uint32_t> exit_code;  // 0 normal, 1 idletime, 2 walltime, 3 maxtasks: valid in kLeaving
  // Line 2: what runs now. `current` is daemon-written, the cancels host-written: slot:32 | generation:32, +1 so that 0 is
  // none. A daemon may hold one task of the shared queue and one of its mailbox at a time: a request for one must not
  // overwrite a request for the other.
  alignas(64) Atom<std::uint64_t> current;
  Atom<std::uint64_t> cancel;         // of a task of the shared queue
  Atom<std::uint64_t> assigned;       // tasks claimed by this incarnation
  Atom<std::uint64_t> completed;      // tasks finished by this incarnation
  Atom<std::uint64_t> cancel_mailed;  // of a task of the mailbox
  Atom<std::uint64_t> foretold;       // the task that its daemon, who writes this, expects to end in a moment
  // Line 3: blocks that the host gives back: Treiber stack of segment offsets; only the host pushes, only the owner takes all.
  alignas(64) Atom<std::uint64_t> handback;
  // Line 4, 5: the mailbox's tickets.
  alignas(64) Atom<std::uint64_t> mailbox_head;
  alignas(64) Atom<std::uint64_t> mailbox_tail;
  // A bit per shared argument block that views in this daemon still point into.
  alignas(64) std::array<Atom<std::uint64_t>, kHoldBits / 64> hold;
  alignas(64) std::array<Atom<std::uint64_t>, kMailboxCells> mailbox;
};

enum class TaskKind : std::uint8_t {
  kEval = 1,        // arguments: expression, bindings
  kMapElement = 2,  // arguments: one element; function and constants in the shared constant
  kEverywhere = 3,  // like kEval, state persists
  kReplay = 4,      // a sequence of kEverywhere payloads for a daemon that starts late
  kMapRange = 5,    // arguments: u32 numbers of elements, at most kRangeMax; the result is a sequence of entries
};

enum class ResultStatus : std::uint8_t { kValue = 0, kError = 1, kInterrupted = 2, kCancelled = 3, kDamaged = 4 };

inline constexpr std::uint32_t kTaskHasStream = 1;  // rng[] holds a L'Ecuyer-CMRG state for this task
inline constexpr std::uint32_t kRangeMax = 64;      // elements of a range: bits of TaskSlot::taken
inline constexpr std::uint32_t kTaskSpread = 2;     // the map element is a list: its items are the arguments (a row)
inline constexpr std::uint32_t kTaskIndexed = 4;    // a map element: its u64 number; the elements are in the constant

template <template <class> class Atom>
struct alignas(64) TaskSlot {
  Atom<std::uint64_t> word;
  // Written by the host before READY, immutable until FREE.
  std::uint64_t arg_offset;  // from the segment's start; 0: the bytes are in `arg`
  std::uint64_t arg_bytes;
  std::uint64_t const_offset;  // shared constant (function and constants of a map); const_bytes 0: none
  std::uint64_t const_bytes;
  std::uint64_t const_key;  // never reused in a segment: a daemon may cache the decoded value under it
  std::uint64_t task;       // host-private id, echoed for tools
  std::uint16_t arg_block;  // hold bit of the argument block, or kNoBlockId: do not make views
  std::uint16_t const_block;
  TaskKind kind;
  std::uint8_t pad[3];
  std::uint32_t flags;
  std::int32_t rng[6];
  // Written by the owner before DONE.
  std::uint32_t result_status;  // ResultStatus
  std::uint64_t result_offset;  // 0: the bytes are in `result`
  std::uint64_t result_bytes;
  // Of a range. `taken`: a bit per element, set by who gets it: the owner, to evaluate it, or the host, to take it back.
  Atom<std::uint64_t> taken;
  Atom<std::uint32_t> progress;  // entries that are complete in `result`
  std::uint32_t elapsed_ns;      // written by the owner before DONE: per element of a map
  alignas(64) std::uint8_t arg[kInlineArgBytes];
  alignas(64) std::uint8_t result[kInlineResultBytes];
};

template <class T>
using StdAtomic = std::atomic<T>;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(sizeof(HostPage<std::atomic>) <= kPageBytes);
static_assert(sizeof(Control<std::atomic>) <= kPageBytes);
static_assert(offsetof(Control<std::atomic>, ring_tail) == 64 && offsetof(Control<std::atomic>, host_gate) == 128 &&
              offsetof(Control<std::atomic>, refill_gate) == 192 && offsetof(Control<std::atomic>, idle) == 256 &&
              offsetof(Control<std::atomic>, low_water) == 384 && offsetof(Control<std::atomic>, trace_offset) == 408 &&
              offsetof(Control<std::atomic>, announced) == 448);
static_assert(sizeof(DaemonRecord<std::atomic>) <= kPageBytes);
static_assert(offsetof(DaemonRecord<std::atomic>, state) == 64 && offsetof(DaemonRecord<std::atomic>, current) == 128 &&
              offsetof(DaemonRecord<std::atomic>, handback) == 192 &&
              offsetof(DaemonRecord<std::atomic>, mailbox_head) == 256 &&
              offsetof(DaemonRecord<std::atomic>, hold) == 384 && offsetof(DaemonRecord<std::atomic>, mailbox) == 896);
static_assert(sizeof(TaskSlot<std::atomic>) == 1024);
static_assert(offsetof(TaskSlot<std::atomic>, taken) == 112 && offsetof(TaskSlot<std::atomic>, elapsed_ns) == 124);
static_assert(offsetof(TaskSlot<std::atomic>, arg) == 128 && offsetof(TaskSlot<std::atomic>, result) == 576);

// FNV-1a over every size and offset that peers share.
constexpr std::uint64_t layout_hash() {
  const std::uint64_t facts[] = {sizeof(SegmentHeader),
                                 sizeof(Control<std::atomic>),
                                 sizeof(DaemonRecord<std::atomic>),
                                 sizeof(TaskSlot<std::atomic>),
                                 kMaxDaemons,
                                 kMailboxCells,
                                 kHoldBits,
                                 kInlineArgBytes,
                                 kInlineResultBytes,
                                 kExtentBytes,
                                 offsetof(TaskSlot<std::atomic>, const_key),
                                 offsetof(TaskSlot<std::atomic>, rng),
                                 offsetof(TaskSlot<std::atomic>, result_offset),
                                 offsetof(TaskSlot<std::atomic>, taken),
                                 kRangeMax,
                                 offsetof(DaemonRecord<std::atomic>, cancel),
                                 offsetof(DaemonRecord<std::atomic>, cancel_mailed),
                                 offsetof(DaemonRecord<std::atomic>, foretold),
                                 offsetof(DaemonRecord<std::atomic>, hold),
                                 offsetof(Control<std::atomic>, flags),
                                 offsetof(Control<std::atomic>, encoding),
                                 offsetof(Control<std::atomic>, trace_offset),
                                 offsetof(Control<std::atomic>, announced)};
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (std::uint64_t fact : facts) {
    hash = (hash ^ fact) * 0x100000001B3ULL;
  }
  return hash;
}
inline constexpr std::uint64_t kLayoutHash = layout_hash();

// Offsets of the parts for a segment with these counts.
struct SegmentPlan {
  std::uint64_t control_offset, daemons_offset, cells_offset, done_bits_offset, extent_table_offset, slots_offset,
      data_offset, total_bytes;
};

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

constexpr SegmentPlan plan_segment(std::uint32_t slot_count, std::uint32_t daemon_max, std::uint32_t extent_count) {
  SegmentPlan plan{};
  plan.control_offset = kPageBytes;
  plan.daemons_offset = plan.control_offset + kPageBytes;
  plan.cells_offset = plan.daemons_offset + std::uint64_t{daemon_max} * kPageBytes;
  plan.done_bits_offset = align_up(plan.cells_offset + std::uint64_t{slot_count} * 8, kPageBytes);
  plan.extent_table_offset = align_up(plan.done_bits_offset + std::uint64_t{(slot_count + 63) / 64} * 8, kPageBytes);
  plan.slots_offset = align_up(plan.extent_table_offset + std::uint64_t{extent_count} * 8, kPageBytes);
  plan.data_offset = align_up(plan.slots_offset + std::uint64_t{slot_count} * 1024, kExtentBytes);
  plan.total_bytes = plan.data_offset + std::uint64_t{extent_count} * kExtentBytes;
  return plan;
}

}  // namespace setsuna::runtime
