// Whatever comes on a port: it is refused with a reason, and the others do not notice.
#include <random>

#include "net/tls_library.hpp"
#include "tests/net/frame_bytes.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

using testing::HasSubstr;

class Hostile : public LinkTest {
 protected:
  void write_all(int fd, const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t sent = ::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (sent < 0) {
        return;  // the host has hung up
      }
      at += static_cast<std::size_t>(sent);
    }
  }

  // What is said until the host hangs up.
  std::string read_to_end(int fd) {
    std::string out;
    char buffer[4096];
    for (;;) {
      const ssize_t got = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got > 0) {
        out.append(buffer, static_cast<std::size_t>(got));
      } else if (got == 0 || errno != EAGAIN) {
        return out;
      } else {
        run_what_is_there();
      }
    }
  }

  // Sends this, and hangs up when the host has: why it was rejected, and what the host answered.
  struct Outcome {
    std::string reason;
    std::string answer;
  };
  Outcome offer(Host& host, const std::string& bytes) {
    const std::size_t before = host.rejected.size();
    UniqueFd fd = stranger(host);
    write_all(fd.get(), bytes);
    Outcome out;
    out.answer = read_to_end(fd.get());
    fd.reset();
    run_until([&] { return host.rejected.size() > before; });
    EXPECT_EQ(host.listener->waiting(), 0u);
    out.reason = host.rejected.back();
    return out;
  }

  static std::string frame(NetMessage type, const std::string& body, std::uint16_t version = kFrameVersion) {
    return message_bytes(static_cast<std::uint16_t>(type), 0, body, version);
  }

  static std::string body_of(const Handshake::Reply& reply) {
    return {reinterpret_cast<const char*>(reply->bytes.data()), reply->bytes.size()};
  }

  bool layered() const { return std::string(GetParam().scheme) != "tcp"; }
};
INSTANTIATE_TEST_SUITE_P(Links, Hostile, testing::ValuesIn(link_params({"tcp", "ws", "tls+tcp", "wss"})),
                         link_param_name);

// The frames are the same in all layers.
class HostileFrames : public Hostile {};
INSTANTIATE_TEST_SUITE_P(Links, HostileFrames, testing::ValuesIn(link_params({"tcp"})), link_param_name);

TEST_P(Hostile, RandomBytes) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  host.listener->set_handshake_limit(300'000'000);  // some noise announces a long record of TLS
  std::mt19937 random(6);
  for (int round = 0; round < 50; ++round) {
    std::string noise(100 + random() % 20'000, '\0');
    for (char& c : noise) {
      c = static_cast<char>(random());
    }
    const Outcome outcome = offer(host, noise);
    EXPECT_THAT(outcome.reason, HasSubstr("refused a connection from 127.0.0.1:"));
    EXPECT_THAT(outcome.reason, HasSubstr("not "));
  }
  at_daemon->say("still here");
  run_until([&] { return at_host->messages.size() == 1; });
}

TEST_P(Hostile, NothingAtAllAndHalfAWord) {
  Host& host = this->host();
  for (const std::string& text : {std::string(), std::string("S"), std::string("G"), std::string("\x16\x03", 2)}) {
    const std::size_t before = host.rejected.size();
    UniqueFd fd = stranger(host);
    write_all(fd.get(), text);
    ::shutdown(fd.get(), SHUT_WR);  // half-closed: it listens still
    run_until([&] { return host.rejected.size() > before; });
    read_to_end(fd.get());
  }
  UniqueFd reset = stranger(host);
  const linger abort{1, 0};
  ::setsockopt(reset.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  run_until([&] { return host.listener->waiting() == 1; });
  reset.reset();
  run_until([&] { return host.listener->waiting() == 0; });
  EXPECT_THAT(host.rejected.back(), HasSubstr("reset"));
  connect(host);
}

TEST_P(Hostile, HttpOnAnyPort) {
  Host& host = this->host();
  const Outcome outcome = offer(host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  if (host.urls[0].scheme == Scheme::kWs) {
    EXPECT_THAT(outcome.answer, HasSubstr("HTTP/1.1 426 Upgrade Required\r\n"));
    EXPECT_THAT(outcome.answer, HasSubstr("This is a setsuna host."));
    EXPECT_THAT(outcome.reason, HasSubstr("does not ask for a WebSocket"));
  } else if (!layered()) {
    EXPECT_THAT(outcome.reason, HasSubstr("not setsuna's protocol (it begins with 'GET / HTTP/1.1"));
  }
}

TEST_P(Hostile, WhoSaysNothingIsNotWaitedForForEver) {
  Host& host = this->host();
  host.listener->set_handshake_limit(50'000'000);
  UniqueFd silent = stranger(host);
  UniqueFd slow = stranger(host);
  Recorder tick;
  const Url& url = host.urls[0];
  std::string next = url.is_tls() ? std::string("\x16\x03\x01", 3) : url.is_websocket() ? "GET /" : "STSN\x01";
  // One byte each 10 ms, as long as the host takes them.
  Token timer;
  tick.then = [&](const Completion&) {
    tick.lasts = 0;
    if (!next.empty()) {
      write_all(slow.get(), next.substr(0, 1));
      next.erase(0, 1);
    }
    timer = reactor_->timer(runtime::monotonic_ns() + 10'000'000, tick.handler());
  };
  timer = reactor_->timer(0, tick.handler());
  run_until([&] { return host.listener->waiting() == 2; });
  std::string told;
  for (const int fd : {silent.get(), slow.get()}) {
    told += read_to_end(fd);
  }
  silent.reset();
  slow.reset();
  run_until([&] { return host.rejected.size() == 2; });
  reactor_->forget(timer);
  for (const std::string& sentence : host.rejected) {
    EXPECT_THAT(sentence, HasSubstr("it did not introduce itself in time"));
  }
  if (!layered()) {
    EXPECT_THAT(told, HasSubstr("did not introduce itself"));
  }
}

TEST_P(HostileFrames, OtherVersionsAreToldApart) {
  Host& host = this->host();
  const Outcome outcome = offer(host, frame(NetMessage::kHello, "x", 1));
  EXPECT_THAT(outcome.reason, HasSubstr("version 1 of the protocol and this side version 2"));
  EXPECT_THAT(outcome.answer, HasSubstr("version 1 of the protocol"));
  FrameHeader answer;
  ASSERT_GE(outcome.answer.size(), sizeof answer);
  std::memcpy(&answer, outcome.answer.data(), sizeof answer);
  EXPECT_EQ(answer.version, kFrameVersion);
  EXPECT_EQ(answer.type, static_cast<std::uint16_t>(NetMessage::kRefusal));
}

TEST_P(HostileFrames, NothingButTheHandshakeBeforeIt) {
  Host& host = this->host();
  EXPECT_THAT(offer(host, frame(static_cast<NetMessage>(5), "x")).reason, HasSubstr("before it has proved who it is"));
  EXPECT_THAT(offer(host, frame(NetMessage::kPing, "")).reason, HasSubstr("out of turn"));
  EXPECT_THAT(offer(host, frame(NetMessage::kHello, std::string(1025, 'x'))).reason, HasSubstr("longer than allowed"));
  EXPECT_THAT(offer(host, frame(NetMessage::kHello, "short")).reason, HasSubstr("malformed"));
}

TEST_P(HostileFrames, AReplayedHandshakeIsRefused) {
  Host& host = this->host();
  const HandshakeConfig config = credentials("secret", "daemon");
  const auto read_frame = [&](int fd, std::size_t body_bytes) {
    std::string out(sizeof(FrameHeader) + body_bytes, '\0');
    for (std::size_t at = 0; at < out.size();) {
      const ssize_t got = ::recv(fd, out.data() + at, out.size() - at, MSG_DONTWAIT);
      at += got > 0 ? static_cast<std::size_t>(got) : 0;
      run_what_is_there();
    }
    return out.substr(sizeof(FrameHeader));
  };
  UniqueFd good = stranger(host);
  Handshake dialler(Handshake::Role::kDialler, config, opened_tls_library());
  const std::string hello = body_of(dialler.start({}));
  write_all(good.get(), frame(NetMessage::kHello, hello));
  const std::string challenge = read_frame(good.get(), 68 + 9);
  const std::string proof = body_of(dialler.on_message(NetMessage::kChallenge, bytes(challenge)));
  write_all(good.get(), frame(NetMessage::kProof, proof));
  run_until([&] { return host.ends.size() == 1 && host.ends[0].opened; });
  const Outcome replayed = offer(host, frame(NetMessage::kHello, hello) + frame(NetMessage::kProof, proof));
  EXPECT_THAT(replayed.reason, HasSubstr("wrong token"));
  EXPECT_THAT(replayed.answer, HasSubstr("wrong token"));
  EXPECT_EQ(host.ends.size(), 1u);
}

// After the handshake: what is wrong ends the connection, and what it left is given back.
TEST_P(HostileFrames, DamageLater) {
  Host& host = this->host(std::nullopt);
  const HandshakeConfig config = credentials(std::nullopt, "daemon");
  const auto damaged_data = [] {
    FrameHeader header;
    header.type = 9;
    header.id = 77;
    header.flags = FrameHeader::kData | FrameHeader::kWhole;
    header.body_bytes = 3;
    std::string out = frame_bytes(header, {}, "abc");
    out.back() = 'x';
    return out;
  };
  for (const auto& [after, why] :
       std::vector<std::pair<std::string, std::string>>{{"random", "not setsuna's protocol"},
                                                        {frame(NetMessage::kHello, ""), "handshake came after it"},
                                                        {damaged_data(), "contents of a frame are damaged"}}) {
    const std::size_t before = host.ends.size();
    UniqueFd fd = stranger(host);
    Handshake dialler(Handshake::Role::kDialler, config, opened_tls_library());
    write_all(fd.get(), frame(NetMessage::kHello, body_of(dialler.start({}))) + frame(NetMessage::kProof, ""));
    run_until([&] { return host.ends.size() > before && host.ends.back().opened; });
    write_all(fd.get(), after);
    const std::string told = read_to_end(fd.get());
    fd.reset();
    run_until([&] { return host.ends.back().closes == 1; });
    EXPECT_THAT(host.ends.back().closed, HasSubstr(why));
    EXPECT_THAT(told, HasSubstr(why));
    EXPECT_TRUE(host.ends.back().messages.empty());
  }
  EXPECT_EQ(host.ends.back().torn, std::vector<std::uint64_t>{77});
}

// The limit is 20 s, and so long does this test take: it is run on one reactor only.
class Silence : public Hostile {};
INSTANTIATE_TEST_SUITE_P(Links, Silence, testing::Values(LinkParam{Kind::kAutomatic, "tcp"}), link_param_name);

TEST_P(Silence, OfAWatchedPeerEndsItAndAnAnswerDoesNot) {
  Host& host = this->host(std::nullopt);
  const HandshakeConfig config = credentials(std::nullopt, "daemon");
  Client& answering = dial(host.urls[0], std::nullopt);
  run_until([&] { return answering.end.opened && host.ends.size() == 1; });
  UniqueFd silent = stranger(host);
  UniqueFd unwatched = stranger(host);
  UniqueFd again = stranger(host);
  for (const int fd : {silent.get(), unwatched.get(), again.get()}) {
    Handshake dialler(Handshake::Role::kDialler, config, opened_tls_library());
    write_all(fd, frame(NetMessage::kHello, body_of(dialler.start({}))) + frame(NetMessage::kProof, ""));
    const std::size_t before = host.ends.size();
    run_until([&] { return host.ends.size() > before && host.ends.back().opened; });
  }
  host.ends[0].connection->set_watchful(true);
  host.ends[1].connection->set_watchful(true);
  host.ends[2].connection->set_watchful(true);
  host.ends[2].connection->set_watchful(false);
  // Watched once more by a message that does not go through the reactor.
  host.ends[3].connection->set_watchful(true);
  host.ends[3].say("a task");
  run_what_is_there();
  host.ends[3].connection->set_watchful(false);
  run_until([&] {
    run_what_is_there();
    return host.ends[3].connection->send_now(9, 1, {}, {}, true) == Connection::SentNow::kAll;
  });
  run_until([&] { return host.ends[1].closes == 1 && host.ends[3].closes == 1; });
  for (const std::size_t end : {1, 3}) {
    EXPECT_THAT(host.ends[end].closed, HasSubstr("nothing was heard from the other side for 20 s"));
  }
  EXPECT_EQ(host.ends[0].closes, 0);
  EXPECT_EQ(host.ends[2].closes, 0);
  EXPECT_TRUE(answering.end.messages.empty());
}

// A peer that takes nothing: close() ends within its limit all the same, and what was borrowed comes back.
TEST_P(Hostile, APeerThatDoesNotRead) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  const std::string body = pattern(30'000'000);
  // The far end is on the same reactor and would read: stop it from within.
  at_daemon->then_message = [&](End& end, const Said&) { end.connection.reset(); };
  at_host->say("stop");
  at_host->send(1, "", body, 1);
  at_host->connection->close("done");
  run_until([&] { return at_host->closes == 1; });
  EXPECT_EQ(at_host->sent, std::vector<std::uint64_t>{1});
  EXPECT_EQ(at_daemon->closes, 0);
}

TEST_P(Hostile, SendingAfterTheEndGivesTicketsBack) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  const std::string body = pattern(1000);
  at_daemon->connection->close("done");
  at_daemon->send(1, "", body, 5);
  EXPECT_TRUE(at_daemon->sent.empty());
  run_until([&] { return at_daemon->closes == 1; });
  EXPECT_EQ(at_daemon->sent, std::vector<std::uint64_t>{5});
  at_daemon->send(2, "", body, 6);
  at_daemon->say("nobody");
  at_daemon->connection->close("again");
  at_daemon->connection->set_watchful(true);
  run_what_is_there();
  EXPECT_EQ(at_daemon->closes, 1);
}

}  // namespace
}  // namespace setsuna::net
