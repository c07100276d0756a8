// What is known of the hosts of this user at one moment.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/histogram.hpp"

namespace setsuna::monitor {

inline constexpr double kUnknown = -1;

struct DaemonSample {
  enum class State : std::uint8_t { kStarting, kIdle, kBusy, kLeaving, kDead };
  bool remote = false;  // on another machine: its pid is one over there
  std::uint32_t index = 0;
  std::uint32_t epoch = 0;  // another one: another process
  std::int32_t pid = 0;
  State state = State::kIdle;
  std::uint64_t assigned = 0;
  std::uint64_t completed = 0;
  std::uint64_t resident_bytes = 0;  // 0: unknown
  double cpu_seconds = kUnknown;
  // By two samples.
  double tasks_per_second = kUnknown;
  double cpu_percent = kUnknown;
};

struct LatencySample {
  std::uint64_t count = 0;
  std::uint64_t mean_ns = 0, p50_ns = 0, p90_ns = 0, p99_ns = 0, p999_ns = 0, max_ns = 0;
};

struct ProfileSample {
  std::uint64_t serial = 0;
  std::string name;
  std::string url;
  bool dispatcher = true;
  bool ephemeral = false;  // no daemons: a process for each task
  std::uint32_t connections = 0;
  std::uint64_t awaiting = 0, executing = 0, completed = 0;
  std::uint64_t ready = 0;    // of those awaiting: slots in the shared queue
  std::uint64_t spilled = 0;  // and tasks in the host's own
  std::uint64_t done = 0;     // slots with results that the host has not taken yet
  std::uint64_t started = 0, respawns = 0;
  std::uint64_t used_bytes = 0, budget_bytes = 0, resident_bytes = 0, segment_bytes = 0;
  std::uint32_t hidden_links = 0;  // remote daemons that are not among `daemons`
  std::vector<DaemonSample> daemons;
  std::shared_ptr<const runtime::Histogram> histogram;  // of everything since the profile began; null: none
  LatencySample latency;                                // of the same
  double latency_sum_ns = 0;
  // By two samples.
  double tasks_per_second = kUnknown;
  LatencySample recent;  // of the last seconds; count 0: no task was answered in them
};

struct HostSample {
  std::int32_t pid = 0;
  std::string command;
  std::string version;
  std::string backend;
  std::string problem;  // a sentence: why there is nothing (new) to be seen of it
  double uptime_s = 0;
  std::uint64_t resident_bytes = 0;
  std::uint32_t hidden_profiles = 0;
  std::vector<ProfileSample> profiles;
};

struct Snapshot {
  double time_s = 0;  // of the Unix epoch
  std::uint64_t monotonic_ns = 0;
  std::vector<HostSample> hosts;
};

LatencySample summarise(const runtime::Histogram& histogram);
// "default", or what tells it from a profile with daemons of the same name.
std::string title_of(const ProfileSample& profile);
const char* state_name(DaemonSample::State state);

}  // namespace setsuna::monitor
