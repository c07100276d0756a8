#include "rbridge/monitor/view/rates.hpp"

#include <algorithm>

namespace setsuna::monitor {
namespace {

double seconds_between(std::uint64_t from_ns, std::uint64_t to_ns) {
  return static_cast<double>(to_ns - from_ns) / 1e9;
}

double rate(std::uint64_t from, std::uint64_t to, double seconds) {
  return seconds <= 0 || to < from ? kUnknown : static_cast<double>(to - from) / seconds;
}

// What came to `now` since `before`.
LatencySample difference(const runtime::Histogram& before, const runtime::Histogram& now) {
  const auto between = std::make_unique<runtime::Histogram>();
  for (std::size_t i = 0; i < runtime::Histogram::kBuckets; ++i) {
    const std::uint64_t old = before.bucket(i), all = now.bucket(i);
    between->record(runtime::Histogram::lowest_of(i), all > old ? all - old : 0);
  }
  return summarise(*between);
}

}  // namespace

void Rates::update_profile(ProfileKey key, std::uint64_t now_ns, ProfileSample* profile) {
  ProfilePast& past = profiles_[key];
  if (past.time_ns != 0) {
    profile->tasks_per_second = rate(past.completed, profile->completed, seconds_between(past.time_ns, now_ns));
  }
  past.time_ns = now_ns;
  past.completed = profile->completed;
  if (!profile->histogram) {
    return;
  }
  // The newest that is as old as the window stays, as what to compare with.
  while (past.histograms.size() > 1 && now_ns - past.histograms[1].time_ns >= kWindowNs) {
    past.histograms.pop_front();
  }
  if (!past.histograms.empty()) {
    profile->recent = difference(*past.histograms.front().histogram, *profile->histogram);
  }
  if (past.histograms.empty() || past.histograms.back().histogram != profile->histogram) {
    past.histograms.push_back({now_ns, profile->histogram});
  }
}

// What is kept of it for the next time.
Rates::DaemonPast Rates::update_daemon(const DaemonPast* past, std::uint64_t now_ns, DaemonSample* daemon) {
  DaemonPast now{now_ns, daemon->epoch, daemon->pid, daemon->completed, now_ns, daemon->cpu_seconds, kUnknown};
  if (past == nullptr || past->epoch != daemon->epoch || past->pid != daemon->pid) {
    return now;
  }
  daemon->tasks_per_second = rate(past->completed, daemon->completed, seconds_between(past->time_ns, now_ns));
  const bool comparable = past->cpu_seconds >= 0 && daemon->cpu_seconds >= past->cpu_seconds;
  if (comparable && now_ns - past->cpu_time_ns >= kCpuWindowNs) {
    now.cpu_percent = 100 * (daemon->cpu_seconds - past->cpu_seconds) / seconds_between(past->cpu_time_ns, now_ns);
  } else if (comparable) {
    now.cpu_time_ns = past->cpu_time_ns;
    now.cpu_seconds = past->cpu_seconds;
    now.cpu_percent = past->cpu_percent;
  }
  daemon->cpu_percent = now.cpu_percent;
  return now;
}

void Rates::update(Snapshot* now) {
  std::map<DaemonKey, DaemonPast> daemons;
  std::map<ProfileKey, ProfilePast> kept;
  for (HostSample& host : now->hosts) {
    for (ProfileSample& profile : host.profiles) {
      const ProfileKey profile_key{host.pid, profile.serial};
      update_profile(profile_key, now->monotonic_ns, &profile);
      kept[profile_key] = std::move(profiles_[profile_key]);
      double by_daemons = kUnknown;
      for (DaemonSample& daemon : profile.daemons) {
        const DaemonKey key{host.pid, profile.serial, daemon.remote, daemon.index};
        const auto past = daemons_.find(key);
        daemons[key] = update_daemon(past == daemons_.end() ? nullptr : &past->second, now->monotonic_ns, &daemon);
        if (daemon.tasks_per_second >= 0) {
          by_daemons = std::max(by_daemons, 0.0) + daemon.tasks_per_second;
        }
      }
      // The host counts what it has collected, which it may put off; daemons that are gone count no more.
      profile.tasks_per_second = std::max(profile.tasks_per_second, by_daemons);
    }
  }
  profiles_ = std::move(kept);
  daemons_ = std::move(daemons);
}

}  // namespace setsuna::monitor
