#include "handle.hpp"

#include <cstdlib>

#include "guard.hpp"
#include "host.hpp"
#include "host_forks.hpp"
#include "rbridge/codec/codec.hpp"

namespace setsuna::host {
namespace {

constexpr std::uintptr_t kCollectedAddress = ~std::uintptr_t{0};
constexpr std::uint64_t kFlood = 1024;       // unfinished tasks from which on handles share finalizers
constexpr std::uint64_t kDeepFlood = 16384;  // ... among more: R looks at each finalizer in each garbage collection
constexpr int kChunk = 32;
constexpr int kDeepChunk = 256;  // as many as those of a map
constexpr int kSparesMax = 256;
constexpr int kReadyToFinalize = 1;  // of LEVELS() of a weak reference, as R's memory.c has it

constexpr TaskRef kForgotten{0, dispatch::kNoTask};

// At the address of a *holder*, the external pointer that handles keep alive: what is in it when the last of them dies is
// dropped. The holder's tag is the weak reference that its finalizer hangs on.
struct Chunk {
  int used;
  int capacity;
  int next;         // most handles are collected in order
  TaskRef held[1];  // kForgotten: collected
};

Chunk* allocate_chunk(int capacity) {
  const std::size_t bytes = sizeof(Chunk) + sizeof(TaskRef) * static_cast<std::size_t>(capacity);
  auto* chunk = static_cast<Chunk*>(std::calloc(1, bytes));
  if (chunk != nullptr) {
    chunk->capacity = capacity;
  }
  return chunk;
}

SEXP class_vector = nullptr;
// The holder that has room, or null. Only its handles keep it alive: what they are no longer there for must not stay until the
// next flood. So ask is_doomed() first.
SEXP open_chunk = nullptr;
// Chunks of one whose handle has been collected, to be used again: registering a finalizer for each task, and R's running them,
// costs more than the rest of a handle.
SEXP spares = nullptr;
int spare_count = 0;
int holds = 0;  // hold_tasks() under way

// Finalizers run inside the garbage collector, where no lock may be taken: they append here.
TaskRef* dropped = nullptr;
std::size_t dropped_count = 0;
std::size_t dropped_capacity = 0;
std::uintptr_t drains = 0;  // how often they have been let go

void* to_address(TaskRef ref) {
  return reinterpret_cast<void*>((static_cast<std::uintptr_t>(ref.profile) << 33) | (std::uintptr_t{ref.task} << 1) |
                                 1U);
}

TaskRef from_address(void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address);
  return {static_cast<std::uint32_t>(bits >> 33), static_cast<std::uint32_t>(bits >> 1)};
}

void append_dropped(TaskRef ref) {
  if (dropped_count == dropped_capacity) {
    const std::size_t capacity = dropped_capacity == 0 ? 1024 : dropped_capacity * 2;
    auto* grown = static_cast<TaskRef*>(std::realloc(dropped, capacity * sizeof(TaskRef)));
    if (grown == nullptr) {
      return;  // leaks one task
    }
    dropped = grown;
    dropped_capacity = capacity;
  }
  dropped[dropped_count++] = ref;
}

// What stands at a holder's address once its finalizer has run: no chunk's address, they are even.
void* finalized_address() { return reinterpret_cast<void*>((drains << 1) | 1U); }

bool is_finalized(SEXP holder) { return (reinterpret_cast<std::uintptr_t>(R_ExternalPtrAddr(holder)) & 1U) != 0; }

// Its finalizer has run or is about to: R has found it dead, but one that reached it only through an object with a finalizer
// of its own can still come here from that one.
bool is_doomed(SEXP holder) {
  return is_finalized(holder) || (LEVELS(R_ExternalPtrTag(holder)) & kReadyToFinalize) != 0;
}

Chunk* chunk_of(SEXP holder) { return static_cast<Chunk*>(R_ExternalPtrAddr(holder)); }

void finalize_chunk(SEXP holder) {
  if (open_chunk == holder) {
    open_chunk = nullptr;
  }
  Chunk* chunk = chunk_of(holder);
  for (int i = 0; i < chunk->used && !Host::forked(); ++i) {
    if (chunk->held[i].task != kForgotten.task) {
      append_dropped(chunk->held[i]);
    }
  }
  std::free(chunk);
  R_SetExternalPtrAddr(holder, finalized_address());
}

// Of one place, if nothing else is said.
SEXP new_chunk(int capacity = 1) {
  Chunk* chunk = allocate_chunk(capacity);
  if (chunk == nullptr) {
    Rf_error("not enough memory");
  }
  SEXP holder = PROTECT(R_MakeExternalPtr(chunk, R_NilValue, R_NilValue));
  R_SetExternalPtrTag(holder, R_MakeWeakRefC(holder, R_NilValue, finalize_chunk, FALSE));
  UNPROTECT(1);
  return holder;
}

SEXP spare_chunk() {
  if (spare_count == 0) {
    return new_chunk();
  }
  SEXP holder = VECTOR_ELT(spares, --spare_count);
  SET_VECTOR_ELT(spares, spare_count, R_NilValue);  // whoever drops the handle drops it, too
  chunk_of(holder)->used = 0;
  return holder;
}

// `holder` has no live handle any more.
void keep_spare(SEXP holder) {
  if (!is_doomed(holder) && spare_count < kSparesMax) {
    SET_VECTOR_ELT(spares, spare_count++, holder);
  }
}

SEXP chunk_with_room(std::uint64_t outstanding) {
  if (open_chunk != nullptr && !is_doomed(open_chunk) && chunk_of(open_chunk)->used < chunk_of(open_chunk)->capacity) {
    return open_chunk;
  }
  open_chunk = new_chunk(outstanding > kDeepFlood ? kDeepChunk : kChunk);
  return open_chunk;
}

SEXP with_class(SEXP handle) {
  // What Rf_setAttrib() does, without looking at each class name.
  SEXP cell = Rf_cons(class_vector, R_NilValue);
  SET_TAG(cell, R_ClassSymbol);
  SET_ATTRIB(handle, cell);
  SET_OBJECT(handle, 1);
  return handle;
}

// The chunk must not drop what was collected. True: it was of one place, which is free now.
bool forget_in_chunk(SEXP holder, TaskRef ref) {
  Chunk* chunk = chunk_of(holder);
  for (int i = 0; i < chunk->used; ++i) {
    const int place = (chunk->next + i) % chunk->used;
    TaskRef& held = chunk->held[place];
    if (held.task == ref.task && held.profile == ref.profile) {
      held = kForgotten;
      chunk->next = place + 1;
      return chunk->capacity == 1;
    }
  }
  return false;
}

}  // namespace

// When the package is loaded: made later, a finalizer that runs meanwhile would make them, too.
void initialize_handles() {
  class_vector = Rf_mkString("mirai");
  R_PreserveObject(class_vector);
  MARK_NOT_MUTABLE(class_vector);
  spares = Rf_allocVector(VECSXP, kSparesMax);
  R_PreserveObject(spares);
}

SEXP make_handle(TaskRef ref, std::uint64_t outstanding) {
  SEXP holder = PROTECT(outstanding > kFlood ? chunk_with_room(outstanding) : spare_chunk());
  Chunk* chunk = chunk_of(holder);
  chunk->held[chunk->used++] = ref;  // before R allocates: finalizers that call mirai() take the places behind
  SEXP handle = PROTECT(R_MakeExternalPtr(to_address(ref), R_NilValue, holder));
  with_class(handle);
  UNPROTECT(2);
  return handle;
}

SEXP make_map_holder(int capacity) { return new_chunk(capacity); }

void fill_map_holder(SEXP holder, std::uint32_t profile, const std::uint32_t* tasks, int count) {
  Chunk* chunk = chunk_of(holder);
  for (int i = 0; i < count; ++i) {
    chunk->held[i] = {profile, tasks[i]};
  }
  chunk->used = count;
}

SEXP make_map_handle(SEXP holder, int i) {
  SEXP handle = PROTECT(R_MakeExternalPtr(to_address(chunk_of(holder)->held[i]), R_NilValue, holder));
  with_class(handle);
  UNPROTECT(1);
  return handle;
}

SEXP make_resolved_handle(SEXP value) {
  SEXP handle = PROTECT(R_MakeExternalPtr(reinterpret_cast<void*>(kCollectedAddress), value, R_NilValue));
  with_class(handle);
  UNPROTECT(1);
  return handle;
}

bool is_handle(SEXP x) {
  if (TYPEOF(x) != EXTPTRSXP) {
    return false;
  }
  SEXP attributes = ATTRIB(x);  // those of nearly all: the one cell that with_class() made
  return (attributes != R_NilValue && CAR(attributes) == class_vector) || Rf_inherits(x, "mirai") != FALSE;
}

HandleState handle_state(SEXP handle) {
  void* address = R_ExternalPtrAddr(handle);
  if (address == nullptr) {
    return HandleState::kDead;
  }
  if (address == reinterpret_cast<void*>(kCollectedAddress)) {
    return HandleState::kCollected;
  }
  // Only a finalizer has kept it: it stands for its task until that is let go, and then for nothing.
  SEXP holder = R_ExternalPtrProtected(handle);
  return is_finalized(holder) && R_ExternalPtrAddr(holder) != finalized_address() ? HandleState::kDead
                                                                                  : HandleState::kOpen;
}

void refuse_dead() {
  Rf_error(
      "this mirai was saved and restored, or only a finalizer has kept it: its task belongs to another session, "
      "or has been let go, and it has no value here");
}

TaskRef handle_ref(SEXP handle) { return from_address(R_ExternalPtrAddr(handle)); }

SEXP handle_value(SEXP handle) { return R_ExternalPtrTag(handle); }

namespace {

// The task that may be let go now; kForgotten if its holder's finalizer has seen to that.
TaskRef keep_value(SEXP handle, SEXP value) {
  const TaskRef ref = handle_ref(handle);
  R_SetExternalPtrTag(handle, value);
  MARK_NOT_MUTABLE(value);  // m$data is handed out again and again
  R_SetExternalPtrAddr(handle, reinterpret_cast<void*>(kCollectedAddress));
  SEXP holder = R_ExternalPtrProtected(handle);
  R_SetExternalPtrProtected(handle, R_NilValue);
  if (is_finalized(holder)) {
    return kForgotten;
  }
  if (forget_in_chunk(holder, ref)) {
    keep_spare(holder);
  }
  return ref;
}

}  // namespace

void collect_handle(SEXP handle, SEXP value) {
  if (const TaskRef ref = keep_value(handle, value); ref.task != kForgotten.task) {
    append_dropped(ref);
  }
}

namespace {

void end_hold(void*) { --holds; }

}  // namespace

SEXP hold_tasks(SEXP (*body)(void*), void* data) {
  ++holds;
  return R_ExecWithCleanup(body, data, end_hold, nullptr);
}

void drain_dropped() {
  codec::drain_released();
  HostForks::release_deferred();
  Host* host = Host::existing();
  if (host == nullptr) {
    return;
  }
  if (host->zygote_lost()) {
    guarded([&] { host->restart_lost_zygotes(); });
  }
  let_dropped_go();
}

void let_dropped_go() {
  Host* host = Host::existing();
  if (dropped_count == 0 || holds != 0 || host == nullptr) {
    return;
  }
  std::lock_guard<std::mutex> lock(host->mutex());
  for (std::size_t i = 0; i < dropped_count; ++i) {
    if (Profile* profile = host->profile(dropped[i].profile)) {
      profile->pool().drop(dropped[i].task);
      if (profile->pool().closed()) {
        host->settle(*profile);
      }
    }
  }
  dropped_count = 0;
  ++drains;
}

}  // namespace setsuna::host
