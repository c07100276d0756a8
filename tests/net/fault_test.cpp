// Connections over a network that delays, holds back, damages, loses and cuts, whatever the layers.
#include "tests/net/fault_proxy.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr std::uint64_t kMs = 1'000'000;

class Faults : public LinkTest {
 protected:
  struct Ends {
    End* at_host = nullptr;
    Client* client = nullptr;
  };

  void SetUp() override {
    LinkTest::SetUp();
    if (!IsSkipped()) {
      host_ = &host();
      proxy_ = std::make_unique<FaultProxy>(host_->urls[0].port);
    }
  }

  Url url() const {
    Url out = host_->urls[0];
    out.port = proxy_->port();
    return out;
  }

  Ends connect_through() {
    const std::size_t before = host_->ends.size();
    Client& client = dial(url());
    run_until([&] { return (client.end.opened && host_->ends.size() > before) || !client.failed.empty(); });
    EXPECT_EQ(client.failed, "");
    return {&host_->ends.back(), &client};
  }

  Host* host_ = nullptr;
  std::unique_ptr<FaultProxy> proxy_;
};
INSTANTIATE_TEST_SUITE_P(Links, Faults, testing::ValuesIn(link_params({"tcp", "ws", "tls+tcp", "wss"})),
                         link_param_name);

TEST_P(Faults, ADelayKeepsTheOrder) {
  proxy_->delay(20 * kMs);
  auto [at_host, client] = connect_through();
  const std::string body = pattern(300'000);
  for (std::uint64_t i = 1; i <= 20; ++i) {
    at_host->say("word", i);
    client->end.send(i, "head", body, i);
  }
  run_until([&, h = at_host, c = client] { return h->messages.size() == 20 && c->end.messages.size() == 20; });
  for (std::uint64_t i = 1; i <= 20; ++i) {
    EXPECT_EQ(client->end.messages[i - 1].id, i);
    EXPECT_EQ(at_host->messages[i - 1].id, i);
    EXPECT_TRUE(at_host->messages[i - 1].text == body);
  }
}

// Small messages go between the pieces of a large one that does not get through, and it ends whole.
TEST_P(Faults, AThinLineCarriesAllOfIt) {
  auto [at_host, client] = connect_through();
  proxy_->limit(0);
  const std::string body = pattern(20'000'000);
  at_host->send(1, "large", body, 7);
  Recorder tick;
  reactor_->timer(runtime::monotonic_ns() + 50 * kMs, tick.handler());
  run_until([&] { return tick.lasts == 1; });
  EXPECT_TRUE(client->end.messages.empty());
  EXPECT_TRUE(at_host->sent.empty());
  EXPECT_GT(at_host->connection->unsent_bytes(), 0u);
  at_host->say("small", 2);
  proxy_->limit(200'000'000);
  run_until([&, c = client] { return c->end.messages.size() == 2; });
  EXPECT_EQ(client->end.messages[0].text, "small");
  EXPECT_TRUE(client->end.messages[1].text == body);
  run_until([&, h = at_host] { return !h->sent.empty(); });
}

// One bit, or one byte too few, anywhere in a message of either side: its receiver says so and closes, nothing that was
// damaged is delivered, and a new connection is as good as ever.
TEST_P(Faults, DamageIsNoticed) {
  const std::string body = pattern(100'000);
  for (const Fault::Kind kind : {Fault::Kind::kFlip, Fault::Kind::kDrop}) {
    for (const Fault::Way way : {Fault::Way::kUp, Fault::Way::kDown}) {
      for (const std::uint64_t after : {0, 1, 13, 40, 70, 1000, 65'600, 99'000}) {
        auto [at_host, client] = connect_through();
        End& sender = way == Fault::Way::kUp ? client->end : *at_host;
        End& receiver = way == Fault::Way::kUp ? *at_host : client->end;
        proxy_->strike({kind, way, after, 1});
        sender.send(1, "head", body, 1);
        sender.send(2, "head", body, 2);  // what was left out is made up for: nothing waits for the last byte
        run_until([&] { return sender.closes == 1 && receiver.closes == 1; });
        const std::string what = std::to_string(static_cast<int>(kind)) + " after " + std::to_string(after) + ": ";
        EXPECT_TRUE(receiver.messages.empty()) << what;
        EXPECT_EQ(sender.sent.size(), 2u) << what;
        EXPECT_THAT(receiver.closed, HasSubstr("127.0.0.1:")) << what;
        EXPECT_THAT(receiver.closed, testing::Not(HasSubstr("without a word"))) << what;
      }
    }
  }
  auto [at_host, client] = connect_through();
  client->end.say("as good as ever");
  run_until([h = at_host] { return h->messages.size() == 1; });
}

// The end comes after any byte of the handshake or of what follows: each side learns of it once, and gets back what it lent.
TEST_P(Faults, AnEndAfterAnyByte) {
  const std::string body = pattern(3000);
  for (std::uint64_t after = 0; after < 4000; after += 1 + after / 5) {
    for (const Fault::Way way : {Fault::Way::kUp, Fault::Way::kDown}) {
      const std::size_t rejected = host_->rejected.size();
      const std::size_t came = host_->ends.size();
      proxy_->strike_next({Fault::Kind::kEnd, way, after, 1});
      Client& client = dial(url());
      client.end.then_open = [&](End& end) { end.send(1, "head", body, 1); };
      host_->prepare = [&](End& end) { end.then_open = [&](End& it) { it.send(2, "head", body, 2); }; };
      const auto host_is_done = [&] {
        return host_->ends.size() > came ? host_->ends.back().closes == 1 || !host_->ends.back().opened
                                         : host_->rejected.size() > rejected;
      };
      // Beyond what is said, there is no end by itself.
      const auto all_arrived = [&] {
        return host_->ends.size() > came && host_->ends.back().messages.size() == 1 && client.end.messages.size() == 1;
      };
      run_until(
          [&] { return all_arrived() || (host_is_done() && (client.end.closes == 1 || !client.failed.empty())); });
      if (client.end.opened && client.end.closes == 1) {
        EXPECT_EQ(client.end.sent, std::vector<std::uint64_t>{1}) << after;
      }
    }
  }
  host_->prepare = {};
  proxy_->cut();
  connect_through();
  EXPECT_EQ(host_->listener->waiting(), 0u);
}

TEST_P(Faults, ACutIsToldToBothSides) {
  auto [at_host, client] = connect_through();
  const std::string body = pattern(30'000'000);
  proxy_->limit(0);
  at_host->send(1, "head", body, 1);
  client->end.send(2, "head", body, 2);
  run_what_is_there();
  proxy_->cut();
  run_until([h = at_host, c = client] { return h->closes == 1 && c->end.closes == 1; });
  EXPECT_EQ(at_host->sent, std::vector<std::uint64_t>{1});
  EXPECT_EQ(client->end.sent, std::vector<std::uint64_t>{2});
  EXPECT_THAT(at_host->closed, AnyOf(HasSubstr("reset"), HasSubstr("without a word"), HasSubstr("Broken pipe")));
}

// The limit is 20 s, and so long does this test take: it is run on one reactor only.
class PulledCable : public Faults {};
INSTANTIATE_TEST_SUITE_P(Links, PulledCable, testing::Values(LinkParam{Kind::kAutomatic, "tcp"}), link_param_name);

TEST_P(PulledCable, IsNoticedByWhoWaitsForAnAnswer) {
  auto [at_host, client] = connect_through();
  proxy_->freeze();
  auto [other, living] = connect_through();
  at_host->connection->set_watchful(true);
  other->connection->set_watchful(true);
  const std::string body = pattern(50'000'000);  // more than the kernel takes
  at_host->send(1, "head", body, 1);
  run_until([h = at_host] { return h->closes == 1; });
  EXPECT_THAT(at_host->closed, HasSubstr("nothing was heard from the other side for 20 s"));
  EXPECT_EQ(at_host->sent, std::vector<std::uint64_t>{1});
  EXPECT_EQ(other->closes, 0);
  living->end.say("still here");
  run_until([o = other] { return o->messages.size() == 1; });
}

}  // namespace
}  // namespace setsuna::net
