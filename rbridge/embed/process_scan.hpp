// What /proc says about our children.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace setsuna::embed {

struct ProcessStat {
  char state;
  pid_t parent, group, session;
};

std::optional<ProcessStat> read_process_stat(pid_t pid);

// Children of this (single-threaded) process, zombies included. One that exits meanwhile may hide others from the kernel's
// list; its SIGCHLD is then the occasion to look again.
std::vector<pid_t> list_children();

// Children of this process, their children, and so on, zombies included. Any thread.
std::vector<pid_t> list_descendants();

// The value of a variable in the environment that the process was started with; empty if unset or unreadable.
std::string initial_environment(pid_t pid, const std::string& name);

}  // namespace setsuna::embed
