// What changes from one snapshot to the next: rates, use of the processor, latencies of the last seconds.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "rbridge/monitor/view/sample.hpp"

namespace setsuna::monitor {

class Rates {
 public:
  // Latencies of tasks answered within this time.
  static constexpr std::uint64_t kWindowNs = 10'000'000'000;

  // Fills in what takes two snapshots. They come in the order of their times.
  void update(Snapshot* now);

 private:
  using ProfileKey = std::pair<std::int32_t, std::uint64_t>;  // PID of the host, serial
  using DaemonKey = std::tuple<std::int32_t, std::uint64_t, bool, std::uint32_t>;
  struct Past {
    std::uint64_t time_ns;
    std::shared_ptr<const runtime::Histogram> histogram;
  };
  struct ProfilePast {
    std::uint64_t time_ns = 0;
    std::uint64_t completed = 0;
    std::deque<Past> histograms;
  };
  struct DaemonPast {
    std::uint64_t time_ns = 0;
    std::uint32_t epoch = 0;
    std::int32_t pid = 0;
    std::uint64_t completed = 0;
    // The kernel counts in ticks: over less than a second they say little.
    std::uint64_t cpu_time_ns = 0;
    double cpu_seconds = kUnknown;
    double cpu_percent = kUnknown;
  };

  void update_profile(ProfileKey key, std::uint64_t now_ns, ProfileSample* profile);
  static constexpr std::uint64_t kCpuWindowNs = 1'000'000'000;
  static DaemonPast update_daemon(const DaemonPast* past, std::uint64_t now_ns, DaemonSample* daemon);

  std::map<ProfileKey, ProfilePast> profiles_;
  std::map<DaemonKey, DaemonPast> daemons_;
};

}  // namespace setsuna::monitor
