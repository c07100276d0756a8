#include "host_forks.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <vector>

#include "guard.hpp"
#include "host.hpp"
#include "net/descriptors.hpp"

namespace setsuna::host {
namespace {

struct Deferred {
  std::uint32_t profile;
  std::uint64_t offset;
};

// R thread only (forks of user code happen there).
std::uint64_t live_views = 0;
int next_pipe[2] = {-1, -1};
std::vector<int>& pins() {  // reading ends: one a child that may still run
  static std::vector<int> all;
  return all;
}
std::vector<Deferred>& deferred() {
  static std::vector<Deferred> all;
  return all;
}

bool hung_up(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

bool any_child_left() {
  auto& all = pins();
  for (std::size_t i = 0; i < all.size();) {
    if (!hung_up(all[i])) {
      ++i;
      continue;
    }
    ::close(all[i]);
    all[i] = all.back();
    all.pop_back();
  }
  return !all.empty();
}

void prepare() {
  next_pipe[0] = next_pipe[1] = -1;
  if (!pins().empty() && !Host::forked()) {
    any_child_left();  // a pipe for each child that ever was would use up the descriptors
  }
  if (live_views > 0 && !Host::forked() && ::pipe2(next_pipe, O_CLOEXEC) == 0) {
    next_pipe[0] = net::move_high(next_pipe[0]);
    next_pipe[1] = net::move_high(next_pipe[1]);
  }
}

void parent() {
  if (next_pipe[0] >= 0) {
    ::close(next_pipe[1]);
    guarded([] { pins().push_back(next_pipe[0]); });
  }
}

void child() {
  if (next_pipe[0] >= 0) {
    ::close(next_pipe[0]);  // and keeps the writing end until it exits or executes something else
  }
}

}  // namespace

void HostForks::install() { ::pthread_atfork(prepare, parent, child); }

void HostForks::add_view() { ++live_views; }

void HostForks::remove_view() { --live_views; }

bool HostForks::defer_release(std::uint32_t profile, std::uint64_t offset) {
  if (pins().empty() || !any_child_left()) {
    return false;
  }
  return guarded([&] { deferred().push_back({profile, offset}); });
}

void HostForks::release_deferred() {
  if (deferred().empty() || any_child_left()) {
    return;
  }
  guarded([] {
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    for (const Deferred& block : deferred()) {
      if (Profile* profile = host.profile(block.profile)) {
        --profile->views;
        profile->pool().release_result(block.offset);
        host.settle(*profile);
      }
    }
    deferred().clear();
  });
}

}  // namespace setsuna::host
