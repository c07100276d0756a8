#include <cstdio>
#include <vector>

#include "rbridge/monitor/view/format.hpp"
#include "rbridge/monitor/view/reports.hpp"

namespace setsuna::monitor {
namespace {

std::string number(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof(buffer), "%.15g", value);
  return buffer;
}

// The value of a label, in quotes.
std::string quoted(const std::string& raw) {
  std::string out = "\"";
  for (const char c : printable(raw)) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + "\"";
}

// All samples of a metric stand together, behind its type: metrics are collected first.
struct Metric {
  const char* name;
  const char* type;
  const char* help;
  std::string samples;

  void add(const std::string& labels, double value, const char* suffix = "") {
    samples += std::string(name) + suffix + "{" + labels + "} " + number(value) + "\n";
  }
};

struct Metrics {
  Metric up{"setsuna_host_up", "gauge", "1 if the session answers.", {}};
  Metric awaiting{"setsuna_tasks_awaiting", "gauge", "Tasks that no daemon has begun.", {}};
  Metric executing{"setsuna_tasks_executing", "gauge", "Tasks that daemons evaluate.", {}};
  Metric completed{"setsuna_tasks_completed_total", "counter", "Tasks that daemons have answered.", {}};
  Metric ready{"setsuna_queue_ready", "gauge", "Filled slots of the shared queue.", {}};
  Metric spilled{"setsuna_queue_spilled", "gauge", "Tasks that wait in the session for a slot.", {}};
  Metric online{"setsuna_daemons_online", "gauge", "Daemons that are connected.", {}};
  Metric started{"setsuna_daemons_started_total", "counter", "Daemons that ever came online.", {}};
  Metric respawns{"setsuna_daemon_respawns_total", "counter", "Daemons that took the place of one that had died.", {}};
  Metric memory{
      "setsuna_memory_bytes",
      "gauge",
      "Arguments of unfinished tasks, their budget, the part of the shared memory that is in use, and its size.",
      {}};
  Metric latency{"setsuna_task_latency_seconds",
                 "summary",
                 "From mirai() until the session has the result, since the profile began.",
                 {}};
  Metric busy{"setsuna_daemon_busy", "gauge", "1 while the daemon evaluates a task.", {}};
  Metric daemon_completed{
      "setsuna_daemon_tasks_completed_total", "counter", "Tasks that this process has completed.", {}};
  Metric daemon_memory{"setsuna_daemon_resident_bytes", "gauge", "Resident memory of a daemon on this machine.", {}};

  std::vector<Metric*> all() {
    return {&up,      &awaiting, &executing, &completed, &ready, &spilled,          &online,
            &started, &respawns, &memory,    &latency,   &busy,  &daemon_completed, &daemon_memory};
  }
};

void add_latency(Metric* metric, const std::string& labels, const ProfileSample& profile) {
  const LatencySample& latency = profile.latency;
  const auto quantile = [&](const char* which, std::uint64_t ns) {
    metric->add(labels + ",quantile=\"" + which + "\"", static_cast<double>(ns) / 1e9);
  };
  if (latency.count > 0) {
    quantile("0.5", latency.p50_ns);
    quantile("0.9", latency.p90_ns);
    quantile("0.99", latency.p99_ns);
    quantile("0.999", latency.p999_ns);
    quantile("1", latency.max_ns);
  }
  metric->add(labels, profile.latency_sum_ns / 1e9, "_sum");
  metric->add(labels, static_cast<double>(latency.count), "_count");
}

void add_daemon(Metrics* metrics, const std::string& labels, const DaemonSample& daemon) {
  if (daemon.state == DaemonSample::State::kDead) {
    return;
  }
  const std::string its = labels + ",kind=\"" + (daemon.remote ? "remote" : "local") + "\",daemon=\"" +
                          std::to_string(daemon.index + 1) + "\"";
  metrics->busy.add(its, daemon.state == DaemonSample::State::kBusy ? 1 : 0);
  metrics->daemon_completed.add(its, static_cast<double>(daemon.completed));
  if (daemon.resident_bytes > 0) {
    metrics->daemon_memory.add(its, static_cast<double>(daemon.resident_bytes));
  }
}

void add_profile(Metrics* metrics, const std::string& host, const ProfileSample& profile) {
  const std::string labels =
      host + ",profile=" + quoted(profile.name) + (profile.ephemeral ? ",ephemeral=\"true\"" : "");
  metrics->awaiting.add(labels, static_cast<double>(profile.awaiting));
  metrics->executing.add(labels, static_cast<double>(profile.executing));
  metrics->completed.add(labels, static_cast<double>(profile.completed));
  metrics->ready.add(labels, static_cast<double>(profile.ready));
  metrics->spilled.add(labels, static_cast<double>(profile.spilled));
  metrics->online.add(labels, profile.connections);
  metrics->started.add(labels, static_cast<double>(profile.started));
  metrics->respawns.add(labels, static_cast<double>(profile.respawns));
  metrics->memory.add(labels + ",kind=\"arguments\"", static_cast<double>(profile.used_bytes));
  metrics->memory.add(labels + ",kind=\"budget\"", static_cast<double>(profile.budget_bytes));
  metrics->memory.add(labels + ",kind=\"resident\"", static_cast<double>(profile.resident_bytes));
  metrics->memory.add(labels + ",kind=\"segment\"", static_cast<double>(profile.segment_bytes));
  add_latency(&metrics->latency, labels, profile);
  for (const DaemonSample& daemon : profile.daemons) {
    add_daemon(metrics, labels, daemon);
  }
}

}  // namespace

std::string status_prometheus(const Snapshot& snapshot) {
  Metrics metrics;
  for (const HostSample& host : snapshot.hosts) {
    const std::string labels = "pid=\"" + std::to_string(host.pid) + "\"";
    metrics.up.add(labels, host.problem.empty() ? 1 : 0);
    for (const ProfileSample& profile : host.profiles) {
      add_profile(&metrics, labels, profile);
    }
  }
  std::string out = "# HELP setsuna_hosts Sessions of this user that can be looked at.\n# TYPE setsuna_hosts gauge\n";
  out += "setsuna_hosts " + std::to_string(snapshot.hosts.size()) + "\n";
  for (const Metric* metric : metrics.all()) {
    if (!metric->samples.empty()) {
      out += std::string("# HELP ") + metric->name + " " + metric->help + "\n# TYPE " + metric->name + " " +
             metric->type + "\n" + metric->samples;
    }
  }
  return out;
}

}  // namespace setsuna::monitor
