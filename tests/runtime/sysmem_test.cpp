// Parsing of what the kernel says about memory, on directories that look like machines.
#include "runtime/sysmem.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace setsuna::runtime {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kGigabyte = std::uint64_t{1} << 30;

class SysmemTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "setsuna-sysmem-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1000 kB\n");
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void v2_machine(const std::string& own, const std::string& mount_root = "/") {
    write("/proc/self/cgroup", "0::" + own + "\n");
    write("/proc/self/mountinfo",
          "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
          "31 22 0:27 " +
              mount_root + " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  void v1_machine(const std::string& own, const std::string& mount_root = "/") {
    write("/proc/self/cgroup", "5:cpu,cpuacct:/elsewhere\n4:memory:" + own + "\n1:name=systemd:/x\n0::/unified\n");
    write("/proc/self/mountinfo",
          "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
          "35 31 0:32 " +
              mount_root +
              " /sys/fs/cgroup/memory rw,relatime shared:5 master:2 - cgroup cgroup rw,memory\n"
              "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
  }

  std::string root_;
};

TEST_F(SysmemTest, PhysicalMemoryWhereNothingLimits) {
  const MemoryCeiling ceiling = memory_ceiling(root_);
  EXPECT_EQ(ceiling.bytes, 16 * kGigabyte);
  EXPECT_EQ(ceiling.reason, "physical memory");
  EXPECT_FALSE(OomKillCounter(root_).read());
}

TEST_F(SysmemTest, V2OwnLimit) {
  v2_machine("/user.slice/job");
  write("/sys/fs/cgroup/user.slice/job/memory.max", "2147483648\n");
  write("/sys/fs/cgroup/user.slice/memory.max", "max\n");
  const MemoryCeiling ceiling = memory_ceiling(root_);
  EXPECT_EQ(ceiling.bytes, 2 * kGigabyte);
  EXPECT_EQ(ceiling.reason, root_ + "/sys/fs/cgroup/user.slice/job/memory.max");
}

TEST_F(SysmemTest, V2AncestorsCount) {
  v2_machine("/a/b/c");
  write("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
  write("/sys/fs/cgroup/a/b/memory.max", "8589934592\n");
  write("/sys/fs/cgroup/a/memory.max", "4294967296\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, 4 * kGigabyte);
}

TEST_F(SysmemTest, V2LimitAboveMemoryIsNone) {
  v2_machine("/job");
  write("/sys/fs/cgroup/job/memory.max", "1099511627776\n");
  EXPECT_EQ(memory_ceiling(root_).reason, "physical memory");
}

TEST_F(SysmemTest, V2ContainerSeesItsCgroupAsTheRoot) {
  v2_machine("/");
  write("/sys/fs/cgroup/memory.max", "1073741824\n");
  write("/sys/fs/cgroup/memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, kGigabyte);
  EXPECT_EQ(OomKillCounter(root_).read(), 2u);
}

TEST_F(SysmemTest, V2ProcessOutsideOfItsNamespace) {
  v2_machine("/../../other");
  write("/sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, kGigabyte);
}

TEST_F(SysmemTest, MountOfAPartOfTheHierarchy) {
  v2_machine("/docker/abc/inner", "/docker/abc");
  write("/sys/fs/cgroup/memory.max", "4294967296\n");
  write("/sys/fs/cgroup/inner/memory.max", "3221225472\n");
  write("/sys/fs/cgroup/inner/memory.events", "oom_kill 7\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, 3 * kGigabyte);
  EXPECT_EQ(OomKillCounter(root_).read(), 7u);
}

TEST_F(SysmemTest, MountRootIsComparedByComponent) {
  v2_machine("/docker/abcdef", "/docker/abc");
  write("/sys/fs/cgroup/memory.max", "4294967296\n");
  write("/sys/fs/cgroup/def/memory.max", "1\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, 4 * kGigabyte);
}

TEST_F(SysmemTest, V1LimitsAndCounter) {
  v1_machine("/batch/job_17");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/batch/memory.limit_in_bytes", "8589934592\n");
  write("/sys/fs/cgroup/memory/batch/job_17/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/batch/job_17/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, 8 * kGigabyte);
  EXPECT_EQ(OomKillCounter(root_).read(), 4u);
}

TEST_F(SysmemTest, V1AncestorHiddenByANamespace) {
  v1_machine("/");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/memory.stat", "cache 5\nhierarchical_memory_limit 2147483648\ntotal_rss 9\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, 2 * kGigabyte);
}

TEST_F(SysmemTest, CounterFollowsTheProcessToAnotherCgroup) {
  v2_machine("/job");
  write("/sys/fs/cgroup/job/memory.events", "oom_kill 2\n");
  OomKillCounter counter(root_);
  EXPECT_EQ(counter.read(), 2u);
  write("/sys/fs/cgroup/job/memory.events", "oom_kill 3\n");
  EXPECT_EQ(counter.read(), 3u);
  v2_machine("/other");
  EXPECT_FALSE(counter.read());
  EXPECT_FALSE(counter.read());
  v2_machine("/job");
  EXPECT_EQ(counter.read(), 3u);
  v2_machine("/next");
  write("/sys/fs/cgroup/next/memory.events", "oom_kill 5\n");
  EXPECT_EQ(counter.read(), 5u);
}

TEST_F(SysmemTest, OldKernelWithoutTheCounter) {
  v1_machine("/job");
  write("/sys/fs/cgroup/memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
  EXPECT_FALSE(OomKillCounter(root_).read());
}

TEST_F(SysmemTest, MountPointWithABlank) {
  write("/proc/self/cgroup", "0::/job\n");
  write("/proc/self/mountinfo", "31 22 0:27 / /my\\040cgroups rw - cgroup2 cgroup2 rw\n");
  write("/my cgroups/job/memory.max", "1073741824\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, kGigabyte);
}

TEST_F(SysmemTest, NonsenseIsIgnored) {
  write("/proc/self/cgroup", "nonsense\n0\n::\n0::relative\n9:memory:\n");
  write("/proc/self/mountinfo", "short\n1 2 3 - cgroup2\n - \n31 22 0:27 / /sys/fs/cgroup rw - cgroup2 c rw\n");
  write("/sys/fs/cgroup/memory.max", "garbage\n");
  EXPECT_EQ(memory_ceiling(root_).bytes, 16 * kGigabyte);
}

TEST(Sysmem, ThisMachine) {
  const MemoryCeiling ceiling = memory_ceiling();
  EXPECT_GT(ceiling.bytes, std::uint64_t{16} << 20);
  EXPECT_LE(ceiling.bytes, static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * 4096);
  EXPECT_GT(address_use().total, address_use().data);
  rlimit limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(soft_limit(RLIMIT_NOFILE), limit.rlim_cur);
}

}  // namespace
}  // namespace setsuna::runtime
