// A host without R: drives an installed setsuna-daemon through ZygoteClient, as the reactor of a real host does.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "rbridge/embed/zygote_client.hpp"

namespace setsuna::embed::test {

// The installed package under test: SETSUNA_TEST_LIB in the environment, else R's default libraries. Empty if none has
// a setsuna-daemon.
std::string installed_package();

// The configuration that R code in a child evaluates instead of the task loop: made by `Rscript` as a host would make it.
// `setup` runs before .host_config() (to change directory, options ...). Same text, same bytes: the result is cached.
std::vector<std::uint8_t> make_config(const std::string& entry, const std::string& setup = "");

// Sets a variable of this process's environment (nullptr: takes it away) until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value);
  ~ScopedVariable();

 private:
  std::string name_, old_;
  bool had_ = false;
};

// An empty directory, removed with its content at the end of the scope.
class ScopedDirectory {
 public:
  ScopedDirectory();
  ~ScopedDirectory();
  std::string path() const { return path_; }
  std::string write(const std::string& name, const std::string& text) const;  // returns the file's path
  std::string read(const std::string& name) const;
  std::vector<std::string> entries() const;

 private:
  std::string path_;
};

// Runs `host` in a process of its own, which stays alive until end() kills it. The body returns what the test wants to know.
class HostProcess {
 public:
  explicit HostProcess(const std::function<std::string()>& host);
  ~HostProcess() { kill(); }
  const std::string& said() const { return said_; }
  void kill();  // SIGKILL, and waits for its end

 private:
  pid_t pid_ = -1;
  std::string said_;
};

class FakeHost {
 public:
  // `change` may alter how the zygote is spawned.
  explicit FakeHost(std::vector<std::string> preload = {}, const std::function<void(ZygoteSpawn&)>& change = {});
  ~FakeHost();

  ZygoteClient& client() { return client_; }
  bool started() const { return start_error_ == 0; }

  // Asks for `count` daemons (indexes from next_index) and returns their ids.
  std::vector<DaemonId> fork(std::size_t count, const std::string& entry, const std::string& setup = "",
                             std::function<void(ForkOrder&)> change = {});
  // Waits until `done()` holds, handling what arrives. False if the zygote ended first.
  bool wait_for(const std::function<bool()>& done);
  bool wait_ready();
  bool wait_forked(std::size_t count);
  bool wait_exited(std::size_t count);
  void wait_zygote_end();

  // What daemons write to their standard output, all of it up to now.
  std::string output() const;

  const ZygoteEvent* exit_of(DaemonId id) const;

  bool ready = false;
  ZygoteEvent ready_event;
  std::vector<ZygoteEvent> forked, exited, failed, lost;
  int zygote_status = -1;

 private:
  void take(std::vector<ZygoteEvent> events);

  ZygoteClient client_;
  int start_error_ = 0;
  runtime::UniqueFd output_;
  std::uint32_t next_index_ = 0;
  bool ended_ = false;
};

// Lines "name=value" of text, as printed by a daemon.
std::map<std::string, std::string> parse_lines(const std::string& text);

bool process_exists(pid_t pid);  // zombies do not count
std::string process_name(pid_t pid);
std::vector<pid_t> live_descendants(pid_t root);
// Waits until none of the processes exists. They must be descendants of this process, which becomes their reaper.
void wait_gone(const std::vector<pid_t>& pids);

}  // namespace setsuna::embed::test
