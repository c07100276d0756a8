// A doorbell for a thread that sleeps in the kernel on descriptors.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "runtime/unique_fd.hpp"

namespace setsuna::runtime {

// A doorbell for a thread that sleeps in the kernel on descriptors (the reactor). Non-blocking, close-on-exec. The same
// descriptor may be handed to other processes.
class EventFd {
 public:
  EventFd() noexcept = default;
  explicit EventFd(UniqueFd fd) noexcept : fd_(static_cast<UniqueFd&&>(fd)) {}

  // Empty on failure, errno set.
  static EventFd create() noexcept { return EventFd(UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))); }

  int fd() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  void signal() const noexcept { signal(fd_.get()); }

  // Async-signal-safe. EAGAIN means the counter is full, that is: the bell rings already.
  static void signal(int fd) noexcept {
    const std::uint64_t one = 1;
    while (::write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  // Number of signals since the last drain; 0 when there were none. Leaves the bell silent.
  std::uint64_t drain() const noexcept {
    std::uint64_t count = 0;
    ssize_t got;
    do {
      got = ::read(fd_.get(), &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    return got == static_cast<ssize_t>(sizeof count) ? count : 0;
  }

 private:
  UniqueFd fd_;
};

}  // namespace setsuna::runtime
