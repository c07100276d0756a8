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
inline constexpr std::size_t kSmallBytes = 16;

struct Task {
  enum class Where : std::uint8_t { kNone, kSmall, kHeap, kArea };

  // Argument bytes until placed, then the result (or how the daemon died).
  union {
    std::uint8_t* heap;
    std::uint64_t offset;  // in the data area
    std::uint8_t small[kSmallBytes];
    DeathNote death;
  };
  std::uint64_t bytes = 0;
  union {
    std::uint32_t next = kNoTask;  // while in a FIFO, or in the table's free list
    std::uint32_t slot;            // while placed
  };
  std::uint32_t slot_generation = 0;
  std::uint16_t arg_block = runtime::kNoBlockId;
  TaskState state = TaskState::kVacant;
  ErrorCode error = ErrorCode::kNone;
  std::uint8_t retries = 0;
  runtime::TaskKind kind = runtime::TaskKind::kEval;
  runtime::ResultStatus status = runtime::ResultStatus::kValue;
  Where where = Where::kNone;
  bool has_stream : 1;
  bool in_fifo : 1;  // still linked in a spill, even if resolved
  bool dropped : 1;  // no handle is left
  bool has_timer : 1;
  bool notify : 1;    // something runs on its completion (a promise)
  bool spread : 1;    // a row of a map: runtime::kTaskSpread
  bool area_arg : 1;  // the argument is a block of the data area
  bool indexed : 1;   // an element of a map, by number: runtime::kTaskIndexed

  Task()
      : heap(nullptr),
        has_stream(false),
        in_fifo(false),
        dropped(false),
        has_timer(false),
        notify(false),
        spread(false),
        area_arg(false),
        indexed(false) {}

  // The daemon that it was given to (dispatcher = FALSE, everywhere()), or runtime::kReadyQueue.
  std::uint32_t queue() const { return widen(queue_, runtime::kReadyQueue); }
  void set_queue(std::uint32_t queue) { queue_ = static_cast<std::uint16_t>(queue); }
  // Its shared constant, or kNoConstant.
  std::uint32_t constant() const { return widen(constant_, kNoConstant); }
  void set_constant(std::uint32_t constant) { constant_ = static_cast<std::uint16_t>(constant); }

 private:
  static constexpr std::uint16_t kNone = 0xFFFF;
  static std::uint32_t widen(std::uint16_t narrow, std::uint32_t none) { return narrow == kNone ? none : narrow; }

  std::uint16_t queue_ = kNone;
  std::uint16_t constant_ = kNone;
};
static_assert(sizeof(Task) == 48);

}  // namespace setsuna::dispatch
