#include "monitor_facts.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "host.hpp"
#include "rbridge/embed/build_id.hpp"
#include "runtime/layout.hpp"

namespace setsuna::host {
namespace {

using monitor::MonitorAsk;
using monitor::MonitorHead;
using monitor::MonitorRequest;

template <std::size_t N>
void set_text(char (&to)[N], const std::string& text) {
  std::snprintf(to, N, "%s", text.c_str());
}

template <class T>
void append(std::vector<std::byte>* bytes, const T& part) {
  const auto* from = reinterpret_cast<const std::byte*>(&part);
  bytes->insert(bytes->end(), from, from + sizeof(part));
}

void facts_of_host(Host& host, monitor::MonitorHost* out) {
  out->pid = ::getpid();
  out->started_ns = host.started_ns();
  set_text(out->version, embed::kPackageVersion);
  set_text(out->backend, host.backend());
  for (std::uint32_t i = 0; i < host.profile_count(); ++i) {
    Profile* profile = host.profile(i);
    if (profile == nullptr || profile->pool().closed()) {
      continue;
    }
    if (out->profiles < monitor::kMonitorProfiles) {
      out->serials[out->profiles] = profile->serial;
    }
    ++out->profiles;
  }
  out->head.found = 1;
}

std::vector<monitor::MonitorLink> links_of(Profile& profile, std::uint32_t* all) {
  std::vector<monitor::MonitorLink> links;
  const auto& infos = profile.pool().links();
  for (std::uint32_t i = 0; i < infos.size(); ++i) {
    const dispatch::LinkInfo& info = infos[i];
    if (info.state == dispatch::LinkInfo::State::kVacant) {
      continue;
    }
    if (++*all <= monitor::kMonitorLinks) {
      links.push_back({i, info.pid, info.state == dispatch::LinkInfo::State::kLeaving ? 1U : 0U, info.in_flight,
                       info.assigned, info.completed});
    }
  }
  return links;
}

// No harvest: who looks changes nothing.
void facts_of_profile(Profile& profile, monitor::MonitorProfile* out) {
  const dispatch::Counts counts = profile.pool().counts(profile.executing());
  const runtime::ArenaUse use = profile.arena().use();
  out->serial = profile.serial;
  set_text(out->name, profile.config().name);
  set_text(out->url, profile.seats.count() > 0 ? profile.seats[0].text : std::string());
  out->dispatcher = profile.pool().config().dispatcher ? 1 : 0;
  out->ephemeral = profile.pool().config().ephemeral ? 1 : 0;
  out->connections = counts.connections;
  out->daemons = static_cast<std::uint32_t>(profile.pool().daemons().size());
  out->awaiting = counts.awaiting;
  out->executing = counts.executing;
  out->completed = counts.completed;
  out->spilled = profile.pool().spilled();
  out->started = counts.cumulative;
  for (const dispatch::DaemonInfo& daemon : profile.pool().daemons()) {
    out->respawns += daemon.instance > 1 ? daemon.instance - 1 : 0;
  }
  out->used_bytes = profile.pool().used_bytes();
  out->budget_bytes = profile.pool().config().budget_bytes;
  out->resident_bytes = use.segment_backed;
  out->segment_bytes = use.segment_total;
  out->head.found = 1;
}

std::vector<monitor::MonitorBucket> buckets_of(const runtime::Histogram& histogram) {
  std::vector<monitor::MonitorBucket> buckets;
  for (std::uint32_t i = 0; i < runtime::Histogram::kBuckets; ++i) {
    if (const std::uint64_t count = histogram.bucket(i); count > 0) {
      buckets.push_back({i, 0, count});
    }
  }
  return buckets;
}

template <class Facts, class Entry>
std::vector<std::byte> packed(const Facts& facts, const std::vector<Entry>& entries) {
  std::vector<std::byte> bytes;
  append(&bytes, facts);
  for (const Entry& entry : entries) {
    append(&bytes, entry);
  }
  return bytes;
}

}  // namespace

MonitorAnswer answer_monitor(Host& host, const MonitorRequest& request) {
  MonitorAnswer answer;
  const MonitorHead head{
      monitor::kMonitorMagic, monitor::kMonitorVersion, request.ask, runtime::kLayoutHash, request.sequence, 0, 0};
  if (request.magic != monitor::kMonitorMagic) {
    return answer;
  }
  const bool known = request.version == monitor::kMonitorVersion;
  const std::lock_guard<std::mutex> lock(host.mutex());
  Profile* profile = host.profile_by_serial(request.serial);
  profile = profile == nullptr || profile->pool().closed() ? nullptr : profile;
  if (request.ask == MonitorAsk::kHost && known) {
    monitor::MonitorHost facts{head, 0, 0, 0, {}, {}, {}};
    facts_of_host(host, &facts);
    append(&answer.bytes, facts);
  } else if (request.ask == MonitorAsk::kProfile && known && profile != nullptr) {
    monitor::MonitorProfile facts{};
    facts.head = head;
    facts_of_profile(*profile, &facts);
    const auto links = links_of(*profile, &facts.links);
    facts.head.count = static_cast<std::uint32_t>(links.size());
    answer.bytes = packed(facts, links);
  } else if (request.ask == MonitorAsk::kLatency && known && profile != nullptr && profile->latency() != nullptr) {
    const auto buckets = buckets_of(*profile->latency());
    monitor::MonitorLatency facts{head, profile->latency()->sum(), profile->latency()->max()};
    facts.head.found = 1;
    facts.head.count = static_cast<std::uint32_t>(buckets.size());
    answer.bytes = packed(facts, buckets);
  } else {
    MonitorHead alone = head;
    if (request.ask == MonitorAsk::kSegment && known && profile != nullptr) {
      answer.fd = runtime::reopen_for_reading(profile->segment().fd());
      alone.found = answer.fd ? 1 : 0;
    }
    append(&answer.bytes, alone);
  }
  return answer;
}

}  // namespace setsuna::host
