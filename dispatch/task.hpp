// One task as the host knows it. A million of them wait in the spill: the size is pinned.
#pragma once

#include <cstdint>

#include "runtime/host_port.hpp"
#include "runtime/layout.hpp"

namespace setsuna::dispatch {

enum class TaskState : std::uint8_t {
  kVacant,    // table entry free
  kSpilled,   // waits in the host's FIFO for a slot
  kPlaced,    // in a slot: READY, CLAIMED or DONE and not yet harvested
  kResolved,  // has an outcome
};

// Codes of an errorValue, as users see them.
enum class ErrorCode : std::uint8_t { kNone = 0, kTimedOut = 5, kClosed = 7, kReset = 19, kCancelled = 20 };

// How a daemon ended, for the attributes of errorValue 19.
struct DeathNote {
  std::int32_t pid = 0;
  std::int32_t wait_status = 0;  // as from waitpid; -1: unknown (not a child of the zygote)
  bool out_of_memory = false;
};

inline constexpr std::uint32_t kNoTask = 0xFFFFFFFF;
inline constexpr std::uint32_t kNoConstant = 0xFFFFFFFF;
inline constexpr std::size_t kSmallBytes = 24;

struct Task {
  // Argument bytes until placed (heap) or until resolved (data area); then the result.
  union {
    std::uint8_t* heap;
    std::uint64_t offset;
    std::uint8_t small[kSmallBytes];
    DeathNote death;
  };
  std::uint64_t bytes = 0;
  std::uint32_t slot = runtime::kNoSlot;
  std::uint32_t slot_generation = 0;
  std::uint32_t next = kNoTask;                // in a FIFO, or in the table's free list
  std::uint32_t queue = runtime::kReadyQueue;  // the daemon that it was given to, with dispatcher = FALSE
  std::uint32_t constant = kNoConstant;
  std::uint16_t arg_block = runtime::kNoBlockId;
  TaskState state = TaskState::kVacant;
  ErrorCode error = ErrorCode::kNone;
  std::uint8_t retries = 0;
  runtime::TaskKind kind = runtime::TaskKind::kEval;
  runtime::ResultStatus status = runtime::ResultStatus::kValue;
  enum class Where : std::uint8_t { kNone, kSmall, kHeap, kArea } where = Where::kNone;
  bool has_stream : 1;
  bool in_fifo : 1;  // still linked in a spill, even if resolved
  bool dropped : 1;  // no handle is left
  bool has_timer : 1;
  bool notify : 1;    // something runs on its completion (a promise)
  bool spread : 1;    // a row of a map: runtime::kTaskSpread
  bool area_arg : 1;  // the argument is a block of the data area

  Task()
      : heap(nullptr),
        has_stream(false),
        in_fifo(false),
        dropped(false),
        has_timer(false),
        notify(false),
        spread(false),
        area_arg(false) {}
};
static_assert(sizeof(Task) <= 72);

}  // namespace setsuna::dispatch
