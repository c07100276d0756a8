#include "rbridge/monitor/view/top_model.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <utility>

#include "rbridge/monitor/view/format.hpp"

namespace setsuna::monitor {
namespace {

using Style = TopLine::Style;

constexpr double kIntervalLeast = 0.1;
constexpr double kIntervalMost = 60;
constexpr std::size_t kDetailLines = 3;
constexpr std::size_t kNarrowest = 40;
constexpr std::size_t kLowest = 8;

constexpr char kDaemonHeader[] = "    DAEMON        PID  STATE      COMPLETED    TASKS/S  CPU%    MEMORY";

const char* const kHelp[] = {
    "  h, q               close this help; end",
    "  up, down, j, k     choose a session or a daemon; its details are below",
    "  PgUp PgDn Home End the same, faster",
    "  s                  sort daemons by number, rate, completed, CPU, memory",
    "  space              stop, and go on",
    "  + -                look more often, less often",
    "",
    "Each session (a line with its PID and command) is followed by its compute",
    "profiles and their daemons.",
    "",
    "  awaiting = tasks that no daemon has begun: ready ones fill slots of the",
    "  shared queue, spilled ones wait in the session for a slot.",
    "  latency  = from mirai() until the session has the result, of the tasks",
    "  answered in the last 10 s.",
};

// Text that may be longer than a line, in lines of the window.
void append_wrapped(std::vector<TopLine>* lines, std::string_view text, std::size_t width, Style style) {
  for (const std::string& line : wrap(text, width)) {
    lines->push_back({fit(line, width), style, false});
  }
}

const char* sort_name(TopSort sort) {
  switch (sort) {
    case TopSort::kIndex: return "number";
    case TopSort::kRate: return "rate";
    case TopSort::kCompleted: return "completed";
    case TopSort::kCpu: return "CPU";
    case TopSort::kMemory: return "memory";
  }
  return "";
}

double sort_value(const DaemonSample& daemon, TopSort sort) {
  switch (sort) {
    case TopSort::kRate: return daemon.tasks_per_second;
    case TopSort::kCompleted: return static_cast<double>(daemon.completed);
    case TopSort::kCpu: return daemon.cpu_percent;
    case TopSort::kMemory: return static_cast<double>(daemon.resident_bytes);
    case TopSort::kIndex: break;
  }
  return 0;
}

std::string number(const char* format, double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), format, value);
  return buffer;
}

std::string clock_text(double time_s) {
  const auto seconds = static_cast<std::time_t>(time_s);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char buffer[16];
  return std::string(buffer, std::strftime(buffer, sizeof(buffer), "%H:%M:%S", &local));
}

std::string daemon_text(const DaemonSample& daemon) {
  return "    " + fit((daemon.remote ? "remote " : "") + std::to_string(daemon.index + 1), 10) +
         fit(std::to_string(daemon.pid), 7, true) + "  " + fit(state_name(daemon.state), 8) +
         fit(format_count(daemon.completed), 12, true) + fit(format_rate(daemon.tasks_per_second), 11, true) +
         fit(format_percent(daemon.cpu_percent), 6, true) +
         fit(daemon.resident_bytes > 0 ? format_bytes(daemon.resident_bytes) : "-", 10, true);
}

std::string latency_text(const LatencySample& recent) {
  if (recent.count == 0) {
    return "latency  no task was answered in the last 10 s";
  }
  return "latency  p50 " + format_duration(recent.p50_ns) + "  p90 " + format_duration(recent.p90_ns) + "  p99 " +
         format_duration(recent.p99_ns) + "  p99.9 " + format_duration(recent.p999_ns);
}

}  // namespace

void TopModel::show(Snapshot snapshot, std::string problem) {
  if (!paused_) {
    shown_ = std::move(snapshot);
    problem_ = std::move(problem);
  }
}

bool TopModel::on_key(TopKey key) {
  if (key == TopKey::kQuit) {
    return false;
  }
  if (key == TopKey::kHelp || help_) {
    help_ = !help_;
    return true;
  }
  switch (key) {
    case TopKey::kUp: move(-1); break;
    case TopKey::kDown: move(1); break;
    case TopKey::kPageUp: move(-static_cast<int>(page_)); break;
    case TopKey::kPageDown: move(static_cast<int>(page_)); break;
    case TopKey::kHome: move(-1'000'000); break;
    case TopKey::kEnd: move(1'000'000); break;
    case TopKey::kSort: sort_ = static_cast<TopSort>((static_cast<int>(sort_) + 1) % 5); break;
    case TopKey::kPause: paused_ = !paused_; break;
    case TopKey::kFaster: interval_s_ = std::max(kIntervalLeast, interval_s_ / 2); break;
    case TopKey::kSlower: interval_s_ = std::min(kIntervalMost, interval_s_ * 2); break;
    default: break;
  }
  return true;
}

std::vector<const DaemonSample*> TopModel::sorted(const ProfileSample& profile) const {
  std::vector<const DaemonSample*> daemons;
  for (const DaemonSample& daemon : profile.daemons) {
    daemons.push_back(&daemon);
  }
  std::stable_sort(daemons.begin(), daemons.end(), [&](const DaemonSample* a, const DaemonSample* b) {
    return sort_value(*a, sort_) > sort_value(*b, sort_);
  });
  return daemons;
}

void TopModel::add_profile(const HostSample& host, const ProfileSample& profile, std::vector<Row>* rows) const {
  const auto plain = [&](const std::string& text, Style style) {
    rows->push_back({"", {"  " + text, style, false}, &host, &profile, nullptr});
  };
  plain(title_of(profile) + "  " + format_daemons(profile.connections) + "  " + format_rate(profile.tasks_per_second) +
            " tasks/s  " + format_count(profile.completed) + " completed  " + format_count(profile.respawns) +
            " respawns",
        Style::kProfile);
  plain("queue    " + format_count(profile.awaiting) + " awaiting (" + format_count(profile.ready) + " ready, " +
            format_count(profile.spilled) + " spilled)  " + format_count(profile.executing) + " executing  " +
            format_count(profile.done) + " uncollected",
        Style::kPlain);
  plain(latency_text(profile.recent), Style::kPlain);
  plain("memory   arguments " + format_bytes(profile.used_bytes) + " of " + format_bytes(profile.budget_bytes) +
            "  shared " + format_bytes(profile.resident_bytes) + " of " + format_bytes(profile.segment_bytes),
        Style::kPlain);
  if (!profile.daemons.empty()) {
    rows->push_back({"", {kDaemonHeader, Style::kHeader, false}, &host, &profile, nullptr});
  }
  for (const DaemonSample* daemon : sorted(profile)) {
    const std::string key = std::to_string(host.pid) + "/" + std::to_string(profile.serial) +
                            (daemon->remote ? "/r" : "/l") + std::to_string(daemon->index);
    const Style style = daemon->state == DaemonSample::State::kDead ? Style::kDim : Style::kPlain;
    rows->push_back({key, {daemon_text(*daemon), style, false}, &host, &profile, daemon});
  }
  if (profile.hidden_links > 0) {
    plain("  and " + format_count(profile.hidden_links) + " more", Style::kDim);
  }
}

void TopModel::add_host(const HostSample& host, std::vector<Row>* rows) const {
  const std::string text = fit(std::to_string(host.pid), 7, true) + "  up " + fit(format_uptime(host.uptime_s), 7) +
                           fit(format_bytes(host.resident_bytes), 8, true) + "  " +
                           printable(short_command(host.command));
  rows->push_back({std::to_string(host.pid), {text, Style::kHost, false}, &host, nullptr, nullptr});
  if (!host.problem.empty()) {
    rows->push_back({"", {"  " + host.problem, Style::kWarning, false}, &host, nullptr, nullptr});
  }
  for (const ProfileSample& profile : host.profiles) {
    add_profile(host, profile, rows);
  }
  if (host.profiles.empty() && host.problem.empty()) {
    rows->push_back({"", {"  no daemons are set", Style::kDim, false}, &host, nullptr, nullptr});
  }
}

std::vector<TopModel::Row> TopModel::rows() const {
  std::vector<Row> rows;
  for (const HostSample& host : shown_.hosts) {
    add_host(host, &rows);
  }
  return rows;
}

// Of the chosen line; where it has gone, of the next one that can be chosen.
std::size_t TopModel::position(const std::vector<Row>& rows) const {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!chosen_.empty() && rows[i].key == chosen_) {
      return i;
    }
  }
  for (std::size_t i = std::min(chosen_at_, rows.size()); i < rows.size(); ++i) {
    if (!rows[i].key.empty()) {
      return i;
    }
  }
  for (std::size_t i = rows.size(); i-- > 0;) {
    if (!rows[i].key.empty()) {
      return i;
    }
  }
  return 0;
}

void TopModel::move(int by) {
  const std::vector<Row> all = rows();
  if (all.empty()) {
    return;
  }
  std::size_t at = position(all);
  const bool down = by > 0;
  for (int left = down ? by : -by; left > 0; --left) {
    std::size_t next = at;
    do {
      if (down ? next + 1 >= all.size() : next == 0) {
        next = all.size();
        break;
      }
      next += down ? 1 : static_cast<std::size_t>(-1);
    } while (all[next].key.empty());
    if (next == all.size()) {
      break;
    }
    at = next;
  }
  chosen_ = all[at].key;
  chosen_at_ = at;
}

std::string TopModel::title(std::size_t width) const {
  std::string text = "setsuna top  " + (paused_ ? "PAUSED" : clock_text(shown_.time_s)) + "  " +
                     std::to_string(shown_.hosts.size()) + (shown_.hosts.size() == 1 ? " session" : " sessions");
  const std::string more = "  every " + number("%.3g", interval_s_) + " s  by " + sort_name(sort_);
  const auto with = [&](const std::string& left, std::string_view right) {
    return fit(left, width - right.size()).append(right);
  };
  // A narrow window has at least the way to what the rest would say.
  constexpr std::string_view kKeys = "h help  q quit ", kHelpKey = " h help";
  if (text.size() + more.size() + kKeys.size() + 1 < width) {
    return with(text + more, kKeys);
  }
  return text.size() + kHelpKey.size() <= width ? with(text, kHelpKey) : fit(text, width);
}

std::vector<std::string> TopModel::details(const Row* row) const {
  if (row == nullptr) {
    return {};
  }
  const HostSample& host = *row->host;
  if (row->daemon == nullptr) {
    return {
        "session " + std::to_string(host.pid) + ": " + printable(host.command),
        "setsuna " + printable(host.version) + ", " + printable(host.backend),
        host.hidden_profiles > 0 ? "and " + format_count(host.hidden_profiles) + " profiles that are not shown" : ""};
  }
  const DaemonSample& daemon = *row->daemon;
  return {std::string(daemon.remote ? "remote" : "local") + " daemon " + std::to_string(daemon.index + 1) +
              " of profile " + printable(row->profile->name) + " of session " + std::to_string(host.pid) +
              ", process " + std::to_string(daemon.pid) + (daemon.remote ? " over there" : ""),
          std::string(state_name(daemon.state)) + ", " + format_count(daemon.assigned) + " tasks assigned, " +
              format_count(daemon.completed) + " completed" +
              (daemon.epoch > 1 ? ", process number " + std::to_string(daemon.epoch) + " in this place" : ""),
          row->profile->url.empty() ? "" : "daemons may join at " + printable(row->profile->url)};
}

std::vector<TopLine> TopModel::help(std::size_t width, std::size_t height) const {
  std::vector<TopLine> lines{{fit(" setsuna top: help", width), Style::kBar, false}};
  for (const char* line : kHelp) {
    append_wrapped(&lines, line, width, Style::kPlain);
  }
  lines.resize(height, {std::string(width, ' '), Style::kPlain, false});
  return lines;
}

std::vector<TopLine> TopModel::render(std::size_t width, std::size_t height) {
  if (width < kNarrowest || height < kLowest) {
    std::vector<TopLine> lines;
    append_wrapped(&lines, "too small: make it " + std::to_string(kNarrowest) + " by " + std::to_string(kLowest), width,
                   Style::kPlain);
    lines.resize(height, {std::string(width, ' '), Style::kPlain, false});
    return lines;
  }
  if (help_) {
    return help(width, height);
  }
  std::vector<Row> all = rows();
  std::vector<TopLine> lines{{title(width), Style::kBar, false}};
  page_ = height - 2 - kDetailLines;  // the title, a rule, the details
  const Row* chosen = nullptr;
  if (all.empty()) {
    append_wrapped(&lines, problem_, width, Style::kWarning);
  } else {
    const std::size_t at = position(all);
    chosen = &all[at];
    chosen_ = all[at].key;
    chosen_at_ = at;
    first_ = at < first_ ? at : at >= first_ + page_ ? at - page_ + 1 : first_;
    first_ = std::min(first_, all.size() > page_ ? all.size() - page_ : 0);
    for (std::size_t i = first_; i < std::min(all.size(), first_ + page_); ++i) {
      all[i].line.text = fit(all[i].line.text, width);
      all[i].line.selected = i == at;
      all[i].line.text[0] = i == at ? '>' : all[i].line.text[0];
      lines.push_back(all[i].line);
    }
  }
  lines.resize(1 + page_, {std::string(width, ' '), Style::kPlain, false});
  lines.push_back({std::string(width, '-'), Style::kDim, false});
  for (const std::string& line : details(chosen)) {
    lines.push_back({fit(line, width), Style::kPlain, false});
  }
  lines.resize(height, {std::string(width, ' '), Style::kPlain, false});
  return lines;
}

}  // namespace setsuna::monitor
