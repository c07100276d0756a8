// Life and death of daemons: forks, reports, what is killed with them, what survives.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <set>
#include <sstream>

#include "fake_host.hpp"

namespace setsuna::embed::test {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

class ZygoteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (installed_package().empty()) GTEST_SKIP() << "setsuna is not installed (SETSUNA_TEST_LIB)";
  }
};

std::vector<pid_t> numbers(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<pid_t>(in), {}};
}

TEST_F(ZygoteTest, StartsAndForksOneDaemon) {
  make_config("cat('pid=', Sys.getpid(), '\\n', sep = '')");
  auto start = Clock::now();
  ASSERT_EQ(std::system("Rscript -e 1 > /dev/null"), 0);
  std::printf("Rscript -e 1: %.1f ms\n", ms_since(start));
  start = Clock::now();
  FakeHost host;
  ASSERT_TRUE(host.started());
  ASSERT_TRUE(host.wait_ready()) << host.client().error_output();
  std::printf("zygote ready: %.1f ms\n", ms_since(start));
  EXPECT_EQ(host.ready_event.threads, 1u);
  EXPECT_EQ(host.ready_event.threaded_packages, "");
  EXPECT_EQ(host.ready_event.pid, host.client().pid());
  const auto ids = host.fork(1, "cat('pid=', Sys.getpid(), '\\n', sep = '')");
  ASSERT_TRUE(host.wait_exited(1));
  ASSERT_EQ(host.exited.size(), 1u) << host.failed[0].message;
  EXPECT_EQ(host.exited[0].wait_status, 0) << host.output();
  EXPECT_EQ(host.exited[0].daemon, ids[0]);
  EXPECT_EQ(host.exited[0].pid, host.forked[0].pid);
  EXPECT_EQ(host.forked[0].mode, ForkMode::fork);
  EXPECT_EQ(parse_lines(host.output())["pid"], std::to_string(host.forked[0].pid));
}

TEST_F(ZygoteTest, AForkMayBeAskedForBeforeTheZygoteIsReady) {
  FakeHost host;
  host.fork(3, "cat('up\\n')");
  ASSERT_TRUE(host.wait_exited(3));
  EXPECT_EQ(host.output(), "up\nup\nup\n");
  EXPECT_TRUE(host.ready);
}

TEST_F(ZygoteTest, ForksManyAtOnce) {
  FakeHost host;
  make_config("Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_ready());
  for (const std::size_t count : {std::size_t{64}, std::size_t{64}, std::size_t{200}}) {
    const std::size_t before = host.forked.size();
    const auto start = Clock::now();
    host.fork(count, "Sys.sleep(1000)");
    ASSERT_TRUE(host.wait_forked(before + 1));
    const double first = ms_since(start);
    ASSERT_TRUE(host.wait_forked(before + count));
    std::printf("%zu daemons: first %.1f ms, all %.1f ms\n", count, first, ms_since(start));
  }
  EXPECT_TRUE(host.failed.empty());
  std::set<pid_t> pids;
  for (const auto& event : host.forked) pids.insert(event.pid);
  EXPECT_EQ(pids.size(), 328u);
}

TEST_F(ZygoteTest, NamesItsProcessesAndGivesEachASession) {
  FakeHost host;
  host.fork(1, "Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_forked(1));
  const pid_t daemon = host.forked[0].pid;
  EXPECT_EQ(process_name(host.client().pid()), "setsuna-daemon");
  EXPECT_EQ(process_name(daemon), "setsuna-daemon");
  EXPECT_NE(::getsid(host.client().pid()), ::getsid(0));
  EXPECT_EQ(::getpgid(host.client().pid()), host.client().pid());
}

TEST_F(ZygoteTest, ReportsHowEachDaemonEnded) {
  FakeHost host;
  const auto quit = host.fork(1, "quit('no', 3L)");
  const auto failed = host.fork(1, "stop('on purpose')");
  const auto killed = host.fork(1, "tools::pskill(Sys.getpid(), 9L)");
  const auto crashed = host.fork(1, "tools::pskill(Sys.getpid(), 11L); Sys.sleep(1000)");
  const auto terminated = host.fork(1, "tools::pskill(Sys.getpid(), 15L); Sys.sleep(1000)");
  const auto well = host.fork(1, "1 + 1");
  ASSERT_TRUE(host.wait_exited(6));
  ASSERT_TRUE(host.failed.empty());
  const auto status = [&](const std::vector<DaemonId>& ids) { return host.exit_of(ids[0])->wait_status; };
  EXPECT_EQ(WEXITSTATUS(status(quit)), 3);
  EXPECT_EQ(WEXITSTATUS(status(failed)), 1);
  EXPECT_EQ(WTERMSIG(status(killed)), SIGKILL);
  EXPECT_EQ(WTERMSIG(status(crashed)), SIGSEGV);
  EXPECT_EQ(WTERMSIG(status(terminated)), SIGTERM);
  EXPECT_EQ(status(well), 0);
  EXPECT_NE(host.output().find("Error: on purpose"), std::string::npos);
  for (const auto& event : host.exited) {
    EXPECT_FALSE(event.oom_killed);
    EXPECT_FALSE(event.killed_by_zygote);
  }
}

// What a daemon leaves behind: in its group, out of its session, and a child of a child.
constexpr const char* kLeaveProcesses = R"(
local({
  start <- function(command) system(gsub("%", paste0(".", Sys.getpid()), command, fixed = TRUE))
  start("sleep 1001% &")
  start("setsid sleep 1002% &")
  start("setsid sh -c 'sleep 1003% & sleep 1004%' &")
  mine <- paste0("pgrep -f 'sleep 100[1-4][.]", Sys.getpid(), "' || true")
  while (length(system(mine, intern = TRUE)) < 5L) NULL # one is the shell
})
cat("started\n")
)";

std::vector<pid_t> sleepers(pid_t zygote) {
  std::vector<pid_t> found;
  for (const pid_t pid : live_descendants(zygote)) {
    if (process_name(pid) == "sleep") found.push_back(pid);
  }
  return found;
}

TEST_F(ZygoteTest, KillsWhatADeadDaemonHasStarted) {
  FakeHost host;
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  host.fork(1, std::string(kLeaveProcesses) + "Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_forked(1));
  while (host.output().find("started") == std::string::npos) ::sched_yield();
  const auto before = sleepers(host.client().pid());
  EXPECT_EQ(before.size(), 4u);
  ::kill(host.forked[0].pid, SIGKILL);
  ASSERT_TRUE(host.wait_exited(1));
  wait_gone(before);
  EXPECT_TRUE(sleepers(host.client().pid()).empty());
}

TEST_F(ZygoteTest, LeavesTheProcessesOfLiveDaemonsAlone) {
  FakeHost host;
  host.fork(1, std::string(kLeaveProcesses) + "Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_forked(1));
  while (host.output().find("started") == std::string::npos) ::sched_yield();
  for (std::size_t i = 0; i < 5; ++i) {
    host.fork(1, "system('sleep 1005 &')");
    ASSERT_TRUE(host.wait_exited(i + 1));
  }
  // The zygote has buried these before it takes the next request.
  host.fork(1, "1");
  ASSERT_TRUE(host.wait_exited(6));
  EXPECT_EQ(sleepers(host.client().pid()).size(), 4u);
}

TEST_F(ZygoteTest, DiesWithAllItsDaemonsWhenItIsKilled) {
  FakeHost host;
  host.fork(4, "Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_forked(4));
  ::kill(host.client().pid(), SIGKILL);
  host.wait_zygote_end();
  EXPECT_EQ(WTERMSIG(host.zygote_status), SIGKILL);
  for (const auto& event : host.forked) {
    pollfd entry{event.pidfd.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&entry, 1, -1), 1);
  }
}

TEST_F(ZygoteTest, TerminatesInOrderOnSigterm) {
  FakeHost host;
  host.fork(4, "Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_forked(4));
  ::kill(host.client().pid(), SIGTERM);
  host.wait_zygote_end();
  EXPECT_EQ(host.zygote_status, 0);
  ASSERT_EQ(host.exited.size(), 4u);
  for (const auto& event : host.exited) EXPECT_TRUE(event.killed_by_zygote);
}

TEST_F(ZygoteTest, LingersAfterStopUntilItsLastDaemonIsGone) {
  FakeHost host;
  host.fork(2, "Sys.sleep(1000)");
  ASSERT_TRUE(host.wait_forked(2));
  host.client().stop();
  host.fork(1, "1");  // refused
  ASSERT_TRUE(host.wait_for([&] { return host.failed.size() == 1; }));
  EXPECT_EQ(host.failed[0].error, ECANCELED);
  ::kill(host.forked[0].pid, SIGKILL);
  ASSERT_TRUE(host.wait_exited(1));
  EXPECT_TRUE(process_exists(host.client().pid()));
  ::kill(host.forked[1].pid, SIGKILL);
  host.wait_zygote_end();
  EXPECT_EQ(host.zygote_status, 0);
  EXPECT_EQ(host.exited.size(), 2u);
}

TEST_F(ZygoteTest, NothingIsLeftWhenTheHostIsKilled) {
  const ScopedDirectory tmp;
  const ScopedVariable tmpdir("TMPDIR", tmp.path().c_str());
  HostProcess process([&] {
    auto* host = new FakeHost;
    host->fork(3, std::string(kLeaveProcesses) + "repeat NULL");
    host->fork(1, "writeLines('x', file.path(tempdir(), 'file')); cat('started\\n'); Sys.sleep(1000)");
    host->wait_forked(4);
    const auto count = [&] {
      int n = 0;
      const std::string out = host->output();
      for (auto at = out.find("started"); at != std::string::npos; at = out.find("started", at + 1)) ++n;
      return n;
    };
    while (count() < 4) ::sched_yield();
    std::string pids = std::to_string(sleepers(::getpid()).size());
    for (const pid_t pid : live_descendants(::getpid())) pids += " " + std::to_string(pid);
    return pids;
  });
  std::vector<pid_t> pids = numbers(process.said());
  ASSERT_FALSE(pids.empty());
  EXPECT_EQ(pids[0], 12);
  pids.erase(pids.begin());
  EXPECT_GE(pids.size(), 1u + 4 + 12);  // zygote, daemons, what they started
  const auto start = Clock::now();
  process.kill();
  wait_gone(pids);
  std::printf("all gone after %.1f ms\n", ms_since(start));
  EXPECT_TRUE(live_descendants(::getpid()).empty());
  EXPECT_TRUE(tmp.entries().empty());
}

TEST_F(ZygoteTest, AHostKilledWhileTheZygoteStartsTakesItAlong) {
  const ScopedDirectory dir;
  const std::string mark = dir.path() + "/mark";
  const std::string profile = dir.write("profile.R", "file.create('" + mark + "'); Sys.sleep(1000)\n");
  const ScopedVariable variable("R_PROFILE_USER", profile.c_str());
  HostProcess process([&] {
    auto* host = new FakeHost;
    while (::access(mark.c_str(), F_OK) != 0) ::sched_yield();
    return std::to_string(host->client().pid());
  });
  process.kill();
  wait_gone(numbers(process.said()));
  EXPECT_TRUE(live_descendants(::getpid()).empty());
}

TEST_F(ZygoteTest, AppliesAutoexitWhenTheHostIsKilled) {
  const ScopedDirectory dir;
  const auto noting = [&](const std::string& name) {
    return "tryCatch({cat('x', file = '" + dir.path() + "/" + name +
           ".up'); Sys.sleep(1000)}, interrupt = function(e) cat('interrupted', file = '" + dir.path() + "/" + name +
           "'))";
  };
  HostProcess process([&] {
    auto* host = new FakeHost;
    host->fork(1, noting("signal"), "", [](ForkOrder& order) { order.autoexit = SIGINT; });
    host->fork(1, noting("finish"), "", [](ForkOrder& order) { order.autoexit = kAutoexitFinish; });
    host->fork(1, noting("kill"), "", [](ForkOrder& order) { order.autoexit = kAutoexitKill; });
    // Does not go on its signal: killed after the grace.
    host->fork(
        1,
        "repeat tryCatch({cat('x', file = '" + dir.path() + "/stubborn.up'); Sys.sleep(1000)}, interrupt = identity)",
        "", [](ForkOrder& order) { order.autoexit = SIGINT; });
    for (const char* name : {"signal", "finish", "kill", "stubborn"}) {
      while (dir.read(std::string(name) + ".up") != "x") ::sched_yield();
    }
    std::string pids = std::to_string(host->client().pid());
    for (const auto& event : host->forked) pids += " " + std::to_string(event.pid);
    return pids;
  });
  process.kill();
  wait_gone(numbers(process.said()));
  EXPECT_TRUE(live_descendants(::getpid()).empty());
  EXPECT_EQ(dir.read("signal"), "interrupted");
  EXPECT_EQ(dir.read("finish"), "");  // no task loop here: the signal's default action
  EXPECT_EQ(dir.read("kill"), "");
}

TEST_F(ZygoteTest, AChildOfTheHostThatHoldsTheSocketKeepsNothingAlive) {
  HostProcess process([&] {
    auto* host = new FakeHost;
    host->fork(1, "Sys.sleep(1000)");
    host->wait_forked(1);
    const pid_t child = ::fork();  // as mclapply() does
    if (child == 0) {
      for (;;) ::pause();
    }
    return std::to_string(host->client().pid()) + " " + std::to_string(host->forked[0].pid) + " " +
           std::to_string(child);
  });
  const auto pids = numbers(process.said());
  ASSERT_EQ(pids.size(), 3u);
  process.kill();
  wait_gone({pids[0], pids[1]});
  EXPECT_TRUE(process_exists(pids[2]));
  ::kill(pids[2], SIGKILL);
  wait_gone({pids[2]});
}

TEST_F(ZygoteTest, SessionDirectoriesAreOnesOwnAndRemoved) {
  const ScopedDirectory tmp;
  const ScopedVariable tmpdir("TMPDIR", tmp.path().c_str());
  {
    FakeHost host;
    const std::string note =
        "writeLines('x', file.path(tempdir(), 'file')); dir.create(file.path(tempdir(), 'a/b'), recursive = TRUE)\n"
        "cat(Sys.getpid(), '=', tempdir(), '\\n', sep = '')\n"
        "stopifnot(identical(tempdir(), Sys.getenv('R_SESSION_TMPDIR')), startsWith(tempfile(), tempdir()))\n";
    host.fork(1, note + "Sys.sleep(1000)");
    host.fork(1, note + "Sys.sleep(1000)");
    ASSERT_TRUE(host.wait_forked(2));
    host.fork(1, note);
    ASSERT_TRUE(host.wait_exited(1));
    while (parse_lines(host.output()).size() < 3) ::sched_yield();
    const auto named = parse_lines(host.output());
    std::set<std::string> directories;
    for (const auto& [pid, directory] : named) directories.insert(directory);
    EXPECT_EQ(directories.size(), 3u);
    const auto of = [&](int i) { return named.at(std::to_string(host.forked[static_cast<std::size_t>(i)].pid)); };
    EXPECT_FALSE(std::filesystem::exists(of(2)));
    EXPECT_TRUE(std::filesystem::exists(of(0) + "/file"));
    EXPECT_TRUE(std::filesystem::exists(of(1) + "/file"));
    // One that is killed leaves nothing, and takes nothing of others.
    ::kill(host.forked[0].pid, SIGKILL);
    ASSERT_TRUE(host.wait_exited(2));
    while (std::filesystem::exists(of(0))) ::sched_yield();
    EXPECT_TRUE(std::filesystem::exists(of(1) + "/file"));
  }
  EXPECT_TRUE(tmp.entries().empty());
}

TEST_F(ZygoteTest, ExitFinalizersOfTheZygoteRunInTheZygoteOnly) {
  const ScopedDirectory dir;
  const std::string log = dir.path() + "/log";
  const std::string profile =
      dir.write("profile.R", "reg.finalizer(globalenv(), function(e) cat('zygote', Sys.getpid(), '\\n', file = '" +
                                 log + "', append = TRUE), onexit = TRUE)\n");
  const ScopedVariable variable("R_PROFILE_USER", profile.c_str());
  pid_t zygote = -1;
  {
    FakeHost host;
    zygote = host.client().pid();
    host.fork(
        3, "reg.finalizer(new.env(), function(e) cat('task\\n', file = '" + log + "', append = TRUE), onexit = TRUE)");
    ASSERT_TRUE(host.wait_exited(3));
    for (const auto& event : host.exited) EXPECT_EQ(event.wait_status, 0);
    EXPECT_EQ(dir.read("log"), "task\ntask\ntask\n");
  }
  EXPECT_EQ(dir.read("log"), "task\ntask\ntask\nzygote " + std::to_string(zygote) + " \n");
}

TEST_F(ZygoteTest, RandomNumbersDiffer) {
  FakeHost host;
  host.fork(8, "stopifnot(!exists('.Random.seed', globalenv())); cat(runif(1), '\\n')");
  ASSERT_TRUE(host.wait_exited(8));
  std::istringstream in(host.output());
  const std::set<double> values{std::istream_iterator<double>(in), {}};
  EXPECT_EQ(values.size(), 8u) << host.output();
}

TEST_F(ZygoteTest, ADaemonWhosePidfdCannotBeTakenIsKilledAndReportedAsFailed) {
  make_config("Sys.sleep(1000)");
  FakeHost host;
  ASSERT_TRUE(host.wait_ready());
  const auto ids = host.fork(1, "Sys.sleep(1000)");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 3;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const bool failed = host.wait_for([&] { return !host.failed.empty(); });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(failed);
  EXPECT_EQ(host.failed[0].daemon, ids[0]);
  EXPECT_EQ(host.failed[0].error, EMFILE);
  ASSERT_TRUE(host.wait_for([&] { return !host.exited.empty(); }));
  EXPECT_TRUE(host.exited[0].killed_by_zygote);
}

TEST_F(ZygoteTest, TellsKillsForMemory) {
  const std::string group = "/sys/fs/cgroup/memory/setsuna-test-" + std::to_string(::getpid());
  if (::mkdir(group.c_str(), 0755) != 0) GTEST_SKIP() << "needs the right to make a memory control group (version 1)";
  std::string said;
  {
    HostProcess process([&]() -> std::string {
      std::FILE* file = std::fopen((group + "/cgroup.procs").c_str(), "w");
      if (file == nullptr || std::fprintf(file, "%d", ::getpid()) < 0 || std::fclose(file) != 0) return "no";
      FakeHost host;
      host.fork(1, "Sys.sleep(1000)");
      host.wait_forked(1);
      file = std::fopen((group + "/memory.limit_in_bytes").c_str(), "w");
      if (file == nullptr || std::fprintf(file, "300M") < 0 || std::fclose(file) != 0) return "no";
      const auto greedy = host.fork(1, "x <- lapply(1:100, function(i) rep(1, 1e7)); Sys.sleep(1000)");
      host.wait_exited(1);
      ::kill(host.forked[0].pid, SIGKILL);  // and one that is not the kernel's doing
      host.wait_exited(2);
      std::string text = "went";
      for (const auto& event : host.exited)
        text += " " + std::to_string(event.daemon.index) + (event.oom_killed ? " oom" : " plain");
      return text;
    });
    said = process.said();
  }
  ::rmdir(group.c_str());
  if (said == "no") GTEST_SKIP() << "the control group takes no limit";
  EXPECT_EQ(said, "went 1 oom 0 plain");
}

TEST_F(ZygoteTest, ADaemonCanBeStartedByExecInstead) {
  FakeHost host;
  const auto ids = host.fork(2,
                             "cat(Sys.getpid(), '=', Sys.getenv('FROM_HOST'), ' ', "
                             "nzchar(Sys.getenv('SETSUNA_CHILD')), ' ', commandArgs()[1], '\\n', sep = '')",
                             "Sys.setenv(FROM_HOST = 'yes')", [](ForkOrder& order) { order.mode = ForkMode::exec; });
  ASSERT_TRUE(host.wait_exited(2));
  ASSERT_EQ(host.exited.size(), 2u);
  for (const auto& event : host.forked) {
    EXPECT_EQ(event.mode, ForkMode::exec);
    const std::string line = parse_lines(host.output())[std::to_string(event.pid)];
    EXPECT_EQ(line.substr(0, 9), "yes FALSE") << host.output();
  }
  for (const auto& id : ids) EXPECT_EQ(host.exit_of(id)->wait_status, 0) << host.output();
}

}  // namespace
}  // namespace setsuna::embed::test
