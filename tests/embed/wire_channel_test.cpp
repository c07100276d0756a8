#include "rbridge/embed/wire_channel.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace setsuna::embed {
namespace {

using runtime::UniqueFd;

struct Pair {
  Pair() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    a = WireChannel(UniqueFd(ends[0]));
    b = WireChannel(UniqueFd(ends[1]));
  }
  WireChannel a, b;
};

AnyMessage fork_request(std::uint32_t count) {
  AnyMessage message;
  std::memset(&message, 0, sizeof message);
  message.header = wire_header(MessageKind::fork_request);
  message.fork_request.count = count;
  return message;
}

UniqueFd memfd_with(const char* text) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), text, std::strlen(text)), static_cast<ssize_t>(std::strlen(text)));
  return fd;
}

TEST(WireChannel, CarriesMessagesAndDescriptorsInOrder) {
  Pair pair;
  for (std::uint32_t i = 0; i < 3; ++i) {
    std::vector<UniqueFd> fds;
    for (std::uint32_t k = 0; k < i; ++k) fds.push_back(memfd_with(std::string(1, static_cast<char>('a' + k)).c_str()));
    pair.a.send(fork_request(i), std::move(fds));
  }
  for (std::uint32_t i = 0; i < 3; ++i) {
    Received received = pair.b.receive();
    ASSERT_EQ(received.status, Received::Status::message);
    EXPECT_EQ(received.message.fork_request.count, i);
    ASSERT_EQ(received.fds.size(), i);
    for (std::uint32_t k = 0; k < i; ++k) {
      char c = 0;
      EXPECT_EQ(::pread(received.fds[k].get(), &c, 1, 0), 1);
      EXPECT_EQ(c, static_cast<char>('a' + k));
      EXPECT_EQ(::fcntl(received.fds[k].get(), F_GETFD), FD_CLOEXEC);
    }
  }
  EXPECT_EQ(pair.b.receive().status, Received::Status::empty);
}

TEST(WireChannel, AFullSocketKeepsWhatIsSentAndItsOrder) {
  Pair pair;
  std::uint32_t sent = 0;
  while (!pair.a.wants_write()) pair.a.send(fork_request(sent++));
  for (int i = 0; i < 10; ++i) pair.a.send(fork_request(sent++));
  for (std::uint32_t i = 0; i < sent; ++i) {
    const Received received = pair.b.receive();
    ASSERT_EQ(received.status, Received::Status::message);
    EXPECT_EQ(received.message.fork_request.count, i);
    pair.a.flush();
  }
  EXPECT_FALSE(pair.a.wants_write());
}

TEST(WireChannel, SaysClosedWhenThePeerIsGoneAndSwallowsWhatIsSentThen) {
  Pair pair;
  pair.b.close();
  EXPECT_EQ(pair.a.receive().status, Received::Status::closed);
  pair.a.send(fork_request(1));
  EXPECT_FALSE(pair.a.wants_write());
}

TEST(WireChannel, RefusesWhatItDoesNotKnow) {
  struct Case {
    const char* what;
    void (*damage)(AnyMessage&, std::size_t&);
  };
  const Case cases[] = {
      {"magic", [](AnyMessage& m, std::size_t&) { m.header.magic ^= 1; }},
      {"version", [](AnyMessage& m, std::size_t&) { m.header.version += 1; }},
      {"kind", [](AnyMessage& m, std::size_t&) { m.header.kind = static_cast<MessageKind>(999); }},
      {"short", [](AnyMessage&, std::size_t& size) { size -= 1; }},
      {"only a byte", [](AnyMessage&, std::size_t& size) { size = 1; }},
      {"longer than any message", [](AnyMessage&, std::size_t& size) { size = sizeof(AnyMessage) + 100; }},
  };
  for (const Case& c : cases) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    WireChannel channel{UniqueFd(ends[0])};
    const UniqueFd raw(ends[1]);
    std::vector<char> bytes(sizeof(AnyMessage) + 200);
    AnyMessage message = fork_request(1);
    std::size_t size = sizeof(ForkRequest);
    c.damage(message, size);
    std::memcpy(bytes.data(), &message, sizeof message);
    ASSERT_EQ(::send(raw.get(), bytes.data(), size, 0), static_cast<ssize_t>(size));
    EXPECT_EQ(channel.receive().status, Received::Status::damaged) << c.what;
  }
}

TEST(WireChannel, SaysWhenDescriptorsWereLost) {
  Pair pair;
  std::vector<UniqueFd> fds;
  for (int i = 0; i < 3; ++i) fds.push_back(memfd_with("x"));
  pair.a.send(fork_request(1), std::move(fds));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  UniqueFd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(lowest.get()) + 2;  // room for one or two more
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const Received received = pair.b.receive();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(received.status, Received::Status::message);
  EXPECT_TRUE(received.fds_lost);
  EXPECT_LT(received.fds.size(), 3u);
}

}  // namespace
}  // namespace setsuna::embed
