#include "rbridge/monitor/view/format.hpp"
#include "rbridge/monitor/view/json_writer.hpp"
#include "rbridge/monitor/view/reports.hpp"

namespace setsuna::monitor {
namespace {

constexpr std::uint32_t kSchema = 1;

void put_daemon(JsonWriter* json, const DaemonSample& daemon) {
  json->begin_object();
  json->member("kind", daemon.remote ? "remote" : "local");
  json->member("index", daemon.index + 1);
  json->member("pid", daemon.pid);
  json->member("state", state_name(daemon.state));
  json->member("assigned", daemon.assigned);
  json->member("completed", daemon.completed);
  if (daemon.resident_bytes > 0) {
    json->member("resident_bytes", daemon.resident_bytes);
  }
  if (daemon.cpu_seconds >= 0) {
    json->member("cpu_seconds", daemon.cpu_seconds);
  }
  json->end_object();
}

void put_latency(JsonWriter* json, const LatencySample& latency) {
  json->key("latency_ns");
  json->begin_object();
  json->member("count", latency.count);
  json->member("mean", latency.mean_ns);
  json->member("p50", latency.p50_ns);
  json->member("p90", latency.p90_ns);
  json->member("p99", latency.p99_ns);
  json->member("p99.9", latency.p999_ns);
  json->member("max", latency.max_ns);
  json->end_object();
}

void put_profile(JsonWriter* json, const ProfileSample& profile) {
  json->begin_object();
  json->member("name", printable(profile.name));
  json->member("dispatcher", profile.dispatcher);
  json->member("ephemeral", profile.ephemeral);
  json->member("url", printable(profile.url));
  json->member("daemons_online", profile.connections);
  json->member("daemons_started", profile.started);
  json->member("respawns", profile.respawns);
  json->key("tasks");
  json->begin_object();
  json->member("awaiting", profile.awaiting);
  json->member("executing", profile.executing);
  json->member("completed", profile.completed);
  json->end_object();
  json->key("queue");
  json->begin_object();
  json->member("ready", profile.ready);
  json->member("spilled", profile.spilled);
  json->member("uncollected", profile.done);
  json->end_object();
  json->key("memory_bytes");
  json->begin_object();
  json->member("arguments", profile.used_bytes);
  json->member("budget", profile.budget_bytes);
  json->member("resident", profile.resident_bytes);
  json->member("segment", profile.segment_bytes);
  json->end_object();
  put_latency(json, profile.latency);
  json->key("daemons");
  json->begin_array();
  for (const DaemonSample& daemon : profile.daemons) {
    put_daemon(json, daemon);
  }
  json->end_array();
  json->member("daemons_not_listed", profile.hidden_links);
  json->end_object();
}

void put_host(JsonWriter* json, const HostSample& host) {
  json->begin_object();
  json->member("pid", host.pid);
  json->member("command", printable(host.command));
  json->member("version", printable(host.version));
  json->member("backend", printable(host.backend));
  json->member("uptime_s", host.uptime_s);
  json->member("resident_bytes", host.resident_bytes);
  json->key("problem");
  host.problem.empty() ? json->null() : json->value(host.problem);
  json->key("profiles");
  json->begin_array();
  for (const ProfileSample& profile : host.profiles) {
    put_profile(json, profile);
  }
  json->end_array();
  json->member("profiles_not_listed", host.hidden_profiles);
  json->end_object();
}

}  // namespace

std::string status_json(const Snapshot& snapshot) {
  JsonWriter json;
  json.begin_object();
  json.member("schema", kSchema);
  json.member("time", snapshot.time_s);
  json.key("hosts");
  json.begin_array();
  for (const HostSample& host : snapshot.hosts) {
    put_host(&json, host);
  }
  json.end_array();
  json.end_object();
  return json.text() + "\n";
}

}  // namespace setsuna::monitor
