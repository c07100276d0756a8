// A compute profile's scheduler: tasks, the spill behind the slots, cancel, timeouts, retry, memory budget, daemons of this
// machine and remote ones (links), and their deaths. Pure: it acts through the ports and is told the time.
// Not thread-safe: the host serialises all calls with its mutex (R thread and reactor thread both drive it).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "dispatch/constants.hpp"
#include "dispatch/latency_meter.hpp"
#include "dispatch/links.hpp"
#include "dispatch/map_range.hpp"
#include "dispatch/ports.hpp"
#include "dispatch/range_stream.hpp"
#include "dispatch/rng_stream.hpp"
#include "dispatch/task_table.hpp"
#include "dispatch/timers.hpp"
#include "dispatch/trace.hpp"

namespace setsuna::dispatch {

inline constexpr std::uint32_t kWakeBatch = 256;

struct PoolConfig {
  bool dispatcher = true;                         // false: round robin over mailboxes
  bool ephemeral = false;                         // a fresh process for each task (no daemons set)
  bool respawn = true;                            // replace local daemons that die
  bool seeded = false;                            // a stream per task, in order of submission
  StreamState stream{};                           // state before the first stream
  std::uint64_t budget_bytes = ~0ULL;             // of unfinished argument bytes
  std::uint64_t cancel_grace_ns = 2'000'000'000;  // a cancelled task that runs on: its daemon is killed after this
  std::uint32_t daemon_max = runtime::kMaxDaemons;
  std::uint32_t ephemeral_max = 128;  // fresh processes at a time; further tasks wait their turn
  // A host that waits for many tasks is woken once for so many completions, at most.
  std::uint32_t wake_batch = kWakeBatch;
  // Tasks that a link may hold beyond the one that it runs. Used only while no consumer idles; and not in a pool with local
  // daemons, who fall idle without telling. When a link dies, those that waited behind another go to others, whatever their
  // retries: one of them may have begun, if the answer to the one before it was lost.
  std::uint32_t prefetch = 0;
  // Of the tasks that a dead link had not answered, so many of the oldest may have begun: they are not given to another.
  std::uint32_t link_begun_most = 1;
};

struct SubmitSpec {
  TaskKind kind = TaskKind::kEval;
  const std::uint8_t* bytes = nullptr;  // copied; at most runtime::kInlineArgBytes. Or:
  std::uint64_t area_offset = 0;        // a block of the data area, now owned by the pool
  bool in_area = false;
  std::uint64_t length = 0;
  std::uint16_t block = runtime::kNoBlockId;
  std::uint32_t constant = kNoConstant;  // the pool takes a reference of its own
  std::uint64_t deadline_ns = 0;         // 0: none
  std::uint8_t retries = 0;
  std::uint32_t queue = runtime::kReadyQueue;  // for everywhere(): a daemon index, or kLinkQueueBase + link
  bool notify = false;
  bool spread = false;
  std::uint64_t begun_ns = 0;  // for a trace: when the session began with it; 0: now
};

// A map whose elements lie in its constant: elements [first, first + count), `more` of which are still to come.
struct MapSpec {
  std::uint32_t constant = kNoConstant;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint64_t more = 0;
  bool spread = false;
};

struct DaemonInfo {
  enum class State : std::uint8_t { kVacant, kStarting, kLive, kLeaving, kDead } state = State::kVacant;
  std::uint32_t epoch = 0;
  std::int32_t pid = 0;
  std::uint32_t instance = 0;       // incarnations that came online at this index
  std::uint32_t failed_starts = 0;  // in a row
  bool forked_by_us = true;         // false: joined from outside (an Rscript that dialled in)
  bool killed_by_us = false;
};

struct Counts {
  std::uint64_t awaiting = 0, executing = 0, completed = 0, cumulative = 0;
  std::uint32_t connections = 0;
};

class Pool final : private HarvestSink, private ReapSink {
 public:
  // `links` null: it will have none.
  Pool(const PoolConfig& config, QueuePort& queue, ArenaPort& arena, ProcessPort& processes, LinkPort* links = nullptr);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // --- Tasks -----------------------------------------------------------------------------------------------
  // Would `bytes` more argument bytes fit the budget? One payload is always admitted to an empty queue, and what comes with
  // a constant is not asked to wait until that has gone.
  bool admits(std::uint64_t bytes, std::uint32_t constant = kNoConstant) const {
    const bool counted = constant != kNoConstant && constants_.used(constant);
    const std::uint64_t others = used_bytes() - (counted ? constants_[constant].bytes : 0);
    return unfinished_ == 0 || others + bytes <= config_.budget_bytes;
  }

  // The task's index. *wake: the queue to wake once the mutex is released, valid if *woken_queue is set.
  std::uint32_t submit(const SubmitSpec& spec, std::uint64_t now_ns, bool* must_wake, std::uint32_t* wake_queue);

  // May elements of a map travel by number, in ranges? Not where each has a process of its own.
  bool takes_ranges() const { return !config_.ephemeral && !gave_up_ && !closed_; }
  // What submit() does, for elements of a map that travel by number; their tasks go to `tasks`.
  void submit_map(const MapSpec& spec, std::uint64_t now_ns, std::uint32_t* tasks);

  // Harvests what is done and refills slots from the spill. Returns how many tasks resolved.
  std::uint32_t progress();

  bool resolved(std::uint32_t index) const { return table_[index].state == TaskState::kResolved; }
  const Task& task(std::uint32_t index) const { return table_[index]; }
  // True: it was unresolved and has now resolved to `code`.
  bool cancel(std::uint32_t index, ErrorCode code, std::uint64_t now_ns);
  // No handle refers to it any more. A result still in the data area is released.
  void drop(std::uint32_t index);
  // The caller takes over the result block of a resolved task: drop() will not release it; release_result() will.
  void detach_result(std::uint32_t index);
  void release_result(std::uint64_t offset);
  void set_notify(std::uint32_t index) {
    table_[index].notify = true;
    ++notify_pending_;
  }
  // Tasks with set_notify() that have resolved since the last call.
  std::vector<std::uint32_t> take_notifications();
  // From now on it is told of every task. Before the first one.
  void set_trace(Trace* trace) { trace_ = trace; }
  bool has_notifications() const { return !notifications_.empty(); }
  std::uint32_t notify_pending() const { return notify_pending_; }
  std::uint64_t unfinished() const { return unfinished_; }
  // Tasks that wait in the host's own queues, not in the segment.
  std::uint64_t spilled() const { return spilled_ + bound_; }
  // Null (as at first): nothing is measured. It must outlive the pool.
  void set_meter(LatencyMeter* meter) { meter_ = meter; }

  // What the host thread should sleep on while it waits for this task (or, with kNoTask, for anything).
  GateWord gate_for(std::uint32_t index) const;

  // --- Shared blocks ---------------------------------------------------------------------------------------
  std::uint16_t new_block_id();
  // A block that nobody in the host refers to any more: freed now, or when the last daemon lets go of it.
  void retire_block(std::uint64_t offset, std::uint16_t block);
  void sweep_blocks();
  // kNoConstant: there are too many, the block stays the caller's.
  std::uint32_t add_constant(const Constant& constant) { return constants_.add(constant); }
  std::uint32_t find_constant(const std::uint64_t hash[2], std::uint64_t bytes) const {
    return constants_.find(hash, bytes);
  }
  void retain_constant(std::uint32_t constant) { constants_.retain(constant); }
  void release_constant(std::uint32_t constant);
  // A cache's own reference, taken over from the caller: it does not count in the budget.
  void pin_constant(std::uint32_t constant) { constants_.pin(constant); }
  void unpin_constant(std::uint32_t constant) {
    constants_.unpin(constant);
    release_constant(constant);
  }

  // --- everywhere() ----------------------------------------------------------------------------------------
  // Appends to the log that late daemons replay. Framing: u64 length, bytes (see evaluator).
  void log_everywhere(const std::uint8_t* bytes, std::uint64_t length);
  const std::vector<std::uint8_t>& everywhere_log() const { return log_; }
  // How the pool places a log that is too long for a slot: the caller's hook copies it to the data area.
  using StoreBytes = bool (*)(void* context, const std::uint8_t* bytes, std::uint64_t length, std::uint64_t* offset);
  void set_store(StoreBytes store, void* context) {
    store_ = store;
    store_context_ = context;
  }

  // --- Daemons ---------------------------------------------------------------------------------------------
  // Reserves an index, prepares its mailbox and asks for the process (unless it joined by itself: external).
  // runtime::kNoSlot when the pool is full.
  std::uint32_t add_daemon(bool external, std::uint32_t* epoch);
  void on_forked(std::uint32_t index, std::uint32_t epoch, std::int32_t pid);
  void on_online(std::uint32_t index, std::uint32_t epoch);
  // It is surely gone (and its stores with it). `leaving`: it said so itself before (maxtasks, idletime, ...).
  void on_dead(std::uint32_t index, std::uint32_t epoch, const DeathNote& note, bool leaving);
  const std::vector<DaemonInfo>& daemons() const { return daemons_; }
  std::uint32_t online() const;  // links included
  std::uint32_t alive() const;   // starting or live; links included
  bool gave_up() const { return gave_up_; }

  // --- Remote daemons --------------------------------------------------------------------------------------
  // Called by the reactor, under the mutex, which has the connections; so nothing is sent to a link by other calls (but
  // what LinkPort says). These calls resolve tasks, and move them between slots, unseen by the gate on which the host thread
  // may sleep: it is to be woken after them.

  // Online at once, but sent nothing before the next feed_links(): the caller needs its number first. kNoLink: it is full,
  // or closed.
  std::uint32_t add_link(std::int32_t pid);
  // For every send_task(): the argument's bytes have left. May come after the result.
  void on_link_sent(std::uint32_t link, std::uint64_t id);
  void on_link_constant_sent(std::uint32_t link, std::uint64_t key);
  // The pool takes over the result's block. A stale id: the block is released.
  void on_link_result(std::uint32_t link, std::uint64_t id, const SlotResult& result);
  void on_link_retracted(std::uint32_t link, std::uint64_t id);
  // Of a range: one outcome, as on_link_result(), ahead of the report that it belongs to; and that.
  void on_link_element(std::uint32_t link, std::uint64_t id, std::uint32_t position, const SlotResult& result);
  void on_link_range(std::uint32_t link, std::uint64_t id, const RangeReport& report);
  // It will begin no other task. on_link_dead() follows.
  void on_link_leaving(std::uint32_t link);
  // The last word about this link.
  void on_link_dead(std::uint32_t link, const DeathNote& note);
  // Some link has room and there is work for it: the reactor is to call feed_links(). Looked at after every call that may
  // have made work: submit(), progress(), on_dead(), ... It may stay true after feed_links(), until a slot becomes free.
  bool links_hungry() const;
  // A single task waits, and a link that has nothing in hand is all that can take it: feed_links() would send one message.
  // Not amid many tasks, as of a map: these are sent together.
  bool one_for_idle_link() const;
  // Tasks that a link may hold beyond the one that it runs, from now on (at first: PoolConfig::prefetch).
  void set_prefetch(std::uint32_t prefetch) { links_.set_prefetch(prefetch); }
  void feed_links();
  const std::vector<LinkInfo>& links() const { return links_.info(); }
  std::uint32_t links_online() const { return static_cast<std::uint32_t>(links_.all_online().size()); }

  // --- Time and end ----------------------------------------------------------------------------------------
  std::uint64_t next_deadline_ns() const { return timers_.next_ns(); }
  std::size_t timers() const { return timers_.size(); }
  void on_time(std::uint64_t now_ns);
  // Every unresolved task resolves to kClosed; daemons are told to leave. No submit() afterwards.
  void reset();
  bool closed() const { return closed_; }
  Counts counts(std::uint64_t executing) const;
  // Arguments of unfinished tasks, and their constants.
  std::uint64_t used_bytes() const { return used_bytes_ + constants_.used_bytes(); }
  const StreamState& stream() const { return config_.stream; }
  StreamState take_stream();
  const PoolConfig& config() const { return config_; }
  std::uint32_t handles() const { return table_.count(); }

  // For tests: aborts on a broken invariant.
  void sanity_check() const;

 private:
  // Who stands in a slot: outlives the task when the task was cancelled while it ran.
  struct SlotUse {
    std::uint32_t task = kNoTask;  // kNoTask: abandoned (or free)
    std::uint32_t constant = kNoConstant;
    std::uint64_t area_offset = 0;
    std::uint64_t bytes = 0;
    std::uint32_t queue = runtime::kReadyQueue;
    std::uint32_t generation = 0;
    std::uint16_t block = runtime::kNoBlockId;
    std::uint8_t retries = 0;
    bool used = false;
    bool in_area = false;
    bool internal = false;  // a replay: no task belongs to it
    TaskKind kind = TaskKind::kEval;
    std::uint32_t range = kNoIndex;  // of a map: its tasks are in ranges_
  };
  struct HeldBlock {
    std::uint64_t offset;
    std::uint16_t block;
  };

  void on_done(std::uint32_t slot, const SlotResult& result) override;
  bool on_orphan(std::uint32_t slot, runtime::SlotState state) override;

  Fifo& fifo(std::uint32_t queue) {
    return is_link_queue(queue) ? links_.fifo(queue - kLinkQueueBase)
                                : fifos_[queue == runtime::kReadyQueue ? 0 : queue + 1];
  }
  // Of tasks that wait in FIFOs of this kind.
  std::uint64_t& waiting_for(std::uint32_t queue) { return is_link_queue(queue) ? bound_ : spilled_; }
  void append(std::uint32_t index);
  void prepend(std::uint32_t index);
  bool place(std::uint32_t index);
  SlotContent content_for(std::uint32_t index) const;
  void occupy(std::uint32_t slot, std::uint32_t generation, std::uint32_t index);
  bool requeue(std::uint32_t slot, std::uint32_t queue);
  std::uint32_t unplace(std::uint32_t slot, std::uint32_t queue);
  void deliver(std::uint32_t slot, const SlotResult& result);
  void refill();
  void refill_queue(std::uint32_t queue);
  void pop_front(std::uint32_t queue, std::uint32_t next);
  std::uint32_t front_of(std::uint32_t queue);
  void resolve_error(std::uint32_t index, ErrorCode code);
  void resolve_death(std::uint32_t index, const DeathNote& note);
  void answered(std::uint32_t index);
  void resolved_now(Task& task, std::uint32_t index);
  void trace_run(std::uint32_t slot, bool done);
  void trace_element(std::uint32_t slot, std::uint32_t position, bool done);
  void store_result(Task& task, const SlotResult& result);
  void free_arguments(Task& task);
  void free_slot_use(std::uint32_t slot);
  void abandon(std::uint32_t index, std::uint64_t now_ns);
  void discard_result(const SlotResult& result);
  std::uint32_t pick_round_robin();
  bool nobody_will_take(std::uint32_t queue) const;
  std::uint32_t slot_for_task();
  std::uint32_t slot_for_replay();
  bool replay_to(std::uint32_t index);
  void start(std::uint32_t index);
  void start_waiting();
  void respawn(std::uint32_t index);
  std::uint32_t local_alive() const;
  void fail_queue_of(std::uint32_t queue, const DeathNote& note, bool move_on);

  // pool_ranges.cpp
  bool is_range(std::uint32_t slot) const { return slot < slots_.size() && slots_[slot].range != kNoIndex; }
  MapPace& pace_of(std::uint32_t constant);
  std::uint32_t consumers(std::uint32_t queue) const;
  bool continues_streams(RangeStream& streams, std::uint32_t last, std::uint32_t index) const;
  std::uint32_t count_for_range(std::uint32_t front, std::uint32_t most) const;
  bool place_elements(std::uint32_t queue);
  std::uint32_t place_range(std::uint32_t queue, std::uint32_t count);
  void take_from_fifo(MapRange& range, std::uint32_t queue, std::uint32_t count, std::uint32_t constant);
  void read_entries(std::uint32_t slot);
  void resolve_element(MapRange& range, std::uint32_t position, const SlotResult& result);
  // What an element took, as it was measured; 0: unknown.
  void learn_element(std::uint32_t slot, std::uint32_t element_ns);
  void give_back_elements(std::uint32_t slot, std::uint64_t positions);
  void damage_elements(std::uint32_t slot, std::uint64_t positions);
  void dissolve_range(std::uint32_t slot);
  void end_range(std::uint32_t slot, std::uint32_t element_ns);
  void orphan_range(std::uint32_t slot);
  void close_range(std::uint32_t slot);
  void take_rest(std::uint32_t slot);
  bool cancel_element(std::uint32_t index, ErrorCode code, std::uint64_t now_ns);
  void doom_element(const Timer& timer);
  void look_at_range(std::uint32_t slot);
  void look_at_ranges(std::uint64_t now_ns);
  void watch_ranges(std::uint64_t now_ns);
  void check_ranges() const;

  // pool_link_ranges.cpp
  std::uint32_t range_flight_of(std::uint32_t link, std::uint64_t id) const;
  void read_report(std::uint32_t slot, const RangeReport& report);
  void take_back_from_link(std::uint32_t slot, std::uint64_t positions);
  void end_link_range(std::uint32_t slot, const RangeReport& report);
  void answer_whole_range(std::uint32_t slot, const SlotResult& result);
  void release_range_slot(std::uint32_t slot);
  void lose_range(std::uint32_t slot, bool unbegun, std::uint32_t* begun);
  void close_link_range(std::uint32_t slot);
  void cancel_link_element(std::uint32_t slot, std::uint32_t position, std::uint64_t now_ns);
  void doom_link_element(const Timer& timer, std::uint32_t position);
  void look_at_link_range(std::uint32_t slot);

  // pool_links.cpp
  std::uint32_t flight_of(std::uint32_t link, std::uint64_t id) const;
  void serve_links();
  bool feed_own(std::uint32_t link);
  void feed_shared();
  bool may_prefetch() const;
  std::uint32_t next_shared_slot();
  std::uint32_t slot_for_bound();
  void send_to_link(std::uint32_t link, std::uint32_t slot, bool bound);
  void release_host_slot(std::uint32_t slot);
  void hand_over(std::uint32_t slot, std::uint32_t queue);
  void give_back(std::uint32_t slot, bool bound);
  void retry_or_fail(std::uint32_t slot);
  void fail(std::uint32_t slot);
  void lose_flight(std::uint32_t slot, bool leaving, std::uint32_t* begun);
  void settle_parked();
  bool cancel_in_hand(std::uint32_t index, std::uint64_t now_ns);
  void kill_overdue(const Timer& timer, std::uint64_t now_ns);
  void reset_links();
  std::shared_ptr<const Links::Bytes> log_copy();
  void spawn_ephemeral();
  void give_up_if_hopeless();

  PoolConfig config_;
  QueuePort& queue_;
  ArenaPort& arena_;
  ProcessPort& processes_;
  TaskTable table_;
  Timers timers_;
  Constants constants_;
  Links links_;
  std::vector<Fifo> fifos_;                       // 0: shared; 1 + i: daemon i
  std::vector<std::uint32_t> waiting_mailboxes_;  // daemons with a non-empty FIFO
  MapRanges ranges_;
  std::vector<MapPace> paces_;  // by constant
  std::vector<SlotUse> slots_;  // grows with the highest slot used
  std::vector<DaemonInfo> daemons_;
  std::vector<std::uint16_t> free_blocks_;
  std::vector<HeldBlock> held_blocks_;
  std::unordered_map<std::uint32_t, StreamState> streams_;    // of unplaced tasks in a seeded pool
  std::unordered_map<std::uint32_t, std::uint64_t> serials_;  // of tasks with a timer
  std::unordered_set<std::uint64_t> live_results_;            // result blocks that tasks or views still need
  std::vector<std::uint32_t> notifications_;
  std::vector<std::uint8_t> log_;
  std::weak_ptr<const Links::Bytes> log_copy_;  // while links that came late are sent it
  std::vector<std::uint32_t> replay_slots_;     // set aside: new daemons replay the log even when tasks fill all slots
  std::vector<std::uint32_t> unstarted_;        // daemons (kStarting) that wait for room for their replay
  Trace* trace_ = nullptr;                      // null: nobody asks
  StoreBytes store_ = nullptr;
  void* store_context_ = nullptr;
  LatencyMeter* meter_ = nullptr;
  DeathNote dying_;  // during on_dead() and the like
  std::uint64_t used_bytes_ = 0;
  std::uint64_t spilled_ = 0;
  std::uint64_t bound_ = 0;  // tasks in the links' own FIFOs
  std::uint64_t unfinished_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t serial_ = 0;
  std::uint64_t last_ns_ = 0;  // the latest time that the pool was told
  std::uint32_t notify_pending_ = 0;
  std::uint32_t next_daemon_ = 0;
  std::uint32_t cumulative_ = 0;
  std::uint32_t resolved_count_ = 0;  // during progress()
  bool died_in_replay_ = false;       // during on_dead()
  bool closed_ = false;
  bool gave_up_ = false;
  bool ranges_watched_ = false;  // a timer of kind kRanges is set
  std::uint32_t range_looks_ = 0;
};

}  // namespace setsuna::dispatch
