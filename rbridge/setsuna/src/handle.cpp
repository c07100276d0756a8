#include "handle.hpp"

#include <cstdlib>

#include "guard.hpp"
#include "host.hpp"
#include "host_forks.hpp"
#include "rbridge/codec/codec.hpp"

namespace setsuna::host {
namespace {

constexpr std::uintptr_t kCollectedAddress = ~std::uintptr_t{0};
constexpr std::uint64_t kFlood = 1024;  // unfinished tasks from which on handles share finalizers
constexpr int kChunk = 32;
constexpr int kSparesMax = 256;

struct Held {
  TaskRef ref;
  bool live;
};

struct Chunk {
  int used;
  int capacity;
  int next;  // most handles are collected in order
  Held held[1];
};

Chunk* allocate_chunk(int capacity) {
  const std::size_t bytes = sizeof(Chunk) + sizeof(Held) * static_cast<std::size_t>(capacity);
  auto* chunk = static_cast<Chunk*>(std::calloc(1, bytes));
  if (chunk != nullptr) {
    chunk->capacity = capacity;
  }
  return chunk;
}

SEXP class_vector = nullptr;
SEXP open_chunk = nullptr;  // preserved while it has room
// Chunks of one whose handle has been collected, to be used again: registering a finalizer for each task, and R's running them,
// costs more than the rest of a handle.
SEXP spares = nullptr;
int spare_count = 0;

// Finalizers run inside the garbage collector, where no lock may be taken: they append here.
TaskRef* dropped = nullptr;
std::size_t dropped_count = 0;
std::size_t dropped_capacity = 0;

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

void finalize_chunk(SEXP holder) {
  auto* chunk = static_cast<Chunk*>(R_ExternalPtrAddr(holder));
  if (chunk == nullptr) {
    return;
  }
  for (int i = 0; i < chunk->used && !Host::forked(); ++i) {
    if (chunk->held[i].live) {
      append_dropped(chunk->held[i].ref);
    }
  }
  std::free(chunk);
  R_ClearExternalPtr(holder);
}

// Of one place, if nothing else is said.
SEXP new_chunk(int capacity = 1) {
  Chunk* chunk = allocate_chunk(capacity);
  if (chunk == nullptr) {
    Rf_error("not enough memory");
  }
  SEXP holder = PROTECT(R_MakeExternalPtr(chunk, R_NilValue, R_NilValue));
  R_RegisterCFinalizerEx(holder, finalize_chunk, FALSE);
  UNPROTECT(1);
  return holder;
}

SEXP spare_chunk() {
  if (spare_count == 0) {
    return new_chunk();
  }
  SEXP holder = VECTOR_ELT(spares, --spare_count);
  SET_VECTOR_ELT(spares, spare_count, R_NilValue);  // whoever drops the handle drops it, too
  static_cast<Chunk*>(R_ExternalPtrAddr(holder))->used = 0;
  return holder;
}

// `holder` has no live handle any more.
void keep_spare(SEXP holder) {
  if (spares == nullptr) {
    PROTECT(holder);
    spares = Rf_allocVector(VECSXP, kSparesMax);
    R_PreserveObject(spares);
    UNPROTECT(1);
  }
  if (spare_count < kSparesMax) {
    SET_VECTOR_ELT(spares, spare_count++, holder);
  }
}

SEXP chunk_with_room() {
  if (open_chunk != nullptr) {
    auto* chunk = static_cast<Chunk*>(R_ExternalPtrAddr(open_chunk));
    if (chunk->used < chunk->capacity) {
      return open_chunk;
    }
    R_ReleaseObject(open_chunk);
    open_chunk = nullptr;
  }
  SEXP holder = PROTECT(new_chunk(kChunk));
  R_PreserveObject(holder);
  open_chunk = holder;
  UNPROTECT(1);
  return holder;
}

SEXP with_class(SEXP handle) {
  if (class_vector == nullptr) {
    class_vector = Rf_mkString("mirai");
    R_PreserveObject(class_vector);
    MARK_NOT_MUTABLE(class_vector);
  }
  // What Rf_setAttrib() does, without looking at each class name.
  SEXP cell = Rf_cons(class_vector, R_NilValue);
  SET_TAG(cell, R_ClassSymbol);
  SET_ATTRIB(handle, cell);
  SET_OBJECT(handle, 1);
  return handle;
}

// The chunk must not drop what was collected. True: it was of one place, which is free now.
bool forget_in_chunk(SEXP holder, TaskRef ref) {
  auto* chunk = static_cast<Chunk*>(R_ExternalPtrAddr(holder));
  if (chunk == nullptr) {
    return false;
  }
  for (int i = 0; i < chunk->used; ++i) {
    const int place = (chunk->next + i) % chunk->used;
    Held& held = chunk->held[place];
    if (held.live && held.ref.task == ref.task && held.ref.profile == ref.profile) {
      held.live = false;
      chunk->next = place + 1;
      return chunk->capacity == 1;
    }
  }
  return false;
}

void drop_task(Host& host, TaskRef ref) {
  std::lock_guard<std::mutex> lock(host.mutex());
  if (Profile* profile = host.profile(ref.profile)) {
    profile->pool().drop(ref.task);
    if (profile->pool().closed()) {
      host.settle(*profile);
    }
  }
}

}  // namespace

SEXP make_handle(TaskRef ref, std::uint64_t outstanding) {
  SEXP holder = PROTECT(outstanding > kFlood ? chunk_with_room() : spare_chunk());
  SEXP handle = PROTECT(R_MakeExternalPtr(to_address(ref), R_NilValue, holder));
  auto* chunk = static_cast<Chunk*>(R_ExternalPtrAddr(holder));
  chunk->held[chunk->used++] = {ref, true};
  with_class(handle);
  UNPROTECT(2);
  return handle;
}

SEXP make_map_holder(int capacity) { return new_chunk(capacity); }

void fill_map_holder(SEXP holder, std::uint32_t profile, const std::uint32_t* tasks, int count) {
  auto* chunk = static_cast<Chunk*>(R_ExternalPtrAddr(holder));
  for (int i = 0; i < count; ++i) {
    chunk->held[i] = {{profile, tasks[i]}, true};
  }
  chunk->used = count;
}

SEXP make_map_handle(SEXP holder, int i) {
  auto* chunk = static_cast<Chunk*>(R_ExternalPtrAddr(holder));
  SEXP handle = PROTECT(R_MakeExternalPtr(to_address(chunk->held[i].ref), R_NilValue, holder));
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
  return (class_vector != nullptr && attributes != R_NilValue && CAR(attributes) == class_vector) ||
         Rf_inherits(x, "mirai") != FALSE;
}

HandleState handle_state(SEXP handle) {
  void* address = R_ExternalPtrAddr(handle);
  if (address == nullptr) {
    return HandleState::kDead;
  }
  return address == reinterpret_cast<void*>(kCollectedAddress) ? HandleState::kCollected : HandleState::kOpen;
}

TaskRef handle_ref(SEXP handle) { return from_address(R_ExternalPtrAddr(handle)); }

SEXP handle_value(SEXP handle) { return R_ExternalPtrTag(handle); }

namespace {

TaskRef keep_value(SEXP handle, SEXP value) {
  const TaskRef ref = handle_ref(handle);
  R_SetExternalPtrTag(handle, value);
  MARK_NOT_MUTABLE(value);  // m$data is handed out again and again
  R_SetExternalPtrAddr(handle, reinterpret_cast<void*>(kCollectedAddress));
  if (SEXP holder = R_ExternalPtrProtected(handle); holder != R_NilValue) {
    R_SetExternalPtrProtected(handle, R_NilValue);
    if (forget_in_chunk(holder, ref)) {
      keep_spare(holder);
    }
  }
  return ref;
}

}  // namespace

void collect_handle(SEXP handle, SEXP value) { drop_task(*Host::existing(), keep_value(handle, value)); }

void collect_handle_later(SEXP handle, SEXP value) { append_dropped(keep_value(handle, value)); }

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
  if (dropped_count == 0) {
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
}

}  // namespace setsuna::host
