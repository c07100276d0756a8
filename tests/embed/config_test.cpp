// What a session hands on to its daemons: environment, directory, libraries, locale, time zone, affinity, umask, threads.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>

#include "fake_host.hpp"

namespace setsuna::embed::test {
namespace {

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (installed_package().empty()) GTEST_SKIP() << "setsuna is not installed (SETSUNA_TEST_LIB)";
  }

  // What one daemon says about itself after `setup` has run in the session that starts it.
  std::map<std::string, std::string> ask(FakeHost& host, const std::string& entry, const std::string& setup = "",
                                         std::function<void(ForkOrder&)> change = {}) {
    const std::size_t before = host.output().size();
    const std::size_t ended = host.exited.size() + host.failed.size();
    host.fork(1, entry, setup, std::move(change));
    EXPECT_TRUE(host.wait_exited(ended + 1)) << host.client().error_output();
    EXPECT_TRUE(host.failed.empty()) << host.failed[0].message;
    return parse_lines(host.output().substr(before));
  }
};

std::string show(const std::string& name, const std::string& value) {
  return "cat('" + name + "=', " + value + ", '\\n', sep = '')\n";
}

TEST_F(ConfigTest, EnvironmentFollowsTheHost) {
  FakeHost host;
  const std::string entry = show("a", "Sys.getenv('SETSUNA_T_A', 'unset')") +
                            show("b", "Sys.getenv('SETSUNA_T_B', 'unset')") +
                            show("empty", "nchar(Sys.getenv('SETSUNA_T_EMPTY', 'unset'))") +
                            show("child", "Sys.getenv('SETSUNA_CHILD', 'unset')") +
                            show("lines", "length(strsplit(Sys.getenv('SETSUNA_T_LINES'), '\\n')[[1]])") +
                            show("system", "system('echo $SETSUNA_T_A', intern = TRUE)");
  auto said =
      ask(host, entry,
          "Sys.setenv(SETSUNA_T_A = 'one', SETSUNA_T_B = 'x=y z', SETSUNA_T_EMPTY = '', SETSUNA_T_LINES = 'a\\nb')");
  EXPECT_EQ(said["a"], "one");
  EXPECT_EQ(said["b"], "x=y z");
  EXPECT_EQ(said["empty"], "0");
  EXPECT_EQ(said["lines"], "2");
  EXPECT_EQ(said["child"], "unset");
  EXPECT_EQ(said["system"], "one");
  // A later request carries the environment as it is then.
  said = ask(host, entry, "Sys.setenv(SETSUNA_T_A = 'two')");
  EXPECT_EQ(said["a"], "two");
  EXPECT_EQ(said["b"], "unset");
  EXPECT_EQ(said["empty"], "5");
}

TEST_F(ConfigTest, VariablesOfTheStartupFilesStayUnlessTheHostHasThem) {
  const ScopedDirectory dir;
  const std::string environ_file = dir.write("environ", "SETSUNA_T_FILE=file\nSETSUNA_T_BOTH=file\n");
  const ScopedVariable variable("R_ENVIRON_USER", environ_file.c_str());
  FakeHost host;
  // make_config() runs without startup files.
  const auto said =
      ask(host, show("file", "Sys.getenv('SETSUNA_T_FILE')") + show("both", "Sys.getenv('SETSUNA_T_BOTH')"),
          "Sys.setenv(SETSUNA_T_BOTH = 'host')");
  EXPECT_EQ(said.at("file"), "file");
  EXPECT_EQ(said.at("both"), "host");
}

TEST_F(ConfigTest, WorkingDirectoryLibrariesAndUmask) {
  const ScopedDirectory dir, library, second;
  FakeHost host;
  const std::string entry =
      show("wd", "getwd()") + show("lib", ".libPaths()[1]") + show("umask", "format(Sys.umask(NA))");
  auto said = ask(host, entry, "setwd('" + dir.path() + "'); .libPaths('" + library.path() + "'); Sys.umask('027')");
  EXPECT_EQ(said["wd"], dir.path());
  EXPECT_EQ(said["lib"], library.path());
  EXPECT_EQ(said["umask"], "27");
  said = ask(host, entry, "setwd('" + second.path() + "')");
  EXPECT_EQ(said["wd"], second.path());
  EXPECT_NE(said["lib"], library.path());
  EXPECT_EQ(said["umask"], "22");
}

TEST_F(ConfigTest, LocaleAndTimeZone) {
  FakeHost host;
  const std::string entry =
      show("ctype", "Sys.getlocale('LC_CTYPE')") + show("collate", "Sys.getlocale('LC_COLLATE')") +
      show("sorted", "paste(sort(c('B', 'a')), collapse = '')") + show("utf8", "l10n_info()$`UTF-8`") +
      show("tz", "Sys.timezone()") + show("hour", "format(as.POSIXct(0, origin = '1970-01-01'), '%H')");
  auto said = ask(host, entry, "invisible(Sys.setlocale('LC_ALL', 'C')); Sys.setenv(TZ = 'Asia/Tokyo')");
  EXPECT_EQ(said["ctype"], "C");
  EXPECT_EQ(said["sorted"], "Ba");
  EXPECT_EQ(said["utf8"], "FALSE");
  EXPECT_EQ(said["tz"], "Asia/Tokyo");
  EXPECT_EQ(said["hour"], "09");
  said = ask(host, entry, "invisible(Sys.setlocale('LC_ALL', 'C.UTF-8')); Sys.setenv(TZ = 'America/Lima')");
  EXPECT_EQ(said["ctype"], "C.UTF-8");
  EXPECT_EQ(said["collate"], "C.UTF-8");
  EXPECT_EQ(said["utf8"], "TRUE");
  EXPECT_EQ(said["tz"], "America/Lima");
  EXPECT_EQ(said["hour"], "19");
}

TEST_F(ConfigTest, AffinityOfTheHost) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "needs two processors";
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &all)) --last;
  FakeHost host;  // started with all of them
  const std::string entry =
      show("cpus", "sub('.*:\\\\s*', '', grep('^Cpus_allowed_list', readLines('/proc/self/status'), value = TRUE))");
  auto said =
      ask(host, entry, "system(paste('taskset -cp " + std::to_string(last) + "', Sys.getpid()), ignore.stdout = TRUE)");
  EXPECT_EQ(said["cpus"], std::to_string(last));
  said = ask(host, entry);
  EXPECT_NE(said["cpus"], std::to_string(last));
}

TEST_F(ConfigTest, TheZygoteHasOneThreadDaemonsHaveTheUsersSetting) {
  const ScopedVariable variable("OMP_NUM_THREADS", "3");
  FakeHost host;
  auto said = ask(host, show("omp", ".Call(setsuna:::C_get_threads)[1]") +
                            show("env", "Sys.getenv('OMP_NUM_THREADS', 'unset')") +
                            show("blas", "Sys.getenv('OPENBLAS_NUM_THREADS', 'unset')"));
  EXPECT_EQ(said["omp"], "3");
  EXPECT_EQ(said["env"], "3");
  EXPECT_EQ(said["blas"], "unset");
  ASSERT_TRUE(host.wait_ready());
  EXPECT_EQ(host.ready_event.threads, 1u);
}

TEST_F(ConfigTest, WhatTheZygoteIsStartedWithDoesNotShow) {
  const std::string entry = show("tunables", "Sys.getenv('GLIBC_TUNABLES', 'unset')");
  {
    const ScopedVariable variable("GLIBC_TUNABLES", nullptr);
    FakeHost host;
    EXPECT_EQ(ask(host, entry)["tunables"], "unset");
  }
  const ScopedVariable variable("GLIBC_TUNABLES", "glibc.malloc.perturb=7");
  FakeHost host;
  EXPECT_EQ(ask(host, entry, " 1")["tunables"], "glibc.malloc.perturb=7");
}

TEST_F(ConfigTest, AConfigurationThatCannotBeAppliedFailsThatRequestOnly) {
  std::string gone;
  {
    const ScopedDirectory dir;
    gone = dir.path();
    make_config("1", "setwd('" + gone + "')");
  }
  FakeHost host;
  host.fork(3, "1", "setwd('" + gone + "')");
  ASSERT_TRUE(host.wait_for([&] { return host.failed.size() == 3; }));
  EXPECT_NE(host.failed[0].message.find("cannot change to the working directory '" + gone + "'"), std::string::npos)
      << host.failed[0].message;
  host.fork(1, "1");
  ASSERT_TRUE(host.wait_for([&] { return host.exited.size() == 1; }));
  EXPECT_EQ(host.exited[0].wait_status, 0);
}

TEST_F(ConfigTest, WithoutStreamsOutputGoesToTheNullDevice) {
  FakeHost host;
  auto said = ask(host,
                  "f <- function(n) normalizePath(sprintf('/proc/self/fd/%d', n)); writeLines(c(f(0), f(1), f(2)), "
                  "'/dev/stderr'); cat('stdout=x\\n')",
                  "", [](ForkOrder& order) { order.stdout_fd = -1; });
  EXPECT_EQ(said.count("stdout"), 0u);
  EXPECT_NE(host.output().find("/dev/null\n/dev/null\n"), std::string::npos) << host.output();
}

TEST_F(ConfigTest, DaemonsInheritNothingOfTheZygotes) {
  FakeHost host;
  // Standard streams, the descriptor of the listing itself.
  auto said = ask(host, show("fds", "length(setdiff(list.files('/proc/self/fd'), c('0', '1', '2')))"));
  EXPECT_EQ(said["fds"], "1") << host.output();
  said = ask(host, show("mask", "grep('^SigBlk', readLines('/proc/self/status'), value = TRUE)"));
  EXPECT_EQ(said["mask"].substr(said["mask"].size() - 16), "0000000000000000");
}

TEST_F(ConfigTest, LinkDescriptorsArriveWithIndexAndEpoch) {
  for (const ForkMode mode : {ForkMode::fork, ForkMode::exec}) {
    FakeHost host;
    const char* names[] = {"segment", "page", "refill"};
    std::vector<runtime::UniqueFd> files;
    for (const char* name : names) files.push_back(config_memfd(name, std::strlen(name)));
    host.fork(1,
              "link <- get('link', envir = sys.frame(grep('daemon_child', vapply(sys.calls(), function(x) "
              "deparse(x[[1]])[1], '')))); "
              "r <- function(fd) readLines(sprintf('/proc/self/fd/%d', fd), warn = FALSE)\n" +
                  show("index", "link$index") + show("epoch", "link$epoch") + show("segment", "r(link$segment)") +
                  show("page", "r(link$host_page)") + show("refill", "r(link$refill)"),
              "", [&](ForkOrder& order) {
                order.mode = mode;
                order.segment_fd = files[0].get();
                order.host_page_fd = files[1].get();
                order.refill_fd = files[2].get();
              });
    ASSERT_TRUE(host.wait_exited(1));
    auto said = parse_lines(host.output());
    EXPECT_EQ(said["index"], "0") << host.output();
    EXPECT_EQ(said["epoch"], "7");
    EXPECT_EQ(said["segment"], "segment");
    EXPECT_EQ(said["page"], "page");
    EXPECT_EQ(said["refill"], "refill");
  }
}

}  // namespace
}  // namespace setsuna::embed::test
