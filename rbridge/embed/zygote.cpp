#include "rbridge/embed/zygote.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "runtime/assert.hpp"
#include "runtime/layout.hpp"
#include "runtime/pidfd.hpp"

extern "C" char** environ;

namespace setsuna::embed {
namespace {

using runtime::UniqueFd;

// In the environment of every daemon, so that a process which left the daemon's session can still be told for its own.
constexpr const char* kDaemonVariable = "SETSUNA_DAEMON";
// Set while the startup files of a zygote or daemon run: daemons() is an error in there.
constexpr const char* kChildVariable = "SETSUNA_CHILD";

// Under memory pressure a daemon should go before its host, whose task it is to tell the user.
constexpr int kOomScoreRaise = 200;

std::string daemon_tag(pid_t zygote, DaemonId id) {
  return std::to_string(zygote) + "." + std::to_string(id.index) + "." + std::to_string(id.epoch);
}

template <std::size_t N>
void copy_text(char (&to)[N], const char* from) {
  std::strncpy(to, from, N - 1);
  to[N - 1] = '\0';
}

AnyMessage message_of(MessageKind kind) {
  AnyMessage message;
  std::memset(&message, 0, sizeof message);
  message.header = wire_header(kind);
  return message;
}

void raise_oom_score() {
  UniqueFd file(::open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC));
  char text[16] = {};
  if (!file || ::read(file.get(), text, sizeof text - 1) <= 0) return;
  const int length = std::snprintf(text, sizeof text, "%d", std::min(1000, std::atoi(text) + kOomScoreRaise));
  [[maybe_unused]] const ssize_t ignored = ::write(file.get(), text, static_cast<std::size_t>(length));
}

std::vector<std::uint8_t> read_all(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_size <= 0) return {};
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(info.st_size));
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = ::pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {};
    have += static_cast<std::size_t>(got);
  }
  return bytes;
}

// Handlers and an eventfd, not a signalfd: where a preloaded package has threads, the kernel may give the signal to one of
// them, in which it is not blocked, and it would be lost.
int wake_fd = -1;
volatile std::sig_atomic_t child_ended = 0;
volatile std::sig_atomic_t must_terminate = 0;

void on_zygote_signal(int signal) {
  const int saved_errno = errno;
  (signal == SIGCHLD ? child_ended : must_terminate) = 1;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_fd, &one, sizeof one);
  errno = saved_errno;
}

}  // namespace

// A directory's links are itself, its name in its parent and one for each directory in it: one call instead of a file to read,
// before each fork.
std::uint32_t count_threads() {
  struct stat tasks {};
  if (::stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 2)
    return static_cast<std::uint32_t>(tasks.st_nlink - 2);
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, 8, "Threads:") == 0)
      return static_cast<std::uint32_t>(std::strtoul(line.c_str() + 8, nullptr, 10));
  }
  return 1;
}

Zygote::Zygote(ZygoteOptions options)
    : options_(std::move(options)),
      zygote_pid_(::getpid()),
      own_session_(::getsid(0)),
      channel_(UniqueFd(options_.socket_fd)),
      host_pidfd_(options_.host_pidfd) {
  ::fcntl(options_.socket_fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(options_.host_pidfd, F_SETFD, FD_CLOEXEC);
  // From here on the host's death is seen through its pidfd, and its daemons get their autoexit.
  ::prctl(PR_SET_PDEATHSIG, 0);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (const pid_t pid : list_children()) startup_children_.insert(pid);

  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  SETSUNA_ASSERT(wake_ && host_pidfd_);
  wake_fd = wake_.get();
  take_signals_over();

  AnyMessage message = message_of(MessageKind::ready_report);
  message.ready.pid = zygote_pid_;
  message.ready.threads = count_threads();
  message.ready.layout_hash = runtime::kLayoutHash;
  message.ready.r_version = options_.r_version;
  copy_text(message.ready.threaded_packages, options_.threaded_packages.c_str());
  channel_.send(message);
}

void Zygote::take_signals_over() {
  // What a host ignores (SIGCHLD under some supervisors) would be ignored here too, and the kernel would reap for us.
  ::signal(host_gone_signal(), SIG_DFL);
  for (std::size_t i = 0; i < std::size(kOwnSignals); ++i) {
    struct sigaction action {};
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    action.sa_handler = kOwnSignals[i] == SIGINT ? SIG_IGN : on_zygote_signal;  // an interrupt is for tasks
    ::sigaction(kOwnSignals[i], &action, &original_actions_[i]);
    if (kOwnSignals[i] != SIGINT && original_actions_[i].sa_handler == SIG_IGN)
      original_actions_[i].sa_handler = SIG_DFL;
  }
}

// In a child, before it unblocks signals.
void Zygote::give_signals_back() {
  for (std::size_t i = 0; i < std::size(kOwnSignals); ++i) ::sigaction(kOwnSignals[i], &original_actions_[i], nullptr);
}

ZygoteStep Zygote::serve(const char* config_failure) {
  SETSUNA_ASSERT(!in_child_);
  if (has_pending_ && !pending_.configured) {  // back from ZygoteStep::configure
    if (config_failure != nullptr) {
      config_valid_ = false;
      fail_pending(0, config_failure);
    } else {
      config_valid_ = pending_.configured = true;
    }
  }
  for (;;) {
    while (has_pending_) {
      if (needs_config()) return ZygoteStep::configure;
      if (fork_next() == Forked::child) return ZygoteStep::child;
    }
    if (finished()) return ZygoteStep::stopped;
    wait_for_events();
  }
}

// ---- requests ----

void Zygote::receive() {
  Received received = channel_.receive();
  switch (received.status) {
    case Received::Status::empty: return;
    case Received::Status::damaged:
      std::fprintf(stderr, "setsuna: the fork server got a message that it does not know and stops\n");
      [[fallthrough]];
    case Received::Status::closed:  // the host has dropped us; daemons go on as long as it lives
      channel_.close();
      stopping_ = true;
      return;
    case Received::Status::message: break;
  }
  switch (received.message.header.kind) {
    case MessageKind::fork_request: take_fork_request(std::move(received)); break;
    case MessageKind::stop_request: stopping_ = true; break;
    case MessageKind::kill_request:
      for (auto& [pid, daemon] : daemons_) {
        if (daemon.id == received.message.kill_request.daemon) kill_daemon(pid, daemon);
      }
      break;
    default: break;
  }
}

void Zygote::take_fork_request(Received received) {
  SETSUNA_ASSERT(!has_pending_);
  const ForkRequest& request = received.message.fork_request;
  SETSUNA_ASSERT(request.count <= kForkBatch && request.fd_mask < (1u << kFdSlots));
  has_pending_ = true;
  pending_ = Pending{};
  pending_.request = request;
  if (received.fds.size() != static_cast<std::size_t>(std::popcount(request.fd_mask))) {
    fail_pending(EMFILE, "the fork server could not take the descriptors");
    return;
  }
  if (stopping_) {
    fail_pending(ECANCELED, "the fork server is stopping");
    return;
  }
  pending_.fds.resize(kFdSlots);
  std::size_t next = 0;
  for (std::uint32_t slot = 0; slot < kFdSlots; ++slot) {
    if ((request.fd_mask & (1u << slot)) != 0) pending_.fds[slot] = std::move(received.fds[next++]);
  }
  oom_.rebase();
}

void Zygote::fail(DaemonId id, int error, const char* text) {
  AnyMessage message = message_of(MessageKind::failed_report);
  message.failed.daemon = id;
  message.failed.error = error;
  copy_text(message.failed.message, text);
  channel_.send(message);
}

void Zygote::fail_pending(int error, const char* text) {
  for (; pending_.next < pending_.request.count; ++pending_.next) {
    fail(pending_.request.daemons[pending_.next], error, text);
  }
  has_pending_ = false;
  pending_ = Pending{};
}

// True when R must first apply the configuration of the pending request. One that is the same, byte for byte, as what was
// applied last costs only this comparison.
bool Zygote::needs_config() {
  if (pending_.configured) return false;
  if (pending_.fd(kFdConfig) >= 0) {
    std::vector<std::uint8_t> bytes = read_all(pending_.fd(kFdConfig));
    if (!config_valid_ || bytes != config_) {
      config_ = std::move(bytes);
      return true;
    }
  }
  pending_.configured = true;
  return false;
}

Zygote::Forked Zygote::fork_next() {
  if (pending_.next == pending_.request.count) {
    has_pending_ = false;
    pending_ = Pending{};
    return Forked::parent;
  }
  const DaemonId id = pending_.request.daemons[pending_.next++];
  const ForkMode mode = pending_.request.mode;
  const bool exec = mode == ForkMode::exec || (mode == ForkMode::automatic && count_threads() > 1);

  const TempdirBoard::Note note = exec ? TempdirBoard::kNone : tempdirs_.take();
  const pid_t pid = fork_daemon(id, exec);
  if (pid == 0) {
    own_note_ = note;
    become_daemon(id, exec);
    return Forked::child;
  }
  const int error = errno;
  ::unsetenv(kDaemonVariable);
  ::unsetenv(kChildVariable);
  if (pid < 0) {
    tempdirs_.give_back(note);
    fail(id, error, "cannot fork");
  } else {
    announce(pid, id, exec, note);
  }
  return Forked::parent;
}

// A plain fork(), not clone3(CLONE_PIDFD): the handlers of pthread_atfork() must run, for packages that the user
// preloads. We alone reap our children, so pidfd_open() by pid afterwards is just as safe.
pid_t Zygote::fork_daemon(DaemonId id, bool exec) {
  ::setenv(kDaemonVariable, daemon_tag(zygote_pid_, id).c_str(), 1);
  if (exec) {
    ::setenv(kChildVariable, "1", 1);
    exec_plan_ = options_.exec_command;
    std::string link = "--child=" + std::to_string(id.index) + "." + std::to_string(id.epoch);
    for (const FdSlot slot : {kFdSegment, kFdHostPage, kFdRefill, kFdConfig}) {
      link += (slot == kFdSegment ? ":" : ",") + std::to_string(pending_.fd(slot));
    }
    exec_plan_.push_back(std::move(link));
    exec_argv_.clear();
    for (std::string& word : exec_plan_) exec_argv_.push_back(word.data());
    exec_argv_.push_back(nullptr);
  }
  std::fflush(nullptr);
  return fork_quietly();
}

// The child begins with all signals blocked: our handlers must not run in it.
pid_t Zygote::fork_quietly() {
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &original_mask_);
  const pid_t pid = ::fork();
  if (pid != 0) {
    const int error = errno;
    ::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
    errno = error;
  }
  return pid;
}

void Zygote::announce(pid_t pid, DaemonId id, bool exec, TempdirBoard::Note tempdir) {
  UniqueFd pidfd = runtime::pidfd_open(pid);
  Daemon& daemon = daemons_[pid];
  daemon = Daemon{id, pending_.request.autoexit, tempdir};
  AnyMessage message = message_of(MessageKind::forked_report);
  message.forked.daemon = id;
  message.forked.pid = pid;
  message.forked.mode = exec ? ForkMode::exec : ForkMode::fork;
  std::vector<UniqueFd> fds;
  if (pidfd) fds.push_back(std::move(pidfd));
  channel_.send(message, std::move(fds));
}

// In the child. With `exec` the zygote may have threads, so only what is safe after a fork in such a process is done here.
void Zygote::become_daemon(DaemonId id, bool exec) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != zygote_pid_) ::_exit(1);  // it died before the line above
  ::setsid();
  const int null_device = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(pending_.fd(kFdStdout) >= 0 ? pending_.fd(kFdStdout) : null_device, STDOUT_FILENO);
  ::dup2(pending_.fd(kFdStderr) >= 0 ? pending_.fd(kFdStderr) : null_device, STDERR_FILENO);
  ::close(null_device);
  raise_oom_score();
  give_signals_back();
  ::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
  if (exec) exec_daemon();

  in_child_ = true;
  has_pending_ = false;
  link_.id = id;
  link_.segment_fd = pending_.fds.empty() ? -1 : pending_.fds[kFdSegment].release();
  link_.host_page_fd = pending_.fds.empty() ? -1 : pending_.fds[kFdHostPage].release();
  link_.refill_fd = pending_.fds.empty() ? -1 : pending_.fds[kFdRefill].release();
  pending_ = Pending{};
  channel_.close();
  host_pidfd_.reset();
  wake_.reset();
}

void Zygote::exec_daemon() {
  for (const FdSlot slot : {kFdSegment, kFdHostPage, kFdRefill, kFdConfig}) {
    if (pending_.fd(slot) >= 0) ::fcntl(pending_.fd(slot), F_SETFD, 0);
  }
  ::execve(exec_argv_[0], exec_argv_.data(), environ);
  ::_exit(127);
}

void Zygote::record_tempdir(const char* path) {
  SETSUNA_ASSERT(in_child_);
  tempdirs_.write(own_note_, path);
  tempdirs_.unmap();
}

// ---- deaths ----

void Zygote::wait_for_events() {
  int timeout_ms = -1;
  if (has_deadline_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
    timeout_ms = static_cast<int>(std::max<std::int64_t>(0, left.count()));
  }
  pollfd watched[] = {{wake_.get(), POLLIN, 0},
                      {host_pidfd_.get(), POLLIN, 0},  // -1 once the host is gone: ignored by the kernel
                      {channel_.fd(), static_cast<short>(POLLIN | (channel_.wants_write() ? POLLOUT : 0)), 0}};
  const int ready = ::poll(watched, std::size(watched), timeout_ms);
  if (ready == 0 && has_deadline_) {
    has_deadline_ = false;
    for (auto& [pid, daemon] : daemons_) {
      if (daemon.autoexit > 0) kill_daemon(pid, daemon);
    }
    return;
  }
  if (ready <= 0) return;
  if (watched[0].revents != 0) take_signals();
  if (watched[1].revents != 0) host_gone();
  if (channel_.open() && (watched[2].revents & POLLOUT) != 0) channel_.flush();
  if (channel_.open() && (watched[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0) receive();
}

void Zygote::take_signals() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(wake_.get(), &count, sizeof count);
  // Flags are taken down before what they ask for is looked at: a signal that comes now sets them and the eventfd again.
  if (must_terminate != 0) {
    must_terminate = 0;
    stopping_ = true;
    kill_all();
  }
  if (child_ended != 0) {
    child_ended = 0;
    reap();
  }
}

// A signal stands for any number of deaths.
void Zygote::reap() {
  bool orphans = false;
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) break;
    orphans = bury(info.si_pid) || orphans;
  }
  if (orphans) kill_strays();
}

// Returns true if the dead may have left processes behind that belong to nobody.
bool Zygote::bury(pid_t pid) {
  const auto found = daemons_.find(pid);
  // While the leader is a zombie its number cannot be taken by another group: kill before it is reaped.
  if (found != daemons_.end()) ::kill(-pid, SIGKILL);
  int wait_status = 0;
  ::waitpid(pid, &wait_status, 0);
  if (cleaners_.erase(pid) != 0 || startup_children_.erase(pid) != 0) return false;
  if (found == daemons_.end()) return doomed_.erase(pid) != 0;
  const Daemon daemon = std::move(found->second);
  daemons_.erase(found);
  report_exit(pid, daemon, wait_status);
  const std::string tempdir = tempdirs_.give_back(daemon.tempdir);
  if (!tempdir.empty()) remove_tempdir(tempdir);
  return true;
}

void Zygote::report_exit(pid_t pid, const Daemon& daemon, int wait_status) {
  const bool killed = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;
  AnyMessage message = message_of(MessageKind::exited_report);
  message.exited.daemon = daemon.id;
  message.exited.pid = pid;
  message.exited.wait_status = wait_status;
  message.exited.oom_killed = killed && !daemon.killed_by_us && oom_.take_kill();
  message.exited.killed_by_zygote = daemon.killed_by_us;
  channel_.send(message);
}

// The daemon removes its own when it can. A full directory is left to a process of its own, so that forks need not wait.
void Zygote::remove_tempdir(const std::string& path) {
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return;
  const pid_t cleaner = count_threads() > 1 ? -1 : fork_quietly();
  if (cleaner == 0) {
    give_signals_back();
    ::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
    remove_tree(path.c_str());
    ::_exit(0);
  }
  if (cleaner > 0) {
    cleaners_.insert(cleaner);
  } else {
    remove_tree(path.c_str());
  }
}

// Kills adopted processes that belong to no live daemon. True if such a process is still there. Their own children come
// to us when they die, so the next death is the time to look again.
bool Zygote::kill_strays() {
  bool any = false;
  for (const pid_t pid : list_children()) {
    if (daemons_.contains(pid) || cleaners_.contains(pid) || startup_children_.contains(pid)) continue;
    const auto stat = read_process_stat(pid);
    if (!stat || stat->state == 'Z' || stat->session == own_session_) continue;
    if (belongs_to_daemon(pid, *stat)) continue;
    ::kill(pid, SIGKILL);
    doomed_.insert(pid);
    any = true;
  }
  return any;
}

bool Zygote::belongs_to_daemon(pid_t pid, const ProcessStat& stat) const {
  if (daemons_.empty()) return false;
  if (daemons_.contains(stat.group) || daemons_.contains(stat.session)) return true;
  const std::string tag = initial_environment(pid, kDaemonVariable);
  return !tag.empty() && std::any_of(daemons_.begin(), daemons_.end(), [&](const auto& entry) {
    return daemon_tag(zygote_pid_, entry.second.id) == tag;
  });
}

void Zygote::kill_daemon(pid_t pid, Daemon& daemon) {
  daemon.killed_by_us = true;
  ::kill(pid, SIGKILL);  // its group follows when it is buried
}

void Zygote::kill_all() {
  for (auto& [pid, daemon] : daemons_) kill_daemon(pid, daemon);
}

void Zygote::host_gone() {
  host_pidfd_.reset();
  channel_.close();
  stopping_ = true;
  for (auto& [pid, daemon] : daemons_) {
    if (daemon.autoexit == kAutoexitKill) {
      kill_daemon(pid, daemon);
    } else if (daemon.autoexit == kAutoexitFinish) {
      ::kill(pid, host_gone_signal());
    } else {
      ::kill(pid, daemon.autoexit);
      deadline_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(kSignalGraceMs);
      has_deadline_ = true;
    }
  }
}

bool Zygote::finished() { return stopping_ && daemons_.empty() && cleaners_.empty() && !kill_strays(); }

}  // namespace setsuna::embed
