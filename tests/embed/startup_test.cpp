// Starting the zygote: startup files, preloaded packages, limits and descriptors of the host.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "fake_host.hpp"

namespace setsuna::embed::test {
namespace {

class StartupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (installed_package().empty()) GTEST_SKIP() << "setsuna is not installed (SETSUNA_TEST_LIB)";
    make_config("cat('up\\n')");
  }
};

// A host in a process of its own, because its limits and descriptors are altered: "up" when a daemon worked.
std::string daemon_output(const std::function<void()>& alter) {
  HostProcess process([&] {
    alter();
    FakeHost host;
    if (!host.started()) return std::string("not started");
    host.fork(2, "cat('up\\n')");
    if (!host.wait_exited(2)) return "zygote ended: " + host.client().error_output();
    return host.output();
  });
  return process.said();
}

TEST_F(StartupTest, AFailingStartupFileIsQuoted) {
  const ScopedDirectory dir;
  const std::string profile = dir.write("profile.R", "message('before')\nstop('the profile is broken')\n");
  const ScopedVariable variable("R_PROFILE_USER", profile.c_str());
  FakeHost host;
  host.fork(1, "1");
  EXPECT_FALSE(host.wait_ready());
  host.wait_zygote_end();
  EXPECT_EQ(WEXITSTATUS(host.zygote_status), 1);
  EXPECT_NE(host.client().error_output().find("the profile is broken"), std::string::npos)
      << host.client().error_output();
}

TEST_F(StartupTest, StartupFilesRunAsInRscriptAndKnowWhereTheyAre) {
  const ScopedDirectory dir;
  const std::string profile =
      dir.write("profile.R", "options(setsuna.t = paste(Sys.getenv('SETSUNA_CHILD'), interactive()))\n");
  const ScopedVariable variable("R_PROFILE_USER", profile.c_str());
  FakeHost host;
  host.fork(1,
            "cat(getOption('setsuna.t'), '|', Sys.getenv('SETSUNA_CHILD'), '|', paste(search(), collapse = ' '), "
            "'\\n', sep = '')");
  ASSERT_TRUE(host.wait_exited(1));
  EXPECT_EQ(host.output(),
            "1 FALSE||.GlobalEnv package:stats package:graphics package:grDevices package:utils package:datasets "
            "package:methods "
            "Autoloads package:base\n");
}

TEST_F(StartupTest, APackageThatDoesNotExistIsNamed) {
  FakeHost host({"notapackageofthisname"});
  EXPECT_FALSE(host.wait_ready());
  host.wait_zygote_end();
  EXPECT_NE(host.client().error_output().find("notapackageofthisname"), std::string::npos);
}

TEST_F(StartupTest, PreloadedPackagesAreLoadedNotAttached) {
  FakeHost host({"splines", "tools"});
  host.fork(1, "cat(isNamespaceLoaded('splines'), 'package:splines' %in% search(), '\\n')");
  ASSERT_TRUE(host.wait_exited(1));
  EXPECT_EQ(host.output(), "TRUE FALSE \n");
}

TEST_F(StartupTest, APackageWithThreadsMeansDaemonsByExec) {
  const ScopedDirectory dir, library;
  const std::string package = dir.path() + "/threaded";
  ASSERT_EQ(std::system(("mkdir -p " + package + "/R " + package + "/src").c_str()), 0);
  dir.write("threaded/DESCRIPTION",
            "Package: threaded\nVersion: 1.0\nTitle: T\nDescription: T.\nLicense: MIT\nAuthor: T\nMaintainer: T "
            "<t@localhost>\n");
  dir.write("threaded/NAMESPACE", "useDynLib(threaded)\n");
  dir.write("threaded/src/t.c",
            "#include <pthread.h>\n#include <unistd.h>\nstatic void *run(void *x) { for (;;) pause(); return x; }\n"
            "void R_init_threaded(void *dll) { pthread_t t; pthread_create(&t, 0, run, 0); }\n");
  ASSERT_EQ(std::system(("R CMD INSTALL --no-docs --no-test-load --library=" + library.path() + " " + package + " > " +
                         dir.path() + "/log 2>&1")
                            .c_str()),
            0)
      << dir.read("log");
  const ScopedVariable variable("R_LIBS", library.path().c_str());
  FakeHost host({"stats4", "threaded"});
  ASSERT_TRUE(host.wait_ready()) << host.client().error_output();
  EXPECT_EQ(host.ready_event.threads, 2u);
  EXPECT_EQ(host.ready_event.threaded_packages, "threaded");
  host.fork(2, "cat(isNamespaceLoaded('threaded'), '\\n')");
  ASSERT_TRUE(host.wait_exited(2));
  for (const auto& event : host.forked) EXPECT_EQ(event.mode, ForkMode::exec);
  for (const auto& event : host.exited) EXPECT_EQ(event.wait_status, 0);
  EXPECT_EQ(host.output(), "TRUE \nTRUE \n");
}

TEST_F(StartupTest, WorksOutsideTheStartScriptOfR) {
  HostProcess process([] {
    for (const char* name :
         {"R_HOME", "R_SHARE_DIR", "R_INCLUDE_DIR", "R_DOC_DIR", "LD_LIBRARY_PATH", "R_LIBS_USER", "R_LIBS_SITE"})
      ::unsetenv(name);
    FakeHost host;
    host.fork(1, "cat(nzchar(R.home('share')), nzchar(Sys.getenv('R_SHARE_DIR')), Sys.getenv('R_CMD'), '\\n')",
              "Sys.setenv(R_CMD = '')");
    host.wait_exited(1);
    return host.output() + host.client().error_output();
  });
  EXPECT_EQ(process.said(), "TRUE TRUE  \n");
}

TEST_F(StartupTest, SaysHowItIsUsed) {
  EXPECT_EQ(WEXITSTATUS(std::system((installed_package() + "/bin/setsuna-daemon 2> /dev/null").c_str())), 64);
  EXPECT_EQ(WEXITSTATUS(std::system((installed_package() + "/bin/setsuna-daemon --what 2> /dev/null").c_str())), 64);
}

TEST_F(StartupTest, AnErrorEndsItAsRscriptWould) {
  EXPECT_EQ(WEXITSTATUS(std::system(
                (installed_package() + "/bin/setsuna-daemon abstract://nobody 'no argument' 2> /dev/null").c_str())),
            1);
}

TEST_F(StartupTest, AProgramThatIsNotThereIsAnErrno) {
  FakeHost host({}, [](ZygoteSpawn& spawn) { spawn.program = "/nonexistent/setsuna-daemon"; });
  EXPECT_FALSE(host.started());
  ZygoteClient client;
  ZygoteSpawn spawn;
  spawn.program = "/nonexistent/setsuna-daemon";
  EXPECT_EQ(client.start(spawn), ENOENT);
  EXPECT_FALSE(client.running());
}

// Something else than a zygote of this version answers.
TEST_F(StartupTest, AStrangerIsTerminatedAndTheReasonKept) {
  const ScopedDirectory dir;
  const std::string program = dir.write("stranger", "#!/bin/sh\nprintf 'not a report' >&3\nexec sleep 1000\n");
  ASSERT_EQ(::chmod(program.c_str(), 0755), 0);
  FakeHost host({}, [&](ZygoteSpawn& spawn) { spawn.program = program; });
  ASSERT_TRUE(host.started());
  EXPECT_FALSE(host.wait_ready());
  host.wait_zygote_end();
  EXPECT_EQ(WTERMSIG(host.zygote_status), SIGTERM);
  EXPECT_NE(host.client().error_output().find("another version"), std::string::npos);
}

TEST_F(StartupTest, AHostWithManyDescriptors) {
  EXPECT_EQ(daemon_output([] {
              rlimit limit{};
              ::getrlimit(RLIMIT_NOFILE, &limit);
              limit.rlim_cur = std::min<rlim_t>(4096, limit.rlim_max);
              ::setrlimit(RLIMIT_NOFILE, &limit);
              for (int i = 0; i < 1100; ++i)
                ASSERT_GE(::open("/dev/null", O_RDONLY), 0);  // inherited by all, were they let
            }),
            "up\nup\n");
}

TEST_F(StartupTest, DescriptorsOfTheHostStayItsOwn) {
  HostProcess process([] {
    for (int i = 0; i < 20; ++i) {
      if (::open("/dev/zero", O_RDONLY) < 0) return std::string("no");
    }
    FakeHost host;
    host.fork(1,
              "cat(sum(basename(Sys.readlink(list.files('/proc/self/fd', full.names = TRUE))) == 'zero', na.rm = "
              "TRUE), '\\n')");
    host.wait_exited(1);
    return host.output();
  });
  EXPECT_EQ(process.said(), "0 \n");
}

TEST_F(StartupTest, AHostWithoutStandardStreams) {
  EXPECT_EQ(daemon_output([] {
              for (const int fd : {0, 1, 2}) ::close(fd);
            }),
            "up\nup\n");
}

TEST_F(StartupTest, AHostThatIgnoresAndBlocksSignals) {
  EXPECT_EQ(daemon_output([] {
              for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
              sigset_t all;
              sigfillset(&all);
              ::sigprocmask(SIG_SETMASK, &all, nullptr);
            }),
            "up\nup\n");
}

TEST_F(StartupTest, LimitsOfBatchSystems) {
  EXPECT_EQ(daemon_output([] {
              const rlimit space{std::uint64_t{2} << 30, std::uint64_t{2} << 30};
              const rlimit files{std::uint64_t{1} << 20, std::uint64_t{1} << 20};
              ::setrlimit(RLIMIT_AS, &space);
              ::setrlimit(RLIMIT_FSIZE, &files);
            }),
            "up\nup\n");
}

TEST_F(StartupTest, TheSoftLimitOfDescriptorsCanBeGivenBack) {
  HostProcess process([] {
    FakeHost host({}, [](ZygoteSpawn& spawn) { spawn.soft_nofile = 1500; });
    host.fork(1, "cat(grep('open files', readLines('/proc/self/limits'), value = TRUE))");
    host.wait_exited(1);
    return host.output();
  });
  EXPECT_NE(process.said().find(" 1500 "), std::string::npos) << process.said();
}

TEST_F(StartupTest, NoProcessesLeftIsAFailedForkNotADeadZygote) {
  const std::string program = installed_package() + "/bin/setsuna-daemon";
  HostProcess process([&]() -> std::string {
    // The limit does not hold for root.
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return "skip";
    if (::access(program.c_str(), X_OK) != 0) return "skip";
    FakeHost host;
    if (!host.wait_ready()) return host.client().error_output();
    const rlimit none{1, 1};
    if (::prlimit(host.client().pid(), RLIMIT_NPROC, &none, nullptr) != 0) return "prlimit";
    host.fork(2, "cat('up\\n')");
    host.wait_for([&] { return host.failed.size() == 2; });
    return host.failed[0].message + " " + std::to_string(host.failed[0].error);
  });
  if (process.said() == "skip") GTEST_SKIP() << "another user cannot run what is installed here";
  EXPECT_EQ(process.said(), "cannot fork " + std::to_string(EAGAIN));
}

}  // namespace
}  // namespace setsuna::embed::test
