// What hosts and remote daemons say to each other: the messages of a net::Connection, each with its struct as the head.
// Little endian, like every machine that setsuna runs on; the greeting says so and is compared first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "runtime/layout.hpp"

namespace setsuna::dispatch {

// Of the messages below. Net compares its own (of the frames) before it; either differing is a named error on both sides.
inline constexpr std::uint16_t kLinkVersion = 2;

// Said by both sides in the handshake (net::Connection::peer_greeting()).
struct LinkGreeting {
  std::uint32_t byte_order = 0x01020304;
  std::uint16_t link_version = kLinkVersion;
  std::uint16_t pad = 0;
  std::uint64_t build_id[2] = {0, 0};  // embed::build_id(): package version and R version
  char package_version[16] = {};       // for messages, NUL-terminated
  char r_version[16] = {};
  std::int32_t pid = 0;
  char host[68] = {};  // node name of the sender, NUL-terminated
};
static_assert(sizeof(LinkGreeting) == 128);

// A task's name on a link: slot and generation. Never used again while the host lives, but for 2^32 uses of one slot.
constexpr std::uint64_t link_task_id(std::uint32_t slot, std::uint32_t generation) {
  return (std::uint64_t{slot} << 32) | generation;
}
constexpr std::uint32_t link_task_slot(std::uint64_t id) { return static_cast<std::uint32_t>(id >> 32); }
constexpr std::uint32_t link_task_generation(std::uint64_t id) { return static_cast<std::uint32_t>(id); }

enum class LinkMessage : std::uint16_t {
  // host -> daemon, data lane
  kWelcome = 1,   // first. Head: LinkWelcome. Body: the profile's serialisation hooks, encoded; may be empty
  kConstant = 2,  // id: its key. Body: a constant, as it lies in the data area. Kept until kForget
  kForget = 3,    // id: key
  kTask = 4,      // id: link_task_id. Head: LinkTask. Body: the arguments
  // host -> daemon, control lane
  kCancel =
      5,  // id: interrupt this task if it runs, drop it if it waits. A kResult follows in either case. Of a range,
          // with LinkCancel as its head: one element. If that runs, a kRange follows, and what waits is given back
  kRetract =
      6,  // id: give it back if it has not begun. Answer: kRetracted or, in its time, kResult. A range that has begun:
          // give back what of it has not. Answer: kRange
  kKill = 7,  // the process must end now: the task that it runs cannot be interrupted
  kStop = 8,  // leave after what it runs. LinkStop
  // daemon -> host, data lane
  kResult = 9,    // id: of the task. Head: LinkResult. Body: the result, encoded
  kElement = 12,  // id: of a range. Head: LinkElement. Body: an outcome too large for its kRange, which follows
  kRange = 13,    // id: of a range. Head: LinkRange. Body: entries of elements (map_range.hpp) since the one before
  // daemon -> host, control lane
  kRetracted = 10,  // id: this task will not be run by the sender
  kLeaving =
      11,  // it ends of its own will and will begin no other task. LinkLeaving. The connection is closed after it
};

struct LinkWelcome {
  std::int32_t index = 0;  // of the daemon in its profile, for its random stream
  std::uint32_t instance = 0;
  std::int32_t stream[6] = {};  // base stream of the profile: daemon k has stream k
  std::uint32_t encoding = 0;   // Control::encoding of the profile: how results are to be encoded
  std::uint32_t pad = 0;
};
static_assert(sizeof(LinkWelcome) == 40);

struct LinkTask {
  runtime::TaskKind kind = runtime::TaskKind::kEval;
  std::uint8_t pad[3] = {};
  std::uint32_t flags = 0;      // runtime::kTaskHasStream, kTaskSpread
  std::int32_t rng[6] = {};     // with kTaskHasStream
  std::uint64_t const_key = 0;  // 0: none; else a kConstant that went before and was not forgotten
};
static_assert(sizeof(LinkTask) == 40);

// A daemon has begun at most so many of the tasks whose results it has not sent: the rest wait where a death does not reach
// them. Twice as many results may be missing: those of as many that have just been done may be lost on their way out.
inline constexpr std::uint32_t kLinkAhead = 4;
inline constexpr std::uint32_t kLinkBegunMost = 2 * kLinkAhead;

// A range counts as so many of them: it is short, but its elements are many.
inline constexpr std::uint32_t kRangeWeight = 2;

struct LinkResult {
  runtime::ResultStatus status = runtime::ResultStatus::kValue;
  // Since the task came, or since the result before: what it costs to wait behind such a task.
  std::uint32_t took_us = 0;
  std::uint32_t element_ns = 0;  // of an element of a map, as it was measured; 0: unknown
  std::uint32_t pad = 0;
};
static_assert(sizeof(LinkResult) == 16);

struct LinkCancel {
  std::uint32_t position = 0;  // of the element in its range
};

struct LinkElement {
  runtime::ResultStatus status = runtime::ResultStatus::kValue;
  std::uint32_t position = 0;
};
static_assert(sizeof(LinkElement) == 8);

struct LinkRange {
  std::uint64_t taken = 0;  // bits of the elements that the sender will not begin
  std::uint32_t count = 0;  // entries
  std::uint32_t took_us = 0;
  std::uint32_t element_ns = 0;
  std::uint8_t final = 0;    // 1: the last word about this range
  std::uint8_t damaged = 0;  // 1: outcomes of the elements that were begun cannot be told
  std::uint8_t pad[2] = {};
};
static_assert(sizeof(LinkRange) == 24);

struct LinkStop {
  std::uint32_t final = 0;  // 1: also those that would wait for another host
};

struct LinkLeaving {
  std::uint32_t reason = 0;  // 0 normal, 1 idletime, 2 walltime, 3 maxtasks
};

// --- Types and heads as a net::Connection takes them -------------------------------------------------------

constexpr std::uint16_t type_of(LinkMessage message) { return static_cast<std::uint16_t>(message); }

template <class Head>
std::span<const std::byte> bytes_of(const Head& head) {
  static_assert(std::is_trivially_copyable_v<Head>);
  return std::as_bytes(std::span(&head, 1));
}

// The struct at the head of a message. False: the message is too short for it, *head stays as it is.
template <class Head>
bool read_head(std::span<const std::byte> from, Head* head) {
  static_assert(std::is_trivially_copyable_v<Head>);
  if (from.size() < sizeof(Head)) {
    return false;
  }
  std::memcpy(static_cast<void*>(head), from.data(), sizeof(Head));
  return true;
}

}  // namespace setsuna::dispatch
