// Connections from end to end, over each transport.
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

using testing::HasSubstr;
using Connections = LinkTest;
INSTANTIATE_TEST_SUITE_P(Links, Connections, testing::ValuesIn(link_params({"tcp", "ws", "tls+tcp", "wss"})),
                         link_param_name);

TEST_P(Connections, BothProveWhoTheyAreAndTalk) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  EXPECT_EQ(greeting_of(*at_host->connection), "I am daemon");
  EXPECT_EQ(greeting_of(*at_daemon->connection), "I am host");
  EXPECT_EQ(at_host->connection->peer().substr(0, 10), "127.0.0.1:");
  EXPECT_EQ(at_daemon->connection->peer(), "127.0.0.1:" + std::to_string(host.urls[0].port));
  EXPECT_EQ(host.listener->waiting(), 0u);
  at_host->say("hello", 3);
  at_daemon->say("good day", 4);
  at_daemon->send(5, "head");
  at_daemon->connection->send_control(8, 6, bytes("a head"));
  run_until([&] { return at_host->messages.size() == 3 && at_daemon->messages.size() == 1; });
  EXPECT_EQ(at_daemon->messages[0].text, "hello");
  EXPECT_EQ(at_daemon->messages[0].id, 3u);
  EXPECT_EQ(at_daemon->messages[0].type, 7u);
  EXPECT_EQ(at_host->messages[0].text, "good day");
  EXPECT_EQ(at_host->messages[1].head, "a head");
  EXPECT_EQ(at_host->messages[2].head, "head");
  EXPECT_EQ(at_host->messages[2].text, "");
  EXPECT_EQ(at_host->messages[2].lane, Lane::kData);
}

TEST_P(Connections, MessagesOfAllSizesArriveWhole) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  static constexpr std::size_t kSizes[] = {0,     1,      63,     64,     65,      2047,    2048,   2049,   4096,
                                           16000, 262143, 262144, 262145, 1000000, 5000000, 262080, 262104, 300};
  std::vector<std::string> bodies;
  for (const std::size_t size : kSizes) {
    bodies.push_back(pattern(size, static_cast<unsigned>(size)));
  }
  for (const bool give_memory : {true, false}) {
    at_host->give_memory = give_memory;
    at_host->messages.clear();
    at_daemon->sent.clear();
    for (const std::string& head : {std::string(), std::string("head of some bytes"), pattern(64)}) {
      for (std::size_t i = 0; i < bodies.size(); ++i) {
        at_daemon->send(i, head, bodies[i], 100 + i);
      }
      EXPECT_GT(at_daemon->connection->unsent_bytes(), 5000000u);
      run_until([&] { return at_host->messages.size() == bodies.size() && at_daemon->sent.size() == bodies.size(); });
      EXPECT_EQ(at_daemon->connection->unsent_bytes(), 0u);
      for (std::size_t i = 0; i < bodies.size(); ++i) {
        EXPECT_EQ(at_host->messages[i].id, i);
        EXPECT_EQ(at_host->messages[i].head, head);
        EXPECT_TRUE(at_host->messages[i].text == bodies[i]) << bodies[i].size();
        EXPECT_EQ(at_daemon->sent[i], 100 + i);
      }
      at_host->messages.clear();
      at_daemon->sent.clear();
    }
  }
}

TEST_P(Connections, WrongTokensAreRefusedOnBothSidesWithTheReason) {
  Host& host = this->host();
  Client& wrong = dial(host.urls[0], "guess");
  Client& none = dial(host.urls[0], std::nullopt);
  Client& longer = dial(host.urls[0], "secret2");
  run_until([&] {
    return host.rejected.size() == 3 && !wrong.failed.empty() && !none.failed.empty() && !longer.failed.empty();
  });
  EXPECT_THAT(wrong.failed, HasSubstr("refused: wrong token"));
  EXPECT_THAT(wrong.failed, HasSubstr(format_url(host.urls[0])));
  EXPECT_THAT(longer.failed, HasSubstr("refused: wrong token"));
  EXPECT_THAT(none.failed, HasSubstr("wants a token"));
  for (const std::string& sentence : host.rejected) {
    EXPECT_THAT(sentence, HasSubstr("refused a connection from 127.0.0.1:"));
    EXPECT_THAT(sentence, HasSubstr("token"));
  }
  connect(host);  // the others do not notice
}

TEST_P(Connections, OpenHostsWantNoToken) {
  Host& host = this->host(std::nullopt);
  Client& good = dial(host.urls[0], std::nullopt);
  Client& bad = dial(host.urls[0], "secret");
  run_until([&] { return good.end.opened && !bad.failed.empty() && host.rejected.size() == 1; });
  EXPECT_THAT(bad.failed, HasSubstr("without authentication"));
}

TEST_P(Connections, EitherSideMayRefuseThePeerItSees) {
  Host& host = this->host();
  host.refuse_with = "it has another version of R";
  Client& client = dial(host.urls[0]);
  run_until([&] { return !client.failed.empty() && host.rejected.size() == 1; });
  EXPECT_THAT(client.failed, HasSubstr("the other side refused: it has another version of R"));
  EXPECT_THAT(host.rejected[0], HasSubstr("it has another version of R"));
  host.refuse_with.clear();
  Client& picky = *clients_.emplace_back(std::make_unique<Client>());
  picky.refuse_with = "I do not like it";
  picky.dialler = std::make_unique<Dialler>(*reactor_, host.urls[0], resolve(host.urls[0]),
                                            credentials("secret", "I am daemon"), picky, tls().client);
  picky.dialler->start();
  run_until([&] { return !picky.failed.empty() && host.ends.size() == 1 && host.ends[0].closes == 1; });
  EXPECT_THAT(picky.failed, HasSubstr("I do not like it"));
  EXPECT_THAT(host.ends[0].closed, HasSubstr("I do not like it"));
}

TEST_P(Connections, WhatWasSentBeforeCloseArrives) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  const std::string body = pattern(10'000'000);
  at_daemon->send(1, "head", body, 1);
  at_daemon->say("bye");
  at_daemon->connection->close("I am done");
  at_daemon->say("not sent any more");
  run_until([&] { return at_host->closes == 1 && at_daemon->closes == 1; });
  ASSERT_EQ(at_host->messages.size(), 2u);
  EXPECT_EQ(at_host->messages[0].text, "bye");
  EXPECT_TRUE(at_host->messages[1].text == body);
  EXPECT_THAT(at_host->closed, HasSubstr("I am done"));
  EXPECT_THAT(at_host->closed, HasSubstr("127.0.0.1:"));
  EXPECT_THAT(at_daemon->closed, HasSubstr("I am done"));
  EXPECT_EQ(at_daemon->sent, std::vector<std::uint64_t>{1});
}

TEST_P(Connections, AVanishedPeerTearsWhatIsHalfThere) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  const std::string body = pattern(50'000'000);
  at_daemon->send(1, "", body, 17);
  at_daemon->send(2, "", body, 18);
  at_host->send(3, "", body, 19);
  run_until([&] { return at_host->memory.size() == 1; });
  at_daemon->connection.reset();
  run_until([&] { return at_host->closes == 1; });
  EXPECT_EQ(at_host->torn, std::vector<std::uint64_t>{1});
  EXPECT_EQ(at_host->sent, std::vector<std::uint64_t>{19});
  EXPECT_TRUE(at_host->messages.empty());
  EXPECT_TRUE(at_daemon->sent.empty());
  EXPECT_EQ(at_daemon->closes, 0);
}

TEST_P(Connections, TheConnectionMayGoInsideAnyCall) {
  Host& host = this->host();
  const auto gone = [](End& end) { end.connection.reset(); };
  {
    auto [at_host, at_daemon] = connect(host);
    at_daemon->then_closed = gone;
    at_host->connection->close("over");
    run_until([&] { return at_daemon->closes == 1 && at_host->closes == 1; });
  }
  {
    auto [at_host, at_daemon] = connect(host);
    at_daemon->then_message = [&](End& end, const Said&) { gone(end); };
    at_host->say("1");
    at_host->say("2");
    at_host->say("3");
    run_until([&] { return at_host->closes == 1; });
    EXPECT_EQ(at_daemon->messages.size(), 1u);
    EXPECT_EQ(at_daemon->closes, 0);
  }
  {
    host.prepare = [&](End& end) { end.then_open = gone; };
    Client& client = dial(host.urls[0]);
    run_until([&] { return client.end.closes == 1 || !client.failed.empty(); });
    host.prepare = {};
  }
  {
    auto [at_host, at_daemon] = connect(host);
    at_daemon->then_message = [&](End& end, const Said&) { end.connection->close("enough"); };
    at_host->say("1");
    at_host->say("2");
    run_until([&] { return at_host->closes == 1 && at_daemon->closes == 1; });
    EXPECT_EQ(at_daemon->messages.size(), 1u);
    EXPECT_THAT(at_host->closed, HasSubstr("enough"));
  }
}

TEST_P(Connections, LargeMessagesBothWaysDoNotHoldUpSmallOnes) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  const std::string body = pattern(64'000'000);
  at_host->keep_text = at_daemon->keep_text = false;
  at_host->send(1, "", body, 1);
  at_daemon->send(1, "", body, 1);
  // Each small message answers the one before: there is always one on its way, in between the chunks.
  std::size_t small_before_large = 0;
  at_daemon->then_message = [](End& end, const Said& said) {
    if (said.lane == Lane::kControl) {
      end.say("pong", said.id);
    }
  };
  bool large = false;
  at_host->then_message = [&](End& end, const Said& said) {
    large = large || said.lane == Lane::kData;
    if (said.lane == Lane::kControl && !large) {
      ++small_before_large;
      end.say("ping", said.id + 1);
    }
  };
  at_host->say("ping", 0);
  run_until([&] {
    return !at_host->sent.empty() && !at_daemon->sent.empty() && large && !at_daemon->messages.empty() &&
           at_daemon->memory[1] == body;
  });
  EXPECT_TRUE(at_host->memory[1] == body);
  EXPECT_GT(small_before_large, 2u);  // more come where the kernel buffers less
}

TEST_P(Connections, DataMessagesAreInOrder) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  at_host->give_memory = false;
  const std::string large = pattern(300'000);
  for (std::uint64_t i = 0; i < 5000; ++i) {
    if (i % 500 == 7) {
      at_daemon->send(i, "x", large, i);
    } else {
      at_daemon->send(i, "x", std::to_string(i));
    }
  }
  run_until([&] { return at_host->messages.size() == 5000; });
  for (std::uint64_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(at_host->messages[i].id, i);
  }
}

TEST_P(Connections, ARejectedMessageEndsTheConnection) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  at_host->reject_with = "I have no task 5";
  at_daemon->send(5, "head", pattern(1000));
  run_until([&] { return at_host->closes == 1 && at_daemon->closes == 1; });
  EXPECT_THAT(at_host->closed, HasSubstr("I have no task 5"));
  EXPECT_THAT(at_daemon->closed, HasSubstr("I have no task 5"));
  EXPECT_TRUE(at_host->torn.empty());
}

TEST_P(Connections, APortIsFreeAsSoonAsItsListenerIsGone) {
  const Url url[] = {host().urls.front()};
  for (int i = 0; i < 50; ++i) {
    reactor_->wake();
    reactor_->run_once();  // the accept is on its way in the kernel
    hosts_.clear();
    ASSERT_EQ(bind_urls(url).message, "") << "after " << i;
    host_at(format_url(url[0]));
  }
}

TEST_P(Connections, NobodyThere) {
  const Url any[] = {parse_url(any_url()).url.value()};
  const Url url = bind_urls(any).urls.at(0);  // and closed again
  Client& client = dial(url);
  run_until([&] { return !client.failed.empty(); });
  EXPECT_THAT(client.failed,
              HasSubstr("cannot connect to '" + format_url(url) + "': Connection refused; nobody listens"));
  Client& nowhere = dial(parse_url("tcp://nowhere.invalid:5555").url.value());
  run_until([&] { return !nowhere.failed.empty(); });
  EXPECT_THAT(nowhere.failed, HasSubstr("'nowhere.invalid' cannot be resolved"));
}

TEST_P(Connections, ADiallerGivesUpSilently) {
  Host& host = this->host();
  Client& client = dial(host.urls[0]);
  client.dialler.reset();
  Client& later = dial(host.urls[0]);
  run_until([&] { return host.listener->waiting() > 0; });
  later.dialler.reset();
  run_until([&] { return host.rejected.size() >= 1 && host.listener->waiting() == 0; });
  EXPECT_EQ(client.failed, "");
  EXPECT_EQ(later.failed, "");
}

}  // namespace
}  // namespace setsuna::net
