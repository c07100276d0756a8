// setsuna-top: `setsuna top`, the terminal's side. What is shown, and what keys do, is in top_model.hpp. No R in here.

#include <ncurses.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "rbridge/monitor/view/monitor_command.hpp"
#include "rbridge/monitor/view/no_host.hpp"
#include "rbridge/monitor/view/top_model.hpp"
#include "rbridge/monitor/view/watcher.hpp"
#include "runtime/clock.hpp"

namespace {

using namespace setsuna;  // NOLINT(google-build-using-namespace): a program of its own
using monitor::TopKey;
using monitor::TopLine;

constexpr int kUsageStatus = 64;
constexpr int kNoTerminalStatus = 1;
constexpr int kPatienceMs = 300;
constexpr int kEscapeDelayMs = 25;

volatile sig_atomic_t ended_by = 0;
void end_by(int signal) { ended_by = signal; }

// Without SA_RESTART, so that the wait for a key ends.
void catch_signals() {
  struct sigaction action {};
  action.sa_handler = &end_by;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    ::sigaction(signal, &action, nullptr);
  }
}

TopKey key_of(int c) {
  switch (c) {
    case KEY_UP:
    case 'k': return TopKey::kUp;
    case KEY_DOWN:
    case 'j': return TopKey::kDown;
    case KEY_PPAGE: return TopKey::kPageUp;
    case KEY_NPAGE: return TopKey::kPageDown;
    case KEY_HOME: return TopKey::kHome;
    case KEY_END: return TopKey::kEnd;
    case 's': return TopKey::kSort;
    case ' ': return TopKey::kPause;
    case '+': return TopKey::kFaster;
    case '-': return TopKey::kSlower;
    case 'h':
    case '?': return TopKey::kHelp;
    case 'q': return TopKey::kQuit;
    default: return TopKey::kOther;
  }
}

attr_t attributes_of(const TopLine& line) {
  using Style = TopLine::Style;
  attr_t attributes = A_NORMAL;
  switch (line.style) {
    case Style::kBar: attributes = A_REVERSE; break;
    case Style::kHeader: attributes = A_UNDERLINE; break;
    case Style::kHost:
    case Style::kWarning: attributes = A_BOLD; break;
    case Style::kDim: attributes = A_DIM; break;
    case Style::kProfile:
    case Style::kPlain: break;
  }
  return line.selected ? A_REVERSE | A_BOLD : attributes;
}

void draw(monitor::TopModel* model) {
  const int height = getmaxy(stdscr), width = getmaxx(stdscr);
  ::erase();
  const std::vector<TopLine> lines = model->render(static_cast<std::size_t>(width), static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y) {
    const TopLine& line = lines[static_cast<std::size_t>(y)];
    ::attrset(static_cast<int>(attributes_of(line)));
    mvaddstr(y, 0, line.text.c_str());
  }
  ::attrset(A_NORMAL);
  ::refresh();
}

void watch(const monitor::MonitorCommand& command) {
  monitor::Watcher watcher(command.pid);
  monitor::TopModel model(command.interval_s);
  std::uint64_t next_ns = 0;
  for (bool goes_on = true; goes_on && ended_by == 0;) {
    std::uint64_t now = runtime::monotonic_ns();
    if (now >= next_ns) {
      if (!model.paused()) {
        monitor::Snapshot snapshot = watcher.look(kPatienceMs);
        model.show(std::move(snapshot), monitor::no_host_message(command.pid, watcher.problem()));
      }
      now = runtime::monotonic_ns();
      next_ns = now + static_cast<std::uint64_t>(model.interval_s() * 1e9);
    }
    draw(&model);
    ::timeout(static_cast<int>((next_ns - now) / 1'000'000) + 1);
    const int c = ::getch();
    if (c != ERR && c != KEY_RESIZE) {
      const double before = model.interval_s();
      goes_on = model.on_key(key_of(c));
      if (model.interval_s() < before) {
        next_ns = 0;
      }
    } else if (c == ERR && ::isatty(STDIN_FILENO) == 0) {
      goes_on = false;  // the terminal has gone
    }
  }
}

int without_terminal(const char* why) {
  std::fprintf(stderr,
               "setsuna top: %s: `setsuna status` prints the same facts once, `setsuna status --json` for scripts\n",
               why);
  return kNoTerminalStatus;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const monitor::MonitorCommand command = monitor::parse_monitor_command(words);
  if (command.help) {
    std::fputs(monitor::help_of(command.what), stdout);
    return 0;
  }
  if (!command.error.empty()) {
    std::fprintf(stderr, "setsuna top: %s (see setsuna top --help)\n", command.error.c_str());
    return kUsageStatus;
  }
  const char* terminal = std::getenv("TERM");
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0) {
    return without_terminal("it needs a terminal, and this is none");
  }
  if (terminal == nullptr || terminal[0] == '\0' || std::strcmp(terminal, "dumb") == 0) {
    return without_terminal("this terminal cannot place text (TERM is not set, or \"dumb\")");
  }
  std::setlocale(LC_ALL, "");
  SCREEN* screen = ::newterm(nullptr, stdout, stdin);
  if (screen == nullptr) {
    return without_terminal(("this terminal is not known (TERM is \"" + std::string(terminal) + "\")").c_str());
  }
  catch_signals();
  ::cbreak();
  ::noecho();
  ::keypad(stdscr, TRUE);
  ::set_escdelay(kEscapeDelayMs);
  ::curs_set(0);
  watch(command);
  ::endwin();
  ::delscreen(screen);
  return ended_by == 0 ? 0 : 128 + ended_by;
}
