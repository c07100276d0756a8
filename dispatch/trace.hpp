// What became of each task of a traced pool, and when: a record a task, written when it resolves. The latest stay in memory,
// in a ring of bounded size; a sink may write them all down before they are overwritten. Told the time by a clock that its
// owner plugs in. Not thread-safe: it is the pool's, under the pool's mutex.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "dispatch/batch_clock.hpp"
#include "dispatch/task.hpp"

namespace setsuna::dispatch {

inline constexpr std::uint16_t kNoDaemon = 0xFFFF;
inline constexpr float kNoStage = -1.0F;

// One run of a task.
struct RunStamps {
  std::uint64_t claimed_ns = 0;      // or sent, to a remote daemon; 0: nobody took it, or nobody knows when
  float decode_ns = kNoStage;        // how long each stage took; kNoStage: it was not reached, or is not known
  float evaluate_ns = kNoStage;      //
  float encode_ns = kNoStage;        //
  std::uint32_t pid = 0;             // of the daemon, on its own machine
  std::uint16_t daemon = kNoDaemon;  // its index, or kLinkQueueBase + link
};

enum class TraceOutcome : std::uint8_t {
  kValue = 0,
  kError,
  kInterrupted,
  kDamaged,
  kCancelled,
  kTimedOut,
  kClosed,
  kDied,  // its daemon
};

struct TraceRecord {
  std::uint64_t task = 0;  // from 1, in the order of submission
  std::uint64_t submitted_ns = 0;
  std::uint64_t queued_ns = 0;
  std::uint64_t harvested_ns = 0;
  RunStamps run;
  runtime::TaskKind kind = runtime::TaskKind::kEval;
  TraceOutcome outcome = TraceOutcome::kValue;
};
static_assert(sizeof(TraceRecord) == 72);

class Trace;

// Takes what Trace::kPressing records or more have not been taken of.
class TraceSink {
 public:
  virtual void on_pressing(Trace& trace) = 0;

 protected:
  ~TraceSink() = default;
};

class Trace {
 public:
  using Clock = BatchClock::Clock;
  static constexpr std::uint32_t kChunk = 4096;
  static constexpr std::uint32_t kKeptMost = 1U << 20;

  // Keeps `kept` records (a multiple of kChunk), whose memory comes as they do.
  explicit Trace(Clock clock, std::uint32_t kept = kKeptMost);
  // It is told each time that kChunk records have come and half of the ring or more is not written.
  void set_sink(TraceSink* sink) { sink_ = sink; }

  // --- The pool ----------------------------------------------------------------------------------------------
  // `begun_ns`: when the session began with it; 0: with its submission.
  void submitted(std::uint32_t index, std::uint64_t begun_ns, std::uint64_t now_ns, runtime::TaskKind kind);
  // Of tasks that resolve in between the clock is read once, and again only for one that its daemon was at until after that.
  void begin_batch() { clock_.begin(); }
  void end_batch() { clock_.end(); }
  // The run of the task that resolves next.
  void ran(const RunStamps& run) { run_ = run; }
  void resolved(std::uint32_t index, TraceOutcome outcome);
  // A link has been sent the task in this slot.
  void sent(std::uint32_t slot, std::uint16_t daemon, std::uint32_t pid);
  // Like ran(), for that task. `took_ns`: as its daemon says; 0: unknown.
  void ran_remotely(std::uint32_t slot, std::uint64_t took_ns);

  // --- Readers: positions count all records that ever came ----------------------------------------------------
  std::uint64_t first() const { return end_ > kept_ ? end_ - kept_ : 0; }  // so many are not in memory any more
  std::uint64_t end() const { return end_; }
  const TraceRecord& operator[](std::uint64_t position) const {
    const std::uint64_t at = position % kept_;
    return (*chunks_[at / kChunk])[at % kChunk];
  }
  std::uint64_t started_ns() const { return started_ns_; }
  std::uint64_t activity() const { return last_task_ + end_; }  // grows with each task that comes or goes
  std::uint64_t written() const { return written_; }
  void set_written(std::uint64_t position) { written_ = position; }
  bool pressing() const { return end_ - written_ >= kept_ / 2; }

 private:
  struct Pending {
    std::uint64_t task;
    std::uint64_t submitted_ns;
    std::uint64_t queued_ns;
    runtime::TaskKind kind;
  };

  BatchClock clock_;
  TraceSink* sink_ = nullptr;
  std::uint64_t kept_;
  std::uint64_t started_ns_;
  std::uint64_t last_task_ = 0;
  std::uint64_t end_ = 0;
  std::uint64_t written_ = 0;
  RunStamps run_;
  std::vector<Pending> pending_;  // by index of the task
  std::vector<RunStamps> sent_;   // by slot
  std::vector<std::unique_ptr<std::array<TraceRecord, kChunk>>> chunks_;
};

// When each stage of its run ended; 0: unknown. Never after the next one's end.
struct StageEnds {
  std::uint64_t decoded_ns = 0;
  std::uint64_t evaluated_ns = 0;
  std::uint64_t encoded_ns = 0;
};
StageEnds stage_ends(const TraceRecord& record);

}  // namespace setsuna::dispatch
