#include "dispatch/trace_json.hpp"

#include <algorithm>
#include <charconv>

#include "dispatch/links.hpp"
#include "runtime/json_string.hpp"

namespace setsuna::dispatch {

namespace {

// Remote daemons may have the process number of a local one: they get numbers that no process has.
constexpr std::uint64_t kRemoteProcesses = std::uint64_t{1} << 30;
constexpr int kSubmitThread = 1;
constexpr int kHarvestThread = 2;

void append_number(std::string& to, std::uint64_t number) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof(text), number).ptr;
  to.append(text, end);
}

// The format's unit is the microsecond.
void append_us(std::string& to, std::uint64_t ns) {
  append_number(to, ns / 1000);
  const auto rest = static_cast<unsigned>(ns % 1000);
  if (rest != 0) {
    const char text[4] = {'.', static_cast<char>('0' + rest / 100), static_cast<char>('0' + rest / 10 % 10),
                          static_cast<char>('0' + rest % 10)};
    to.append(text, sizeof(text));
  }
}

bool is_remote(const RunStamps& run) { return run.daemon != kNoDaemon && is_link_queue(run.daemon); }

std::uint64_t process_of(const RunStamps& run) {
  return is_remote(run) ? kRemoteProcesses + (run.daemon - kLinkQueueBase) : run.pid;
}

// Appends events of one record.
class Events {
 public:
  Events(std::string& to, std::uint64_t started_ns, std::uint64_t task)
      : to_(to), started_ns_(started_ns), task_(task) {}

  void complete(const char* name, std::uint64_t pid, std::uint64_t tid, std::uint64_t from_ns, std::uint64_t until_ns,
                const char* flow) {
    begin("X", name, pid, tid, from_ns);
    to_ += ",\"dur\":";
    append_us(to_, until_ns - from_ns);
    if (flow[0] != '\0') {
      to_ += ",\"bind_id\":\"";
      append_number(to_, task_);
      to_ += '"';
      to_ += flow;
    }
    end();
  }
  // What overlaps with others of its kind.
  void asynchronous(const char* name, std::uint64_t pid, std::uint64_t from_ns, std::uint64_t until_ns) {
    for (const bool first : {true, false}) {
      begin(first ? "b" : "e", name, pid, kSubmitThread, first ? from_ns : until_ns);
      to_ += ",\"cat\":\"wait\",\"id\":";
      append_number(to_, task_);
      end();
    }
  }

 private:
  void begin(const char* phase, const char* name, std::uint64_t pid, std::uint64_t tid, std::uint64_t at_ns) {
    to_ += ",\n{\"ph\":\"";
    to_ += phase;
    to_ += "\",\"name\":\"";
    to_ += name;
    to_ += "\",\"pid\":";
    append_number(to_, pid);
    to_ += ",\"tid\":";
    append_number(to_, tid);
    to_ += ",\"ts\":";
    append_us(to_, std::max(at_ns, started_ns_) - started_ns_);
  }
  void end() {
    to_ += ",\"args\":{\"task\":";
    append_number(to_, task_);
    to_ += "}}";
  }

  std::string& to_;
  std::uint64_t started_ns_;
  std::uint64_t task_;
};

constexpr const char* kFlowsOut = ",\"flow_out\":true";
constexpr const char* kFlowsThrough = ",\"flow_in\":true,\"flow_out\":true";
constexpr const char* kFlowsIn = ",\"flow_in\":true";

void append_name(std::string& to, const char* what, std::uint64_t pid, std::uint64_t tid, const std::string& name) {
  to += "{\"ph\":\"M\",\"name\":\"";
  to += what;
  to += "\",\"pid\":";
  append_number(to, pid);
  to += ",\"tid\":";
  append_number(to, tid);
  to += ",\"args\":{\"name\":";
  runtime::append_json_string(to, name);
  to += "}}";
}

}  // namespace

const char* outcome_name(TraceOutcome outcome) {
  constexpr const char* kNames[] = {"value",     "error",     "interrupted", "damaged",
                                    "cancelled", "timed out", "closed",      "died"};
  return kNames[static_cast<std::size_t>(outcome)];
}

const char* kind_name(runtime::TaskKind kind) {
  switch (kind) {
    case runtime::TaskKind::kMapElement: return "map";
    case runtime::TaskKind::kEverywhere: return "everywhere";
    default: return "mirai";
  }
}

void TraceJson::append_head(std::string& to) const {
  const auto pid = static_cast<std::uint64_t>(host_pid_);
  append_name(to, "process_name", pid, 0, "session, profile " + profile_);
  to += ",\n";
  append_name(to, "thread_name", pid, kSubmitThread, "submit");
  to += ",\n";
  append_name(to, "thread_name", pid, kHarvestThread, "harvest");
}

void TraceJson::name_daemon(std::string& to, const RunStamps& run) {
  const std::uint64_t process = process_of(run);
  if (!named_.insert(process).second) {
    return;
  }
  const std::string number = std::to_string((is_remote(run) ? run.daemon - kLinkQueueBase : run.daemon) + 1);
  to += ",\n";
  append_name(to, "process_name", process, 0,
              is_remote(run) ? "remote daemon " + number + " (process " + std::to_string(run.pid) + " there)"
                             : "daemon " + number);
  to += ",\n";
  append_name(to, "thread_name", process, process, "evaluation");
}

void TraceJson::append(std::string& to, const TraceRecord& record, std::uint64_t started_ns) {
  Events events(to, started_ns, record.task);
  const RunStamps& run = record.run;
  const auto host = static_cast<std::uint64_t>(host_pid_);
  const bool ran = run.claimed_ns != 0 && run.daemon != kNoDaemon;
  // All elements of a map are submitted at once.
  if (record.submitted_ns < record.queued_ns) {
    events.complete("submit", host, kSubmitThread, record.submitted_ns, record.queued_ns, kFlowsOut);
  }
  events.asynchronous("queued", host, record.queued_ns, ran ? run.claimed_ns : record.harvested_ns);
  if (ran) {
    name_daemon(to, run);
    const std::uint64_t process = process_of(run);
    const StageEnds ends = stage_ends(record);
    if (ends.encoded_ns != 0) {
      events.complete("decode", process, process, run.claimed_ns, ends.decoded_ns, kFlowsThrough);
      events.complete("evaluate", process, process, ends.decoded_ns, ends.evaluated_ns, "");
      events.complete("encode", process, process, ends.evaluated_ns, ends.encoded_ns, "");
      events.asynchronous("result", host, ends.encoded_ns, record.harvested_ns);
    } else if (ends.evaluated_ns != 0) {
      const std::uint64_t took_ns =
          std::min(static_cast<std::uint64_t>(run.evaluate_ns), ends.evaluated_ns - run.claimed_ns);
      events.complete("evaluate", process, process, ends.evaluated_ns - took_ns, ends.evaluated_ns, kFlowsThrough);
    } else {
      events.complete(outcome_name(record.outcome), process, process, run.claimed_ns, record.harvested_ns,
                      kFlowsThrough);
    }
  } else if (record.outcome != TraceOutcome::kValue) {
    events.complete(outcome_name(record.outcome), host, kHarvestThread, record.harvested_ns, record.harvested_ns, "");
  }
  events.complete("harvest", host, kHarvestThread, record.harvested_ns, record.harvested_ns, kFlowsIn);
}

}  // namespace setsuna::dispatch
