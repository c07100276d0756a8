// setsuna-monitor: `setsuna status` and `setsuna metrics`. No R in here.

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "rbridge/monitor/view/metrics_server.hpp"
#include "rbridge/monitor/view/monitor_command.hpp"
#include "rbridge/monitor/view/no_host.hpp"
#include "rbridge/monitor/view/reports.hpp"
#include "rbridge/monitor/view/watcher.hpp"

namespace {

using namespace setsuna;  // NOLINT(google-build-using-namespace): a program of its own
using monitor::MonitorCommand;

constexpr int kUsageStatus = 64;
constexpr int kPatienceMs = 2000;

int print_status(const MonitorCommand& command) {
  monitor::Watcher watcher(command.pid);
  const monitor::Snapshot snapshot = watcher.look(kPatienceMs);
  if (snapshot.hosts.empty()) {
    std::fprintf(stderr, "setsuna status: %s\n", monitor::no_host_message(command.pid, watcher.problem()).c_str());
    return 1;
  }
  const std::string text = command.form == MonitorCommand::Form::kJson         ? monitor::status_json(snapshot)
                           : command.form == MonitorCommand::Form::kPrometheus ? monitor::status_prometheus(snapshot)
                                                                               : monitor::status_text(snapshot);
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

int serve_metrics(const MonitorCommand& command) {
  sigset_t ends;
  ::sigemptyset(&ends);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    ::sigaddset(&ends, signal);
  }
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  const runtime::UniqueFd stop(::signalfd(-1, &ends, SFD_CLOEXEC));
  monitor::Watcher watcher;
  monitor::MetricsServer server([&] { return monitor::status_prometheus(watcher.look(kPatienceMs)); });
  std::string error;
  const std::uint16_t port = server.listen(static_cast<std::uint16_t>(command.port), &error);
  if (port == 0) {
    std::fprintf(stderr, "setsuna metrics: %s\n", error.c_str());
    return 1;
  }
  std::printf("http://127.0.0.1:%d/metrics\n", static_cast<int>(port));
  std::fflush(stdout);
  server.run(stop.get());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const MonitorCommand command = monitor::parse_monitor_command(std::vector<std::string>(argv + 1, argv + argc));
  if (command.help) {
    std::fputs(monitor::help_of(command.what), stdout);
    return 0;
  }
  if (!command.error.empty() || command.what == MonitorCommand::What::kTop) {
    const std::string name = argc > 1 ? argv[1] : "";
    std::fprintf(stderr, "setsuna %s: %s (see setsuna %s --help)\n", name.c_str(), command.error.c_str(), name.c_str());
    return kUsageStatus;
  }
  return command.what == MonitorCommand::What::kMetrics ? serve_metrics(command) : print_status(command);
}
