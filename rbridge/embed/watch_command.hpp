// `setsuna top`, `setsuna status` and `setsuna metrics` are programs of their own, without R, beside this one.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace setsuna::embed {

inline constexpr char kNoTopMessage[] =
    "setsuna top: it was not built, because ncurses was missing when setsuna was installed: install its headers "
    "(Debian, "
    "Ubuntu: apt-get install libncurses-dev; Fedora: dnf install ncurses-devel) and then setsuna again. `setsuna "
    "status` "
    "prints the same facts once\n";

// Does not return if argv names one of these commands.
inline void become_viewer(int argc, char** argv) {
  const char* slash = std::strrchr(argv[0], '/');
  const bool by_name = std::strcmp(slash == nullptr ? argv[0] : slash + 1, "setsuna") == 0;
  const std::string command = by_name && argc > 1 ? argv[1] : "";
  if (command != "top" && command != "status" && command != "metrics") {
    return;
  }
  char self[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self));
  std::string program(self, length > 0 ? static_cast<std::size_t>(length) : 0);
  program.resize(program.rfind('/') + 1);
  program += command == "top" ? "setsuna-top" : "setsuna-monitor";
  ::execv(program.c_str(), argv);
  if (command == "top" && errno == ENOENT) {
    std::fputs(kNoTopMessage, stderr);
  } else {
    std::fprintf(stderr, "setsuna %s: cannot run %s: %s\n", command.c_str(), program.c_str(), std::strerror(errno));
  }
  std::exit(1);
}

}  // namespace setsuna::embed
