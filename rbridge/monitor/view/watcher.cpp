#include "rbridge/monitor/view/watcher.hpp"

#include <algorithm>
#include <ctime>

#include "runtime/clock.hpp"

namespace setsuna::monitor {
namespace {

constexpr std::uint64_t kSearchNs = 1'000'000'000;

double epoch_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

void Watcher::find_new(std::uint64_t now_ns) {
  if (searched_ns_ != 0 && now_ns - searched_ns_ < kSearchNs) {
    return;
  }
  searched_ns_ = now_ns;
  problem_.clear();
  for (const HostAddress& address : find_hosts(&problem_)) {
    const bool known =
        std::any_of(hosts_.begin(), hosts_.end(), [&](const HostReader& host) { return host.address() == address; });
    if (known || (pid_ != 0 && address.pid != pid_)) {
      continue;
    }
    hosts_.emplace_back(address);
    if (!hosts_.back().connect()) {
      hosts_.pop_back();
    }
  }
}

Snapshot Watcher::look(int timeout_ms) {
  Snapshot snapshot;
  find_new(runtime::monotonic_ns());
  hosts_.remove_if([&](HostReader& host) {
    HostSample sample;
    const bool there = host.read(timeout_ms, &sample);
    if (there) {
      snapshot.hosts.push_back(std::move(sample));
    }
    return !there;
  });
  std::sort(snapshot.hosts.begin(), snapshot.hosts.end(),
            [](const HostSample& a, const HostSample& b) { return a.pid < b.pid; });
  snapshot.monotonic_ns = runtime::monotonic_ns();
  snapshot.time_s = epoch_seconds();
  rates_.update(&snapshot);
  return snapshot;
}

}  // namespace setsuna::monitor
