#include "rbridge/embed/evaluator.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "net/descriptors.hpp"
#include "rbridge/embed/build_id.hpp"
#include "rbridge/embed/evaluator_state.hpp"
#include "rbridge/embed/task_scope.hpp"
#include "runtime/clock.hpp"
#include "runtime/spin.hpp"

extern "C" {
extern int R_interrupts_pending;
}

namespace setsuna::embed {
namespace evaluation {

Attachment* attachment = nullptr;
Port* port = nullptr;
runtime::TraceArea<std::atomic> trace_area;
DirectExit* direct_exit = nullptr;
EvaluatorOptions options;
codec::EncodeBuffer buffer;
codec::Options codec_options{};
InHand hand;
bool has_pending = false;
bool may_be_stripped = false;
std::uint64_t tasks_run = 0;
std::atomic<std::uint64_t> running_element{0};
volatile sig_atomic_t host_gone = 0;
SEXP roots = nullptr;
SEXP quote_symbol = nullptr;
SEXP seed_symbol = nullptr;

namespace {

Claim pending;
std::uint64_t started_ns = 0;
std::uint64_t idle_since_ns = 0;
bool has_slept = false;  // since the last task
volatile sig_atomic_t own_group = 0;
constexpr std::uint64_t kForetoldNs = 15'000;  // a task that took less is foretold: well within kLookOutUs

// --- Cancel ------------------------------------------------------------------------------------------------

std::atomic<std::uint64_t> interrupted_task{0};

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

void on_host_gone(int) { host_gone = 1; }

void install_host_gone_handler() {
  struct sigaction action {};
  action.sa_handler = on_host_gone;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGRTMIN + 6, &action, nullptr);
}

// The task is expected to be as short as the last one. Not amid others: whoever waits for one of many has it soon enough, and
// all CPUs have work. Not from the CPU where the host fell asleep, where it would only be in the way, nor if it does not
// look out.
void foretell_end(const Claim& claim, std::uint64_t last_took_ns) {
  if (!std::exchange(has_slept, false) || last_took_ns == 0 || last_took_ns > kForetoldNs) {
    return;
  }
  const std::uint32_t cpu = runtime::Spinner::current_cpu();
  const std::uint32_t hosts = port->view().host->cpu.load(std::memory_order_relaxed);
  if (hosts != 0 && hosts != cpu) {
    port->record().cpu.store(cpu, std::memory_order_relaxed);
    port->foretell(claim);
  }
}

void run_task(const Claim& claim) {
  const Slot& slot = port->slot(claim);
  const TaskKind kind = slot.kind;
  if (kind == TaskKind::kEval || kind == TaskKind::kMapElement) {
    foretell_end(claim, hand.took_ns);
  }
  hand = InHand();
  hand.started_ns = runtime::monotonic_ns();
  hand.claim = claim;
  hand.active = true;
  may_be_stripped = true;
  stamp_claimed();
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

// The host is in mirai(): what it sends is a moment away.
bool await_announced() {
  static runtime::Spinner spinner;
  if (!port->heard_announcement()) {
    return false;
  }
  spinner.spin(runtime::kLookOutUs, port->view().host->cpu,
               [] { return port->has_work() || port->must_leave() || !port->announced(); });
  port->give_up();
  return true;
}

std::uint64_t deadline_after(std::uint64_t start_ns, double limit_ms) {
  constexpr double kLongestMs = 1e12;  // 30 years: the sum does not overflow
  return limit_ms < 0 ? 0 : start_ns + static_cast<std::uint64_t>(std::min(limit_ms, kLongestMs) * 1e6);
}

// What base::eval() calls by .Internal(): the closure around it takes twice the time that this does.
SEXP internal_eval() {
  SEXP symbol = Rf_install("eval");
  SEXP internal = INTERNAL(symbol);
  return TYPEOF(internal) == BUILTINSXP ? internal : Rf_findFun(symbol, R_BaseEnv);
}

std::uint64_t earlier(std::uint64_t a, std::uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

}  // namespace
}  // namespace evaluation

using namespace evaluation;

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
  // Relaxed: they were there before the segment came here. Bounded: tasks can write there.
  const runtime::Control<std::atomic>& control = *made->port->view().control;
  made->inline_bytes =
      std::min<std::uint32_t>(control.inline_bytes.load(std::memory_order_relaxed), runtime::kInlineResultBytes);
  made->arena->set_growth(control.growth_extents.load(std::memory_order_relaxed));
  codec_options.portable = control.encoding.load(std::memory_order_relaxed) == kEncodingPortable;
  host_gone = 0;
  attachment = made.release();
  port = attachment->port.get();
  // Relaxed: written before the descriptor was given away.
  const std::uint64_t trace_offset = port->view().control->trace_offset.load(std::memory_order_relaxed);
  trace_area = trace_offset == 0 ? runtime::TraceArea<std::atomic>()
                                 : runtime::TraceArea<std::atomic>(attachment->segment.base() + trace_offset,
                                                                   attachment->segment.header().slot_count);
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
  trace_area = runtime::TraceArea<std::atomic>();
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

void Evaluator::set_exit(DirectExit* exit) { direct_exit = exit; }

bool Evaluator::attached() { return attachment != nullptr; }

bool Evaluator::cancel_requested() {
  if (port == nullptr || !hand.active) {
    return false;
  }
  const std::uint64_t element = running_element.load(std::memory_order_relaxed);
  return element != 0 ? port->cancel_wanted(element) : port->cancelled(hand.claim);
}

void Evaluator::prepare(SEXP restore, SEXP calm) {
  if (roots != nullptr) {
    R_ReleaseObject(roots);
  }
  roots = Rf_allocVector(VECSXP, kRootCount);
  R_PreserveObject(roots);
  quote_symbol = Rf_install("quote");
  seed_symbol = Rf_install(".Random.seed");
  set_root(kConstValues, Rf_allocVector(VECSXP, kConstantsKept));
  set_root(kConstCalls, Rf_allocVector(VECSXP, kConstantsKept));
  set_root(kConstElements, Rf_allocVector(VECSXP, kConstantsKept));
  SEXP eval_function = PROTECT(internal_eval());
  SEXP quoted = PROTECT(Rf_lang2(Rf_findFun(quote_symbol, R_BaseEnv), R_NilValue));
  // With `enclos`, which does not matter for an environment: the default of base::eval() is more work than the rest of it.
  set_root(kEvalCall, Rf_lang4(eval_function, quoted, R_NilValue, R_BaseEnv));
  UNPROTECT(2);
  TaskScope::prepare(restore, calm);
}

void Evaluator::start() {
  if (options.has_stream) {
    SEXP seed = PROTECT(seed_vector(options.stream));
    Rf_defineVar(seed_symbol, seed, R_GlobalEnv);
    UNPROTECT(1);
  }
  TaskScope::initialize();
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
    if (hand.took_ns > kHarmlessNs) {
      leave_if_stripped();
    }
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
    leave_if_stripped();  // after tasks that took no time, too, but where nobody waits for it
    if (await_announced() || spin_for_work()) {
      continue;
    }
    has_slept = port->park(earlier(idle_ns, wall_ns)) || has_slept;
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
  stamp_evaluated();
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
