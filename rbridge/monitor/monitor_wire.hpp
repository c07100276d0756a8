// How a program of the same user looks into a running host (`setsuna top` and its kin): questions and answers over a
// SOCK_SEQPACKET socket with an abstract name. The host answers on its reactor thread, when asked and never else. What daemons
// do is not asked for: the viewer reads it in the segment, of which it is given a descriptor that cannot be mapped for writing.
#pragma once

#include <cstdint>
#include <type_traits>

namespace setsuna::monitor {

inline constexpr std::uint64_t kMonitorMagic = 0x524F'5449'4E4F'4D53ULL;  // "SMONITOR", little endian
inline constexpr std::uint32_t kMonitorVersion = 1;
// The abstract name: kMonitorPrefix, UID, '-', PID, '-', and digits that nobody can guess and take before. The numbers are
// hints only: each side asks the kernel who the other one is.
inline constexpr char kMonitorPrefix[] = "setsuna-monitor-";
inline constexpr std::uint32_t kMonitorProfiles = 64;  // that an answer names
inline constexpr std::uint32_t kMonitorLinks = 1024;   // of a profile that an answer shows
inline constexpr std::size_t kMonitorMessageBytes = 120 << 10;

enum class MonitorAsk : std::uint32_t {
  kHost = 1,     // MonitorHost
  kProfile = 2,  // MonitorProfile, MonitorLink ...
  kLatency = 3,  // MonitorLatency, MonitorBucket ...
  kSegment = 4,  // MonitorHead, and the descriptor
};

struct MonitorRequest {
  std::uint64_t magic;
  std::uint32_t version;
  MonitorAsk ask;
  std::uint64_t serial;    // of the profile
  std::uint64_t sequence;  // comes back with the answer
};

struct MonitorHead {
  std::uint64_t magic;
  std::uint32_t version;
  MonitorAsk ask;
  std::uint64_t layout_hash;  // of the host's segments
  std::uint64_t sequence;
  std::uint32_t found;  // 0: there is no such profile (any more), or it cannot be given
  std::uint32_t count;  // entries behind the structure
};

struct MonitorHost {
  MonitorHead head;
  std::int32_t pid;
  std::uint32_t profiles;    // more than kMonitorProfiles: the others are not named
  std::uint64_t started_ns;  // CLOCK_MONOTONIC
  char version[32];
  char backend[96];  // how it waits for the kernel
  std::uint64_t serials[kMonitorProfiles];
};

struct MonitorProfile {
  MonitorHead head;
  std::uint64_t serial;
  char name[128];
  char url[256];  // the first at which daemons may join, or ""
  std::uint32_t dispatcher;
  std::uint32_t ephemeral;    // no daemons: a process for each task
  std::uint32_t connections;  // daemons online
  std::uint32_t daemons;      // records of the segment that have been used
  std::uint32_t links;        // remote daemons; more than kMonitorLinks: the others are not shown
  std::uint32_t reserved;
  std::uint64_t awaiting, executing, completed;
  std::uint64_t spilled;  // of those awaiting: in the host's own queue
  std::uint64_t started;  // daemons that ever came online
  std::uint64_t respawns;
  std::uint64_t used_bytes, budget_bytes;       // arguments of unfinished tasks
  std::uint64_t resident_bytes, segment_bytes;  // shared memory
};

struct MonitorLink {
  std::uint32_t index;
  std::int32_t pid;  // on its own machine
  std::uint32_t leaving;
  std::uint32_t in_flight;
  std::uint64_t assigned, completed;
};

// From submit to harvest, since the profile began.
struct MonitorLatency {
  MonitorHead head;
  std::uint64_t sum_ns, max_ns;
};

struct MonitorBucket {
  std::uint32_t bucket;  // of runtime::Histogram
  std::uint32_t reserved;
  std::uint64_t count;
};

static_assert(std::is_trivially_copyable_v<MonitorRequest> && sizeof(MonitorRequest) == 32);
static_assert(std::is_trivially_copyable_v<MonitorHost> && sizeof(MonitorHost) == 40 + 16 + 128 + 8 * kMonitorProfiles);
static_assert(std::is_trivially_copyable_v<MonitorProfile> && sizeof(MonitorProfile) == 40 + 8 + 384 + 24 + 80);
static_assert(sizeof(MonitorLink) == 32 && sizeof(MonitorBucket) == 16);
static_assert(sizeof(MonitorProfile) + kMonitorLinks * sizeof(MonitorLink) <= kMonitorMessageBytes);

}  // namespace setsuna::monitor
