// Where hosts listen and what daemons dial.
#include "net/tcp_socket.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

namespace setsuna::net {
namespace {

using runtime::UniqueFd;
using testing::HasSubstr;

Url url(const std::string& text) {
  const ParsedUrl parsed = parse_url(text);
  EXPECT_EQ(parsed.error, "");
  return parsed.url.value_or(Url{});
}

// Through the first address of this URL.
bool reaches(const Url& where) {
  for (const SocketAddress& address : resolve(where).addresses) {
    const UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), address.get(), address.length) == 0) {
      return true;
    }
  }
  return false;
}

bool has_ipv6() { return static_cast<bool>(listen_tcp(url("tcp://[::1]:0"))); }

std::string own_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

TEST(TcpSocket, ListensAndReportsThePort) {
  const ListenResult listening = listen_tcp(url("tcp://127.0.0.1:0"));
  ASSERT_TRUE(listening) << listening.message;
  EXPECT_NE(listening.url.port, 0);
  EXPECT_EQ(listening.url.host, "127.0.0.1");
  EXPECT_TRUE(reaches(listening.url));
  Url name = listening.url;
  name.host = "localhost";
  EXPECT_TRUE(reaches(name));
}

TEST(TcpSocket, EveryAddress) {
  for (const char* text : {"tcp://:0", "tcp://*:0", "ws://0.0.0.0:0", "wss://:0/path"}) {
    ListenResult listening = listen_tcp(url(text));
    ASSERT_TRUE(listening) << listening.message;
    Url where = listening.url;
    where.host = "127.0.0.1";
    EXPECT_TRUE(reaches(where)) << text;
    EXPECT_EQ(listening.url.path, url(text).path);
  }
  if (!has_ipv6()) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  for (const char* text : {"tcp://:0", "tcp://[::]:0"}) {
    const ListenResult listening = listen_tcp(url(text));
    ASSERT_TRUE(listening) << listening.message;
    Url where = listening.url;
    where.host = "127.0.0.1";
    where.ipv6 = false;
    EXPECT_TRUE(reaches(where)) << text;
    where.host = "::1";
    where.ipv6 = true;
    EXPECT_TRUE(reaches(where)) << text;
  }
  const ListenResult six = listen_tcp(url("tcp://[::1]:0"));
  ASSERT_TRUE(six) << six.message;
  EXPECT_TRUE(reaches(six.url));
  EXPECT_EQ(format_url(six.url), "tcp://[::1]:" + std::to_string(six.url.port));
}

TEST(TcpSocket, ItsOwnNameMeansEveryAddress) {
  const std::string name = own_name();
  const ListenResult listening = listen_tcp(url("tcp://" + name + ":0"));
  ASSERT_TRUE(listening) << listening.message;
  EXPECT_EQ(listening.url.host, name);
  Url where = listening.url;
  where.host = "127.0.0.1";
  EXPECT_TRUE(reaches(where));
}

TEST(TcpSocket, SaysWhyItCannotListen) {
  const ListenResult first = listen_tcp(url("tcp://127.0.0.1:0"));
  ASSERT_TRUE(first);
  const ListenResult second = listen_tcp(first.url);
  EXPECT_FALSE(second);
  EXPECT_EQ(second.message, "cannot listen at '" + format_url(first.url) +
                                "': Address already in use; another process listens there: choose another port, or 0 "
                                "for a free one");
  EXPECT_THAT(listen_tcp(url("tcp://192.0.2.1:0")).message,
              HasSubstr("Cannot assign requested address; this machine has no such address"));
  EXPECT_THAT(listen_tcp(url("tcp://nowhere.invalid:0")).message,
              HasSubstr("cannot listen at 'tcp://nowhere.invalid:0': the host 'nowhere.invalid' cannot be resolved: "));
}

TEST(TcpSocket, APortIsFreeAgainAtOnce) {
  Url where;
  {
    const ListenResult first = listen_tcp(url("tcp://127.0.0.1:0"));
    where = first.url;
    ASSERT_TRUE(reaches(where));  // which leaves a connection in TIME_WAIT, or half-closed
  }
  EXPECT_TRUE(listen_tcp(where)) << listen_tcp(where).message;
}

TEST(TcpSocket, SaysWhatCannotBeDialled) {
  EXPECT_THAT(resolve(url("tcp://:5555")).message, HasSubstr("it names no host"));
  EXPECT_THAT(resolve(url("tcp://localhost:0")).message, HasSubstr("port 0 is no port to dial"));
  EXPECT_THAT(
      resolve(url("wss://nowhere.invalid/x")).message,
      HasSubstr("cannot connect to 'wss://nowhere.invalid:443/x': the host 'nowhere.invalid' cannot be resolved"));
  EXPECT_EQ(resolve(url("tcp://127.0.0.1:5")).addresses.size(), 1u);
  EXPECT_THAT(explain_connect_error(ECONNREFUSED), HasSubstr("nobody listens there"));
}

TEST(TcpSocket, AddressesAreWrittenAsInUrls) {
  const auto text = [](const char* where) { return format_address(resolve(url(where)).addresses.at(0)); };
  EXPECT_EQ(text("tcp://127.0.0.1:5"), "127.0.0.1:5");
  EXPECT_EQ(text("tcp://[::1]:5"), "[::1]:5");
  EXPECT_EQ(text("tcp://[::ffff:10.0.0.1]:5"), "10.0.0.1:5");
}

TEST(TcpSocket, Tuned) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  tune_tcp(fd.get());
  const auto option = [&](int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    ::getsockopt(fd.get(), level, name, &value, &length);
    return value;
  };
  EXPECT_NE(option(IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_NE(option(SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE) + 3 * option(IPPROTO_TCP, TCP_KEEPINTVL), 30);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 30'000);
}

}  // namespace
}  // namespace setsuna::net
