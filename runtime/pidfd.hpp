// Stable handles of processes.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/unique_fd.hpp"

namespace setsuna::runtime {

// A stable handle of a process: unlike a pid it never names another one later. Close-on-exec by the kernel. Empty on
// failure, errno set (ESRCH: no such process).
inline UniqueFd pidfd_open(pid_t pid) noexcept { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

// 0, or the errno (ESRCH: it is gone). Signal 0 only asks. Async-signal-safe.
inline int pidfd_send_signal(int pidfd, int signal) noexcept {
  return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0 ? 0 : errno;
}

// True once the process is dead. A pidfd turns readable after the address space is gone, so from then on there are no
// late stores to shared memory. Does not wait and does not reap.
inline bool pidfd_exited(int pidfd) noexcept {
  pollfd entry{pidfd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

}  // namespace setsuna::runtime
