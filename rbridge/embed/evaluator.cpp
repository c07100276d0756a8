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

#include "dispatch/rng_stream.hpp"
#include "net/descriptors.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/embed/build_id.hpp"
#include "rbridge/embed/constant_cache.hpp"
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
} hand;
Claim pending;  // claimed from the ready queue while the mailbox had something to do first
bool has_pending = false;

std::uint64_t started_ns = 0;
std::uint64_t idle_since_ns = 0;
std::uint64_t tasks_run = 0;
volatile sig_atomic_t own_group = 0;

enum Root { kValue, kArgs, kEnv, kSeed, kEvalCall, kConstValues, kConstCalls, kRootCount };
SEXP roots = nullptr;
CachedConstant constants[kConstantsKept];
std::uint64_t constant_tick = 0;
SEXP quote_symbol = nullptr;
SEXP seed_symbol = nullptr;

SEXP root(Root which) { return VECTOR_ELT(roots, which); }
SEXP set_root(Root which, SEXP value) { return SET_VECTOR_ELT(roots, which, value); }

// --- Cancel ------------------------------------------------------------------------------------------------

std::atomic<std::uint64_t> interrupted_task{0};

void on_cancel_signal(int) {
  const int saved_errno = errno;
  if (port != nullptr) {
    const std::uint64_t current = port->record().current.load(std::memory_order_acquire);
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

// The decoded constant's place in the cache. May jump.
int decode_constant(const Slot& slot) {
  if (const int place = cached_place(slot.const_key); place >= 0) {
    return place;
  }
  int place = 0;
  for (int i = 1; i < kConstantsKept; ++i) {
    place = constants[i].used < constants[place].used ? i : place;
  }
  evict(place);
  const auto* shared = reinterpret_cast<const std::uint8_t*>(attachment->segment.base()) + slot.const_offset;
  codec::ViewSource* source = make_source(slot.const_offset, slot.const_bytes, slot.const_block);
  const std::uint8_t* base = source != nullptr ? source->base : shared;
  std::uint64_t flags = 0;
  std::memcpy(&flags, base, sizeof(flags));
  constants[place].source = source;  // from here evict() cleans up, also after a jump
  constants[place].used = ++constant_tick;
  codec::Cursor cursor{base + sizeof(flags), base + slot.const_bytes, base, source};
  SEXP value = PROTECT(codec::decode(&cursor, &codec_options));
  SET_VECTOR_ELT(root(kConstValues), place, value);
  MARK_NOT_MUTABLE(value);
  for (R_xlen_t i = 0; TYPEOF(value) == VECSXP && i < XLENGTH(value); ++i) {
    MARK_NOT_MUTABLE(VECTOR_ELT(value, i));
  }
  SET_VECTOR_ELT(root(kConstCalls), place, map_call(value));
  // A value with state of its own is decoded anew for each task: no key, so it is never found again.
  constants[place].key = (flags & kConstantShareable) != 0 ? slot.const_key : 0;
  UNPROTECT(1);
  return place;
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
void enter_stream(const Slot& slot) {
  if ((slot.flags & runtime::kTaskHasStream) != 0) {
    set_root(kSeed, Rf_findVarInFrame(R_GlobalEnv, seed_symbol));
    SEXP seed = PROTECT(seed_vector(slot.rng));
    Rf_defineVar(seed_symbol, seed, R_GlobalEnv);
    UNPROTECT(1);
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

void leave_stream(const Slot& slot) {
  if ((slot.flags & runtime::kTaskHasStream) == 0) {
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

void publish(ResultStatus status) {
  Slot& slot = port->slot(hand.claim);
  slot.result_status = static_cast<std::uint32_t>(status);
  slot.result_bytes = buffer.total;
  slot.result_offset = 0;
  if (buffer.total <= runtime::kInlineResultBytes) {
    codec::write_encoded(&buffer, slot.result);
  } else {
    const runtime::Block block = attachment->arena->alloc(buffer.total);
    if (!block) {
      Rf_error("the result of %.0f bytes does not fit: %s. Return less, or set a larger limit of memory",
               static_cast<double>(buffer.total),
               block.status == runtime::AllocStatus::kNoMemory ? "the system has no more memory"
                                                               : "the shared memory of the daemons is full");
    }
    codec::write_encoded(&buffer, reinterpret_cast<std::uint8_t*>(attachment->arena->at(block.offset)));
    slot.result_offset = block.offset;
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

void finish_scope(const Slot& slot) {
  TaskScope::calm();
  keep_tempdir();
  leave_stream(slot);
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
  const std::uint32_t flags = port->slot(hand.claim).flags;
  publish(ResultStatus::kValue);
  Slot scope{};
  scope.flags = flags;  // the slot itself may be another task's by now
  let_go();
  if (kind == TaskKind::kEverywhere) {
    TaskScope::take_baseline();
  } else {
    finish_scope(scope);
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

void run_element(const Slot& slot) {
  const int place = decode_constant(slot);
  SEXP constant = VECTOR_ELT(root(kConstValues), place);
  SEXP call = VECTOR_ELT(root(kConstCalls), place);
  SEXP element = decode_arguments(slot);
  enter_stream(slot);
  TaskScope::bind_globals(VECTOR_ELT(constant, 2));
  if ((slot.flags & runtime::kTaskSpread) != 0 && TYPEOF(element) == VECSXP) {
    call = PROTECT(spread_call(call, element));
  } else {
    PROTECT(call);
    SETCADR(call, quoted_if_language(element));
  }
  set_root(kValue, Rf_eval(call, R_GlobalEnv));
  SETCADR(VECTOR_ELT(root(kConstCalls), place), R_NilValue);
  UNPROTECT(1);
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

bool Evaluator::cancel_requested() { return port != nullptr && hand.active && port->cancelled(hand.claim); }

void Evaluator::start(SEXP restore, SEXP calm) {
  roots = Rf_allocVector(VECSXP, kRootCount);
  R_PreserveObject(roots);
  quote_symbol = Rf_install("quote");
  seed_symbol = Rf_install(".Random.seed");
  set_root(kConstValues, Rf_allocVector(VECSXP, kConstantsKept));
  set_root(kConstCalls, Rf_allocVector(VECSXP, kConstantsKept));
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
  if (hand.replaying) {
    return;  // run() goes on with the next entry
  }
  const bool cancelled = port->cancelled(hand.claim);
  port->clear_current();
  R_interrupts_pending = 0;
  set_root(kValue, object);
  codec::encode_reset(&buffer);
  codec::encode(object, &buffer, &codec_options);
  Slot scope{};
  scope.flags = port->slot(hand.claim).flags;
  const TaskKind kind = port->slot(hand.claim).kind;
  publish(cancelled ? ResultStatus::kCancelled : interrupted ? ResultStatus::kInterrupted : ResultStatus::kError);
  tasks_run += hand.counted ? 1 : 0;
  let_go();
  if (kind == TaskKind::kEverywhere) {
    TaskScope::take_baseline();
  } else {
    finish_scope(scope);
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
