// Runs a program where io_uring is refused, as in a container:
//   without_io_uring_main PROGRAM ARGUMENTS...
#include <unistd.h>

#include <cstdio>

#include "tests/net/refuse_io_uring.hpp"

int main(int count, char** arguments) {
  if (count < 2) {
    std::fputs("usage: without_io_uring_main PROGRAM ARGUMENTS...\n", stderr);
    return 2;
  }
  if (!setsuna::net::refuse_io_uring()) {
    std::perror("without_io_uring_main: the kernel takes no seccomp filter");
    return 77;
  }
  ::execvp(arguments[1], arguments + 1);
  std::perror(arguments[1]);
  return 126;
}
