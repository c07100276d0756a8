// How a host is read: its answers, its segment, and what happens when it is silent, of another version, or gone.
#include "rbridge/monitor/view/host_reader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "fake_host.hpp"

namespace setsuna::monitor::test {
namespace {

using ::testing::HasSubstr;

constexpr int kPatienceMs = 20'000;  // an answer that is awaited comes, however busy the machine is

class HostReaderTest : public testing::Test {
 protected:
  HostReader reader(const FakeHost& host) { return HostReader({::getpid(), host.name()}); }
};

TEST_F(HostReaderTest, FactsFromTheHostAndFromTheSegment) {
  FakeHost host;
  std::strcpy(host.host.version, "9.8.7");
  host.profile.awaiting = 12;
  host.profile.respawns = 3;
  host.latency.head.count = 1;
  host.latency.sum_ns = 5000;
  host.latency.max_ns = 1007;
  host.bucket = {static_cast<std::uint32_t>(runtime::Histogram::bucket_of(1000)), 0, 5};
  auto& record = host.queue().daemon(1);
  record.state.store(static_cast<std::uint32_t>(runtime::DaemonState::kLive), std::memory_order_relaxed);
  record.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  record.epoch.store(4, std::memory_order_relaxed);
  record.completed.store(77, std::memory_order_relaxed);
  record.current.store(1, std::memory_order_relaxed);
  host.queue().control->ring_tail.store(9, std::memory_order_relaxed);
  host.queue().control->ring_head.store(2, std::memory_order_relaxed);
  host.queue().done_bits[0].store(0b1011, std::memory_order_relaxed);

  HostReader it = reader(host);
  HostSample sample;
  ASSERT_TRUE(it.connect());
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  EXPECT_EQ(sample.pid, ::getpid());
  EXPECT_EQ(sample.problem, "");
  EXPECT_EQ(sample.version, "9.8.7");
  ASSERT_EQ(sample.profiles.size(), 1u);
  const ProfileSample& profile = sample.profiles[0];
  EXPECT_EQ(profile.name, "default");
  EXPECT_EQ(profile.awaiting, 12u);
  EXPECT_EQ(profile.respawns, 3u);
  EXPECT_EQ(profile.ready, 7u);
  EXPECT_EQ(profile.done, 3u);
  EXPECT_EQ(profile.latency.count, 5u);
  EXPECT_EQ(profile.latency.mean_ns, 1000u);
  EXPECT_EQ(profile.latency.max_ns, 1007u);
  ASSERT_EQ(profile.daemons.size(), 1u);  // the other record was never used
  EXPECT_EQ(profile.daemons[0].index, 1u);
  EXPECT_EQ(profile.daemons[0].epoch, 4u);
  EXPECT_EQ(profile.daemons[0].completed, 77u);
  EXPECT_EQ(profile.daemons[0].state, DaemonSample::State::kBusy);
  EXPECT_GT(profile.daemons[0].resident_bytes, 0u);

  record.completed.store(78, std::memory_order_relaxed);  // seen without an answer
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  EXPECT_EQ(sample.profiles[0].daemons[0].completed, 78u);
}

TEST_F(HostReaderTest, ASilentHostIsShownAsSuchAndReadOn) {
  FakeHost host;
  HostReader it = reader(host);
  HostSample sample;
  ASSERT_TRUE(it.connect());
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  host.silent.store(true, std::memory_order_relaxed);
  auto& record = host.queue().daemon(0);
  record.state.store(static_cast<std::uint32_t>(runtime::DaemonState::kLive), std::memory_order_relaxed);
  for (int i = 0; i < 200 && sample.problem.empty(); ++i) {
    ASSERT_TRUE(it.read(1, &sample));
  }
  EXPECT_THAT(sample.problem, HasSubstr("does not answer"));
  ASSERT_EQ(sample.profiles.size(), 1u);
  EXPECT_EQ(sample.profiles[0].daemons.size(), 1u);
  host.silent.store(false, std::memory_order_relaxed);
  while (!sample.problem.empty()) {
    ASSERT_TRUE(it.read(kPatienceMs, &sample));
  }
}

TEST_F(HostReaderTest, AHostThatEndsIsGone) {
  auto host = std::make_unique<FakeHost>();
  HostReader it = reader(*host);
  HostSample sample;
  ASSERT_TRUE(it.connect());
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  const std::string name = host->name();
  host.reset();
  EXPECT_FALSE(it.read(kPatienceMs, &sample));
  EXPECT_FALSE(HostReader({::getpid(), name}).connect());
}

TEST_F(HostReaderTest, AProfileThatEndsIsForgotten) {
  FakeHost host;
  HostReader it = reader(host);
  HostSample sample;
  ASSERT_TRUE(it.connect());
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  ASSERT_EQ(sample.profiles.size(), 1u);
  host.without_profiles.store(true, std::memory_order_relaxed);
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  EXPECT_TRUE(sample.profiles.empty());
}

TEST_F(HostReaderTest, AnotherVersionIsNamed) {
  FakeHost host;
  host.host.head.layout_hash ^= 1;
  HostReader it = reader(host);
  HostSample sample;
  ASSERT_TRUE(it.connect());
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  EXPECT_THAT(sample.problem, HasSubstr("one version"));
  EXPECT_TRUE(sample.profiles.empty());
}

TEST_F(HostReaderTest, WhatIsNoSegmentIsNotMapped) {
  FakeHost host;
  host.gives_other_file = true;
  HostReader it = reader(host);
  HostSample sample;
  ASSERT_TRUE(it.connect());
  ASSERT_TRUE(it.read(kPatienceMs, &sample));
  EXPECT_THAT(sample.problem, HasSubstr("something else"));
}

// A socket of this name that another user made: anyone can take an abstract name.
TEST_F(HostReaderTest, AnotherUsersSocketIsRefused) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root, to be another user for a moment";
  }
  constexpr uid_t kNobody = 65534;
  FakeHost host;
  const pid_t child = ::fork();
  if (child == 0) {
    const bool changed = ::setuid(kNobody) == 0;
    _exit(changed && !HostReader({::getppid(), host.name()}).connect() ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// What a host gives away: for reading, in every way.
TEST(ReopenForReadingTest, CannotBeWritten) {
  std::string error;
  const runtime::UniqueFd file = runtime::create_memfd("test", 4096, &error);
  ASSERT_TRUE(file) << error;
  const runtime::UniqueFd given = runtime::reopen_for_reading(file.get());
  ASSERT_TRUE(given);
  EXPECT_TRUE(runtime::is_sealed_memfd(given.get()));
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, given.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(::write(given.get(), "x", 1), -1);
  EXPECT_EQ(errno, EBADF);
  void* readable = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, given.get(), 0);
  ASSERT_NE(readable, MAP_FAILED);
  EXPECT_EQ(::mprotect(readable, 4096, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(errno, EACCES);
  ::munmap(readable, 4096);
}

}  // namespace
}  // namespace setsuna::monitor::test
