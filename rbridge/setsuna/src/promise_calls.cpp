// What R/promises.R reaches: a callback on R's event loop (package later) when a mirai resolves. The reactor thread hears
// of the resolution and hands it to later, which is safe from any thread; nothing polls.

#include <R_ext/Rdynload.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

// later's API of this name; the loop is R's own (0) or one made by later::create_loop().
using ExecLater = void (*)(void (*function)(void*), void* data, double delay_s, int loop);
ExecLater exec_later = nullptr;

std::uint64_t key_of(TaskRef ref) { return (std::uint64_t{ref.profile} << 32) | ref.task; }

struct Watches {
  std::mutex mutex;
  std::unordered_map<std::uint64_t, std::vector<int>> loops;  // of tasks that promises wait for
  std::unordered_map<int, std::vector<std::uint64_t>> ready;  // by loop: resolved, its callback is under way
};

Watches& watches() {
  static auto* all = new Watches();  // never destroyed: the reactor thread outlives static destruction
  return *all;
}

void text_of(std::uint64_t key, char* to, std::size_t size) {
  std::snprintf(to, size, "%u.%u", static_cast<unsigned>(key >> 32), static_cast<unsigned>(key & 0xFFFFFFFFU));
}

// R thread, called by later at top level. No R error may leave it: later's C++ frames are below.
void run_ready(void* data) {
  const int loop = static_cast<int>(reinterpret_cast<std::intptr_t>(data));
  static std::vector<std::uint64_t> taken;
  taken.clear();
  {
    std::lock_guard<std::mutex> lock(watches().mutex);
    taken.swap(watches().ready[loop]);
  }
  SEXP keys = PROTECT(Rf_allocVector(STRSXP, static_cast<R_xlen_t>(taken.size())));
  for (std::size_t i = 0; i < taken.size(); ++i) {
    char text[32];
    text_of(taken[i], text, sizeof(text));
    SET_STRING_ELT(keys, static_cast<R_xlen_t>(i), Rf_mkChar(text));
  }
  SEXP ns = PROTECT(R_FindNamespace(PROTECT(Rf_mkString("setsuna"))));
  SEXP call = PROTECT(Rf_lang2(Rf_install(".promises_ready"), keys));
  int failed = 0;
  R_tryEval(call, ns, &failed);
  UNPROTECT(4);
}

// Reactor thread.
void on_resolved(std::uint32_t profile, std::uint32_t task) {
  const std::uint64_t key = key_of({profile, task});
  std::vector<int> loops;
  std::vector<int> to_schedule;
  {
    std::lock_guard<std::mutex> lock(watches().mutex);
    const auto found = watches().loops.find(key);
    if (found == watches().loops.end()) {
      return;
    }
    loops.swap(found->second);
    watches().loops.erase(found);
    for (const int loop : loops) {
      std::vector<std::uint64_t>& ready = watches().ready[loop];
      if (ready.empty()) {
        to_schedule.push_back(loop);
      }
      ready.push_back(key);
    }
  }
  for (const int loop : to_schedule) {
    exec_later(run_ready, reinterpret_cast<void*>(static_cast<std::intptr_t>(loop)), 0, loop);
  }
}

// False: it is resolved already.
bool watch(TaskRef ref, int loop) {
  {
    std::lock_guard<std::mutex> lock(watches().mutex);
    watches().loops[key_of(ref)].push_back(loop);
  }
  Host& host = *Host::existing();
  std::lock_guard<std::mutex> lock(host.mutex());
  host.set_notify_hook(on_resolved);
  Profile* profile = host.profile(ref.profile);
  if (profile == nullptr || profile->pool().closed() || profile->pool().resolved(ref.task)) {
    // Only our own: the reactor may not have told others that wait for it yet.
    std::lock_guard<std::mutex> watches_lock(watches().mutex);
    if (const auto found = watches().loops.find(key_of(ref)); found != watches().loops.end()) {
      if (const auto own = std::find(found->second.begin(), found->second.end(), loop); own != found->second.end()) {
        found->second.erase(own);
      }
      if (found->second.empty()) {
        watches().loops.erase(found);
      }
    }
    return false;
  }
  if (!profile->pool().task(ref.task).notify) {
    profile->pool().set_notify(ref.task);
  }
  profile->rest_gate();
  return true;
}

// The key under which .promises_ready() will name the mirai, or NULL: it is resolved.
SEXP promise_watch(SEXP x, SEXP loop) {
  refuse_in_fork();
  if (exec_later == nullptr) {
    exec_later = reinterpret_cast<ExecLater>(R_GetCCallable("later", "execLaterNative2"));
  }
  if (!is_handle(x) || handle_state(x) != HandleState::kOpen || task_resolved(handle_ref(x))) {
    return R_NilValue;
  }
  const TaskRef ref = handle_ref(x);
  bool watching = false;
  if (!guarded([&] { watching = watch(ref, Rf_asInteger(loop)); })) {
    Rf_error("%s", guard_message);
  }
  if (!watching) {
    return R_NilValue;
  }
  char text[32];
  text_of(key_of(ref), text, sizeof(text));
  return Rf_mkString(text);
}

}  // namespace
}  // namespace setsuna::host

extern const R_CallMethodDef kPromiseEntries[] = {
    SETSUNA_ENTRY(promise_watch, setsuna::host::promise_watch, 2),
    {nullptr, nullptr, 0},
};
