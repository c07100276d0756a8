#include "net/descriptors.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <mutex>

namespace setsuna::net {
namespace {

// Raised limits are seen by the whole process, so one thread at a time raises and restores.
std::mutex& limit_mutex() noexcept {
  static std::mutex mutex;
  return mutex;
}

int duplicate_high(int fd) noexcept { return ::fcntl(fd, F_DUPFD_CLOEXEC, kLowestOwnFd); }

int duplicate_high_with_raised_limit(int fd) noexcept {
  const std::lock_guard lock(limit_mutex());
  rlimit old;
  if (::getrlimit(RLIMIT_NOFILE, &old) != 0 || old.rlim_max <= static_cast<rlim_t>(kLowestOwnFd)) {
    return -1;
  }
  const rlimit raised{old.rlim_max, old.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) {
    return -1;
  }
  const int high = duplicate_high(fd);
  ::setrlimit(RLIMIT_NOFILE, &old);
  return high;
}

}  // namespace

int move_high(int fd) noexcept {
  if (fd < 0) {
    return fd;
  }
  if (fd >= kLowestOwnFd) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
  }
  int high = duplicate_high(fd);  // enough where the soft limit is above 1024 already
  if (high < 0) {
    high = duplicate_high_with_raised_limit(fd);
  }
  if (high < 0) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
  }
  ::close(fd);
  return high;
}

rlimit child_nofile_limit() noexcept {
  const std::lock_guard lock(limit_mutex());
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

}  // namespace setsuna::net
