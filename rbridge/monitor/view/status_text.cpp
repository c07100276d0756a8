#include "rbridge/monitor/view/format.hpp"
#include "rbridge/monitor/view/reports.hpp"

namespace setsuna::monitor {
namespace {

std::string latency_line(const LatencySample& latency) {
  if (latency.count == 0) {
    return "no task has been answered yet";
  }
  return "p50 " + format_duration(latency.p50_ns) + ", p90 " + format_duration(latency.p90_ns) + ", p99 " +
         format_duration(latency.p99_ns) + ", p99.9 " + format_duration(latency.p999_ns) + ", max " +
         format_duration(latency.max_ns);
}

void add_daemons(std::string* out, const ProfileSample& profile) {
  if (profile.daemons.empty()) {
    return;
  }
  *out += "    daemon       pid  state     assigned    completed     memory\n";
  for (const DaemonSample& daemon : profile.daemons) {
    *out += "    " + fit((daemon.remote ? "remote " : "") + std::to_string(daemon.index + 1), 9) +
            fit(std::to_string(daemon.pid), 7, true) + "  " + fit(state_name(daemon.state), 8) +
            fit(format_count(daemon.assigned), 10, true) + "  " + fit(format_count(daemon.completed), 11, true) + "  " +
            fit(daemon.resident_bytes > 0 ? format_bytes(daemon.resident_bytes) : "-", 9, true) + "\n";
  }
  if (profile.hidden_links > 0) {
    *out += "    and " + format_count(profile.hidden_links) + " more\n";
  }
}

void add_profile(std::string* out, const ProfileSample& profile) {
  *out += "  " + title_of(profile) + ": " + format_daemons(profile.connections) + " online";
  *out += profile.url.empty() ? "\n" : ", more may join at " + printable(profile.url) + "\n";
  *out += "    tasks    " + format_count(profile.awaiting) + " awaiting, " + format_count(profile.executing) +
          " executing, " + format_count(profile.completed) + " completed\n";
  *out += "    queue    " + format_count(profile.ready) + " ready, " + format_count(profile.spilled) + " spilled, " +
          format_count(profile.done) + " uncollected\n";
  *out += "    latency  " + latency_line(profile.latency) + "\n";
  *out += "    memory   arguments " + format_bytes(profile.used_bytes) + " of " + format_bytes(profile.budget_bytes) +
          ", shared " + format_bytes(profile.resident_bytes) + " of " + format_bytes(profile.segment_bytes) + "\n";
  *out +=
      "    starts   " + format_count(profile.started) + ", of which respawns " + format_count(profile.respawns) + "\n";
  add_daemons(out, profile);
}

}  // namespace

std::string status_text(const Snapshot& snapshot) {
  std::string out;
  for (const HostSample& host : snapshot.hosts) {
    out += std::to_string(host.pid) + "  " + printable(host.command) + "  (up " + format_uptime(host.uptime_s) + ", " +
           format_bytes(host.resident_bytes) + (host.backend.empty() ? "" : ", " + printable(host.backend)) + ")\n";
    if (!host.problem.empty()) {
      out += "  " + host.problem + "\n";
    }
    for (const ProfileSample& profile : host.profiles) {
      add_profile(&out, profile);
    }
    if (host.profiles.empty() && host.problem.empty()) {
      out += "  no daemons are set\n";
    }
    if (host.hidden_profiles > 0) {
      out += "  and " + format_count(host.hidden_profiles) + " more profiles\n";
    }
  }
  return out;
}

}  // namespace setsuna::monitor
