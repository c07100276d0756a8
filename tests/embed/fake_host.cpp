#include "fake_host.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "rbridge/embed/process_scan.hpp"
#include "runtime/pidfd.hpp"

namespace setsuna::embed::test {
namespace {

std::string command_output(const std::string& command) {
  std::string text;
  FILE* pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) throw std::runtime_error("popen failed");
  char part[4096];
  for (size_t got; (got = std::fread(part, 1, sizeof part, pipe)) > 0;) text.append(part, got);
  const int status = ::pclose(pipe);
  if (status != 0) throw std::runtime_error("failed: " + command);
  return text;
}

}  // namespace

std::string installed_package() {
  static const std::string package = [] {
    const char* library = std::getenv("SETSUNA_TEST_LIB");
    std::string path = library != nullptr ? std::string(library) + "/setsuna"
                                          : command_output("Rscript -e 'cat(system.file(package = \"setsuna\"))'");
    return ::access((path + "/bin/setsuna-daemon").c_str(), X_OK) == 0 ? path : std::string();
  }();
  return package;
}

std::vector<std::uint8_t> make_config(const std::string& entry, const std::string& setup) {
  static std::map<std::string, std::vector<std::uint8_t>> made;
  auto& bytes = made[setup + '\0' + entry];
  if (!bytes.empty()) return bytes;
  char script[] = "/tmp/setsuna-config-XXXXXX", out[] = "/tmp/setsuna-config-XXXXXX";
  ::close(::mkstemp(script));
  ::close(::mkstemp(out));
  const std::string package = installed_package();
  std::ofstream(script) << "invisible(loadNamespace('setsuna', lib.loc = '" << package.substr(0, package.rfind('/'))
                        << "'))\n"
                        << setup << "\nwriteBin(setsuna:::.host_config(entry = quote({\n"
                        << entry << "\n})), '" << out << "')\n";
  command_output(std::string("Rscript --vanilla ") + script);
  std::ifstream file(out, std::ios::binary);
  bytes.assign(std::istreambuf_iterator<char>(file), {});
  ::unlink(script);
  ::unlink(out);
  return bytes;
}

ScopedVariable::ScopedVariable(const char* name, const char* value) : name_(name) {
  if (const char* old = std::getenv(name)) {
    had_ = true;
    old_ = old;
  }
  value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
}

ScopedVariable::~ScopedVariable() { had_ ? ::setenv(name_.c_str(), old_.c_str(), 1) : ::unsetenv(name_.c_str()); }

ScopedDirectory::ScopedDirectory() {
  char name[] = "/tmp/setsuna-test-XXXXXX";
  if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = name;
}

ScopedDirectory::~ScopedDirectory() { std::filesystem::remove_all(path_); }

std::string ScopedDirectory::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ + "/" + name) << text;
  return path_ + "/" + name;
}

std::string ScopedDirectory::read(const std::string& name) const {
  std::ifstream file(path_ + "/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> ScopedDirectory::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
  return names;
}

HostProcess::HostProcess(const std::function<std::string()>& host) {
  // Orphans of the host come to us, where a test can see them.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  pid_ = ::fork();
  if (pid_ == 0) {
    ::close(ends[0]);
    const std::string text = host() + '\0';  // an end, because a child of the host may keep the pipe open
    if (::write(ends[1], text.data(), text.size()) < 0) ::_exit(1);
    ::close(ends[1]);
    for (;;) ::pause();
  }
  ::close(ends[1]);
  char part[4096];
  for (ssize_t got; (got = ::read(ends[0], part, sizeof part)) > 0;) {
    said_.append(part, static_cast<std::size_t>(got));
    if (said_.back() == '\0') break;
  }
  if (!said_.empty()) said_.pop_back();
  ::close(ends[0]);
}

void HostProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

FakeHost::FakeHost(std::vector<std::string> preload, const std::function<void(ZygoteSpawn&)>& change)
    : output_(::memfd_create("output", MFD_CLOEXEC)) {
  ZygoteSpawn spawn;
  spawn.program = installed_package() + "/bin/setsuna-daemon";
  spawn.preload = std::move(preload);
  if (change) change(spawn);
  start_error_ = client_.start(spawn);
  ::fcntl(output_.get(), F_SETFL, O_APPEND);
}

FakeHost::~FakeHost() {
  if (!started() || ended_) return;
  client_.terminate();
  wait_zygote_end();
}

std::vector<DaemonId> FakeHost::fork(std::size_t count, const std::string& entry, const std::string& setup,
                                     std::function<void(ForkOrder&)> change) {
  const std::vector<std::uint8_t> bytes = make_config(entry, setup);
  const runtime::UniqueFd config = config_memfd(bytes.data(), bytes.size());
  std::vector<DaemonId> ids;
  for (std::size_t i = 0; i < count; ++i) ids.push_back({next_index_++, 7});
  ForkOrder order;
  order.daemons = ids.data();
  order.count = count;
  order.config_fd = config.get();
  order.stdout_fd = order.stderr_fd = output_.get();
  if (change) change(order);
  client_.request_fork(order);
  return ids;
}

bool FakeHost::wait_for(const std::function<bool()>& done) {
  while (!done()) {
    if (!started() || ended_ || !lost.empty()) return false;
    pollfd watched[] = {{client_.socket_fd(), static_cast<short>(POLLIN | (client_.wants_write() ? POLLOUT : 0)), 0},
                        {client_.pidfd(), POLLIN, 0}};
    ::poll(watched, 2, -1);
    if ((watched[0].revents & POLLOUT) != 0) client_.flush();
    take(client_.on_readable());
    ended_ = client_.check_exit(&zygote_status);
  }
  return true;
}

void FakeHost::take(std::vector<ZygoteEvent> events) {
  for (ZygoteEvent& event : events) {
    switch (event.kind) {
      case ZygoteEvent::Kind::ready:
        ready = true;
        ready_event = std::move(event);
        break;
      case ZygoteEvent::Kind::forked: forked.push_back(std::move(event)); break;
      case ZygoteEvent::Kind::exited: exited.push_back(std::move(event)); break;
      case ZygoteEvent::Kind::failed: failed.push_back(std::move(event)); break;
      case ZygoteEvent::Kind::lost: lost.push_back(std::move(event)); break;
    }
  }
}

bool FakeHost::wait_ready() {
  return wait_for([&] { return ready; });
}
bool FakeHost::wait_forked(std::size_t count) {
  return wait_for([&] { return forked.size() + failed.size() >= count; });
}
bool FakeHost::wait_exited(std::size_t count) {
  return wait_for([&] { return exited.size() + failed.size() >= count; });
}
void FakeHost::wait_zygote_end() {
  wait_for([] { return false; });
  while (started() && !ended_) {  // it has hung up already
    pollfd entry{client_.pidfd(), POLLIN, 0};
    ::poll(&entry, 1, -1);
    ended_ = client_.check_exit(&zygote_status);
  }
}

std::string FakeHost::output() const {
  struct stat info {};
  ::fstat(output_.get(), &info);
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  const ssize_t got = ::pread(output_.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

const ZygoteEvent* FakeHost::exit_of(DaemonId id) const {
  for (const auto& event : exited) {
    if (event.daemon == id) return &event;
  }
  return nullptr;
}

std::map<std::string, std::string> parse_lines(const std::string& text) {
  std::map<std::string, std::string> values;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (const auto equals = line.find('='); equals != std::string::npos) {
      values[line.substr(0, equals)] = line.substr(equals + 1);
    }
  }
  return values;
}

bool process_exists(pid_t pid) {
  const auto stat = read_process_stat(pid);
  return stat && stat->state != 'Z' && stat->state != 'X';
}

std::string process_name(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

void wait_gone(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) {
    const runtime::UniqueFd handle = runtime::pidfd_open(pid);
    pollfd entry{handle.get(), POLLIN, 0};
    if (handle) ::poll(&entry, 1, -1);
  }
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

std::vector<pid_t> live_descendants(pid_t root) {
  std::multimap<pid_t, pid_t> children;
  DIR* proc = ::opendir("/proc");
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    if (const auto stat = read_process_stat(pid); stat && stat->state != 'Z') children.emplace(stat->parent, pid);
  }
  ::closedir(proc);
  std::vector<pid_t> found, next{root};
  while (!next.empty()) {
    const pid_t parent = next.back();
    next.pop_back();
    for (auto [at, end] = children.equal_range(parent); at != end; ++at) {
      found.push_back(at->second);
      next.push_back(at->second);
    }
  }
  return found;
}

}  // namespace setsuna::embed::test
