// The host's side of its fork server. Knows no R.
//
// start() is called on the R thread. Afterwards request_fork(), flush() and stop() may be called from any thread;
// on_readable() and check_exit() from one thread at a time (the reactor's). Nothing here blocks, except start() for the
// moment until the new process has replaced its image.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "rbridge/embed/wire_channel.hpp"
#include "rbridge/embed/zygote_wire.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::embed {

struct ZygoteSpawn {
  std::string program;  // the installed setsuna-daemon
  std::string library;  // the R library that holds the installed setsuna; empty: as the program's path says
  std::vector<std::string> preload;  // packages to load once for all daemons
  std::uint64_t soft_nofile = 0;     // soft limit of descriptors for R processes; 0: the host's own as it is now
};

// One request: daemons that share segment, configuration and output. Descriptors stay the caller's; -1 where there is none.
struct ForkOrder {
  const DaemonId* daemons = nullptr;
  std::size_t count = 0;  // any number; it is split into batches
  int segment_fd = -1;
  int host_page_fd = -1;
  int refill_fd = -1;
  int config_fd = -1;  // see config_memfd()
  int stdout_fd = -1;  // -1: the null device
  int stderr_fd = -1;
  std::int32_t autoexit = kAutoexitKill;
  ForkMode mode = ForkMode::automatic;
};

struct ZygoteEvent {
  enum class Kind {
    ready,   // threads, threaded_packages, r_version; forks may be asked for before
    forked,  // daemon, pid, mode, pidfd
    exited,  // daemon, pid, wait_status, oom_killed, killed_by_zygote
    failed,  // daemon does not exist: error (errno or 0), message
    lost,    // the zygote hung up, or is of another version and was terminated: message; check_exit() sees its end
  };
  Kind kind = Kind::lost;
  DaemonId daemon{};
  pid_t pid = -1;
  runtime::UniqueFd pidfd;  // moved to a number that R's select() never meets, where the limit allows
  ForkMode mode = ForkMode::fork;
  int wait_status = 0;
  bool oom_killed = false;
  bool killed_by_zygote = false;
  int error = 0;
  std::string message;
  std::uint32_t threads = 1;
  std::string threaded_packages;
  std::uint32_t r_version = 0;
};

// The bytes of `.host_config()` as a descriptor for ForkOrder. Empty on failure, errno set.
runtime::UniqueFd config_memfd(const void* bytes, std::size_t size);

class ZygoteClient {
 public:
  ZygoteClient() = default;
  ZygoteClient(const ZygoteClient&) = delete;
  ZygoteClient& operator=(const ZygoteClient&) = delete;
  ~ZygoteClient() = default;  // hangs up: the zygote ends with its last daemon

  // 0 or the errno of what could not be done.
  int start(const ZygoteSpawn& spawn);

  int socket_fd() const noexcept { return channel_.fd(); }  // watch for readability; writability if wants_write()
  int pidfd() const noexcept { return pidfd_.get(); }       // watch for readability: then check_exit()
  pid_t pid() const noexcept { return pid_; }
  bool running() const noexcept { return pid_ > 0 && !exited_; }

  // Sent at once or, if the socket is full, by flush().
  void request_fork(const ForkOrder& order);
  bool wants_write() const;
  void flush();
  void stop();       // no more forks: it ends with its last daemon
  void terminate();  // it ends now, and its daemons with it; also when it is `lost`

  // Everything that has arrived, in order.
  std::vector<ZygoteEvent> on_readable();

  // True once the zygote has ended (then reaped; its daemons die with it): wait_status as waitpid() gives it, or -1 if
  // another part of this process has taken it.
  bool check_exit(int* wait_status);

  // What the zygote has written to its standard error, and what was wrong with its messages: says why it did not start.
  std::string error_output() const;

  // In a forked child of the host (pthread_atfork): closes what is the parent's without a word to the zygote.
  void abandon() noexcept;

 private:
  void send_batch(const ForkOrder& order, std::size_t first);
  ZygoteEvent to_event(Received received);
  ZygoteEvent to_forked_event(Received received);

  mutable std::mutex mutex_;  // sending and the queue of what waits to be sent; receiving needs none
  WireChannel channel_;
  runtime::UniqueFd pidfd_;
  runtime::UniqueFd stderr_fd_;
  std::string distrusted_;  // why its messages are not read any more
  pid_t pid_ = -1;
  bool exited_ = false;
  int wait_status_ = -1;
};

}  // namespace setsuna::embed
