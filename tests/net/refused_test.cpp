// The suites of the reactor and of connections, where io_uring is refused to the whole process.
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace {

class WhereIoUringIsRefused : public testing::TestWithParam<const char*> {};

TEST_P(WhereIoUringIsRefused, TheSuitePasses) {
  const std::string folder = SETSUNA_TEST_BIN "/";
  const std::string launcher = folder + "without_io_uring_main";
  const std::string suite = folder + GetParam();
  ASSERT_EQ(::access(suite.c_str(), X_OK), 0) << suite;
  const std::string report = testing::TempDir() + "setsuna-refused-" + std::to_string(::getpid());
  const std::string output = "--gtest_output=json:" + report;
  const char* arguments[] = {launcher.c_str(),  suite.c_str(),  "--gtest_filter=*Epoll*:*Automatic*:-Links/Silence*",
                             "--gtest_brief=1", output.c_str(), nullptr};
  pid_t pid = -1;
  ASSERT_EQ(::posix_spawn(&pid, launcher.c_str(), nullptr, nullptr, const_cast<char* const*>(arguments), environ), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    GTEST_SKIP() << "the kernel takes no seccomp filter";
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
  std::ifstream in(report);
  const std::string said((std::istreambuf_iterator<char>(in)), {});
  EXPECT_NE(said.find("Epoll"), std::string::npos) << "it has run no test";
  std::filesystem::remove(report);
}
INSTANTIATE_TEST_SUITE_P(Suites, WhereIoUringIsRefused,
                         testing::Values("reactor_test", "reactor_stream_test", "connection_test", "hostile_test"));

}  // namespace
