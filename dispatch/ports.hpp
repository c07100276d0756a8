// What dispatch acts through. It makes no system call itself: production plugs in the shared segment, the arena
// and the processes; tests plug in fakes and drive every transition.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/trace.hpp"
#include "runtime/gate.hpp"
#include "runtime/layout.hpp"
#include "runtime/slot_word.hpp"

namespace setsuna::dispatch {

using runtime::GateWord;
using runtime::SlotWord;
using runtime::TaskKind;

// What the host writes into a slot before it is published. Bytes are either inline (`inline_arg`, at most
// runtime::kInlineArgBytes) or in the data area at `arg_offset`.
struct SlotContent {
  TaskKind kind = TaskKind::kEval;
  std::uint32_t flags = 0;
  const std::uint8_t* inline_arg = nullptr;
  std::uint64_t arg_offset = 0;
  std::uint64_t arg_bytes = 0;
  std::uint16_t arg_block = runtime::kNoBlockId;
  std::uint64_t const_offset = 0;
  std::uint64_t const_bytes = 0;
  std::uint64_t const_key = 0;
  std::uint16_t const_block = runtime::kNoBlockId;
  std::uint64_t task = 0;
  const std::int32_t* stream = nullptr;  // 6 integers, or null
};

// A result as it stands in a DONE slot; `inline_bytes` is valid only during the call.
struct SlotResult {
  runtime::ResultStatus status = runtime::ResultStatus::kValue;
  const std::uint8_t* inline_bytes = nullptr;  // null: in the data area at `offset`
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint32_t element_ns = 0;  // of an element of a map, as its daemon measured; 0: unknown
  std::uint64_t took_ns = 0;     // of a task over a link, as its daemon measured; 0: unknown
};

// The entries that stand in the slot of a range so far.
struct RangeEntries {
  const std::uint8_t* bytes = nullptr;  // runtime::kInlineResultBytes of them, which a task may be scribbling over
  std::uint32_t count = 0;
};

// What a link says of a range: the outcomes since it said so the last time, in the order of the elements.
struct RangeReport {
  const std::uint8_t* entries = nullptr;
  std::uint32_t bytes = 0;
  std::uint32_t count = 0;
  std::uint64_t taken = 0;       // elements that will not be begun
  std::uint32_t element_ns = 0;  // as its daemon measured; 0: unknown
  bool final = false;            // the range is over
  bool damaged = false;          // outcomes that are missing in the end cannot be told
};

class HarvestSink {
 public:
  virtual void on_done(std::uint32_t slot, const SlotResult& result) = 0;

 protected:
  ~HarvestSink() = default;
};

class ReapSink {
 public:
  // Return true after requeue() (the task runs again), false to give the slot up.
  virtual bool on_orphan(std::uint32_t slot, runtime::SlotState state) = 0;

 protected:
  ~ReapSink() = default;
};

// The queue of one segment. `queue` is runtime::kReadyQueue or a daemon index (its mailbox).
class QueuePort {
 public:
  virtual ~QueuePort() = default;
  virtual std::uint32_t acquire_slot() = 0;  // or runtime::kNoSlot
  virtual void return_unused(std::uint32_t slot) = 0;
  // False: that mailbox is full, the slot stays the caller's.
  virtual bool publish(std::uint32_t slot, const SlotContent& content, std::uint32_t queue,
                       std::uint32_t* generation) = 0;
  virtual void wake_for(std::uint32_t queue) = 0;
  virtual bool cancel_ready(std::uint32_t slot, std::uint32_t generation) = 0;
  virtual std::uint32_t request_cancel(std::uint32_t slot, std::uint32_t generation) = 0;  // daemon, or kNoSlot
  virtual std::uint32_t owner_of(std::uint32_t slot, std::uint32_t generation) = 0;  // daemon running it, or kNoSlot
  virtual std::uint32_t current_slot(std::uint32_t daemon) = 0;  // what it says it runs; any number, if damaged
  virtual bool doom(std::uint32_t slot, std::uint32_t generation) = 0;
  virtual std::uint32_t harvest(HarvestSink& sink) = 0;
  virtual bool anything_done() = 0;
  virtual bool arm_refill() = 0;  // true: low already
  virtual void arm_gate(GateWord target) = 0;
  virtual void disarm_gate() = 0;
  virtual std::uint32_t admit(std::uint32_t index) = 0;  // returns the new epoch
  virtual void reap(std::uint32_t index, std::uint32_t epoch, ReapSink& sink) = 0;
  virtual bool requeue(std::uint32_t slot, std::uint32_t queue, std::uint32_t* generation) = 0;
  virtual void stop_daemon(std::uint32_t index) = 0;  // it leaves after what it runs
  virtual void close() = 0;                           // all daemons leave after what they run

  // Tasks that the host takes itself, for remote daemons: CLAIMED by runtime::kHostOwner. None of the calls above may be
  // made for such a slot, but requeue(), which makes it READY again.
  virtual bool anything_ready() = 0;  // in the shared queue; a hint
  // The oldest READY task of the shared queue. False: none.
  virtual bool claim_for_host(std::uint32_t* slot, std::uint32_t* generation) = 0;
  // Like publish(), but straight to CLAIMED: a task bound for one link.
  virtual void place_claimed(std::uint32_t slot, const SlotContent& content, std::uint32_t* generation) = 0;
  // What publish() or place_claimed() wrote, unless a task has scribbled over it. inline_arg and stream point into the slot;
  // the caller knows whether its argument is there.
  virtual SlotContent content_of(std::uint32_t slot) = 0;
  virtual void release_claimed(std::uint32_t slot) = 0;  // -> free

  // Ranges of a map (pool_ranges.cpp).
  virtual std::uint64_t ready_depth() = 0;  // tasks in the shared queue
  // arm_refill() is about this many tasks; 0: as the queue itself likes it.
  virtual void set_low_water(std::uint32_t depth) = 0;
  // Sets bits of elements, so that no daemon begins them. The bits before.
  virtual std::uint64_t take_elements(std::uint32_t slot, std::uint64_t bits) = 0;
  virtual RangeEntries entries(std::uint32_t slot) = 0;
  virtual bool plausible(std::uint32_t slot, std::uint64_t offset, std::uint64_t bytes) = 0;  // a result of its owner
  // Like request_cancel(), for one element.
  virtual std::uint32_t cancel_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t position) = 0;

  // For a trace. The run of the task in a slot that is claimed; its stages only if it is `done`. Unknown where no stamps
  // are left.
  virtual RunStamps run_of(std::uint32_t, std::uint32_t /* generation */, bool /* done */) { return {}; }
  // The same for an element of a range; not done: the one behind those that are.
  virtual RunStamps run_of_element(std::uint32_t, std::uint32_t /* generation */, std::uint32_t /* position */,
                                   bool /* done */) {
    return {};
  }
};

// Remote daemons, by link number. Nothing fails here: a link that has ended says so through Pool::on_link_dead().
class LinkPort {
 public:
  virtual ~LinkPort() = default;
  // `content` is valid during the call; its argument stays where it is (inline_arg if not null, of any length; else in the
  // data area) until Pool::on_link_sent() or on_link_dead(). The constant with its key has gone before.
  virtual void send_task(std::uint32_t link, std::uint64_t id, const SlotContent& content) = 0;
  // The block stays until Pool::on_link_constant_sent() or on_link_dead().
  virtual void send_constant(std::uint32_t link, std::uint64_t key, std::uint64_t offset, std::uint64_t bytes) = 0;
  // Those above are called by the pool's on_link_*() and feed_links() only; those below by any call.
  virtual void forget_constant(std::uint32_t link, std::uint64_t key) = 0;
  // `behind`: the task has just been said to be sent, but may still wait with others: the order follows these. Else it
  // overtakes all that waits.
  virtual void cancel(std::uint32_t link, std::uint64_t id, bool behind) = 0;
  virtual void cancel_element(std::uint32_t link, std::uint64_t id, std::uint32_t position,
                              bool behind) = 0;  // of a range
  virtual void retract(std::uint32_t link, std::uint64_t id, bool behind) = 0;
  virtual void kill(std::uint32_t link) = 0;
  virtual void stop(std::uint32_t link) = 0;  // it leaves after what it runs
};

// Data area. Offsets are from its start.
class ArenaPort {
 public:
  virtual ~ArenaPort() = default;
  virtual void release(std::uint64_t offset) = 0;  // a block of the host or of any daemon
  virtual bool held(std::uint16_t block) = 0;      // a daemon still views it
  virtual void reap(std::uint32_t index, std::uint32_t epoch, const std::uint64_t* live,
                    std::size_t count) = 0;  // result blocks that still have readers
};

class ProcessPort {
 public:
  virtual ~ProcessPort() = default;
  virtual void interrupt(std::uint32_t index) = 0;                   // its current task was asked to cancel
  virtual void kill(std::uint32_t index) = 0;                        // SIGKILL
  virtual void spawn(std::uint32_t index, std::uint32_t epoch) = 0;  // asynchronous
};

}  // namespace setsuna::dispatch
