#include "rbridge/embed/evaluator.hpp"

#include <Rembedded.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "dispatch/map_range.hpp"
#include "dispatch/rng_stream.hpp"
#include "net/descriptors.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/codec/format.hpp"
#include "rbridge/embed/build_id.hpp"
#include "rbridge/embed/constant_cache.hpp"
#include "rbridge/embed/steady_words.hpp"
#include "rbridge/embed/task_scope.hpp"
#include "runtime/arena.hpp"
#include "runtime/clock.hpp"
#include "runtime/daemon_port.hpp"
#include "runtime/eventfd.hpp"
#include "runtime/futex.hpp"
#include "runtime/host_page.hpp"
#include "runtime/segment.hpp"
#include "runtime/spin.hpp"

extern "C" {
extern int R_interrupts_pending;
}

namespace setsuna::embed {
namespace {

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
  std::uint32_t sources = 0;  // views of it: it stays mapped until they are gone
};

Attachment* attachment = nullptr;
Port* port = nullptr;  // also read by the signal handler
EvaluatorOptions options;
codec::EncodeBuffer buffer;
codec::Options codec_options{nullptr};  // hooks of serial_config(), preserved

// The task in hand. Plain data: survives a long jump out of run().
struct InHand {
  Claim claim;
  std::uint64_t started_ns = 0;
  bool active = false;     // claimed, not completed
  bool replaying = false;  // a kReplay: `replay_at` is where its next entry starts
  std::uint64_t replay_at = 0;
  bool counted = false;  // it is a user's task (maxtasks)
  codec::ViewSource* source = nullptr;
  std::uint64_t element_since_ns = 0;  // of a map: when its evaluation began
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
  std::uint32_t stream_element = 0;
  dispatch::StreamState stream{};  // of stream_element
} hand;
Claim pending;  // claimed from the ready queue while the mailbox had something to do first
bool has_pending = false;

std::uint64_t started_ns = 0;
std::uint64_t idle_since_ns = 0;
std::uint64_t tasks_run = 0;
volatile sig_atomic_t own_group = 0;

enum Root { kValue, kArgs, kEnv, kSeed, kEvalCall, kConstValues, kConstCalls, kConstElements, kRootCount };
SEXP roots = nullptr;
CachedConstant constants[kConstantsKept];
SteadyWords constant_words[kConstantsKept];
std::uint64_t constant_tick = 0;
SEXP quote_symbol = nullptr;
SEXP seed_symbol = nullptr;

SEXP root(Root which) { return VECTOR_ELT(roots, which); }
SEXP set_root(Root which, SEXP value) { return SET_VECTOR_ELT(roots, which, value); }

// --- Cancel ------------------------------------------------------------------------------------------------

std::atomic<std::uint64_t> interrupted_task{0};
std::atomic<std::uint64_t> running_element{0};  // of a range, as a cancel names it; 0: none

void on_cancel_signal(int) {
  const int saved_errno = errno;
  if (port != nullptr) {
    // Relaxed: this thread wrote it.
    const std::uint64_t element = running_element.load(std::memory_order_relaxed);
    const std::uint64_t current = element != 0 ? element : port->record().current.load(std::memory_order_acquire);
    // Once per cancel, and only for the task that it was meant for.
    if (port->cancel_wanted(current) && interrupted_task.exchange(current, std::memory_order_relaxed) != current) {
      R_interrupts_pending = 1;
      if (own_group != 0) {
        ::kill(0, SIGINT);  // ends what the task started with system() and pipes
      }
    }
  }
  errno = saved_errno;
}

void install_cancel_handler() {
  struct sigaction action {};
  action.sa_handler = on_cancel_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: waits end
  ::sigaction(cancel_signal(), &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, cancel_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

volatile sig_atomic_t host_gone = 0;
void on_host_gone(int) { host_gone = 1; }

void install_host_gone_handler() {
  struct sigaction action {};
  action.sa_handler = on_host_gone;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGRTMIN + 6, &action, nullptr);
}

// --- Views -------------------------------------------------------------------------------------------------

// A view source and the hold bit that it keeps.
struct HeldSource {
  codec::ViewSource source;
  Attachment* of;
  std::uint16_t block;
};

void release_source(codec::ViewSource* source) {
  auto* held = static_cast<HeldSource*>(source->owner);
  if (source->writable_given) {
    // Private copies of pages must not be seen by the next user of the block. Views are only made of whole extents.
    ::madvise(const_cast<std::uint8_t*>(source->base), runtime::align_up(source->len, runtime::kPageBytes),
              MADV_DONTNEED);
  }
  Attachment* of = held->of;
  --of->sources;
  if (of == attachment) {
    port->unhold(held->block);
  } else if (of->sources == 0) {
    delete of;  // the last of a host that was left before
  }
  std::free(held);
}

// Null: no views of this block (small, or no hold bit was free): values are copied.
codec::ViewSource* make_source(std::uint64_t offset, std::uint64_t bytes, std::uint16_t block) {
  if (block == runtime::kNoBlockId) {
    return nullptr;
  }
  auto* held = static_cast<HeldSource*>(std::calloc(1, sizeof(HeldSource)));
  if (held == nullptr) {
    return nullptr;
  }
  held->of = attachment;
  ++attachment->sources;
  held->block = block;
  held->source.base = reinterpret_cast<const std::uint8_t*>(attachment->segment.view()) + offset;
  held->source.len = bytes;
  held->source.on_release = release_source;
  held->source.owner = held;
  port->hold(block);
  return &held->source;
}

// --- Constants ---------------------------------------------------------------------------------------------

void evict(int place) {
  CachedConstant& c = constants[place];
  SET_VECTOR_ELT(root(kConstValues), place, R_NilValue);
  SET_VECTOR_ELT(root(kConstCalls), place, R_NilValue);
  SET_VECTOR_ELT(root(kConstElements), place, R_NilValue);
  constant_words[place].release();
  if (c.source != nullptr && codec::release_on_last_view(c.source) == 0) {
    release_source(c.source);
  }
  c = CachedConstant();
}

int cached_place(std::uint64_t key) {
  for (int i = 0; i < kConstantsKept; ++i) {
    if (constants[i].key == key) {
      constants[i].used = ++constant_tick;
      return i;
    }
  }
  return -1;
}

SEXP quoted_if_language(SEXP x) {
  const int type = TYPEOF(x);
  return type == LANGSXP || type == SYMSXP || type == PROMSXP ? Rf_lang2(quote_symbol, x) : x;
}

// f(<element>, constants...), with the element's cell first.
SEXP map_call(SEXP constant) {
  SEXP f = VECTOR_ELT(constant, 0);
  SEXP args = VECTOR_ELT(constant, 1);
  SEXP names = PROTECT(Rf_getAttrib(args, R_NamesSymbol));
  SEXP tail = PROTECT(R_NilValue);
  for (R_xlen_t i = Rf_xlength(args); i-- > 0;) {
    SEXP cell = Rf_cons(PROTECT(quoted_if_language(VECTOR_ELT(args, i))), tail);
    UNPROTECT(2);
    tail = PROTECT(cell);
    if (names != R_NilValue && CHAR(STRING_ELT(names, i))[0] != '\0') {
      SET_TAG(cell, Rf_installTrChar(STRING_ELT(names, i)));
    }
  }
  SEXP call = Rf_lcons(f, PROTECT(Rf_cons(R_NilValue, tail)));  // the first argument's cell is filled per element
  UNPROTECT(3);
  return call;
}

// A place for a constant that is not in the cache; of one that is to be decoded anew, its own.
int place_for(const Slot& slot) {
  int place = 0;
  for (int i = 0; i < kConstantsKept; ++i) {
    if (constants[i].elements == slot.const_key) {
      return i;
    }
    place = constants[i].used < constants[place].used ? i : place;
  }
  evict(place);
  constants[place].source = make_source(slot.const_offset, slot.const_bytes, slot.const_block);
  return place;
}

// Its variables cannot be shared as they are; but as long as no task has assigned to one, nobody sees that they are.
bool watch_constant(int place, SEXP value) {
  constant_words[place].begin();
  if (options.cleanup && constant_words[place].add_reachable(value)) {
    return true;
  }
  constant_words[place].release();
  return false;
}

// The decoded constant's place in the cache. May jump.
int decode_constant(const Slot& slot) {
  if (const int place = cached_place(slot.const_key); place >= 0) {
    return place;
  }
  const int place = place_for(slot);
  CachedConstant& c = constants[place];  // from here evict() cleans up, also after a jump
  c.used = ++constant_tick;
  const std::uint8_t* base =
      c.source != nullptr ? c.source->base
                          : reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.const_offset;
  const std::uint8_t* end = base + slot.const_bytes;
  std::uint64_t head[2] = {0, 0};
  std::memcpy(head, base, std::min<std::uint64_t>(sizeof(head), slot.const_bytes));
  const bool has_elements = (head[0] & kConstantElements) != 0;
  if (has_elements && c.elements != slot.const_key) {
    if (head[1] >= slot.const_bytes) {
      Rf_error("a damaged task arrived: its elements are not where they should be");
    }
    codec::Cursor cursor{base + head[1], end, base, c.source};
    SET_VECTOR_ELT(root(kConstElements), place, codec::decode(&cursor, &codec_options));
    MARK_NOT_MUTABLE(VECTOR_ELT(root(kConstElements), place));
    c.elements = slot.const_key;
  }
  codec::Cursor cursor{base + (has_elements ? sizeof(head) : sizeof(head[0])), end, base, c.source};
  SEXP value = PROTECT(codec::decode(&cursor, &codec_options));
  SET_VECTOR_ELT(root(kConstValues), place, value);
  MARK_NOT_MUTABLE(value);
  for (R_xlen_t i = 0; TYPEOF(value) == VECSXP && i < XLENGTH(value); ++i) {
    MARK_NOT_MUTABLE(VECTOR_ELT(value, i));
  }
  SET_VECTOR_ELT(root(kConstCalls), place, map_call(value));
  // A value with state of its own is decoded anew for each task, unless its state can be watched: no key, so it is not found.
  c.watched = (head[0] & kConstantShareable) == 0 && has_elements && watch_constant(place, value);
  c.key = (head[0] & kConstantShareable) != 0 || c.watched ? slot.const_key : 0;
  UNPROTECT(1);
  return place;
}

// After an element: what it has changed of its constant must not be seen by the next.
void forget_changed_constant(std::uint64_t key) {
  for (CachedConstant& c : constants) {
    if (c.key == key && c.watched && !constant_words[&c - constants].unchanged()) {
      c.key = 0;
    }
  }
}

// --- Random numbers ----------------------------------------------------------------------------------------

constexpr int kGeneratorKind = 10407;  // .Random.seed[1]: L'Ecuyer-CMRG, Inversion, Rejection

SEXP seed_vector(const std::int32_t* stream) {
  SEXP seed = Rf_allocVector(INTSXP, 7);
  INTEGER(seed)[0] = kGeneratorKind;
  std::memcpy(INTEGER(seed) + 1, stream, 6 * sizeof(std::int32_t));
  return seed;
}

// A task with a stream of its own leaves the daemon's where it was.
void enter_stream(const std::int32_t* stream) {
  set_root(kSeed, Rf_findVarInFrame(R_GlobalEnv, seed_symbol));
  SEXP seed = PROTECT(seed_vector(stream));
  Rf_defineVar(seed_symbol, seed, R_GlobalEnv);
  UNPROTECT(1);
}

void enter_stream(const Slot& slot) {
  if ((slot.flags & runtime::kTaskHasStream) != 0) {
    enter_stream(slot.rng);
  }
}

// A task may have chosen another kind of generator. Later ones go on with this daemon's kind, in a substream of its own.
void restore_generator() {
  SEXP seed = Rf_findVarInFrame(R_GlobalEnv, seed_symbol);
  if (!options.has_stream || (TYPEOF(seed) == INTSXP && XLENGTH(seed) == 7 && INTEGER(seed)[0] == kGeneratorKind)) {
    return;
  }
  dispatch::StreamState state{};
  std::memcpy(state.data(), options.stream, sizeof(state));
  state = dispatch::next_substream(state);
  std::memcpy(options.stream, state.data(), sizeof(state));
  SEXP fresh = PROTECT(seed_vector(options.stream));
  Rf_defineVar(seed_symbol, fresh, R_GlobalEnv);
  UNPROTECT(1);
}

void leave_stream(std::uint32_t flags) {
  if ((flags & runtime::kTaskHasStream) == 0) {
    restore_generator();
    return;
  }
  SEXP before = root(kSeed);
  if (before != R_NilValue && before != R_UnboundValue) {
    Rf_defineVar(seed_symbol, before, R_GlobalEnv);
  }
  set_root(kSeed, R_NilValue);
}

// --- Results -----------------------------------------------------------------------------------------------

// The doomed leave without claiming again: the host has a SIGKILL under way.
[[noreturn]] void leave_doomed() { ::_exit(0); }

void remove_all(SEXP values, SEXP env) {
  SEXP names = Rf_getAttrib(values, R_NamesSymbol);
  for (R_xlen_t i = 0; i < Rf_xlength(values) && TYPEOF(names) == STRSXP; ++i) {
    R_removeVarFromFrame(Rf_installTrChar(STRING_ELT(names, i)), env);
  }
}

// So that large arguments lose their last references now and not at the next collection.
void unbind_arguments() {
  SEXP call = root(kEvalCall);
  SETCADR(CADR(call), R_NilValue);
  SETCADDR(call, R_NilValue);
  for (int i = 0; i < kConstantsKept; ++i) {
    if (SEXP map_call = VECTOR_ELT(root(kConstCalls), i); map_call != R_NilValue) {
      SETCADR(map_call, R_NilValue);
    }
  }
  TaskScope::unbind_globals();
  SEXP env = root(kEnv);
  SEXP args = root(kArgs);
  // Not if something else (a closure that the task left somewhere) uses the environment.
  if (TYPEOF(env) == ENVSXP && !MAYBE_SHARED(env) && TYPEOF(args) == VECSXP && XLENGTH(args) == 3) {
    remove_all(VECTOR_ELT(args, 1), env);
    remove_all(VECTOR_ELT(args, 2), env);
  }
}

// The task's R objects go; views that nothing refers to any more release their block at once.
void let_go() {
  if (hand.source != nullptr) {
    unbind_arguments();
    set_root(kValue, R_NilValue);
    codec::drop_value(root(kArgs));
  }
  set_root(kValue, R_NilValue);
  set_root(kArgs, R_NilValue);
  set_root(kEnv, R_NilValue);
  if (hand.source != nullptr) {
    codec::ViewSource* source = hand.source;
    hand.source = nullptr;
    if (codec::detach_unreferenced(source) == 0) {
      release_source(source);
    }
  }
  codec::drain_released();
}

std::uint32_t brief_ns(std::uint64_t ns) {
  constexpr std::uint64_t kLongest = 0xFFFFFFFF;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(ns, 1, kLongest));
}

// An encoded outcome, in a block of its own. May jump.
runtime::Block allocate_result() {
  const runtime::Block block = attachment->arena->alloc(buffer.total);
  if (!block) {
    Rf_error("the result of %.0f bytes does not fit: %s. Return less, or set a larger limit of memory",
             static_cast<double>(buffer.total),
             block.status == runtime::AllocStatus::kNoMemory ? "the system has no more memory"
                                                             : "the shared memory of the daemons is full");
  }
  codec::write_encoded(&buffer, reinterpret_cast<std::uint8_t*>(attachment->arena->at(block.offset)));
  return block;
}

void publish(ResultStatus status) {
  Slot& slot = port->slot(hand.claim);
  slot.result_status = static_cast<std::uint32_t>(status);
  slot.result_bytes = buffer.total;
  slot.result_offset = 0;
  if (buffer.total <= runtime::kInlineResultBytes) {
    codec::write_encoded(&buffer, slot.result);
  } else {
    slot.result_offset = allocate_result().offset;
  }
  if (hand.element_since_ns != 0) {
    slot.elapsed_ns = brief_ns(runtime::monotonic_ns() - hand.element_since_ns);
  }
  hand.active = false;
  if (hand.source != nullptr) {
    let_go();  // before DONE: the host finds the argument's block free when it harvests
  }
  bool signal = false;
  if (!port->complete(hand.claim, &signal)) {
    leave_doomed();
  }
  if (signal) {
    attachment->reactor.signal();
  }
}

// A task that took less has neither forked a child, nor removed a directory, nor closed a thousand descriptors: what such a
// task may have broken is not looked at, since looking costs more than a trivial task.
constexpr std::uint64_t kHarmlessNs = 15'000;
bool could_do_harm() { return runtime::monotonic_ns() - hand.started_ns > kHarmlessNs; }

// A child of the task that called quit() takes the session's directory with it.
void keep_tempdir() {
  if (could_do_harm() && R_TempDir != nullptr && ::access(R_TempDir, F_OK) != 0) {
    ::mkdir(R_TempDir, 0700);
  }
}

// A task that closed all descriptors has closed ours: nobody would hear the doorbell, and what R opens next would be
// standard output. Such a daemon is replaced. Its number is high: not one that is taken again by accident.
void leave_if_stripped() {
  constexpr int kStrippedStatus = 74;
  if (!has_pending && could_do_harm() && ::fcntl(attachment->reactor.fd(), F_GETFD) < 0) {
    ::_exit(kStrippedStatus);
  }
}

void finish_scope(std::uint32_t flags, std::uint64_t const_key) {
  forget_changed_constant(const_key);
  TaskScope::calm();
  keep_tempdir();
  leave_stream(flags);
  if (options.cleanup) {
    TaskScope::restore();
  } else {
    TaskScope::unbind_globals();
  }
}

void finish_value(TaskKind kind) {
  port->clear_current();
  R_interrupts_pending = 0;
  codec::encode_reset(&buffer);
  codec::encode(root(kValue), &buffer, &codec_options);
  const std::uint32_t flags = port->slot(hand.claim).flags;  // the slot may be another task's after this
  const std::uint64_t const_key = port->slot(hand.claim).const_key;
  publish(ResultStatus::kValue);
  let_go();
  if (kind == TaskKind::kEverywhere) {
    TaskScope::take_baseline();
  } else {
    finish_scope(flags, const_key);
  }
}

void complete_cancelled() {
  port->clear_current();
  codec::encode_reset(&buffer);
  codec::encode(R_NilValue, &buffer, nullptr);
  publish(ResultStatus::kCancelled);
  let_go();
}

// --- Evaluation --------------------------------------------------------------------------------------------

void define_all(SEXP values, SEXP env) {
  const R_xlen_t n = Rf_xlength(values);
  if (n == 0) {
    return;
  }
  SEXP names = Rf_getAttrib(values, R_NamesSymbol);
  for (R_xlen_t i = 0; i < n; ++i) {
    Rf_defineVar(Rf_installTrChar(STRING_ELT(names, i)), VECTOR_ELT(values, i), env);
  }
}

// base::eval(quote(<expr>), <env>): a bare return() ends there and not in our loop.
SEXP eval_in(SEXP expr, SEXP env) {
  SEXP call = root(kEvalCall);
  SETCADR(CADR(call), expr);
  SETCADDR(call, env);
  SEXP value = Rf_eval(call, R_BaseEnv);
  set_root(kValue, value);
  SETCADR(CADR(call), R_NilValue);
  SETCADDR(call, R_NilValue);
  return value;
}

SEXP decode_arguments(const Slot& slot) {
  const std::uint8_t* base = slot.arg;
  if (slot.arg_bytes > runtime::kInlineArgBytes) {
    hand.source = make_source(slot.arg_offset, slot.arg_bytes, slot.arg_block);
    base = hand.source != nullptr ? hand.source->base
                                  : reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.arg_offset;
  }
  codec::Cursor cursor{base, base + slot.arg_bytes, base, hand.source};
  return set_root(kArgs, codec::decode(&cursor, &codec_options));
}

// Large arguments that came as a shared constant: list(NULL, locals, globals). Null if there are none.
SEXP constant_arguments(const Slot& slot) {
  return slot.const_bytes == 0 ? R_NilValue : VECTOR_ELT(root(kConstValues), decode_constant(slot));
}

// args: list(expression, globals, locals)
void run_expression(const Slot& slot, bool persist) {
  SEXP args = decode_arguments(slot);
  if (TYPEOF(args) != VECSXP || XLENGTH(args) != 3) {
    Rf_error("a damaged task arrived: its arguments are not a list of 3");
  }
  if (persist) {
    define_all(VECTOR_ELT(args, 1), R_GlobalEnv);
    define_all(VECTOR_ELT(args, 2), R_GlobalEnv);
    eval_in(VECTOR_ELT(args, 0), R_GlobalEnv);
    return;
  }
  SEXP constant = constant_arguments(slot);
  enter_stream(slot);
  SEXP env = set_root(kEnv, R_NewEnv(R_GlobalEnv, FALSE, 0));
  if (TYPEOF(constant) == VECSXP) {
    define_all(VECTOR_ELT(constant, 2), env);
    define_all(VECTOR_ELT(constant, 1), env);
    TaskScope::bind_globals(VECTOR_ELT(constant, 2));
  }
  define_all(VECTOR_ELT(args, 1), env);
  define_all(VECTOR_ELT(args, 2), env);
  TaskScope::bind_globals(VECTOR_ELT(args, 1));
  eval_in(VECTOR_ELT(args, 0), env);
}

// f(item 1, item 2, ..., constants...): the items of a row are arguments by name.
SEXP spread_call(SEXP call, SEXP row) {
  SEXP names = PROTECT(Rf_getAttrib(row, R_NamesSymbol));
  SEXP tail = PROTECT(CDDR(call));
  for (R_xlen_t i = Rf_xlength(row); i-- > 0;) {
    SEXP cell = Rf_cons(PROTECT(quoted_if_language(VECTOR_ELT(row, i))), tail);
    UNPROTECT(2);
    tail = PROTECT(cell);
    if (names != R_NilValue && CHAR(STRING_ELT(names, i))[0] != '\0') {
      SET_TAG(cell, Rf_installTrChar(STRING_ELT(names, i)));
    }
  }
  SEXP spread = Rf_lcons(CAR(call), tail);
  UNPROTECT(2);
  return spread;
}

SEXP indexed_element(int place, std::uint64_t index) {
  SEXP all = VECTOR_ELT(root(kConstElements), place);
  if (index >= static_cast<std::uint64_t>(Rf_xlength(all))) {
    Rf_error("a damaged task arrived: its map has no such element");
  }
  const auto i = static_cast<R_xlen_t>(index);
  switch (TYPEOF(all)) {
    case VECSXP: MARK_NOT_MUTABLE(VECTOR_ELT(all, i)); return VECTOR_ELT(all, i);
    case REALSXP: return Rf_ScalarReal(REAL_ELT(all, i));
    case INTSXP: return Rf_ScalarInteger(INTEGER_ELT(all, i));
    case LGLSXP: return Rf_ScalarLogical(LOGICAL_ELT(all, i));
    case STRSXP: return Rf_ScalarString(STRING_ELT(all, i));
    case RAWSXP: return Rf_ScalarRaw(RAW_ELT(all, i));
    case CPLXSXP: return Rf_ScalarComplex(COMPLEX_ELT(all, i));
    default: Rf_error("a damaged task arrived: its elements are of an unknown type");
  }
}

// f(element, constants...) with the constant at `place`. The value is in root(kValue).
void call_element(int place, SEXP element, bool spread) {
  SEXP call = VECTOR_ELT(root(kConstCalls), place);
  PROTECT(element);
  if (spread && TYPEOF(element) == VECSXP) {
    call = spread_call(call, element);
  } else {
    SETCADR(call, quoted_if_language(element));
  }
  UNPROTECT(1);
  PROTECT(call);
  set_root(kValue, Rf_eval(call, R_GlobalEnv));
  SETCADR(VECTOR_ELT(root(kConstCalls), place), R_NilValue);
  UNPROTECT(1);
}

void run_element(const Slot& slot) {
  const int place = decode_constant(slot);
  hand.element_since_ns = runtime::monotonic_ns();
  SEXP element = R_NilValue;
  if ((slot.flags & runtime::kTaskIndexed) != 0) {
    std::uint64_t index = 0;
    std::memcpy(&index, slot.arg, sizeof(index));
    element = indexed_element(place, index);
  } else {
    element = decode_arguments(slot);
  }
  PROTECT(element);
  enter_stream(slot);
  TaskScope::bind_globals(VECTOR_ELT(VECTOR_ELT(root(kConstValues), place), 2));
  call_element(place, element, (slot.flags & runtime::kTaskSpread) != 0);
  UNPROTECT(1);
}

// --- Ranges ------------------------------------------------------------------------------------------------

using dispatch::kEntryArea;
using dispatch::kEntryAreaBytes;
using dispatch::kEntryLong;
using dispatch::kEntryLongHead;
using dispatch::kEntrySkip;
using dispatch::kEntryValueMax;

constexpr std::uint64_t kRangeLongestNs = 2'000'000;  // then the rest goes back: others may be idle
constexpr std::uint64_t kBriefNs = 400;               // in which nobody calls setwd(): two system calls, from R

void entry_done(std::uint32_t bytes) {
  hand.at += bytes;
  hand.largest = std::max(hand.largest, bytes);
  port->publish_progress(hand.claim, ++hand.position);
}

// The scalars that trivial functions return, as codec::encode() would write them. 0: it is another value.
std::uint32_t put_scalar(SEXP value, std::uint8_t* to) {
  if (ATTRIB(value) != R_NilValue) {
    return 0;
  }
  if (TYPEOF(value) == INTSXP && XLENGTH(value) == 1) {
    const int number = INTEGER_ELT(value, 0);
    to[0] = 1 + sizeof(number);
    to[1] = static_cast<std::uint8_t>(codec::Tag::kInteger1);
    std::memcpy(to + 2, &number, sizeof(number));
    return 2 + sizeof(number);
  }
  if (TYPEOF(value) == REALSXP && XLENGTH(value) == 1) {
    const double number = REAL_ELT(value, 0);
    to[0] = 1 + sizeof(number);
    to[1] = static_cast<std::uint8_t>(codec::Tag::kReal1);
    std::memcpy(to + 2, &number, sizeof(number));
    return 2 + sizeof(number);
  }
  return 0;
}

// What is in `buffer`. There is room for kEntryAreaBytes at least.
void put_outcome(ResultStatus status) {
  std::uint8_t* to = port->slot(hand.claim).result + hand.at;
  const std::uint64_t left = runtime::kInlineResultBytes - hand.at;
  const std::uint64_t total = buffer.total;
  if (status == ResultStatus::kValue && total <= kEntryValueMax && total + 1 <= left) {
    to[0] = static_cast<std::uint8_t>(total);
    codec::write_encoded(&buffer, to + 1);
    entry_done(static_cast<std::uint32_t>(total) + 1);
    return;
  }
  to[1] = static_cast<std::uint8_t>(status);
  if (total + kEntryLongHead <= left) {
    to[0] = kEntryLong;
    const auto length = static_cast<std::uint16_t>(total);
    std::memcpy(to + 2, &length, sizeof(length));
    codec::write_encoded(&buffer, to + kEntryLongHead);
    entry_done(static_cast<std::uint32_t>(total) + kEntryLongHead);
    return;
  }
  const std::uint64_t offset = allocate_result().offset;
  to[0] = kEntryArea;
  std::memcpy(to + 2, &offset, sizeof(offset));
  std::memcpy(to + 10, &total, sizeof(total));
  hand.full = true;
  entry_done(kEntryAreaBytes);
}

bool must_end_range() {
  const std::uint32_t left = static_cast<std::uint32_t>(runtime::kInlineResultBytes) - hand.at;
  return hand.full || left < std::max(hand.largest, kEntryAreaBytes) || port->mailbox_waits() || port->must_leave() ||
         host_gone != 0 || hand.started_ns - hand.range_since_ns > kRangeLongestNs ||
         (options.maxtasks >= 0 && static_cast<double>(tasks_run) >= options.maxtasks);
}

void enter_range_stream(const Slot& slot, std::uint32_t element) {
  if ((slot.flags & runtime::kTaskHasStream) == 0) {
    return;
  }
  for (; hand.stream_element < element; ++hand.stream_element) {
    hand.stream = dispatch::next_stream(hand.stream);
  }
  std::int32_t stream[6];
  std::memcpy(stream, hand.stream.data(), sizeof(stream));
  enter_stream(stream);
}

// Evaluates the element at hand.position; its entry is published afterwards. A jump goes to finish_element_error().
void evaluate_in_range(const Slot& slot) {
  std::uint32_t element = 0;
  std::memcpy(&element, slot.arg + hand.position * sizeof(element), sizeof(element));
  const int place = decode_constant(slot);
  SEXP value = PROTECT(indexed_element(place, element));
  enter_range_stream(slot, element);
  SEXP globals = VECTOR_ELT(VECTOR_ELT(root(kConstValues), place), 2);
  if (globals != R_NilValue) {
    TaskScope::bind_globals(globals);
  }
  call_element(place, value, (slot.flags & runtime::kTaskSpread) != 0);
  UNPROTECT(1);
}

void end_element() {
  hand.evaluating = false;
  running_element.store(0, std::memory_order_relaxed);
  R_interrupts_pending = 0;
  ++hand.evaluated;
  ++tasks_run;
}

// What finish_scope() does, for an element; what a short one cannot have done is not looked at.
void finish_element_scope(std::uint32_t flags, std::uint64_t const_key) {
  const std::uint64_t now_ns = runtime::monotonic_ns();
  const std::uint64_t took_ns = now_ns - hand.started_ns;
  set_root(kValue, R_NilValue);
  forget_changed_constant(const_key);
  TaskScope::calm();
  if (took_ns > kHarmlessNs) {
    keep_tempdir();
  }
  leave_stream(flags);
  if (options.cleanup) {
    TaskScope::restore(took_ns < kBriefNs);
  } else {
    TaskScope::unbind_globals();
  }
  if (took_ns > kHarmlessNs) {
    leave_if_stripped();
  }
  hand.started_ns = now_ns;
}

void run_next_element(const Slot& slot) {
  R_interrupts_pending = 0;  // an old interrupt must not hit this element
  if (!port->take_element(hand.claim, hand.position)) {
    port->slot(hand.claim).result[hand.at] = kEntrySkip;
    entry_done(1);
    return;
  }
  const std::uint64_t request = Port::pack_element(Port::pack(hand.claim), hand.position);
  hand.evaluating = true;
  // ORDERING current/cancel: before the look at the request; the signal's handler, which runs on this thread, sees it too.
  running_element.store(request, std::memory_order_relaxed);
  if (port->cancel_wanted(request)) {
    end_element();
    codec::encode_reset(&buffer);
    codec::encode(R_NilValue, &buffer, nullptr);
    put_outcome(ResultStatus::kCancelled);
    return;
  }
  evaluate_in_range(slot);
  running_element.store(0, std::memory_order_relaxed);
  R_interrupts_pending = 0;
  const std::uint32_t bytes = put_scalar(root(kValue), port->slot(hand.claim).result + hand.at);
  if (bytes == 0) {
    codec::encode_reset(&buffer);
    codec::encode(root(kValue), &buffer, &codec_options);
    put_outcome(ResultStatus::kValue);
  } else {
    entry_done(bytes);
  }
  end_element();
  finish_element_scope(slot.flags, slot.const_key);
}

void finish_range() {
  port->clear_current();
  Slot& slot = port->slot(hand.claim);
  const bool partial = hand.position < hand.count;
  slot.elapsed_ns =
      hand.evaluated == 0 ? 0 : brief_ns((runtime::monotonic_ns() - hand.range_since_ns) / hand.evaluated);
  hand.active = false;
  hand.in_range = false;
  let_go();
  bool signal = false;
  if (!port->complete(hand.claim, &signal)) {
    leave_doomed();
  }
  if (signal || partial) {
    attachment->reactor.signal();  // what was not begun waits for the host to give it to others
  }
}

// A jump out of an element comes back here for the next.
void run_range() {
  const Slot& slot = port->slot(hand.claim);
  while (hand.position < hand.count && !must_end_range()) {
    run_next_element(slot);
  }
  finish_range();
}

void begin_range(const Slot& slot) {
  hand.in_range = true;
  hand.count =
      std::min<std::uint32_t>(static_cast<std::uint32_t>(slot.arg_bytes / sizeof(std::uint32_t)), runtime::kRangeMax);
  std::memcpy(&hand.stream_element, slot.arg, sizeof(hand.stream_element));
  std::memcpy(hand.stream.data(), slot.rng, sizeof(slot.rng));
  hand.range_since_ns = hand.started_ns;
  run_range();
}

void finish_element_error(SEXP object, bool interrupted) {
  const Slot& slot = port->slot(hand.claim);
  if (!hand.evaluating) {
    // Its outcome was published; cleaning up after it failed.
    let_go();
    if (options.cleanup) {
      TaskScope::restore_all();
    }
    forget_changed_constant(slot.const_key);
    return;
  }
  const std::uint64_t request = Port::pack_element(Port::pack(hand.claim), hand.position);
  const bool cancelled = port->cancel_wanted(request);
  running_element.store(0, std::memory_order_relaxed);
  R_interrupts_pending = 0;
  set_root(kValue, object);
  codec::encode_reset(&buffer);
  codec::encode(object, &buffer, &codec_options);
  put_outcome(cancelled ? ResultStatus::kCancelled : interrupted ? ResultStatus::kInterrupted : ResultStatus::kError);
  end_element();
  finish_element_scope(slot.flags, slot.const_key);
}

// A jump out of one entry comes back here for the next.
void run_replay(const Slot& slot) {
  const std::uint8_t* base = slot.arg_bytes > runtime::kInlineArgBytes
                                 ? reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.arg_offset
                                 : slot.arg;
  hand.replaying = true;
  while (hand.replay_at < slot.arg_bytes) {
    std::uint64_t length = 0;
    std::memcpy(&length, base + hand.replay_at, sizeof(length));
    const std::uint8_t* entry = base + hand.replay_at + sizeof(length);
    hand.replay_at += sizeof(length) + length;
    codec::Cursor cursor{entry, entry + length, entry, nullptr};
    SEXP args = set_root(kArgs, codec::decode(&cursor, &codec_options));
    if (TYPEOF(args) == VECSXP && XLENGTH(args) == 3) {
      define_all(VECTOR_ELT(args, 1), R_GlobalEnv);
      define_all(VECTOR_ELT(args, 2), R_GlobalEnv);
      eval_in(VECTOR_ELT(args, 0), R_GlobalEnv);
    }
  }
  hand.replaying = false;
  set_root(kValue, R_NilValue);
}

void run_task(const Claim& claim) {
  const Slot& slot = port->slot(claim);
  const TaskKind kind = slot.kind;
  hand = InHand();
  hand.started_ns = runtime::monotonic_ns();
  hand.claim = claim;
  hand.active = true;
  hand.counted = kind == TaskKind::kEval || kind == TaskKind::kMapElement;
  R_interrupts_pending = 0;  // an old interrupt must not hit this task
  port->set_current(claim);
  if (port->cancelled(claim)) {
    complete_cancelled();
    return;
  }
  switch (kind) {
    case TaskKind::kEval: run_expression(slot, false); break;
    case TaskKind::kEverywhere: run_expression(slot, true); break;
    case TaskKind::kMapElement: run_element(slot); break;
    case TaskKind::kReplay: run_replay(slot); break;
    case TaskKind::kMapRange: begin_range(slot); return;
    default: Rf_error("a damaged task arrived: unknown kind %d", static_cast<int>(kind));
  }
  finish_value(kind == TaskKind::kReplay ? TaskKind::kEverywhere : kind);
  tasks_run += hand.counted ? 1 : 0;
}

void resume_replay() {
  run_replay(port->slot(hand.claim));
  finish_value(TaskKind::kEverywhere);
}

std::optional<Claim> next_claim() {
  bool refill = false;
  std::optional<Claim> claim = port->claim_mailbox(&refill);
  if (!claim && has_pending) {
    has_pending = false;
    claim = pending;
  } else if (!claim) {
    std::optional<Claim> ready = port->claim_ready(&refill);
    // What everywhere() sent meanwhile comes before a task that was queued after it.
    claim = ready ? port->claim_mailbox(&refill) : std::nullopt;
    if (claim) {
      pending = *ready;
      has_pending = true;
    } else {
      claim = ready;
    }
  }
  if (refill) {
    attachment->reactor.signal();
  }
  return claim;
}

// `daemons(spin = )`: look for a while before parking. The peer is the host's R thread.
bool spin_for_work() {
  static runtime::Spinner spinner;
  const runtime::QueueView<std::atomic>& view = port->view();
  const std::uint32_t budget_us = view.control->spin_us.load(std::memory_order_relaxed);
  if (budget_us == 0) {
    return false;
  }
  port->record().cpu.store(runtime::Spinner::current_cpu(), std::memory_order_relaxed);
  return spinner.spin(budget_us, view.host->cpu, [] { return port->has_work() || port->must_leave(); });
}

std::uint64_t deadline_after(std::uint64_t start_ns, double limit_ms) {
  constexpr double kLongestMs = 1e12;  // 30 years: the sum does not overflow
  return limit_ms < 0 ? 0 : start_ns + static_cast<std::uint64_t>(std::min(limit_ms, kLongestMs) * 1e6);
}

std::uint64_t earlier(std::uint64_t a, std::uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

}  // namespace

int cancel_signal() noexcept { return SIGRTMIN + 5; }

void Evaluator::attach(int segment_fd, int host_page_fd, int refill_fd, std::uint32_t index, std::uint32_t epoch,
                       const EvaluatorOptions& with) {
  std::string error;
  runtime::UniqueFd page_fd(host_page_fd);
  runtime::EventFd reactor{runtime::UniqueFd(net::move_high(refill_fd))};
  std::optional<runtime::Segment> segment = runtime::Segment::attach(runtime::UniqueFd(segment_fd), build_id(), &error);
  if (!segment) {
    throw std::runtime_error(error);
  }
  auto made = std::make_unique<Attachment>(std::move(*segment));
  if (index >= made->segment.header().daemon_max ||
      made->segment.queue(nullptr).daemon(index).epoch.load(std::memory_order_acquire) != epoch) {
    throw std::runtime_error("another daemon has taken this one's place: its start took too long");
  }
  if (!made->host_page.attach(std::move(page_fd), &error)) {
    throw std::runtime_error(error);
  }
  made->reactor = std::move(reactor);
  made->port = std::make_unique<Port>(made->segment.queue(made->host_page.page()), index, epoch);
  made->arena = std::make_unique<runtime::SegmentArena>(made->segment, runtime::ExtentOwner{index, epoch});
  host_gone = 0;
  attachment = made.release();
  port = attachment->port.get();
  options = with;
  own_group = options.forked ? 1 : 0;
}

void Evaluator::detach(bool again) {
  for (int place = 0; place < kConstantsKept; ++place) {
    evict(place);
  }
  R_ReleaseObject(roots);
  roots = nullptr;
  hand = InHand();
  has_pending = false;
  if (!again) {
    tasks_run = 0;
    started_ns = 0;
  }
  Attachment* left = attachment;
  port = nullptr;
  attachment = nullptr;
  if (left->sources == 0) {
    delete left;
  }
}

bool Evaluator::host_is_final() {
  return attachment != nullptr && (attachment->segment.queue(nullptr).control->flags.load(std::memory_order_acquire) &
                                   runtime::kControlFinal) != 0;
}

void Evaluator::set_hooks(SEXP hooks) {
  if (codec_options.hooks != nullptr) {
    R_ReleaseObject(codec_options.hooks);
  }
  R_PreserveObject(hooks);
  codec_options.hooks = hooks;
}

bool Evaluator::attached() { return attachment != nullptr; }

bool Evaluator::cancel_requested() {
  if (port == nullptr || !hand.active) {
    return false;
  }
  const std::uint64_t element = running_element.load(std::memory_order_relaxed);
  return element != 0 ? port->cancel_wanted(element) : port->cancelled(hand.claim);
}

void Evaluator::start(SEXP restore, SEXP calm) {
  roots = Rf_allocVector(VECSXP, kRootCount);
  R_PreserveObject(roots);
  quote_symbol = Rf_install("quote");
  seed_symbol = Rf_install(".Random.seed");
  set_root(kConstValues, Rf_allocVector(VECSXP, kConstantsKept));
  set_root(kConstCalls, Rf_allocVector(VECSXP, kConstantsKept));
  set_root(kConstElements, Rf_allocVector(VECSXP, kConstantsKept));
  SEXP eval_function = PROTECT(Rf_findFun(Rf_install("eval"), R_BaseEnv));
  SEXP quoted = PROTECT(Rf_lang2(quote_symbol, R_NilValue));
  set_root(kEvalCall, Rf_lang3(eval_function, quoted, R_NilValue));
  UNPROTECT(2);
  if (options.has_stream) {
    SEXP seed = PROTECT(seed_vector(options.stream));
    Rf_defineVar(seed_symbol, seed, R_GlobalEnv);
    UNPROTECT(1);
  }
  TaskScope::initialize(restore, calm);
  install_cancel_handler();
  install_host_gone_handler();
  idle_since_ns = runtime::monotonic_ns();
  started_ns = started_ns == 0 ? idle_since_ns : started_ns;
  auto& record = port->record();
  record.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  record.state.store(static_cast<std::uint32_t>(runtime::DaemonState::kLive), std::memory_order_release);
  port->wake_host();
  attachment->reactor.signal();
}

LeaveReason Evaluator::run() {
  if (hand.replaying) {
    resume_replay();
  } else if (hand.active && hand.in_range) {
    run_range();
  }
  for (;;) {
    leave_if_stripped();
    // Never with a claimed task in hand: nobody else could run it.
    if (!has_pending && options.maxtasks >= 0 && static_cast<double>(tasks_run) >= options.maxtasks) {
      return LeaveReason::kMaxtasks;
    }
    if (host_gone != 0 || (port->must_leave() && !has_pending)) {
      return LeaveReason::kNormal;
    }
    const std::uint64_t wall_ns = deadline_after(started_ns, options.walltime_ms);
    if (!has_pending && wall_ns != 0 && runtime::monotonic_ns() >= wall_ns) {
      return LeaveReason::kWalltime;
    }
    if (const std::optional<Claim> claim = next_claim()) {
      run_task(*claim);
      if (options.idletime_ms >= 0) {
        idle_since_ns = runtime::monotonic_ns();
      }
      continue;
    }
    const std::uint64_t idle_ns = deadline_after(idle_since_ns, options.idletime_ms);
    if (idle_ns != 0 && runtime::monotonic_ns() >= idle_ns && !port->has_work()) {
      return LeaveReason::kIdletime;
    }
    if (spin_for_work()) {
      continue;
    }
    port->park(earlier(idle_ns, wall_ns));
    R_interrupts_pending = 0;  // Ctrl-C while idle means nothing
  }
}

void Evaluator::finish_error(SEXP object, bool interrupted) {
  if (!hand.active) {
    // The value was published; cleaning up after it failed (a variable that cannot be looked at, say). Nothing to resolve.
    let_go();
    if (options.cleanup) {
      TaskScope::restore_all();
    }
    return;
  }
  if (hand.in_range) {
    finish_element_error(object, interrupted);
    return;
  }
  if (hand.replaying) {
    return;  // run() goes on with the next entry
  }
  const bool cancelled = port->cancelled(hand.claim);
  port->clear_current();
  R_interrupts_pending = 0;
  set_root(kValue, object);
  codec::encode_reset(&buffer);
  codec::encode(object, &buffer, &codec_options);
  const std::uint32_t flags = port->slot(hand.claim).flags;
  const std::uint64_t const_key = port->slot(hand.claim).const_key;
  const TaskKind kind = port->slot(hand.claim).kind;
  publish(cancelled ? ResultStatus::kCancelled : interrupted ? ResultStatus::kInterrupted : ResultStatus::kError);
  tasks_run += hand.counted ? 1 : 0;
  let_go();
  if (kind == TaskKind::kEverywhere) {
    TaskScope::take_baseline();
  } else {
    finish_scope(flags, const_key);
  }
  if (options.idletime_ms >= 0) {
    idle_since_ns = runtime::monotonic_ns();
  }
}

void Evaluator::leave(LeaveReason reason) {
  auto& record = port->record();
  record.exit_code.store(static_cast<std::uint32_t>(reason), std::memory_order_relaxed);
  record.state.store(static_cast<std::uint32_t>(runtime::DaemonState::kLeaving), std::memory_order_release);
  port->leave();
  attachment->reactor.signal();
}

}  // namespace setsuna::embed
