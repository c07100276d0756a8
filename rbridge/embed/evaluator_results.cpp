#include "rbridge/embed/evaluator_state.hpp"

#include <Rembedded.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "rbridge/embed/task_scope.hpp"
#include "runtime/clock.hpp"

extern "C" {
extern int R_interrupts_pending;
}

namespace setsuna::embed::evaluation {

// The doomed leave without claiming again: the host has a SIGKILL under way.
void leave_doomed() { ::_exit(0); }

namespace {

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

}  // namespace

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

namespace {

// A small result of a remote daemon that has nothing else in hand. True: the relay need not hear of it now.
bool tell_directly(ResultStatus status, const Slot& slot) {
  if (direct_exit == nullptr || slot.result_offset != 0) {
    return false;
  }
  const dispatch::LinkResult result{status, 0, slot.elapsed_ns};
  return direct_exit->tell(hand.claim.slot, hand.claim.generation, result,
                           std::as_bytes(std::span(slot.result, slot.result_bytes)));
}

}  // namespace

void publish(ResultStatus status) {
  Slot& slot = port->slot(hand.claim);
  slot.result_status = static_cast<std::uint32_t>(status);
  slot.result_bytes = buffer.total;
  slot.result_offset = 0;
  if (buffer.total <= attachment->inline_bytes) {
    codec::write_encoded(&buffer, slot.result);
  } else {
    slot.result_offset = allocate_result().offset;
  }
  const std::uint64_t now_ns = runtime::monotonic_ns();
  hand.took_ns = now_ns - hand.started_ns;
  if (hand.element_since_ns != 0) {
    slot.elapsed_ns = brief_ns(now_ns - hand.element_since_ns);
  }
  stamp_encoded(now_ns);
  hand.active = false;
  if (hand.source != nullptr) {
    let_go();  // before DONE: the host finds the argument's block free when it harvests
  }
  const bool told = tell_directly(status, slot);
  bool signal = false;
  if (!port->complete(hand.claim, &signal)) {
    leave_doomed();
  }
  if (told ? !direct_exit->may_rest(hand.claim.slot, hand.claim.generation) : signal) {
    attachment->reactor.signal();
  }
}

// A child of the task that called quit() takes the session's directory with it.
void keep_tempdir() {
  if (R_TempDir != nullptr && ::access(R_TempDir, F_OK) != 0) {
    ::mkdir(R_TempDir, 0700);
  }
}

// A task that closed all descriptors has closed ours: nobody would hear the doorbell, and what R opens next would be
// standard output. Such a daemon is replaced. Its number is high: not one that is taken again by accident.
void leave_if_stripped() {
  constexpr int kStrippedStatus = 74;
  if (has_pending || !may_be_stripped) {
    return;
  }
  if (::fcntl(attachment->reactor.fd(), F_GETFD) < 0) {
    ::_exit(kStrippedStatus);
  }
  may_be_stripped = false;
}

void finish_scope(std::uint32_t flags, std::uint64_t const_key) {
  forget_changed_constant(const_key);
  TaskScope::calm();
  if (hand.took_ns > kHarmlessNs) {
    keep_tempdir();
  }
  leave_stream(flags);
  if (options.cleanup) {
    TaskScope::restore(hand.took_ns);
  } else {
    TaskScope::unbind_globals();
  }
}

void finish_value(TaskKind kind) {
  stamp_evaluated();
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
  hand.took_ns = 0;  // says nothing of the next
  let_go();
}

}  // namespace setsuna::embed::evaluation
