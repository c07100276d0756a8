// What a task may leave behind in its daemon, and how it is undone (`cleanup = TRUE`): global variables, options, attached
// packages, working directory. Noticing that nothing changed costs a few hundred nanoseconds; undoing runs R code.
#pragma once

#include <cstdint>

#include "rbridge/codec/r_api.hpp"

namespace setsuna::embed {

// What the package adds to a scope: daemons that a task itself started.
struct ScopeExtra {
  void (*take_baseline)() noexcept;
  bool (*changed)() noexcept;
  void (*restore)();  // may jump
};

// All functions: R thread; may long-jump only where said. State is static: one daemon a process.
class TaskScope {
 public:
  // In the daemon, or in the process that it will be forked from: takes the baseline. `restore` is an R function(globals,
  // options, search, directory) that undoes; `calm` one without arguments that ends time limits and diversions of output.
  // May jump.
  static void prepare(SEXP restore, SEXP calm);
  // In the daemon, after prepare(). May jump.
  static void initialize();
  // Time limits and sink() would hit later tasks. May jump.
  static void calm();
  // Before prepare(); `extra` must stay valid.
  static void add(const ScopeExtra* extra);
  // The present state is what tasks start from (at the start, and after everywhere()). May jump (allocation).
  static void take_baseline();
  // Binds `values` (a named list, or NULL) as globals for one task, remembering what they hide. May jump.
  static void bind_globals(SEXP values);
  // Undoes what differs from the baseline, after a task that took took_ns. May jump (the restore function is R code).
  static void restore(std::uint64_t took_ns);
  // The same without looking what differs: after restore() has failed. May jump.
  static void restore_all();
  // Only what bind_globals() did: with `cleanup = FALSE`.
  static void unbind_globals();
};

}  // namespace setsuna::embed
