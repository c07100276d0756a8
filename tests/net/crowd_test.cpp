// Very many connections at once, and what one costs while nothing happens on it.
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/poison.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

class Crowd : public LinkTest {
 protected:
  static std::size_t used_memory() {
    const struct mallinfo2 info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
  }

  // Opens `count` connections and says what the two ends of one have cost.
  std::size_t gather(Host& host, std::size_t count) {
    const std::size_t before = used_memory();
    for (std::size_t i = 0; i < count; ++i) {
      dial(host.urls[0]);
    }
    const auto open = [&] {
      for (const auto& client : clients_) {
        if (!client->failed.empty()) {
          ADD_FAILURE() << client->failed;
          return true;
        }
        if (!client->end.opened) {
          return false;
        }
      }
      return host.ends.size() == count;
    };
    run_until(open);
    EXPECT_EQ(host.ends.size(), count);
    for (End& end : host.ends) {
      end.say("welcome");
    }
    run_until([&] {
      return std::all_of(clients_.begin(), clients_.end(), [](const auto& c) { return c->end.messages.size() == 1; });
    });
    return (used_memory() - before) / count;
  }

  static bool enough_descriptors(std::size_t wanted) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max >= wanted;
  }
};
INSTANTIATE_TEST_SUITE_P(Links, Crowd, testing::ValuesIn(link_params({"tcp"})), link_param_name);

class LayeredCrowd : public Crowd {};
INSTANTIATE_TEST_SUITE_P(Links, LayeredCrowd, testing::ValuesIn(link_params({"ws", "tls+tcp", "wss"})),
                         link_param_name);

// The daemons, in a process of their own: descriptors are counted by process. Tells when all are connected, and ends when
// the host has closed them.
[[noreturn]] void dial_many(const Url& url, std::size_t count, int tell) {
  MadeReactor made = make_reactor(ReactorChoice::kEpoll);
  std::deque<Client> clients(count);
  for (Client& client : clients) {
    client.dialler =
        std::make_unique<Dialler>(*made.reactor, url, resolve(url), credentials("secret", "daemon"), client);
    client.dialler->start();
  }
  const auto all = [&](auto condition) {
    while (!std::all_of(clients.begin(), clients.end(), condition)) {
      made.reactor->run_once();
    }
  };
  all([](const Client& c) { return c.end.opened || !c.failed.empty(); });
  const auto failed = std::find_if(clients.begin(), clients.end(), [](const Client& c) { return !c.failed.empty(); });
  const std::string report = failed == clients.end() ? "all are connected" : failed->failed;
  if (::write(tell, report.data(), report.size()) > 0 && failed == clients.end()) {
    all([](const Client& c) { return c.end.closes == 1; });
  }
  ::_exit(0);
}

TEST_P(Crowd, TenThousandAtOnce) {
  constexpr std::size_t kCount = 10'000;
  if (!enough_descriptors(kCount + 2000)) {
    GTEST_SKIP() << "the hard limit of open files (ulimit -Hn) is too low for 10,000 sockets";
  }
  Host& host = this->host();
  int tell[2];
  ASSERT_EQ(::pipe2(tell, O_CLOEXEC), 0);
  const UniqueFd near(tell[0]);
  UniqueFd far(tell[1]);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    reactor_->abandon_in_child();
    dial_many(host.urls[0], kCount, far.get());
  }
  far.reset();
  [[maybe_unused]] const std::size_t before = used_memory();
  Recorder told;
  reactor_->watch_readable(near.get(), told.handler());
  run_until([&] { return !told.results.empty(); });
  char report[200] = {};
  EXPECT_GT(::read(near.get(), report, sizeof report - 1), 0);
  EXPECT_STREQ(report, "all are connected");
  run_until([&] { return host.ends.size() == kCount; });
  EXPECT_TRUE(host.rejected.empty());
#ifndef SETSUNA_ASAN  // which has its own idea of memory
  EXPECT_LT((used_memory() - before) / kCount, 32u * 1024);
#endif
  for (End& end : host.ends) {
    end.connection->close("enough");
  }
  run_until(
      [&] { return std::all_of(host.ends.begin(), host.ends.end(), [](const End& end) { return end.closes == 1; }); });
  int status = 1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  run_until([&] { return told.lasts == 1; });
}

TEST_P(LayeredCrowd, AnIdleConnectionCostsLittle) {
#ifdef SETSUNA_ASAN
  GTEST_SKIP() << "AddressSanitizer has its own idea of memory";
#endif
  Host& host = this->host();
  gather(host, 20);  // what is needed once
  clients_.clear();
  host.ends.clear();
  run_what_is_there();
  EXPECT_LT(gather(host, 200), 2 * 32u * 1024);  // two ends
}

TEST_P(Crowd, WithoutDescriptorsTheListenerWaitsAndGoesOn) {
  Host& host = this->host();
  connect(host);
  UniqueFd early(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(host.urls[0].port);
  rlimit old;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none{3, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  ASSERT_EQ(::connect(early.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  for (int round = 0; round < 20; ++round) {
    run_what_is_there();
  }
  if (GetParam().kind == Kind::kEpoll) {  // io_uring goes by the limit at the time when the accept was started
    EXPECT_EQ(host.listener->waiting(), 0u);
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  connect(host);
  EXPECT_EQ(host.ends.size(), 2u);
}

}  // namespace
}  // namespace setsuna::net
