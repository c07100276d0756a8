// The handshake as a state machine: who gets in, and who does not.
#include "net/handshake.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "net/tls_library.hpp"

namespace setsuna::net {
namespace {

using testing::HasSubstr;
using Role = Handshake::Role;
using State = Handshake::State;
using Message = Handshake::Message;

HandshakeConfig config(const std::optional<std::string>& token, const std::string& greeting) {
  const auto bytes = std::as_bytes(std::span(greeting));
  return {token, {bytes.begin(), bytes.end()}};
}

struct Side {
  HandshakeConfig settings;
  Handshake handshake;

  Side(Role role, const std::optional<std::string>& token)
      : settings(config(token, role == Role::kHost ? "host" : "dialler")),
        handshake(role, settings, opened_tls_library()) {}

  Handshake::Reply start(std::uint8_t binding = 0) {
    ChannelBinding bytes;
    bytes.fill(std::byte{binding});
    return handshake.start(bytes);
  }
  Handshake::Reply hear(const Handshake::Reply& message) { return handshake.on_message(message->type, message->bytes); }
  State state() const { return handshake.state(); }
};

struct Pair {
  Side dialler, host;
  Message hello, challenge, proof;

  Pair(const std::optional<std::string>& dialler_token, const std::optional<std::string>& host_token)
      : dialler(Role::kDialler, dialler_token), host(Role::kHost, host_token) {}

  void until_proof(std::uint8_t at_dialler = 0, std::uint8_t at_host = 0) {
    EXPECT_FALSE(host.start(at_host));
    hello = *dialler.start(at_dialler);
    challenge = *host.hear(hello);
    proof = *dialler.hear(challenge);
  }
};

void expect_refused(Side& side, const Handshake::Reply& reply, const std::string& why) {
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->type, NetMessage::kRefusal);
  EXPECT_EQ(side.state(), State::kRefused);
  EXPECT_FALSE(side.handshake.by_peer());
  EXPECT_THAT(side.handshake.reason(), HasSubstr(why));
}

TEST(Handshake, BothKnowTheToken) {
  for (const std::optional<std::string>& token :
       {std::optional<std::string>("secret"), std::optional<std::string>(),
        std::optional<std::string>(std::string("\0\xff", 2)), std::optional<std::string>("")}) {
    Pair pair(token, token);
    pair.until_proof();
    EXPECT_FALSE(pair.host.hear(pair.proof));
    EXPECT_EQ(pair.host.state(), State::kProven);
    EXPECT_EQ(pair.dialler.state(), State::kGoing);
    EXPECT_FALSE(pair.dialler.hear(pair.host.handshake.accept()));
    EXPECT_EQ(pair.dialler.state(), State::kDone);
    EXPECT_EQ(pair.host.state(), State::kDone);
    EXPECT_EQ(pair.host.handshake.peer_greeting().size(), 7u);
    EXPECT_EQ(pair.dialler.handshake.peer_greeting().size(), 4u);
  }
}

TEST(Handshake, TheTokenIsNotOnTheWire) {
  Pair pair("a very secret token", "a very secret token");
  pair.until_proof();
  pair.host.hear(pair.proof);
  const Message welcome = *pair.host.handshake.accept();
  for (const Message& message : {pair.hello, pair.challenge, pair.proof, welcome}) {
    const std::string text(reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size());
    EXPECT_EQ(text.find("secret"), std::string::npos);
  }
}

TEST(Handshake, WrongTokens) {
  Pair pair("guess", "secret");
  pair.until_proof();
  const Handshake::Reply refusal = pair.host.hear(pair.proof);
  expect_refused(pair.host, refusal, "wrong token");
  EXPECT_FALSE(pair.dialler.hear(refusal));
  EXPECT_EQ(pair.dialler.state(), State::kRefused);
  EXPECT_TRUE(pair.dialler.handshake.by_peer());
  EXPECT_THAT(pair.dialler.handshake.reason(), HasSubstr("wrong token"));
}

TEST(Handshake, OneSideHasNone) {
  Pair none(std::nullopt, "secret");
  expect_refused(none.host, none.host.hear(none.dialler.start()), "wants a token");
  Pair one("secret", std::nullopt);
  expect_refused(one.host, one.host.hear(one.dialler.start()), "without authentication");
  // A host that pretends to want none cannot lure a daemon that has one.
  Pair lured(std::nullopt, std::nullopt);
  lured.until_proof();
  Side victim(Role::kDialler, "secret");
  victim.start();
  expect_refused(victim, victim.hear(lured.challenge), "one side has a token");
}

TEST(Handshake, AHostWithoutTheTokenIsNotBelieved) {
  Pair pair("secret", "secret");
  pair.until_proof();
  Side impostor(Role::kHost, "guess");
  impostor.hear(pair.hello);
  for (const std::size_t size : {0u, 31u, 32u, 33u}) {
    Side dialler(Role::kDialler, "secret");
    dialler.start();
    dialler.hear(pair.challenge);
    expect_refused(dialler, dialler.hear(Message{NetMessage::kWelcome, std::vector<std::byte>(size)}), "does not know");
  }
}

TEST(Handshake, ReplayAndReflectionProveNothing) {
  Pair first("secret", "secret");
  first.until_proof();
  first.host.hear(first.proof);
  const Message welcome = *first.host.handshake.accept();

  Side host(Role::kHost, "secret");  // hears what another heard
  host.hear(first.hello);
  expect_refused(host, host.hear(first.proof), "wrong token");

  Side dialler(Role::kDialler, "secret");
  dialler.start();
  dialler.hear(first.challenge);
  expect_refused(dialler, dialler.hear(welcome), "does not know");

  Pair second("secret", "secret");  // its own proof sent back
  second.until_proof();
  expect_refused(second.dialler, second.dialler.hear(Message{NetMessage::kWelcome, second.proof.bytes}),
                 "does not know");
}

TEST(Handshake, AChangedGreetingIsNoticed) {
  Pair pair("secret", "secret");
  Message hello = *pair.dialler.start();
  hello.bytes.back() ^= std::byte{1};
  const Handshake::Reply challenge = pair.host.hear(hello);
  expect_refused(pair.host, pair.host.hear(pair.dialler.hear(challenge)), "wrong token");
}

TEST(Handshake, EndToEndIsWhereBothHaveOneBinding) {
  struct Case {
    std::uint8_t at_dialler, at_host;
    bool end_to_end;
  };
  for (const Case& one :
       {Case{0, 0, false}, Case{7, 0, false}, Case{0, 7, false}, Case{7, 8, false}, Case{7, 7, true}}) {
    Pair pair("secret", "secret");
    pair.until_proof(one.at_dialler, one.at_host);
    pair.host.hear(pair.proof);
    EXPECT_EQ(pair.host.state(), State::kProven);
    pair.dialler.hear(pair.host.handshake.accept());
    EXPECT_EQ(pair.dialler.state(), State::kDone);
    EXPECT_EQ(pair.host.handshake.is_end_to_end(), one.end_to_end);
    EXPECT_EQ(pair.dialler.handshake.is_end_to_end(), one.end_to_end);
  }
}

TEST(Handshake, AChangedBindingIsNoticed) {
  constexpr std::size_t kBindingAt = 36;
  Pair pair("secret", "secret");
  pair.host.start(8);
  Message hello = *pair.dialler.start(7);
  for (std::size_t i = 0; i < sizeof(ChannelBinding); ++i) {
    ASSERT_EQ(hello.bytes[kBindingAt + i], std::byte{7});
    hello.bytes[kBindingAt + i] = std::byte{8};  // what the host has
  }
  const Handshake::Reply challenge = pair.host.hear(hello);
  expect_refused(pair.host, pair.host.hear(pair.dialler.hear(challenge)), "wrong token");
}

TEST(Handshake, OutOfTurn) {
  for (const NetMessage type : {NetMessage::kChallenge, NetMessage::kProof, NetMessage::kWelcome, NetMessage::kPing,
                                NetMessage::kBye, static_cast<NetMessage>(0x9000)}) {
    Side host(Role::kHost, "secret");
    expect_refused(host, host.handshake.on_message(type, {}), "out of turn");
  }
  Pair twice("secret", "secret");
  twice.until_proof();
  expect_refused(twice.host, twice.host.hear(twice.hello), "out of turn");
}

TEST(Handshake, MalformedAndRandomMessages) {
  std::mt19937 random(4);
  Side sample(Role::kDialler, "secret");
  const Message hello = *sample.start();
  for (int round = 0; round < 500; ++round) {
    Side host(Role::kHost, "secret");
    Message bad = hello;
    if (round % 2 == 0) {
      bad.bytes.resize(random() % (hello.bytes.size() - 1));
    } else {
      bad.bytes.resize(random() % 1024);
      for (std::byte& byte : bad.bytes) {
        byte = static_cast<std::byte>(random());
      }
    }
    expect_refused(host, host.hear(bad), "malformed");
  }
}

TEST(Handshake, RefusalsOfStrangersAreMadePrintable) {
  Side dialler(Role::kDialler, "secret");
  dialler.start();
  const std::string ugly = "no\n\x1b[31m way \xff";
  dialler.handshake.on_message(NetMessage::kRefusal, std::as_bytes(std::span(ugly)));
  EXPECT_EQ(dialler.handshake.reason(), "no??[31m way ?");
  Side other(Role::kDialler, "secret");
  other.start();
  other.handshake.on_message(NetMessage::kRefusal, {});
  EXPECT_EQ(other.handshake.reason(), "no reason given");
}

}  // namespace
}  // namespace setsuna::net
