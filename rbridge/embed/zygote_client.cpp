#include "rbridge/embed/zygote_client.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "rbridge/embed/zygote_spawn.hpp"
#include "runtime/assert.hpp"
#include "runtime/layout.hpp"
#include "runtime/pidfd.hpp"

extern "C" char** environ;

namespace setsuna::embed {
namespace {

using runtime::UniqueFd;

// R polls with select(): descriptors that it never polls leave the low numbers to it. Stays where it is if the limit is
// lower.
UniqueFd move_high(UniqueFd fd) {
  UniqueFd high = fd.duplicate(1024);
  if (!high && fd.get() < 64) high = fd.duplicate(64);
  return high ? std::move(high) : std::move(fd);
}

// Numeric libraries start their threads when they load, and a process with threads cannot be forked. Daemons get the
// user's setting with their configuration.
constexpr const char* kZygoteVariables[] = {
    "SETSUNA_CHILD=1",   "OMP_NUM_THREADS=1",  "OPENBLAS_NUM_THREADS=1",  "GOTO_NUM_THREADS=1",
    "MKL_NUM_THREADS=1", "BLIS_NUM_THREADS=1", "FLEXIBLAS_NUM_THREADS=1",
};

bool same_variable(const char* a, const char* b) {
  const std::size_t length = static_cast<std::size_t>(std::strchr(b, '=') - b) + 1;
  return std::strncmp(a, b, length) == 0;
}

// The heap in huge pages: a fork copies few page tables (64 daemons in 42 instead of 62 ms), R starts with fewer faults, and
// so do large vectors in daemons. A setting of the user's is kept.
std::string malloc_tunables() {
  const char* given = std::getenv("GLIBC_TUNABLES");
  std::string value = given != nullptr ? given : "";
  if (value.find("glibc.malloc.hugetlb") == std::string::npos) {
    value += (value.empty() ? "" : ":") + std::string("glibc.malloc.hugetlb=1");
  }
  return "GLIBC_TUNABLES=" + value;
}

// `tunables` must outlive the result.
std::vector<char*> zygote_environment(std::string& tunables) {
  std::vector<char*> env;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const bool ours = std::any_of(std::begin(kZygoteVariables), std::end(kZygoteVariables),
                                  [&](const char* variable) { return same_variable(*entry, variable); });
    if (!ours && !same_variable(*entry, tunables.c_str())) env.push_back(*entry);
  }
  env.push_back(tunables.data());
  for (const char* variable : kZygoteVariables) env.push_back(const_cast<char*>(variable));
  env.push_back(nullptr);
  return env;
}

std::vector<std::string> zygote_command(const ZygoteSpawn& spawn) {
  std::vector<std::string> words{"setsuna-daemon", "--zygote"};
  if (!spawn.library.empty()) words.push_back("--library=" + spawn.library);
  if (!spawn.preload.empty()) {
    std::string list = "--preload=";
    for (std::size_t i = 0; i < spawn.preload.size(); ++i) list += (i > 0 ? "," : "") + spawn.preload[i];
    words.push_back(std::move(list));
  }
  return words;
}

}  // namespace

UniqueFd config_memfd(const void* bytes, std::size_t size) {
  UniqueFd fd(::memfd_create("setsuna-config", MFD_CLOEXEC));
  const char* at = static_cast<const char*>(bytes);
  while (fd && size > 0) {
    const ssize_t wrote = ::write(fd.get(), at, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return UniqueFd();
    at += wrote;
    size -= static_cast<std::size_t>(wrote);
  }
  return fd ? move_high(std::move(fd)) : std::move(fd);
}

int ZygoteClient::start(const ZygoteSpawn& spawn) {
  SETSUNA_ASSERT(pid_ == -1);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return errno;
  UniqueFd ours = move_high(UniqueFd(ends[0]));
  UniqueFd theirs = move_high(UniqueFd(ends[1]));
  UniqueFd host = runtime::pidfd_open(::getpid());
  if (!host) return errno;
  UniqueFd errors(::memfd_create("setsuna-zygote-stderr", MFD_CLOEXEC));
  if (!errors) return errno;
  host = move_high(std::move(host));
  errors = move_high(std::move(errors));

  std::vector<std::string> words = zygote_command(spawn);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string tunables = malloc_tunables();
  std::vector<char*> env = zygote_environment(tunables);
  const SpawnPlan plan{spawn.program.c_str(), argv.data(),      env.data(), theirs.get(), host.get(),
                       errors.get(),          spawn.soft_nofile};
  const pid_t pid = spawn_process(plan);
  if (pid < 0) return -pid;
  pidfd_ = runtime::pidfd_open(pid);
  if (!pidfd_) {
    const int error = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error;
  }
  pidfd_ = move_high(std::move(pidfd_));
  stderr_fd_ = std::move(errors);
  channel_ = WireChannel(std::move(ours));
  pid_ = pid;
  return 0;
}

void ZygoteClient::request_fork(const ForkOrder& order) {
  const std::lock_guard lock(mutex_);
  for (std::size_t first = 0; first < order.count; first += kForkBatch) send_batch(order, first);
}

void ZygoteClient::send_batch(const ForkOrder& order, std::size_t first) {
  AnyMessage message;
  std::memset(&message, 0, sizeof message);
  ForkRequest& request = message.fork_request;
  request.header = wire_header(MessageKind::fork_request);
  request.count = static_cast<std::uint32_t>(std::min<std::size_t>(order.count - first, kForkBatch));
  request.mode = order.mode;
  request.autoexit = order.autoexit;
  std::copy_n(order.daemons + first, request.count, request.daemons);
  const int given[kFdSlots] = {order.segment_fd, order.host_page_fd, order.refill_fd,
                               order.config_fd,  order.stdout_fd,    order.stderr_fd};
  std::vector<UniqueFd> fds;
  for (std::uint32_t slot = 0; slot < kFdSlots; ++slot) {
    if (given[slot] < 0) continue;
    request.fd_mask |= 1u << slot;
    // A copy, because the message may have to wait. One that cannot be made is refused by the zygote, which counts.
    UniqueFd copy(::fcntl(given[slot], F_DUPFD_CLOEXEC, 0));
    if (copy) fds.push_back(std::move(copy));
  }
  channel_.send(message, std::move(fds));
}

bool ZygoteClient::wants_write() const {
  const std::lock_guard lock(mutex_);
  return channel_.wants_write();
}

void ZygoteClient::flush() {
  const std::lock_guard lock(mutex_);
  channel_.flush();
}

void ZygoteClient::stop() {
  AnyMessage message;
  std::memset(&message, 0, sizeof message);
  message.header = wire_header(MessageKind::stop_request);
  const std::lock_guard lock(mutex_);
  channel_.send(message);
}

void ZygoteClient::terminate() {
  if (pidfd_) runtime::pidfd_send_signal(pidfd_.get(), SIGTERM);
}

std::vector<ZygoteEvent> ZygoteClient::on_readable() {
  std::vector<ZygoteEvent> events;
  while (channel_.open()) {
    Received received = channel_.receive();
    if (received.status == Received::Status::empty) break;
    const bool closed = received.status == Received::Status::closed;
    if (!distrusted_.empty() && !closed) continue;
    events.push_back(to_event(std::move(received)));
    if (closed) break;
    if (events.back().kind == ZygoteEvent::Kind::lost) {
      distrusted_ = events.back().message;
      terminate();
    }
  }
  return events;
}

ZygoteEvent ZygoteClient::to_event(Received received) {
  using Kind = ZygoteEvent::Kind;
  ZygoteEvent event;
  if (received.status == Received::Status::closed) {
    event.message = "the fork server has ended";
    return event;
  }
  if (received.status == Received::Status::damaged) {
    event.message = "the fork server is of another version: restart R after installing setsuna";
    return event;
  }
  switch (received.message.header.kind) {
    case MessageKind::ready_report: {
      const ReadyReport& ready = received.message.ready;
      if (ready.layout_hash != runtime::kLayoutHash) {
        event.message = "the fork server is of another version: restart R after installing setsuna";
        return event;
      }
      event.kind = Kind::ready;
      event.pid = ready.pid;
      event.threads = ready.threads;
      event.threaded_packages = ready.threaded_packages;
      event.r_version = ready.r_version;
      return event;
    }
    case MessageKind::forked_report: return to_forked_event(std::move(received));
    case MessageKind::exited_report: {
      const ExitedReport& exited = received.message.exited;
      event.kind = Kind::exited;
      event.daemon = exited.daemon;
      event.pid = exited.pid;
      event.wait_status = exited.wait_status;
      event.oom_killed = exited.oom_killed != 0;
      event.killed_by_zygote = exited.killed_by_zygote != 0;
      return event;
    }
    case MessageKind::failed_report:
      event.kind = Kind::failed;
      event.daemon = received.message.failed.daemon;
      event.error = received.message.failed.error;
      event.message = received.message.failed.message;
      return event;
    default: event.message = "the fork server sent a request"; return event;
  }
}

ZygoteEvent ZygoteClient::to_forked_event(Received received) {
  const ForkedReport& forked = received.message.forked;
  ZygoteEvent event;
  event.kind = ZygoteEvent::Kind::forked;
  event.daemon = forked.daemon;
  event.pid = forked.pid;
  event.mode = forked.mode;
  // A pidfd can get lost where descriptors run out; then the pid has to do, which is the daemon's as long as the report of
  // its exit, sent before its number is free, has not come.
  if (!received.fds.empty()) event.pidfd = move_high(std::move(received.fds.front()));
  if (!event.pidfd) event.pidfd = runtime::pidfd_open(forked.pid);
  if (event.pidfd) return event;
  event.kind = ZygoteEvent::Kind::failed;
  event.error = errno;
  event.message = "no descriptor left for the new daemon: raise the limit (ulimit -n)";
  AnyMessage message;
  std::memset(&message, 0, sizeof message);
  message.kill_request = {wire_header(MessageKind::kill_request), forked.daemon};
  const std::lock_guard lock(mutex_);
  channel_.send(message);
  return event;
}

bool ZygoteClient::check_exit(int* wait_status) {
  if (pid_ <= 0) return false;
  if (!exited_) {
    if (!runtime::pidfd_exited(pidfd_.get())) return false;
    int status = 0;
    pid_t reaped;
    do {
      reaped = ::waitpid(pid_, &status, WNOHANG);
    } while (reaped < 0 && errno == EINTR);
    wait_status_ = reaped == pid_ ? status : -1;
    exited_ = true;
  }
  if (wait_status != nullptr) *wait_status = wait_status_;
  return true;
}

std::string ZygoteClient::error_output() const {
  std::string text(16384, '\0');
  const ssize_t got = stderr_fd_ ? ::pread(stderr_fd_.get(), text.data(), text.size(), 0) : 0;
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return distrusted_.empty() ? text : text + distrusted_ + "\n";
}

void ZygoteClient::abandon() noexcept {
  channel_.close();
  pidfd_.reset();
  stderr_fd_.reset();
  pid_ = -1;
}

}  // namespace setsuna::embed
