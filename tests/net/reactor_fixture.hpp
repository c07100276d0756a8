// One suite for both reactors: tests are run with each choice.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "net/make_reactor.hpp"
#include "net/unix_socket.hpp"
#include "net/uring_reactor.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::net {

using runtime::UniqueFd;

// The reactors that the suite runs on. Plain: io_uring without what newer kernels offer.
// ZeroCopy: every send goes out without a copy where the socket can do that.
enum class Kind { kIoUring, kIoUringPlain, kIoUringZeroCopy, kEpoll, kAutomatic };

inline std::ostream& operator<<(std::ostream& out, Kind kind) {
  static constexpr const char* kNames[] = {"IoUring", "IoUringPlain", "IoUringZeroCopy", "Epoll", "Automatic"};
  return out << kNames[static_cast<std::size_t>(kind)];
}

inline std::string kind_name(const testing::TestParamInfo<Kind>& info) { return testing::PrintToString(info.param); }

inline MadeReactor make(Kind kind) {
  switch (kind) {
    case Kind::kIoUring: return make_reactor(ReactorChoice::kIoUring);
    case Kind::kEpoll: return make_reactor(ReactorChoice::kEpoll);
    case Kind::kAutomatic: return make_reactor(ReactorChoice::kAutomatic);
    case Kind::kIoUringZeroCopy: return make_reactor(ReactorChoice::kIoUring, {RingKind::kDeferred, 1});
    default: {
      MadeReactor made;
      made.reactor = UringReactor::create(made.error, {RingKind::kPlain});
      return made;
    }
  }
}

// What one operation reported.
struct Recorder {
  std::vector<std::int64_t> results;
  std::string data;
  int lasts = 0;
  std::function<void(const Completion&)> then;

  void on(const Completion& c) {
    EXPECT_EQ(lasts, 0) << "a completion after the last";
    results.push_back(c.result);
    data.append(reinterpret_cast<const char*>(c.data.data()), c.data.size());
    lasts += c.more ? 0 : 1;
    if (then) {
      then(c);
    }
  }

  Handler handler() { return Handler::to<&Recorder::on>(this); }
  std::int64_t last() const { return results.empty() ? INT64_MIN : results.back(); }
};

class ReactorFixture : public testing::Test {
 protected:
  void set_up(Kind kind) {
    MadeReactor made = make(kind);
    if (made.reactor == nullptr && kind != Kind::kEpoll && kind != Kind::kAutomatic) {
      GTEST_SKIP() << made.error;
    }
    ASSERT_NE(made.reactor, nullptr) << made.error;
    reactor_ = std::move(made.reactor);
  }

  // Runs until the condition holds. A test that never gets there is stopped by the test runner's limit.
  template <class Condition>
  void run_until(Condition condition) {
    while (!condition()) {
      reactor_->run_once();
    }
  }

  // Delivers what is there without waiting for more.
  void run_what_is_there() {
    Recorder now;
    reactor_->timer(0, now.handler());
    run_until([&] { return now.lasts == 1; });
  }

  // Two connected stream sockets, the first adopted.
  struct Pair {
    int ours = -1;
    UniqueFd theirs;
  };
  Pair stream_pair() {
    UniqueFd one;
    Pair pair;
    EXPECT_EQ(socket_pair(SOCK_STREAM, one, pair.theirs), 0);
    pair.ours = reactor_->adopt(one.release());
    return pair;
  }

  // A TCP listener on loopback, adopted, and its address.
  int tcp_listener(sockaddr_in& address) {
    const int fd = reactor_->adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address = sockaddr_in{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(fd, 512), 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
    return fd;
  }

  UniqueFd tcp_client(const sockaddr_in& address) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  static std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }
  static bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

  std::unique_ptr<Reactor> reactor_;
};

class ReactorTest : public ReactorFixture, public testing::WithParamInterface<Kind> {
 protected:
  void SetUp() override { set_up(GetParam()); }
};

// Bytes in which every position is recognisable.
inline std::string pattern(std::size_t size, unsigned seed = 1) {
  std::string out(size, '\0');
  std::uint32_t state = seed * 2654435761u + 1;
  for (char& c : out) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

}  // namespace setsuna::net

#define SETSUNA_ON_ALL_REACTORS(suite)                                                                           \
  INSTANTIATE_TEST_SUITE_P(Reactors, suite,                                                                      \
                           testing::Values(::setsuna::net::Kind::kIoUring, ::setsuna::net::Kind::kIoUringPlain,  \
                                           ::setsuna::net::Kind::kIoUringZeroCopy, ::setsuna::net::Kind::kEpoll, \
                                           ::setsuna::net::Kind::kAutomatic),                                    \
                           ::setsuna::net::kind_name)
