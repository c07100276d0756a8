// What R/map.R reaches while it collects with .progress or .stop: which tasks of a list have resolved since the last
// look, in the order of time and not of the list.

#include <algorithm>
#include <cstdlib>

#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

struct OpenTask {
  std::uint32_t index;  // in the list, from 0
  TaskRef ref;          // task kNoTask: it has its value already
};

// tasks[first .. end) have not been reported yet, in the list's order.
struct MapWatch {
  OpenTask* tasks;
  std::uint32_t* done;  // indices found by one look
  std::size_t first, end, done_count;
};

// Tasks are started in order, so behind this many in a row that wait in the host no other has been started. (Unless one
// was cancelled: it is found later.)
constexpr int kSpilledRow = 64;
// Tasks that are looked at once more when the host is about to sleep: more than there are daemons.
constexpr std::size_t kSleepWindow = 2048;

void free_watch(SEXP pointer) {
  auto* watch = static_cast<MapWatch*>(R_ExternalPtrAddr(pointer));
  if (watch != nullptr) {
    std::free(watch->tasks);
    std::free(watch->done);
    std::free(watch);
    R_ClearExternalPtr(pointer);
  }
}

SEXP map_watch(SEXP list) {
  refuse_in_fork();
  const auto n = static_cast<std::size_t>(XLENGTH(list));
  auto* watch = static_cast<MapWatch*>(std::calloc(1, sizeof(MapWatch)));
  SEXP pointer = PROTECT(R_MakeExternalPtr(watch, R_NilValue, R_NilValue));
  R_RegisterCFinalizerEx(pointer, free_watch, FALSE);
  if (watch != nullptr) {
    watch->tasks = static_cast<OpenTask*>(std::malloc((n + 1) * sizeof(OpenTask)));
    watch->done = static_cast<std::uint32_t*>(std::malloc((n + 1) * sizeof(std::uint32_t)));
  }
  if (watch == nullptr || watch->tasks == nullptr || watch->done == nullptr) {
    Rf_error("not enough memory");
  }
  for (std::size_t i = 0; i < n; ++i) {
    SEXP item = VECTOR_ELT(list, static_cast<R_xlen_t>(i));
    const bool open = is_handle(item) && handle_state(item) == HandleState::kOpen;
    watch->tasks[i] = {static_cast<std::uint32_t>(i), open ? handle_ref(item) : TaskRef{0, dispatch::kNoTask}};
  }
  watch->end = n;
  UNPROTECT(1);
  return pointer;
}

enum class Look { kDone, kSpilled, kPlaced };

Look look_at(Profile* profile, std::uint32_t task) {
  if (profile == nullptr || profile->pool().closed() || profile->pool().resolved(task)) {
    return Look::kDone;
  }
  return profile->pool().task(task).state == dispatch::TaskState::kSpilled ? Look::kSpilled : Look::kPlaced;
}

// Moves what has resolved from `tasks` to `done`.
void look(MapWatch* watch) noexcept {
  watch->done_count = 0;
  guarded([&] {
    Host* host = Host::existing();
    std::unique_lock<std::mutex> lock;
    if (host != nullptr) {
      lock = std::unique_lock<std::mutex>(host->mutex());
    }
    std::uint32_t id = ~0U;
    Profile* profile = nullptr;
    std::size_t at = watch->first;
    std::size_t kept = 0;
    for (int row = 0; at < watch->end && row < kSpilledRow; ++at) {
      const OpenTask task = watch->tasks[at];
      if (task.ref.task != dispatch::kNoTask && task.ref.profile != id) {
        id = task.ref.profile;
        profile = host->profile(id);
        if (profile != nullptr && !profile->pool().closed()) {
          profile->progress();
          host->settle(*profile);
        }
      }
      const Look state = task.ref.task == dispatch::kNoTask ? Look::kDone : look_at(profile, task.ref.task);
      row = state == Look::kSpilled ? row + 1 : 0;
      if (state == Look::kDone) {
        watch->done[watch->done_count++] = task.index;
      } else {
        watch->tasks[watch->first + kept++] = task;
      }
    }
    // What was kept moves up to the tasks that were not looked at.
    std::memmove(watch->tasks + (at - kept), watch->tasks + watch->first, kept * sizeof(OpenTask));
    watch->first = at - kept;
  });
}

void sleep_for_watch(MapWatch* watch) noexcept {
  static TaskRef refs[kSleepWindow];
  const std::size_t count = std::min(watch->end - watch->first, kSleepWindow);
  for (std::size_t i = 0; i < count; ++i) {
    refs[i] = watch->tasks[watch->first + i].ref;
  }
  sleep_for_tasks(refs, static_cast<int>(count), true);
}

// Waits until tasks have resolved that were not reported yet: their indices from 1, empty when all have been. With `stop`
// the first of them that is an error comes alone, as a negative index.
SEXP map_next(SEXP list, SEXP pointer, SEXP stop) {
  refuse_in_fork();
  auto* watch = static_cast<MapWatch*>(R_ExternalPtrAddr(pointer));
  look(watch);
  while (watch->done_count == 0 && watch->first < watch->end) {
    sleep_for_watch(watch);
    R_CheckUserInterrupt();
    look(watch);
  }
  for (std::size_t i = 0; Rf_asLogical(stop) == TRUE && i < watch->done_count; ++i) {
    SEXP item = VECTOR_ELT(list, watch->done[i]);
    SEXP value = is_handle(item) ? value_of(item) : item;
    if (Rf_inherits(value, "errorValue") != FALSE) {
      return Rf_ScalarInteger(-static_cast<int>(watch->done[i]) - 1);
    }
  }
  SEXP out = Rf_allocVector(INTSXP, static_cast<R_xlen_t>(watch->done_count));
  for (std::size_t i = 0; i < watch->done_count; ++i) {
    INTEGER(out)[i] = static_cast<int>(watch->done[i]) + 1;
  }
  return out;
}

}  // namespace
}  // namespace setsuna::host

extern const R_CallMethodDef kMapEntries[] = {
    SETSUNA_ENTRY(map_watch, setsuna::host::map_watch, 1),
    SETSUNA_ENTRY(map_next, setsuna::host::map_next, 3),
    {nullptr, nullptr, 0},
};
