// One owned file descriptor.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace setsuna::runtime {

// Owns one file descriptor; -1 when empty.
class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }

  // close() is not retried on EINTR: on Linux the descriptor is gone by then, and a second close could hit another
  // thread's new descriptor of the same number.
  void reset(int fd = -1) noexcept {
    const int old = std::exchange(fd_, fd);
    if (old >= 0 && old != fd) {
      ::close(old);
    }
  }

  // A close-on-exec duplicate with a number of at least `lowest` (R's select() cannot take 1024 and above, so what R
  // never polls is moved up there). Empty on failure, errno set.
  UniqueFd duplicate(int lowest = 0) const noexcept { return UniqueFd(::fcntl(fd_, F_DUPFD_CLOEXEC, lowest)); }

 private:
  int fd_ = -1;
};

}  // namespace setsuna::runtime
