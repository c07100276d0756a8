#include "wait.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "error_values.hpp"
#include "guard.hpp"
#include "host.hpp"
#include "host_forks.hpp"
#include "interrupt_watch.hpp"
#include "profile_codec.hpp"
#include "rbridge/codec/codec.hpp"
#include "runtime/futex.hpp"
#include "runtime/spin.hpp"
#include "submit.hpp"
#include "view_memory.hpp"

namespace setsuna::host {
namespace {

using dispatch::Task;

// --- Sleeping ----------------------------------------------------------------------------------------------

// Arms the gate of each profile; false if something is done already.
bool arm(Host& host, const TaskRef* refs, int count, bool any) {
  for (int i = 0; i < count; ++i) {
    Profile* profile = host.profile(refs[i].profile);
    if (profile == nullptr || profile->pool().closed() || profile->pool().resolved(refs[i].task)) {
      return false;
    }
    const std::uint32_t target = count == 1 ? refs[i].task : dispatch::kNoTask;
    profile->port().arm_gate(any ? runtime::GateWord::count(1) : profile->pool().gate_for(target));
  }
  for (int i = 0; i < count; ++i) {
    if (host.profile(refs[i].profile)->port().anything_done()) {
      return false;
    }
  }
  return true;
}

void disarm(Host& host, const TaskRef* refs, int count) {
  for (int i = 0; i < count; ++i) {
    if (Profile* profile = host.profile(refs[i].profile)) {
      profile->rest_gate();
    }
  }
}

// A Ctrl-C from before our handler stood there has only set R's flag. While R holds interrupts back, it has to wait.
void sleep_on_page(Host& host, std::uint32_t seen) {
  if (interrupt_pending()) {
    return;
  }
  runtime::SharedFutex::wait(&host.page()->futex, seen);
}

}  // namespace

namespace {

// The slot of the one task that is waited for. It cannot be reused meanwhile: only this thread or the reactor harvests.
struct AwaitedSlot {
  Profile* profile = nullptr;  // null: none. Only this thread closes profiles.
  std::uint32_t index = 0;
  std::uint32_t generation = 0;

  bool operator==(const AwaitedSlot&) const = default;
};

// Under the mutex.
AwaitedSlot awaited_slot(Host& host, TaskRef ref) {
  Profile* profile = host.profile(ref.profile);
  const dispatch::Task& task = profile->pool().task(ref.task);
  if (task.state != dispatch::TaskState::kPlaced) {
    return {};
  }
  return {profile, task.slot, profile->port().word(task.slot).generation()};
}

// Of the daemon that runs it: the peer of who spins.
const std::atomic<std::uint32_t>& peer_cpu(const AwaitedSlot& slot) {
  const auto& port = slot.profile->port();
  const runtime::SlotWord word = port.word(slot.index);
  const bool claimed = word.state() != runtime::SlotState::kReady && word.owner() < runtime::kMaxDaemons;
  return port.daemon(claimed ? word.owner() : 0).cpu;
}

// `daemons(spin = )`. True: it is done, or its daemon is.
bool spin_for_task(Host& host, TaskRef ref) {
  static runtime::Spinner spinner;
  std::uint32_t budget_us = 0;
  AwaitedSlot slot;
  {
    std::lock_guard<std::mutex> lock(host.mutex());
    budget_us = host.profile(ref.profile)->config().knobs.spin_us;
    slot = budget_us == 0 ? AwaitedSlot() : awaited_slot(host, ref);
  }
  if (slot.profile == nullptr) {
    return false;
  }
  host.page()->cpu.store(runtime::Spinner::current_cpu(), std::memory_order_relaxed);
  return spinner.spin(budget_us, peer_cpu(slot), [&] {
    const runtime::SlotState state = slot.profile->port().word(slot.index).state();
    return state != runtime::SlotState::kReady && state != runtime::SlotState::kClaimed;
  });
}

// Looks out for a task whose end its daemon has foretold: before a sleep, and after it.
class LookOut {
 public:
  // Under the mutex, once the gate is armed. Who does not look is not to be woken early.
  LookOut(Host& host, const AwaitedSlot& slot) : slot_(slot), looks_(slot.profile != nullptr && spinner().worth_it()) {
    host.page()->cpu.store(looks_ ? runtime::Spinner::current_cpu() : 0, std::memory_order_relaxed);
  }
  // True: it need not sleep.
  bool operator()() const {
    static AwaitedSlot missed;  // it takes longer than foretold: once is enough
    if (!looks_ || slot_ == missed || !foretold()) {
      return false;
    }
    const bool done = spinner().look(runtime::kLookOutUs, peer_cpu(slot_), [this] { return !foretold(); });
    missed = done ? AwaitedSlot() : slot_;
    return done;
  }

 private:
  static runtime::Spinner& spinner() {
    static runtime::Spinner one;
    return one;
  }
  bool foretold() const { return slot_.profile->port().foretold(slot_.index, slot_.generation); }

  AwaitedSlot slot_;
  bool looks_;
};

}  // namespace

bool task_resolved(TaskRef ref) noexcept {
  bool resolved = false;
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    Profile* profile = host->profile(ref.profile);
    SETSUNA_ASSERT(profile != nullptr);
    if (!profile->pool().resolved(ref.task) && !profile->pool().closed()) {
      profile->progress();
      host->settle(*profile);
    }
    resolved = profile->pool().resolved(ref.task);
  });
  return resolved;
}

void sleep_for_tasks(const TaskRef* refs, int count, bool any) noexcept {
  guarded([&] {
    Host& host = *Host::existing();
    // ORDERING host/sleep: acquire, before the gates are armed and before any look: a wake that comes after this load
    // changes the word.
    const std::uint32_t seen = host.page()->futex.load(std::memory_order_acquire);
    if (host.zygote_lost()) {
      host.restart_lost_zygotes();
    }
    note_wait();
    const bool one = count == 1 && !any;
    if (one && spin_for_task(host, refs[0])) {
      return;
    }
    const InterruptWatch watch(&host.page()->futex);
    std::optional<LookOut> look_out;
    {
      std::lock_guard<std::mutex> lock(host.mutex());
      if (arm(host, refs, count, any)) {
        look_out.emplace(host, one ? awaited_slot(host, refs[0]) : AwaitedSlot());
      }
      host.set_waiting(look_out.has_value());
    }
    if (look_out && !(*look_out)()) {
      sleep_on_page(host, seen);
      (*look_out)();
    }
    std::lock_guard<std::mutex> lock(host.mutex());
    host.set_waiting(false);
    disarm(host, refs, count);
  });
}

std::uint32_t sleep_ticket() noexcept {
  Host* host = Host::existing();
  return host == nullptr ? 0 : host->page()->futex.load(std::memory_order_acquire);  // ORDERING host/sleep
}

void sleep_for_profile(std::uint32_t id, std::uint32_t ticket) noexcept {
  guarded([&] {
    Host& host = *Host::existing();
    if (host.zygote_lost()) {
      host.restart_lost_zygotes();
    }
    const InterruptWatch watch(&host.page()->futex);
    bool sleep = false;
    {
      std::lock_guard<std::mutex> lock(host.mutex());
      Profile* profile = host.profile(id);
      if (profile != nullptr && !profile->pool().closed()) {
        // One completion may make the room that is waited for, and the others may take for ever.
        profile->port().arm_gate(runtime::GateWord::count(1));
        sleep = !profile->port().anything_done() && !profile->sync_online() && !profile->changed;
        profile->changed = false;
        host.set_waiting(sleep);
      }
    }
    if (sleep) {
      sleep_on_page(host, ticket);
    }
    std::lock_guard<std::mutex> lock(host.mutex());
    host.set_waiting(false);
    if (Profile* profile = host.profile(id)) {
      profile->rest_gate();
      profile->progress();
      host.settle(*profile);
    }
  });
}

bool sleep_for_listeners() noexcept {
  bool sleep = false;
  guarded([&] {
    Host* host = Host::existing();
    if (host == nullptr) {
      return;
    }
    const InterruptWatch watch(&host->page()->futex);
    const std::uint32_t seen = host->page()->futex.load(std::memory_order_acquire);  // ORDERING host/sleep
    {
      std::lock_guard<std::mutex> lock(host->mutex());
      sleep = host->listeners_closing();
      host->set_waiting(sleep);
    }
    if (sleep) {
      sleep_on_page(*host, seen);
    }
    std::lock_guard<std::mutex> lock(host->mutex());
    host->set_waiting(false);
  });
  return sleep;
}

void wait_for_handle(SEXP handle) {
  while (handle_state(handle) == HandleState::kOpen) {
    const TaskRef ref = handle_ref(handle);
    if (task_resolved(ref)) {
      return;
    }
    sleep_for_tasks(&ref, 1, false);
    R_CheckUserInterrupt();
  }
}

// --- Values ------------------------------------------------------------------------------------------------

namespace {

// A large result in the data area, viewed by R vectors.
struct HostView {
  codec::ViewSource source;
  TaskRef ref;
  std::uint64_t offset;
};

// What somebody wrote to them must not be seen by the next user of the block.
void drop_private_pages(const codec::ViewSource& source) {
  if (source.writable_given) {
    ::madvise(const_cast<std::uint8_t*>(source.base), runtime::align_up(source.len, runtime::kPageBytes),
              MADV_DONTNEED);
  }
}

void release_view(codec::ViewSource* source) {
  auto* view = static_cast<HostView*>(source->owner);
  ViewMemory::remove(source->len);
  HostForks::remove_view();
  drop_private_pages(*source);
  if (!HostForks::defer_release(view->ref.profile, view->offset)) {
    guarded([&] {
      Host* host = Host::existing();
      std::lock_guard<std::mutex> lock(host->mutex());
      if (Profile* profile = host->profile(view->ref.profile)) {
        --profile->views;
        profile->pool().release_result(view->offset);
        host->settle(*profile);
      }
    });
  }
  std::free(view);
}

// What decode needs to know of a resolved task, copied under the mutex; bytes stay in place until the task is dropped.
struct Outcome {
  Task task;
  const std::uint8_t* bytes = nullptr;  // not for the data area
  const std::uint8_t* shared = nullptr;
  const std::uint8_t* view = nullptr;
};

bool fetch_outcome(TaskRef ref, Outcome* out) noexcept {
  bool resolved = false;
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    Profile* profile = host->profile(ref.profile);
    const Task& task = profile->pool().task(ref.task);
    resolved = task.state == dispatch::TaskState::kResolved;
    if (!resolved) {
      return;
    }
    std::memcpy(static_cast<void*>(&out->task), &task, sizeof(Task));
    out->bytes = task.where == Task::Where::kSmall ? task.small : task.heap;
    out->shared = reinterpret_cast<const std::uint8_t*>(profile->segment().base());
    out->view = reinterpret_cast<const std::uint8_t*>(profile->segment().view());
  });
  return resolved;
}

SEXP decode_plain(std::uint32_t profile, const std::uint8_t* bytes, std::uint64_t length) {
  codec::Cursor cursor{bytes, bytes + length, bytes, nullptr};
  return codec::decode(&cursor, codec_options(profile));
}

void detach_from_task(TaskRef ref) noexcept {
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    Profile* profile = host->profile(ref.profile);
    profile->pool().detach_result(ref.task);
    ++profile->views;
  });
}

struct ViewDecoding {
  HostView* view;
  std::uint32_t profile;
};

SEXP decode_view(void* data) {
  const auto* decoding = static_cast<ViewDecoding*>(data);
  codec::ViewSource& source = decoding->view->source;
  codec::Cursor cursor{source.base, source.base + source.len, source.base, &source};
  return codec::decode(&cursor, codec_options(decoding->profile));
}

// After an error the result stays the task's: the next look at it decodes it again.
void forget_view(void* data, Rboolean jump) {
  if (jump == FALSE) {
    return;
  }
  HostView* view = static_cast<ViewDecoding*>(data)->view;
  codec::detach_all(&view->source);
  ViewMemory::remove(view->source.len);
  HostForks::remove_view();
  drop_private_pages(view->source);
  std::free(view);
}

// A result of `handle`'s that is handed out as a view. What it returns is nothing if a finalizer has collected it meanwhile.
SEXP decode_area(SEXP handle, TaskRef ref, const Outcome& outcome) {
  const std::uint64_t offset = outcome.task.offset;
  const std::uint64_t length = outcome.task.bytes;
  if (length <= runtime::SegmentArena::kSmallMax) {
    return decode_plain(ref.profile, outcome.shared + offset, length);  // shares pages with others: copied
  }
  ViewMemory::make_room(length);
  SEXP token = PROTECT(R_MakeUnwindCont());
  auto* view = static_cast<HostView*>(std::calloc(1, sizeof(HostView)));
  if (view == nullptr) {
    UNPROTECT(1);
    return decode_plain(ref.profile, outcome.shared + offset, length);
  }
  view->ref = ref;
  view->offset = offset;
  view->source.base = outcome.view + offset;
  view->source.len = length;
  view->source.on_release = release_view;
  view->source.owner = view;
  ViewMemory::add(length);
  HostForks::add_view();
  ViewDecoding decoding{view, ref.profile};
  SEXP value = PROTECT(R_UnwindProtect(decode_view, &decoding, forget_view, &decoding, token));
  if (handle_state(handle) != HandleState::kOpen) {
    forget_view(&decoding, TRUE);
    UNPROTECT(2);
    return R_NilValue;
  }
  detach_from_task(ref);
  if (codec::release_on_last_view(&view->source) == 0) {
    release_view(&view->source);
  }
  UNPROTECT(2);
  return value;
}

SEXP damaged_result() {
  SEXP call = PROTECT(Rf_lang2(Rf_install(".damaged_result"), R_NilValue));
  SEXP ns = PROTECT(R_FindNamespace(PROTECT(Rf_mkString("setsuna"))));
  SEXP value = Rf_eval(call, ns);
  UNPROTECT(3);
  return value;
}

SEXP decode_outcome(SEXP handle, TaskRef ref, const Outcome& outcome) {
  const Task& task = outcome.task;
  if (task.error != dispatch::ErrorCode::kNone) {
    return error_value(task.error, &task.death);
  }
  if (task.status == runtime::ResultStatus::kDamaged) {
    return damaged_result();
  }
  if (task.where == Task::Where::kArea) {
    return decode_area(handle, ref, outcome);
  }
  const std::uint8_t* bytes = task.where == Task::Where::kSmall ? task.small : outcome.bytes;
  return decode_plain(ref.profile, bytes, task.bytes);
}

constexpr int kCollectBatch = 256;

// Copies the outcomes of the first tasks that are resolved, in order, under one lock.
int fetch_outcomes(const TaskRef* refs, int count, Outcome* out) noexcept {
  int fetched = 0;
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    Profile* profile = host->profile(refs[0].profile);
    if (!profile->pool().resolved(refs[0].task) && !profile->pool().closed()) {
      profile->progress();
      host->settle(*profile);
    }
    for (; fetched < count && profile->pool().resolved(refs[fetched].task); ++fetched) {
      const Task& task = profile->pool().task(refs[fetched].task);
      std::memcpy(static_cast<void*>(&out[fetched].task), &task, sizeof(Task));
      out[fetched].bytes = task.heap;
      out[fetched].shared = reinterpret_cast<const std::uint8_t*>(profile->segment().base());
      out[fetched].view = reinterpret_cast<const std::uint8_t*>(profile->segment().view());
    }
  });
  return fetched;
}

// What to sleep on while the task `from` of a list is waited for, all of which are: one further on, so that this thread does
// not wake for each. It must be in a slot.
TaskRef far_target(SEXP list, R_xlen_t from) noexcept {
  const TaskRef first = handle_ref(VECTOR_ELT(list, from));
  TaskRef target = first;
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    Profile* profile = host->profile(first.profile);
    const R_xlen_t left = XLENGTH(list) - from;
    for (R_xlen_t ahead = std::min<R_xlen_t>(16384, left / 4); ahead >= 64; ahead /= 4) {
      SEXP item = VECTOR_ELT(list, from + ahead);
      if (TYPEOF(item) != EXTPTRSXP || !is_handle(item) || handle_state(item) != HandleState::kOpen) {
        continue;
      }
      const TaskRef ref = handle_ref(item);
      if (ref.profile == first.profile && profile->pool().task(ref.task).state == dispatch::TaskState::kPlaced) {
        target = ref;
        return;
      }
    }
  });
  return target;
}

int open_refs(SEXP list, R_xlen_t from, TaskRef* refs) {
  int count = 0;
  for (; count < kCollectBatch && from + count < XLENGTH(list); ++count) {
    SEXP item = VECTOR_ELT(list, from + count);
    if (!is_handle(item) || handle_state(item) != HandleState::kOpen) {
      break;
    }
    refs[count] = handle_ref(item);
    if (refs[count].profile != refs[0].profile) {
      break;
    }
  }
  return count;
}

// Of a handle that is not open.
SEXP known_value(SEXP handle) {
  if (handle_state(handle) == HandleState::kDead) {
    refuse_dead();
  }
  return handle_value(handle);
}

// Under hold_tasks(). Decoding may run code that collects the same one; then its value stands.
SEXP decode_and_keep(SEXP handle, TaskRef ref, const Outcome& outcome) {
  SEXP value = PROTECT(decode_outcome(handle, ref, outcome));
  if (handle_state(handle) == HandleState::kOpen) {
    collect_handle(handle, value);
  }
  UNPROTECT(1);
  return known_value(handle);
}

struct Fetched {
  SEXP list;
  R_xlen_t from;
  int count;
  const TaskRef* refs;
  const Outcome* outcomes;
  SEXP out;
};

SEXP keep_fetched(void* data) {
  const auto& all = *static_cast<Fetched*>(data);
  for (int i = 0; i < all.count; ++i) {
    SEXP handle = VECTOR_ELT(all.list, all.from + i);
    // It may stand in the list twice.
    const bool open = handle_state(handle) == HandleState::kOpen;
    SET_VECTOR_ELT(all.out, all.from + i,
                   open ? decode_and_keep(handle, all.refs[i], all.outcomes[i]) : known_value(handle));
  }
  return R_NilValue;
}

struct Taken {
  SEXP handle;
  TaskRef ref;
  Outcome outcome;
};

SEXP keep_taken(void* data) {
  const auto& taken = *static_cast<Taken*>(data);
  return decode_and_keep(taken.handle, taken.ref, taken.outcome);
}

}  // namespace

R_xlen_t collect_some(SEXP list, R_xlen_t from, SEXP out) {
  const void* mark = vmaxget();
  auto* refs = reinterpret_cast<TaskRef*>(R_alloc(kCollectBatch, sizeof(TaskRef)));
  auto* outcomes = reinterpret_cast<Outcome*>(R_alloc(kCollectBatch, sizeof(Outcome)));
  const int count = open_refs(list, from, refs);
  int fetched = fetch_outcomes(refs, count, outcomes);
  while (fetched == 0) {
    const TaskRef target = far_target(list, from);
    sleep_for_tasks(&target, 1, false);
    R_CheckUserInterrupt();
    fetched = fetch_outcomes(refs, count, outcomes);
  }
  Fetched all{list, from, fetched, refs, outcomes, out};
  hold_tasks(keep_fetched, &all);
  drain_dropped();
  vmaxset(mark);
  return from + fetched;
}

namespace {

// `ref`: what `handle`, which is open, stands for.
SEXP take_value(SEXP handle, TaskRef ref) {
  Taken taken{handle, ref, {}};
  if (!fetch_outcome(ref, &taken.outcome)) {
    return unresolved_value();
  }
  SEXP value = hold_tasks(keep_taken, &taken);
  let_dropped_go();
  return value;
}

}  // namespace

SEXP value_of(SEXP handle) {
  switch (handle_state(handle)) {
    case HandleState::kCollected: return handle_value(handle);
    case HandleState::kDead: refuse_dead();
    case HandleState::kOpen: break;
  }
  const TaskRef ref = handle_ref(handle);
  return task_resolved(ref) ? take_value(handle, ref) : unresolved_value();
}

SEXP awaited_value(SEXP handle) {
  wait_for_handle(handle);
  return handle_state(handle) == HandleState::kOpen ? take_value(handle, handle_ref(handle)) : known_value(handle);
}

}  // namespace setsuna::host
