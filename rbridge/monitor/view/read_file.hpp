// Small files, those of /proc above all.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "runtime/unique_fd.hpp"

namespace setsuna::monitor {

// False with errno if it cannot be read.
inline bool read_file(const std::string& path, std::string* out) {
  const runtime::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return false;
  }
  out->clear();
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof(buffer));
    if (got > 0) {
      out->append(buffer, static_cast<std::size_t>(got));
    } else if (got == 0 || errno != EINTR) {
      return got == 0;
    }
  }
}

}  // namespace setsuna::monitor
