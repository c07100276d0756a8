// The fork server: a single-threaded process with R warmed up that forks daemons for one host and buries them.
//
// No R in here. The R side (`.zygote_rounds()`) calls serve() again and again: it returns when R must do something (apply a
// new configuration), in each new daemon (after the fork), and when the zygote is done.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <iterator>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "rbridge/embed/oom_watch.hpp"
#include "rbridge/embed/process_scan.hpp"
#include "rbridge/embed/tempdir_board.hpp"
#include "rbridge/embed/wire_channel.hpp"
#include "rbridge/embed/zygote_wire.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::embed {

// What a daemon is born with. Descriptors are owned by whoever reads this; -1 where the host sent none.
struct DaemonLink {
  DaemonId id{};
  int segment_fd = -1;
  int host_page_fd = -1;
  int refill_fd = -1;
  int config_fd = -1;  // only after an exec: a forked daemon has the zygote's decoded copy
};

struct ZygoteOptions {
  int socket_fd = kSocketFd;
  int host_pidfd = kHostPidfd;
  std::vector<std::string> exec_command;  // of a fresh daemon; "--child=..." is appended
  std::string threaded_packages;
  std::uint32_t r_version = 0;
};

enum class ZygoteStep {
  configure,  // apply config_bytes(), then call serve() again, with a message if that failed
  child,      // this is a new daemon: see link()
  stopped,    // the last daemon is gone; exit
};

class Zygote {
 public:
  // Sends the ready report.
  explicit Zygote(ZygoteOptions options);
  Zygote(const Zygote&) = delete;
  Zygote& operator=(const Zygote&) = delete;

  // Sleeps until there is something to do. `config_failure`: why the configuration asked for could not be applied.
  ZygoteStep serve(const char* config_failure = nullptr);

  const std::vector<std::uint8_t>& config_bytes() const noexcept { return config_; }
  const DaemonLink& link() const noexcept { return link_; }
  bool in_child() const noexcept { return in_child_; }

  // In a new daemon, once: tells the zygote of the daemon's session directory, to be removed when the daemon is killed.
  void record_tempdir(const char* path);

 private:
  struct Daemon {
    DaemonId id;
    std::int32_t autoexit;
    TempdirBoard::Note tempdir;
    bool killed_by_us = false;
  };
  struct Pending {  // the fork request in hand
    ForkRequest request;
    std::vector<runtime::UniqueFd> fds;  // by FdSlot, empty where absent
    std::uint32_t next = 0;
    bool configured = false;
    int fd(FdSlot slot) const noexcept { return fds.empty() ? -1 : fds[slot].get(); }
  };
  enum class Forked { parent, child };

  void take_signals_over();
  void give_signals_back();

  // requests
  void receive();
  void take_fork_request(Received received);
  void fail(DaemonId id, int error, const char* message);
  void fail_pending(int error, const char* message);
  bool needs_config();
  Forked fork_next();
  pid_t fork_daemon(DaemonId id, bool exec);
  pid_t fork_quietly();
  void announce(pid_t pid, DaemonId id, bool exec, TempdirBoard::Note tempdir);
  void become_daemon(DaemonId id, bool exec);
  [[noreturn]] void exec_daemon();

  // deaths
  void wait_for_events();
  void take_signals();
  void reap();
  bool bury(pid_t pid);
  void report_exit(pid_t pid, const Daemon& daemon, int wait_status);
  void remove_tempdir(const std::string& path);
  bool kill_strays();
  bool belongs_to_daemon(pid_t pid, const ProcessStat& stat) const;
  void kill_daemon(pid_t pid, Daemon& daemon);
  void kill_all();
  void host_gone();
  bool finished();

  ZygoteOptions options_;
  pid_t zygote_pid_;
  pid_t own_session_;
  WireChannel channel_;
  runtime::UniqueFd host_pidfd_;
  runtime::UniqueFd wake_;  // eventfd of the signal handlers
  sigset_t original_mask_;
  static constexpr int kOwnSignals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
  struct sigaction original_actions_[std::size(kOwnSignals)];
  OomWatch oom_;
  TempdirBoard tempdirs_;
  TempdirBoard::Note own_note_ = TempdirBoard::kNone;  // in a child
  std::unordered_map<pid_t, Daemon> daemons_;
  std::unordered_set<pid_t> startup_children_;  // of preloaded packages and startup files: not ours to kill
  std::unordered_set<pid_t> cleaners_;          // forked to remove a dead daemon's tempdir
  std::unordered_set<pid_t> doomed_;            // strays that were sent SIGKILL
  std::vector<std::string> exec_plan_;          // made before the fork: the child must not allocate
  std::vector<char*> exec_argv_;
  bool has_pending_ = false;
  Pending pending_{};
  std::vector<std::uint8_t> config_;  // applied last, or being applied
  bool config_valid_ = false;
  bool stopping_ = false;
  bool has_deadline_ = false;
  std::chrono::steady_clock::time_point deadline_{};
  DaemonLink link_{};
  bool in_child_ = false;
};

std::uint32_t count_threads();

}  // namespace setsuna::embed
