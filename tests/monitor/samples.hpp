// A snapshot to be shown.
#pragma once

#include "rbridge/monitor/view/sample.hpp"

namespace setsuna::monitor::test {

inline DaemonSample daemon(std::uint32_t index, DaemonSample::State state, std::uint64_t completed) {
  DaemonSample out;
  out.index = index;
  out.epoch = 1;
  out.pid = static_cast<std::int32_t>(1000 + index);
  out.state = state;
  out.assigned = completed + 1;
  out.completed = completed;
  out.resident_bytes = 50'000'000 + index;
  out.cpu_seconds = 2.5;
  return out;
}

inline ProfileSample profile(const char* name) {
  ProfileSample out;
  out.serial = 1;
  out.name = name;
  out.url = "tcp://h:5";
  out.connections = 2;
  out.awaiting = 1234;
  out.executing = 2;
  out.completed = 56789;
  out.ready = 1000;
  out.spilled = 234;
  out.done = 7;
  out.started = 5;
  out.respawns = 3;
  out.used_bytes = 17'276;
  out.budget_bytes = 4'000'000'000;
  out.resident_bytes = 25'000'000;
  out.segment_bytes = 8'000'000'000;
  out.latency = {100, 15'000, 14'000, 20'000, 90'000, 1'000'000, 2'000'000};
  out.latency_sum_ns = 1.5e6;
  out.daemons = {daemon(0, DaemonSample::State::kBusy, 400), daemon(1, DaemonSample::State::kIdle, 600)};
  return out;
}

inline HostSample host(std::int32_t pid) {
  HostSample out;
  out.pid = pid;
  out.command = "/usr/lib/R/bin/exec/R --no-echo";
  out.version = "0.1.0";
  out.backend = "io_uring";
  out.uptime_s = 65;
  out.resident_bytes = 90'000'000;
  out.profiles = {profile("default")};
  return out;
}

inline Snapshot snapshot() {
  Snapshot out;
  out.time_s = 1'700'000'000.5;
  out.monotonic_ns = 1'000'000'000;
  out.hosts = {host(4711)};
  return out;
}

}  // namespace setsuna::monitor::test
