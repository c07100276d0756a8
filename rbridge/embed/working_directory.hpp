// The working directory that tasks start in, and whether it is still that one.
#pragma once

#include <atomic>
#include <cstdint>

// Defined by the daemon's executable (setsuna_daemon_chdir.cpp). R's own front end, which may be a daemon too, has none.
extern "C" std::atomic<std::uint64_t> setsuna_directory_changes;

namespace setsuna::embed {

class WorkingDirectory {
 public:
  // Where the process is now is where tasks start.
  void remember() noexcept;
  // Asks the kernel.
  bool changed() noexcept;
  // The same of a task that was brief: costs nothing where calls are counted, and a system call elsewhere unless the task
  // took less than two of them do. Not seen: a change past the C library.
  bool changed_in(std::uint64_t took_ns) noexcept;
  const char* path() const noexcept { return path_; }

 private:
  char path_[4096];
  std::uint64_t changes_ = 0;
};

}  // namespace setsuna::embed
