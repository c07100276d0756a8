// Numbers of descriptors: ours stay out of the range that R's select() can use.
#pragma once

#include <sys/resource.h>

namespace setsuna::net {

// select() takes descriptors below this one only: R must not be made to open one above, and ours need none below.
inline constexpr int kLowestOwnFd = 1024;

// Returns the same open file under a close-on-exec number >= kLowestOwnFd and closes the old number. Returns `fd` itself
// (made close-on-exec) where the hard limit leaves no such numbers. The soft limit is raised for the moment of the call
// only: R, and processes it starts, keep the limit that they had. Any thread.
int move_high(int fd) noexcept;

// The RLIMIT_NOFILE that a child process should have: what this process has while no move_high is under way. Any thread.
rlimit child_nofile_limit() noexcept;

}  // namespace setsuna::net
