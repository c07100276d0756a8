// Creating, sealing, attaching, and what limits of the system make of it.
#include "runtime/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace setsuna::runtime {
namespace {

using ::testing::HasSubstr;
constexpr BuildId kBuild{11, 22};
constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;

SegmentRequest small_request(std::uint64_t data_bytes = 16 * kMegabyte) {
  SegmentRequest request;
  request.slot_count = 64;
  request.daemon_max = 8;
  request.data_bytes = data_bytes;
  request.build_id = kBuild;
  request.profile = "default";
  return request;
}

// Exit status of `body` in a child process (limits and faults stay there); -signal if it was killed.
int in_child(const std::function<bool()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

UniqueFd copy_of(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

void set_limit(__rlimit_resource what, std::uint64_t bytes) {
  rlimit limit{static_cast<rlim_t>(bytes), RLIM_INFINITY};
  ::getrlimit(what, &limit);
  limit.rlim_cur = static_cast<rlim_t>(bytes);
  ::setrlimit(what, &limit);
}

TEST(Segment, HasTheShapeAskedFor) {
  std::string error;
  const auto segment = Segment::create(small_request(), &error);
  ASSERT_TRUE(segment) << error;
  const SegmentHeader& header = segment->header();
  EXPECT_EQ(header.slot_count, 64u);
  EXPECT_EQ(header.daemon_max, 8u);
  EXPECT_EQ(header.extent_count, 8u);
  EXPECT_EQ(header.host_pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_STREQ(header.profile, "default");
  EXPECT_EQ(segment->size_reason(), "as asked");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(segment->base()) % kExtentBytes, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(segment->view()) % kExtentBytes, 0u);
  EXPECT_EQ(header.data_offset % kExtentBytes, 0u);
  EXPECT_TRUE(is_sealed_memfd(segment->fd()));
  EXPECT_NE(::ftruncate(segment->fd(), 4096), 0);
  EXPECT_NE(::ftruncate(segment->fd(), static_cast<off_t>(header.total_bytes + 4096)), 0);
  EXPECT_EQ(::fcntl(segment->fd(), F_GETFD), FD_CLOEXEC);
}

TEST(Segment, LongProfileNamesAreCut) {
  SegmentRequest request = small_request();
  request.profile = std::string(500, 'x');
  std::string error;
  const auto segment = Segment::create(request, &error);
  ASSERT_TRUE(segment) << error;
  EXPECT_EQ(std::strlen(segment->header().profile), sizeof(SegmentHeader::profile) - 1);
}

TEST(Segment, AttachedProcessesSeeTheSameBytes) {
  std::string error;
  const auto host = Segment::create(small_request(), &error);
  const auto daemon = Segment::attach(copy_of(host->fd()), kBuild, &error);
  ASSERT_TRUE(daemon) << error;
  SegmentArena mine(*host, {kHostOwner, 1});
  SegmentArena theirs(*daemon, {0, 1});
  const Block block = theirs.alloc(3 * kMegabyte);
  ASSERT_TRUE(block);
  std::memset(theirs.at(block.offset), 42, block.bytes);
  EXPECT_EQ(mine.at(block.offset)[block.bytes - 1], std::byte{42});
  EXPECT_EQ(host->view()[block.offset], std::byte{42});
  host->view()[block.offset] = std::byte{1};  // a copy of this page, for this process alone
  EXPECT_EQ(theirs.at(block.offset)[0], std::byte{42});
  EXPECT_TRUE(mine.host_release(block.offset));
}

// What fork inherits: views yes (R vectors point into them), the queue no.
TEST(Segment, ForkInheritsTheViewOnly) {
  std::string error;
  const auto segment = Segment::create(small_request(), &error);
  ASSERT_TRUE(segment) << error;
  const std::uint64_t data = segment->header().data_offset;
  EXPECT_EQ(in_child([&] { return segment->view()[data] == std::byte{0}; }), 0);
  EXPECT_EQ(in_child([&] {
              unsigned char present;
              return ::mincore(segment->base(), kPageBytes, &present) != 0 && errno == ENOMEM;
            }),
            0);
}

class AttachMismatch : public ::testing::Test {
 protected:
  void SetUp() override { segment_ = Segment::create(small_request(), &error_); }
  std::string attach(BuildId build = kBuild) {
    std::string error;
    EXPECT_FALSE(Segment::attach(copy_of(segment_->fd()), build, &error));
    return error;
  }
  SegmentHeader& header() { return *reinterpret_cast<SegmentHeader*>(segment_->base()); }

  std::string error_;
  std::optional<Segment> segment_;
};

TEST_F(AttachMismatch, Magic) {
  header().magic = 1;
  EXPECT_THAT(attach(), HasSubstr("not a setsuna segment"));
}
TEST_F(AttachMismatch, ProtocolVersion) {
  header().protocol_version = 99;
  EXPECT_THAT(attach(), HasSubstr("protocol version 99"));
}
TEST_F(AttachMismatch, LayoutHash) {
  header().layout_hash ^= 1;
  EXPECT_THAT(attach(), HasSubstr("memory layout"));
}
TEST_F(AttachMismatch, Build) { EXPECT_THAT(attach({11, 23}), HasSubstr("another build")); }
TEST_F(AttachMismatch, DamagedCountsAndOffsets) {
  header().extent_count = 0;
  EXPECT_THAT(attach(), HasSubstr("damaged"));
  header().extent_count = 9;  // larger than the file
  EXPECT_THAT(attach(), HasSubstr("damaged"));
  header().extent_count = 8;
  header().slot_count = 63;
  EXPECT_THAT(attach(), HasSubstr("damaged"));
  header().slot_count = 64;
  header().slots_offset += 64;
  EXPECT_THAT(attach(), HasSubstr("damaged"));
}
TEST_F(AttachMismatch, NotASegmentAtAll) {
  std::string error;
  EXPECT_FALSE(Segment::attach(UniqueFd(::open("/dev/zero", O_RDWR | O_CLOEXEC)), kBuild, &error));
  EXPECT_THAT(error, HasSubstr("not a sealed memory file"));
  EXPECT_FALSE(Segment::attach(UniqueFd(), kBuild, &error));
  EXPECT_FALSE(Segment::attach(UniqueFd(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING)), kBuild, &error));
  EXPECT_THAT(error, HasSubstr("not a sealed memory file")) << "a peer could shrink it under us";
  EXPECT_FALSE(Segment::attach(create_memfd("x", 0, &error), kBuild, &error));
  EXPECT_THAT(error, HasSubstr("no header"));
}

// --- Size ----------------------------------------------------------------------------------------------------

SegmentLimits no_limits() { return {{std::uint64_t{8} << 30, "physical memory"}, {}, {}, {}}; }

TEST(SegmentSize, AsMuchAsTheMachineAllows) {
  const SegmentSize size = choose_segment_size(small_request(0), no_limits());
  EXPECT_EQ(size.extent_count, 4096u);
  EXPECT_EQ(size.reason, "physical memory");
}

TEST(SegmentSize, AtMost64Gigabytes) {
  SegmentLimits limits = no_limits();
  limits.memory.bytes = std::uint64_t{4} << 40;
  EXPECT_EQ(choose_segment_size(small_request(0), limits).extent_count, kMaxExtents);
}

TEST(SegmentSize, AtLeastFourExtents) {
  EXPECT_EQ(choose_segment_size(small_request(1), no_limits()).extent_count, kMinExtents);
}

TEST(SegmentSize, StaysBelowEveryLimit) {
  for (std::uint64_t limit = 20 * kMegabyte; limit < 9000 * kMegabyte; limit = limit * 5 / 4 + 12345) {
    SegmentLimits limits = no_limits();
    limits.file_size = limit;
    const SegmentSize size = choose_segment_size(small_request(0), limits);
    ASSERT_GT(size.extent_count, 0u);
    EXPECT_LE(plan_segment(64, 8, size.extent_count).total_bytes, limit);
    if (size.extent_count < 4096) {
      EXPECT_GT(plan_segment(64, 8, size.extent_count + 1).total_bytes, limit) << "and no smaller than need be";
      EXPECT_THAT(size.reason, HasSubstr("ulimit -f"));
    }
    limits = no_limits();
    limits.address_space = 8 * limit;
    const SegmentSize by_space = choose_segment_size(small_request(0), limits);
    EXPECT_LE(2 * (plan_segment(64, 8, by_space.extent_count).total_bytes + kExtentBytes), 4 * limit)
        << "half of the address space is left to R";
  }
}

TEST(SegmentSize, SaysWhichLimitToRaise) {
  SegmentLimits limits = no_limits();
  limits.file_size = kMegabyte;
  SegmentSize size = choose_segment_size(small_request(0), limits);
  EXPECT_EQ(size.extent_count, 0u);
  EXPECT_THAT(size.reason, HasSubstr("ulimit -f"));
  EXPECT_THAT(size.reason, HasSubstr("raise that limit"));
  limits = no_limits();
  limits.data = 3 * kMegabyte;
  size = choose_segment_size(small_request(0), limits);
  EXPECT_EQ(size.extent_count, 0u);
  EXPECT_THAT(size.reason, HasSubstr("ulimit -d"));
}

TEST(SegmentLimits, FileSize) {
  EXPECT_EQ(in_child([] {
              set_limit(RLIMIT_FSIZE, 64 * kMegabyte);
              std::string error;
              const auto segment = Segment::create(small_request(0), &error);
              return segment && segment->total_bytes() <= 64 * kMegabyte && segment->total_bytes() > 60 * kMegabyte &&
                     segment->size_reason().find("ulimit -f") != std::string::npos;
            }),
            0);
  EXPECT_EQ(in_child([] {
              set_limit(RLIMIT_FSIZE, kMegabyte);
              std::string error;
              return !Segment::create(small_request(0), &error) && error.find("ulimit -f") != std::string::npos;
            }),
            0)
      << "an error, not SIGXFSZ";
}

TEST(SegmentLimits, FileSizeLoweredLaterDoesNotHurt) {
  EXPECT_EQ(in_child([] {
              std::string error;
              const auto segment = Segment::create(small_request(64 * kMegabyte), &error);
              set_limit(RLIMIT_FSIZE, 0);
              SegmentArena arena(*segment, {kHostOwner, 1});
              const Block block = arena.alloc(40 * kMegabyte);
              return block && std::memset(arena.at(block.offset), 1, block.bytes) != nullptr;
            }),
            0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they need terabytes of address space
TEST(SegmentLimits, AddressSpace) {
  EXPECT_EQ(in_child([] {
              const std::uint64_t used = address_use().total;
              set_limit(RLIMIT_AS, used + 512 * kMegabyte);
              std::string error;
              const auto segment = Segment::create(small_request(0), &error);
              return segment && segment->total_bytes() <= 128 * kMegabyte &&
                     segment->size_reason().find("ulimit -v") != std::string::npos;
            }),
            0);
  EXPECT_EQ(in_child([] {
              set_limit(RLIMIT_AS, address_use().total + 20 * kMegabyte);
              std::string error;
              return !Segment::create(small_request(0), &error) && error.find("ulimit -v") != std::string::npos;
            }),
            0);
}

TEST(SegmentLimits, Data) {
  EXPECT_EQ(in_child([] {
              set_limit(RLIMIT_DATA, address_use().data + 256 * kMegabyte);
              std::string error;
              const auto segment = Segment::create(small_request(0), &error);
              return segment && segment->total_bytes() <= 128 * kMegabyte &&
                     segment->size_reason().find("ulimit -d") != std::string::npos;
            }),
            0);
}

TEST(SegmentLimits, AttachSaysWhatIsInTheWay) {
  std::string error;
  const auto segment = Segment::create(small_request(512 * kMegabyte), &error);
  ASSERT_TRUE(segment) << error;
  EXPECT_EQ(in_child([&] {
              set_limit(RLIMIT_AS, address_use().total + 100 * kMegabyte);
              std::string why;
              return !Segment::attach(copy_of(segment->fd()), kBuild, &why) &&
                     why.find("ulimit -v") != std::string::npos;
            }),
            0);
}
#endif

// --- Pages ---------------------------------------------------------------------------------------------------

TEST(MakeResident, KeepsContentAndMayBeRepeated) {
  std::string error;
  const auto segment = Segment::create(small_request(), &error);
  ASSERT_TRUE(segment) << error;
  const std::uint64_t data = segment->header().data_offset;
  segment->base()[data + 5] = std::byte{9};
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(make_resident(segment->fd(), segment->base() + data, data, 2 * kExtentBytes));
    EXPECT_EQ(segment->base()[data + 5], std::byte{9});
    EXPECT_EQ(segment->base()[data + kExtentBytes], std::byte{0});
  }
  unsigned char present[2 * kExtentBytes / kPageBytes];
  ASSERT_EQ(::mincore(segment->base() + data, 2 * kExtentBytes, present), 0);
  EXPECT_THAT(present, ::testing::Each(::testing::Truly([](unsigned char page) { return (page & 1) != 0; })));
}

TEST(MakeResident, BeyondTheFileIsAnErrorNotAFault) {
  EXPECT_EQ(in_child([] {
              std::string error;
              const UniqueFd fd = create_memfd("short", kExtentBytes, &error);
              const Mapping map = map_shared(fd.get(), 2 * kExtentBytes, &error);
              return map && !make_resident(fd.get(), map.base() + kExtentBytes, kExtentBytes, kExtentBytes);
            }),
            0);
}

}  // namespace
}  // namespace setsuna::runtime
