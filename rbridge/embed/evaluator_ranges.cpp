#include "rbridge/embed/evaluator_state.hpp"

#include <algorithm>
#include <cstring>

#include "dispatch/map_range.hpp"
#include "rbridge/codec/format.hpp"
#include "rbridge/embed/task_scope.hpp"
#include "runtime/clock.hpp"

extern "C" {
extern int R_interrupts_pending;
}

namespace setsuna::embed::evaluation {
namespace {

using dispatch::kEntryArea;
using dispatch::kEntryAreaBytes;
using dispatch::kEntryLong;
using dispatch::kEntryLongHead;
using dispatch::kEntrySkip;
using dispatch::kEntryValueMax;

constexpr std::uint64_t kRangeLongestNs = 2'000'000;  // then the rest goes back: others may be idle

void entry_done(std::uint32_t bytes) {
  stamp_element();
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
  if ((slot.flags & runtime::kTaskHasStream) != 0) {
    enter_stream(hand.stream.of(element).data());
  }
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
  stamp_decoded();
  call_element(place, value, (slot.flags & runtime::kTaskSpread) != 0);
  UNPROTECT(1);
}

void end_element() {
  hand.evaluating = false;
  running_element.store(0, std::memory_order_relaxed);
  R_interrupts_pending = 0;
  may_be_stripped = true;
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
    TaskScope::restore(took_ns);
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
  stamp_evaluated();
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

}  // namespace

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
  std::uint32_t first = 0;
  std::memcpy(&first, slot.arg, sizeof(first));
  dispatch::StreamState stream;
  std::memcpy(stream.data(), slot.rng, sizeof(slot.rng));
  hand.stream = dispatch::RangeStream(first, stream);
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
    hand.started_ns = runtime::monotonic_ns();
    return;
  }
  stamp_evaluated();
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

}  // namespace setsuna::embed::evaluation
