// Records of a trace as events in the format that Chrome and Perfetto read: elements of one JSON array. Pure: it appends text.
//
// The session is a process with three threads: 1 has "submit", 2 has "harvest", and "queued" and "result" (a task that waits
// in the queue; its result that waits to be fetched) are asynchronous events. Each daemon is a process with "decode",
// "evaluate" and "encode", or the one event of a task that did not come so far, named for its outcome.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "dispatch/trace.hpp"

namespace setsuna::dispatch {

const char* outcome_name(TraceOutcome outcome);
const char* kind_name(runtime::TaskKind kind);

class TraceJson {
 public:
  TraceJson(std::string profile, std::int32_t host_pid) : profile_(std::move(profile)), host_pid_(host_pid) {}

  // What the array begins with: the session's names.
  void append_head(std::string& to) const;
  // The events of one record, each with a comma before it.
  void append(std::string& to, const TraceRecord& record, std::uint64_t started_ns);

 private:
  void name_daemon(std::string& to, const RunStamps& run);

  std::string profile_;
  std::int32_t host_pid_;
  std::unordered_set<std::uint64_t> named_;
};

}  // namespace setsuna::dispatch
