// The joining side: dials a local profile and comes back with its shared memory.
#pragma once

#include <string>

#include "rbridge/embed/join_wire.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::embed {

struct Joined {
  runtime::UniqueFd segment, host_page, doorbell, host_pidfd;
  JoinReply reply{};
};

// False: *error names the URL and the cause; *retry: nobody listens there (yet, or any more). Blocks until the host answers.
bool join_profile(const std::string& url, Joined* joined, std::string* error, bool* retry);

// A thread that sleeps until the host process ends, then tells this one: sets a flag that the task loop reads and, with
// `interrupt`, ends the task in hand. `raise_signal` > 0: that signal is raised as well.
void watch_host(runtime::UniqueFd host_pidfd, bool interrupt, int raise_signal);

}  // namespace setsuna::embed
