// The choice of the reactor, where io_uring is refused, and the numbers of descriptors.
#include "net/make_reactor.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "net/descriptors.hpp"
#include "tests/net/refuse_io_uring.hpp"

namespace setsuna::net {
namespace {

// Exit status of a child that runs `body` (its return value), or -1 when it was killed.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(body());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(MakeReactor, SaysWhichOneRunsAndWhy) {
  const MadeReactor epoll = make_reactor(ReactorChoice::kEpoll);
  ASSERT_NE(epoll.reactor, nullptr);
  EXPECT_STREQ(epoll.reactor->name(), "epoll");
  EXPECT_EQ(epoll.backend, "epoll (asked for by SETSUNA_REACTOR)");
  const MadeReactor automatic = make_reactor(ReactorChoice::kAutomatic);
  ASSERT_NE(automatic.reactor, nullptr);
  EXPECT_EQ(automatic.backend.rfind(std::string(automatic.reactor->name()) + " (", 0), 0u) << automatic.backend;
  EXPECT_EQ(automatic.backend.back(), ')');
}

TEST(MakeReactor, TheEnvironmentDecides) {
  ReactorChoice choice = ReactorChoice::kEpoll;
  std::string error;
  ::unsetenv("SETSUNA_REACTOR");
  EXPECT_TRUE(reactor_choice_from_environment(choice, error));
  EXPECT_EQ(choice, ReactorChoice::kAutomatic);
  ::setenv("SETSUNA_REACTOR", "io_uring", 1);
  EXPECT_TRUE(reactor_choice_from_environment(choice, error));
  EXPECT_EQ(choice, ReactorChoice::kIoUring);
  ::setenv("SETSUNA_REACTOR", "epoll", 1);
  EXPECT_TRUE(reactor_choice_from_environment(choice, error));
  EXPECT_EQ(choice, ReactorChoice::kEpoll);
  ::setenv("SETSUNA_REACTOR", "kqueue", 1);
  EXPECT_FALSE(reactor_choice_from_environment(choice, error));
  EXPECT_EQ(error,
            "the environment variable SETSUNA_REACTOR is 'kqueue'; set it to io_uring or epoll, or unset it to choose "
            "automatically");
  ::unsetenv("SETSUNA_REACTOR");
}

TEST(MakeReactor, FallsBackWhereIoUringIsRefused) {
  EXPECT_EQ(in_child([] {
              if (!refuse_io_uring()) {
                return 1;
              }
              const MadeReactor automatic = make_reactor(ReactorChoice::kAutomatic);
              if (automatic.reactor == nullptr || automatic.backend.rfind("epoll (io_uring_setup: ", 0) != 0) {
                return 2;
              }
              const MadeReactor asked = make_reactor(ReactorChoice::kIoUring);
              const bool named =
                  asked.error.rfind("SETSUNA_REACTOR asks for io_uring, which does not work here: ", 0) == 0;
              return asked.reactor == nullptr && named ? 0 : 3;
            }),
            0);
}

// The whole suite once more with the filter in place; what is chosen automatically is epoll then.
class UnderSeccomp : public testing::TestWithParam<const char*> {};

// The program of that name beside this one.
std::string sibling(const std::string& name) {
  const std::string own_name = "make_reactor_test";
  std::string path = std::filesystem::read_symlink("/proc/self/exe");
  EXPECT_TRUE(path.ends_with(own_name)) << path;
  return path.replace(path.size() - own_name.size(), own_name.size(), name);
}

TEST_P(UnderSeccomp, TheSuitePasses) {
  const std::string program = sibling(GetParam());
  EXPECT_EQ(in_child([&] {
              if (!refuse_io_uring()) {
                return 125;
              }
              ::execl(program.c_str(), program.c_str(), "--gtest_filter=*/Automatic", "--gtest_brief=1",
                      static_cast<char*>(nullptr));
              return 126;
            }),
            0)
      << program;
}

INSTANTIATE_TEST_SUITE_P(Programs, UnderSeccomp, testing::Values("reactor_test", "reactor_stream_test"),
                         [](const auto& program) { return std::string(program.param); });

// ---- descriptors ----

TEST(Descriptors, AreMovedOutOfTheRangeOfSelect) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int low = ::open("/dev/null", O_RDONLY);
  const int high = move_high(low);
  EXPECT_GE(high, kLowestOwnFd);
  EXPECT_LT(::fcntl(low, F_GETFD), 0) << "the old number is free again";
  EXPECT_EQ(::fcntl(high, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(move_high(high), high);
  EXPECT_EQ(move_high(-1), -1);
  rlimit after;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_cur);
  EXPECT_EQ(child_nofile_limit().rlim_cur, before.rlim_cur);
  ::close(high);
}

TEST(Descriptors, LowSoftLimitIsPassedForTheMoment) {
  EXPECT_EQ(in_child([] {
              rlimit limit;
              ::getrlimit(RLIMIT_NOFILE, &limit);
              limit.rlim_cur = 256;
              ::setrlimit(RLIMIT_NOFILE, &limit);
              const int high = move_high(::open("/dev/null", O_RDONLY));
              ::getrlimit(RLIMIT_NOFILE, &limit);
              return high >= kLowestOwnFd && limit.rlim_cur == 256 && child_nofile_limit().rlim_cur == 256 ? 0 : 1;
            }),
            0);
}

TEST(Descriptors, StayLowUnderAHardLimit) {
  EXPECT_EQ(in_child([] {
              const rlimit limit{512, 512};
              ::setrlimit(RLIMIT_NOFILE, &limit);
              const int low = ::open("/dev/null", O_RDONLY);
              if (move_high(low) != low || ::fcntl(low, F_GETFD) != FD_CLOEXEC) {
                return 1;
              }
              MadeReactor made = make_reactor(ReactorChoice::kAutomatic);
              made.reactor->wake();
              made.reactor->run_once();
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace setsuna::net
