// The daemon's executable counts what changes its working directory: R and packages call these instead of the C library's, so
// that nobody has to ask the kernel after each task of a microsecond where it is. See embed/working_directory.hpp.

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "working_directory.hpp"

extern "C" {

__attribute__((visibility("default"))) std::atomic<std::uint64_t> setsuna_directory_changes{0};

__attribute__((visibility("default"))) int chdir(const char* path) noexcept {
  static const auto next = reinterpret_cast<int (*)(const char*)>(dlsym(RTLD_NEXT, "chdir"));
  setsuna_directory_changes.fetch_add(
      1, std::memory_order_relaxed);  // the same thread looks at it, or another's own affair
  if (next == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  return next(path);
}

__attribute__((visibility("default"))) int fchdir(int fd) noexcept {
  static const auto next = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "fchdir"));
  setsuna_directory_changes.fetch_add(1, std::memory_order_relaxed);
  if (next == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  return next(fd);
}

}  // extern "C"
