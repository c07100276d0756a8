// The command lines of `setsuna top`, `setsuna status` and `setsuna metrics`.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace setsuna::monitor {

inline constexpr char kTopHelp[] = R"(setsuna top [OPTION ...] [PID]
  shows the R sessions of yours that use setsuna, with their daemons, queues, rates and latencies, as they change. With
  PID only that session. It reads the sessions' shared memory, which it cannot write, and does not slow them down.

  --interval S   seconds from one look to the next: 0.1 to 60, by default 0.25

  In it: arrows, j and k choose a line, s sorts the daemons by another column, space stops and goes on, + and - change
  the interval, h shows help, q ends. Where there is no terminal, use `setsuna status`.

  A session that was started with SETSUNA_MONITOR=off in its environment is not shown, nor is one that has not used
  daemons yet.
)";

inline constexpr char kStatusHelp[] = R"(setsuna status [--json | --prometheus] [PID]
  prints once what `setsuna top` shows, of all R sessions of yours that use setsuna, or of one.

  --json        as JSON, on one line: {"schema": 1, "time": seconds since 1970, "hosts": [HOST, ...]}
    HOST:    pid, command, version, backend, uptime_s, resident_bytes, problem (null or a sentence: why there is nothing
             new of it), profiles [PROFILE, ...], profiles_not_listed
    PROFILE: name, dispatcher, ephemeral (no daemons: a process for each task), url ("": none), daemons_online,
             daemons_started (ever), respawns,
             tasks {awaiting, executing, completed},
             queue {ready: filled slots, spilled: tasks that wait for a slot, uncollected: slots with results},
             memory_bytes {arguments, budget, resident, segment},
             latency_ns {count, mean, p50, p90, p99, p99.9, max}: from mirai() until the session has the result,
             daemons [DAEMON, ...], daemons_not_listed
    DAEMON:  kind "local" or "remote", index, pid (of a remote one: over there), state "starting", "idle", "busy",
             "leaving" or "dead", assigned, completed; of local ones that run also resident_bytes, cpu_seconds
  --prometheus  in the text format of Prometheus, for a textfile collector: see `setsuna metrics`

  Exit status: 0; 1 if there is no such session; 64 if the command line is wrong.
)";

inline constexpr char kMetricsHelp[] = R"(setsuna metrics --port=N
  serves what `setsuna status --prometheus` prints at http://127.0.0.1:N/metrics, until it is interrupted. It answers
  processes of the same user only (others get status 403), on the loopback address only.

  --port N      the port; 0 takes a free one, which is printed
)";

struct MonitorCommand {
  enum class What : std::uint8_t { kTop, kStatus, kMetrics } what = What::kStatus;
  enum class Form : std::uint8_t { kText, kJson, kPrometheus } form = Form::kText;
  bool help = false;
  std::string error;  // a sentence; else:
  std::int32_t pid = 0;
  double interval_s = 0.25;
  std::int32_t port = -1;
};

namespace monitor_command {

template <class T>
bool is_number(std::string_view text, T least, T most, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= least && *out <= most;
}

// True: `word` is this option; *value is what follows it, in the word or in the next.
inline bool takes_value(const std::string& name, const std::vector<std::string>& words, std::size_t* at,
                        std::string* value, MonitorCommand* out) {
  const std::string& word = words[*at];
  if (word.rfind(name + "=", 0) == 0) {
    *value = word.substr(name.size() + 1);
    return true;
  }
  if (word != name) {
    return false;
  }
  if (*at + 1 == words.size()) {
    out->error = name + " takes a value";
  } else {
    *value = words[++*at];
  }
  return true;
}

inline void take_word(const std::vector<std::string>& words, std::size_t* at, MonitorCommand* out) {
  using What = MonitorCommand::What;
  using Form = MonitorCommand::Form;
  const std::string word = words[*at];
  std::string value;
  if (word == "--help" || word == "-h") {
    out->help = true;
  } else if (out->what == What::kStatus && (word == "--json" || word == "--prometheus")) {
    const Form form = word == "--json" ? Form::kJson : Form::kPrometheus;
    if (out->form != Form::kText && out->form != form) {
      out->error = "one of --json and --prometheus is enough";
    }
    out->form = form;
  } else if (out->what == What::kTop && takes_value("--interval", words, at, &value, out)) {
    if (out->error.empty() && !is_number(value, 0.1, 60.0, &out->interval_s)) {
      out->error = "--interval takes seconds from 0.1 to 60, not '" + value + "'";
    }
  } else if (out->what == What::kMetrics && takes_value("--port", words, at, &value, out)) {
    if (out->error.empty() && !is_number(value, 0, 65535, &out->port)) {
      out->error = "--port takes a number from 0 to 65535, not '" + value + "'";
    }
  } else if (out->what == What::kMetrics && takes_value("--address", words, at, &value, out)) {
    if (out->error.empty() && value != "127.0.0.1" && value != "localhost") {
      out->error = "it serves this machine alone: --address can only be 127.0.0.1, not '" + value + "'";
    }
  } else if (word.rfind('-', 0) == 0) {
    out->error = "there is no option '" + word.substr(0, word.find('=')) + "'";
  } else if (out->what == What::kMetrics) {
    out->error = "'" + word + "' is too much: it serves all sessions";
  } else if (out->pid != 0) {
    out->error = "one PID is enough: '" + word + "' is one too many";
  } else if (!is_number(word, 1, 0x7FFFFFFF, &out->pid)) {
    out->error = "a PID is a number, not '" + word + "'";
  }
}

}  // namespace monitor_command

// All words behind the name of the program: the command comes first.
inline MonitorCommand parse_monitor_command(const std::vector<std::string>& words) {
  MonitorCommand out;
  const std::string name = words.empty() ? "" : words[0];
  if (name == "top") {
    out.what = MonitorCommand::What::kTop;
  } else if (name == "metrics") {
    out.what = MonitorCommand::What::kMetrics;
  } else if (name != "status") {
    out.error = name.empty() ? "a command is needed" : "there is no command '" + name + "'";
  }
  for (std::size_t at = 1; at < words.size() && out.error.empty() && !out.help; ++at) {
    monitor_command::take_word(words, &at, &out);
  }
  if (out.error.empty() && !out.help && out.what == MonitorCommand::What::kMetrics && out.port < 0) {
    out.error = "--port is needed: where Prometheus asks, say --port=9200";
  }
  return out;
}

inline const char* help_of(MonitorCommand::What what) {
  switch (what) {
    case MonitorCommand::What::kTop: return kTopHelp;
    case MonitorCommand::What::kStatus: return kStatusHelp;
    case MonitorCommand::What::kMetrics: return kMetricsHelp;
  }
  return "";
}

}  // namespace setsuna::monitor
