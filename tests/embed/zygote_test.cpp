#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <set>

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

TEST_F(ZygoteTest, StartsAndForksOneDaemon) {
  const auto start = Clock::now();
  FakeHost host;
  ASSERT_TRUE(host.started());
  ASSERT_TRUE(host.wait_ready()) << host.client().error_output();
  std::printf("zygote ready after %.1f ms\n", ms_since(start));
  EXPECT_EQ(host.ready_event.threads, 1u);
  host.fork(1, "cat('pid=', Sys.getpid(), '\\n', sep = '')");
  ASSERT_TRUE(host.wait_exited(1));
  ASSERT_EQ(host.exited.size(), 1u) << host.failed[0].message;
  EXPECT_EQ(host.exited[0].wait_status, 0) << host.output();
  EXPECT_EQ(parse_lines(host.output())["pid"], std::to_string(host.forked[0].pid));
}

TEST_F(ZygoteTest, ForksSixtyFour) {
  FakeHost host;
  make_config("cat('up\\n')");
  ASSERT_TRUE(host.wait_ready());
  const auto start = Clock::now();
  host.fork(64, "cat('up\\n')");
  ASSERT_TRUE(host.wait_forked(64));
  std::printf("64 forked after %.1f ms\n", ms_since(start));
  ASSERT_TRUE(host.wait_exited(64));
  std::printf("64 gone after %.1f ms\n", ms_since(start));
  for (const auto& event : host.exited) EXPECT_EQ(event.wait_status, 0);
}

}  // namespace
}  // namespace setsuna::embed::test
