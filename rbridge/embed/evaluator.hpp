// A daemon's task loop on the R thread. User code may long-jump out of run(): the R side then calls finish_error() and
// enters run() again, so all state is static and plain, and nothing with a destructor is live while R evaluates.
#pragma once

#include <cstdint>

#include "rbridge/codec/r_api.hpp"

namespace setsuna::embed {

class DirectExit;

// Control::encoding: results are encoded by R_Serialize alone. Else natively.
inline constexpr std::uint32_t kEncodingPortable = 1;

struct EvaluatorOptions {
  bool cleanup = true;
  bool forked = true;       // has a process group of its own (a daemon that dialled in has not)
  double idletime_ms = -1;  // < 0: none
  double walltime_ms = -1;
  double maxtasks = -1;
  std::int32_t stream[6] = {};  // L'Ecuyer-CMRG state of this daemon
  bool has_stream = false;
};

// Why run() returned: the value of daemon().
enum class LeaveReason : int { kNormal = 0, kIdletime = 1, kWalltime = 2, kMaxtasks = 3 };

class Evaluator {
 public:
  // Takes over the descriptors. Throws std::runtime_error with a message for users.
  static void attach(int segment_fd, int host_page_fd, int refill_fd, std::uint32_t index, std::uint32_t epoch,
                     const EvaluatorOptions& options);
  // Before start(): the value of serial_config() with which arguments and results are encoded.
  static void set_hooks(SEXP hooks);
  // R's part of what start() needs. A process that daemons are forked from does it for them. `restore`, `calm`: see
  // TaskScope. May jump.
  static void prepare(SEXP restore, SEXP calm);
  // After attach() and prepare(): tells the host that this daemon is online. May jump.
  static void start();
  // Of the relay whose segment it is attached to; null: results are told by waking the host.
  static void set_exit(DirectExit* exit);
  // Runs tasks until it is time to leave; jumps out when a task fails.
  static LeaveReason run();
  // After a jump: `object` is the R value that the failed task resolves to. May jump.
  static void finish_error(SEXP object, bool interrupted);
  // Last step before the process ends.
  static void leave(LeaveReason reason);
  // After leave(): forgets the host, so that attach() can be called again. `again`: for the next host of the same daemon,
  // whose tasks and time count on.
  static void detach(bool again);
  // The host has said that its daemons shall not look for another one.
  static bool host_is_final();
  static bool attached();
  static bool cancel_requested();
};

// Signal by which the host asks a daemon to look at its cancel record.
int cancel_signal() noexcept;

}  // namespace setsuna::embed
