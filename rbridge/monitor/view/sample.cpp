#include "rbridge/monitor/view/sample.hpp"

#include "rbridge/monitor/view/format.hpp"

namespace setsuna::monitor {

LatencySample summarise(const runtime::Histogram& histogram) {
  LatencySample out;
  out.count = histogram.count();
  out.mean_ns = static_cast<std::uint64_t>(histogram.mean());
  out.p50_ns = histogram.percentile(50);
  out.p90_ns = histogram.percentile(90);
  out.p99_ns = histogram.percentile(99);
  out.p999_ns = histogram.percentile(99.9);
  out.max_ns = histogram.max();
  return out;
}

std::string title_of(const ProfileSample& profile) {
  return "profile " + printable(profile.name) + (profile.ephemeral ? " (a process for each task)" : "");
}

const char* state_name(DaemonSample::State state) {
  switch (state) {
    case DaemonSample::State::kStarting: return "starting";
    case DaemonSample::State::kIdle: return "idle";
    case DaemonSample::State::kBusy: return "busy";
    case DaemonSample::State::kLeaving: return "leaving";
    case DaemonSample::State::kDead: return "dead";
  }
  return "";
}

}  // namespace setsuna::monitor
