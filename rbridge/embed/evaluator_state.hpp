// What the sources of the evaluator share: the state of this process's one evaluator, and the steps of a task. A task may
// long-jump out of any step, so all of it is static and plain.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "dispatch/range_stream.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/embed/constant_cache.hpp"
#include "rbridge/embed/direct_exit.hpp"
#include "rbridge/embed/evaluator.hpp"
#include "rbridge/embed/steady_words.hpp"
#include "runtime/arena.hpp"
#include "runtime/daemon_port.hpp"
#include "runtime/eventfd.hpp"
#include "runtime/futex.hpp"
#include "runtime/host_page.hpp"
#include "runtime/segment.hpp"
#include "runtime/trace_area.hpp"

namespace setsuna::embed::evaluation {

using runtime::Claim;
using runtime::ResultStatus;
using runtime::TaskKind;
using Port = runtime::DaemonPort<std::atomic, runtime::SharedFutex>;
using Slot = Port::Slot;

// What is attached.
struct Attachment {
  explicit Attachment(runtime::Segment mapped) : segment(std::move(mapped)) {}
  runtime::Segment segment;
  runtime::HostPageMap host_page;
  runtime::EventFd reactor;
  std::unique_ptr<Port> port;
  std::unique_ptr<runtime::SegmentArena> arena;
  std::uint32_t inline_bytes = 0;  // of a result that lies in its slot, at most
  std::uint32_t sources = 0;       // views of it: it stays mapped until they are gone
};

extern Attachment* attachment;
extern Port* port;                                  // also read by the signal handler
extern runtime::TraceArea<std::atomic> trace_area;  // none: the host does not trace
extern DirectExit* direct_exit;
extern EvaluatorOptions options;
extern codec::EncodeBuffer buffer;
extern codec::Options codec_options;  // hooks of serial_config(), preserved

// The task in hand.
struct InHand {
  Claim claim;
  std::uint64_t started_ns = 0;
  std::uint64_t took_ns = 0;  // until its outcome was ready: a wake of the host, before or after, is not the task's
  bool active = false;        // claimed, not completed
  bool replaying = false;     // a kReplay: `replay_at` is where its next entry starts
  std::uint64_t replay_at = 0;
  bool counted = false;  // it is a user's task (maxtasks)
  codec::ViewSource* source = nullptr;
  std::uint64_t element_since_ns = 0;  // of a map: when its evaluation began
  std::uint64_t decoded_ns = 0;        // of a traced task, or element of a range: when that stage ended
  std::uint64_t evaluated_ns = 0;      //
  // A range: entries [0, position) are published, and with `evaluating` the one at `position` is in hand.
  bool in_range = false;
  bool evaluating = false;
  bool full = false;  // the last outcome had no room
  std::uint32_t position = 0;
  std::uint32_t count = 0;
  std::uint32_t at = 0;  // bytes of entries
  std::uint32_t largest = 0;
  std::uint32_t evaluated = 0;
  std::uint64_t range_since_ns = 0;
  dispatch::RangeStream stream;
};
extern InHand hand;
extern bool has_pending;      // a task is claimed from the ready queue while the mailbox has something to do first
extern bool may_be_stripped;  // a task has run since the last look at our descriptors
extern std::uint64_t tasks_run;
extern std::atomic<std::uint64_t> running_element;  // of a range, as a cancel names it; 0: none
extern volatile sig_atomic_t host_gone;

// R objects that the evaluator keeps, by place in one preserved list.
enum Root { kValue, kArgs, kEnv, kSeed, kEvalCall, kConstValues, kConstCalls, kConstElements, kRootCount };
extern SEXP roots;
extern SEXP quote_symbol;
extern SEXP seed_symbol;
inline SEXP root(Root which) { return VECTOR_ELT(roots, which); }
inline SEXP set_root(Root which, SEXP value) { return SET_VECTOR_ELT(roots, which, value); }

// A task that took less has neither forked a child, nor removed a directory, nor closed a thousand descriptors one by one:
// what it may have broken is not looked at, since looking costs more than a trivial task; only its descriptors are, before
// the daemon parks.
inline constexpr std::uint64_t kHarmlessNs = 15'000;

// --- Stamps of a traced task (evaluator_stamps.cpp) ---

void put_claim_stamps();
void put_stage_stamps(std::uint64_t now_ns);
void put_element_stamps();
std::uint64_t stamp_now();

inline void stamp_claimed() {
  if (trace_area) {
    put_claim_stamps();
  }
}
inline void stamp_decoded() {
  if (trace_area) {
    hand.decoded_ns = stamp_now();
  }
}
inline void stamp_evaluated() {
  if (trace_area) {
    hand.evaluated_ns = stamp_now();
  }
}
// Before the outcome is published.
inline void stamp_encoded(std::uint64_t now_ns) {
  if (trace_area) {
    put_stage_stamps(now_ns);
  }
}
// Before the entry at hand.position is.
inline void stamp_element() {
  if (trace_area) {
    put_element_stamps();
  }
}

// --- Views (evaluator_views.cpp) ---

// Null: no views of this block (small, or no hold bit was free): values are copied.
codec::ViewSource* make_source(std::uint64_t offset, std::uint64_t bytes, std::uint16_t block);
void release_source(codec::ViewSource* source);

// --- Constants (evaluator_constants.cpp) ---

void evict(int place);
SEXP quoted_if_language(SEXP x);
// The decoded constant's place in the cache. May jump.
int decode_constant(const Slot& slot);
// After an element: what it has changed of its constant must not be seen by the next.
void forget_changed_constant(std::uint64_t key);

// --- Random numbers (evaluator_streams.cpp) ---

SEXP seed_vector(const std::int32_t* stream);
// A task with a stream of its own leaves the daemon's where it was.
void enter_stream(const std::int32_t* stream);
void enter_stream(const Slot& slot);
void leave_stream(std::uint32_t flags);

// --- Results (evaluator_results.cpp) ---

// The doomed leave without claiming again: the host has a SIGKILL under way.
[[noreturn]] void leave_doomed();
// The task's R objects go; views that nothing refers to any more release their block at once.
void let_go();
// As a slot's elapsed_ns says it.
std::uint32_t brief_ns(std::uint64_t ns);
// An encoded outcome, in a block of its own. May jump.
runtime::Block allocate_result();
void publish(ResultStatus status);
void keep_tempdir();
void leave_if_stripped();
void finish_scope(std::uint32_t flags, std::uint64_t const_key);
void finish_value(TaskKind kind);
void complete_cancelled();

// --- Evaluation of what a slot asks for (evaluator_tasks.cpp). May jump; the value is in root(kValue) ---

void run_expression(const Slot& slot, bool persist);
void run_element(const Slot& slot);
// A jump out of one entry comes back here for the next.
void run_replay(const Slot& slot);
SEXP indexed_element(int place, std::uint64_t index);
// f(element, constants...) with the constant at `place`.
void call_element(int place, SEXP element, bool spread);

// --- Ranges (evaluator_ranges.cpp) ---

void begin_range(const Slot& slot);
// A jump out of an element comes back here for the next.
void run_range();
void finish_element_error(SEXP object, bool interrupted);

}  // namespace setsuna::embed::evaluation
