// The R object `mirai`: an external pointer that names a task of a profile, and carries the value once it is known.
//
// Address: profile and task index (never dereferenced), kCollected once the value is in the tag, NULL after saveRDS.
// Protected value: while open, the holder of what shares one finalizer with it: in a flood and in a map, its neighbours.
#pragma once

#include <cstdint>

#include "glue.hpp"

namespace setsuna::host {

struct TaskRef {
  std::uint32_t profile = 0;
  std::uint32_t task = 0;
};

// kDead: restored from a file, or found by a finalizer when its task had been let go.
enum class HandleState { kOpen, kCollected, kDead };

void initialize_handles();  // when the package is loaded

// A new mirai for a submitted task. `outstanding`: unfinished tasks of the profile; many share finalizers. May jump (and
// leaks the task until the process ends if there is no memory for what a finalizer hangs on).
SEXP make_handle(TaskRef ref, std::uint64_t outstanding);
// A holder for the handles of `capacity` tasks of a map: what is in it when the last of them dies is dropped. Null: no memory.
SEXP make_map_holder(int capacity);
void fill_map_holder(SEXP holder, std::uint32_t profile, const std::uint32_t* tasks, int count);
SEXP make_map_handle(SEXP holder, int i);
// A mirai that has its value already (sync evaluation, tests).
SEXP make_resolved_handle(SEXP value);
bool is_handle(SEXP x);
HandleState handle_state(SEXP handle);
[[noreturn]] void refuse_dead();  // an R error
TaskRef handle_ref(SEXP handle);
SEXP handle_value(SEXP handle);
// Stores the value, of one that is open; its task goes with the next let_dropped_go().
void collect_handle(SEXP handle, SEXP value);
// While `body` runs no task is let go: it decodes what lies in their memory, and garbage collections meanwhile run finalizers,
// also a user's, which may collect, or drop, what it decodes. Returns its value; may jump.
SEXP hold_tasks(SEXP (*body)(void*), void* data);
// Lets go of tasks that were collected or whose handles the garbage collector has found dead, unless they are held. R thread,
// no lock held.
void let_dropped_go();
// The same, and lets go of released views; and of fork servers that have died, gets new ones. R thread, no lock held.
void drain_dropped();

}  // namespace setsuna::host
