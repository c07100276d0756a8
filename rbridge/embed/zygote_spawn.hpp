// Starts the zygote's process.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace setsuna::embed {

struct SpawnPlan {
  const char* program;
  char* const* argv;
  char* const* envp;
  int socket_fd;   // becomes kSocketFd
  int host_pidfd;  // becomes kHostPidfd
  int stderr_fd;
  std::uint64_t soft_nofile;  // 0: unchanged
};

// Returns the pid once the program runs, or minus the errno. Of the caller's descriptors the child has only those of the
// plan; standard input and output are the null device. Safe in a process with threads.
pid_t spawn_process(const SpawnPlan& plan);

}  // namespace setsuna::embed
