// WebSocket: what its rules allow, and what they do not; paths; a proxy.
#include "net/websocket.hpp"

#include <random>

#include "net/http_upgrade.hpp"
#include "net/tcp_socket.hpp"
#include "net/tls_library.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

struct Collect : ByteSink {
  std::string text;
  bool on_bytes(std::span<const std::byte> bytes) override {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }
};

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string output(Layer& layer) {
  std::vector<std::byte> out;
  layer.take_output(out);
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

std::string encoded(Layer& layer, const std::vector<std::string>& pieces) {
  std::vector<iovec> vectors;
  for (const std::string& piece : pieces) {
    vectors.push_back({const_cast<char*>(piece.data()), piece.size()});
  }
  std::vector<std::byte> out;
  EXPECT_TRUE(layer.send(vectors, out));
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

std::string big_endian(std::uint64_t value, std::size_t bytes) {
  std::string out;
  while (bytes-- > 0) {
    out += static_cast<char>(value >> (8 * bytes));
  }
  return out;
}

// The start of a frame up to its length, `code` being what the second byte says of that.
std::string start(unsigned char first, unsigned code, std::uint64_t size, bool masked) {
  const std::size_t more = code == 126 ? 2 : code == 127 ? 8 : 0;
  return {std::string(1, static_cast<char>(first)) + static_cast<char>((masked ? 0x80 : 0) | code) +
          big_endian(size, more)};
}

unsigned code_for(std::size_t size) { return size < 126 ? static_cast<unsigned>(size) : size < 65536 ? 126 : 127; }

// A frame as a client sends it, masked by `mask`.
std::string frame(unsigned char first, const std::string& payload, const std::string& mask = "mask") {
  std::string out = start(first, code_for(payload.size()), payload.size(), true) + mask;
  for (std::size_t i = 0; i < payload.size(); ++i) {
    out += static_cast<char>(payload[i] ^ mask[i % 4]);
  }
  return out;
}

struct Sides {
  std::vector<std::string> paths{"/one", "/two"};
  WebSocketLayer server{paths, opened_tls_library()};
  WebSocketLayer client{"/two", "example.com", opened_tls_library()};
  Collect at_server;
  Collect at_client;

  void open() {
    client.start();
    EXPECT_TRUE(server.receive(bytes(output(client)), at_server)) << server.error();
    EXPECT_TRUE(client.receive(bytes(output(server)), at_client)) << client.error();
    ASSERT_TRUE(server.open());
    ASSERT_TRUE(client.open());
  }
};

TEST(WebSocket, CarriesBytesInAnyPieces) {
  std::mt19937 random(7);
  for (int round = 0; round < 30; ++round) {
    Sides sides;
    sides.open();
    EXPECT_EQ(sides.server.path(), "/two");
    std::string said;
    std::string up;
    std::string down;
    for (int i = 0; i < 10; ++i) {
      const std::string one = pattern(1 + random() % 300, static_cast<unsigned>(i));
      const std::string other = pattern(1 + random() % 100'000, static_cast<unsigned>(i));
      up += encoded(sides.client, {one, other});
      down += encoded(sides.server, {one, other});
      said += one + other;
    }
    for (std::size_t at = 0; at < up.size();) {
      const std::size_t part = 1 + random() % 5000;
      ASSERT_TRUE(sides.server.receive(bytes(up.substr(at, part)), sides.at_server)) << sides.server.error();
      at += part;
    }
    ASSERT_TRUE(sides.client.receive(bytes(down), sides.at_client));
    EXPECT_TRUE(sides.at_server.text == said);
    EXPECT_TRUE(sides.at_client.text == said);
  }
}

TEST(WebSocket, FramesThatComeWithTheHeader) {
  Sides sides;
  sides.client.start();
  EXPECT_TRUE(sides.server.receive(bytes(output(sides.client) + frame(0x82, "early")), sides.at_server));
  EXPECT_EQ(sides.at_server.text, "early");
}

TEST(WebSocket, FragmentsAndPings) {
  Sides sides;
  sides.open();
  const std::string wire = frame(0x02, "ab") + frame(0x89, "are you there?") + frame(0x00, "") + frame(0x00, "cd") +
                           frame(0x8a, "unasked pong") + frame(0x80, "ef") + frame(0x82, "");
  for (const char c : wire) {
    ASSERT_TRUE(sides.server.receive(bytes(std::string(1, c)), sides.at_server)) << sides.server.error();
  }
  EXPECT_EQ(sides.at_server.text, "abcdef");
  ASSERT_TRUE(sides.server.has_output());
  EXPECT_EQ(output(sides.server),
            "\x8a\x0e"
            "are you there?");
}

// `code` 0: wslay says farewell without one.
void expect_violation(const std::string& wire, unsigned code, const std::string& why) {
  Sides sides;
  sides.open();
  EXPECT_FALSE(sides.server.receive(bytes(wire), sides.at_server));
  EXPECT_THAT(sides.server.error(), HasSubstr(why));
  const std::string farewell = output(sides.server);
  ASSERT_GE(farewell.size(), 2u);
  EXPECT_EQ(farewell[0], '\x88');
  if (code != 0) {
    ASSERT_GE(farewell.size(), 4u);
    EXPECT_EQ((static_cast<unsigned char>(farewell[2]) << 8) + static_cast<unsigned char>(farewell[3]), code);
  }
  EXPECT_FALSE(sides.server.receive(bytes(frame(0x82, "more")), sides.at_server));
  EXPECT_EQ(sides.at_server.text, "");
}

TEST(WebSocket, ViolationsEndItWithACode) {
  expect_violation(frame(0x81, "text"), 1003, "a text message");
  expect_violation("\x82\x01x", 1002, "violates its rules");            // not masked
  expect_violation(frame(0x80, "x"), 1002, "violates its rules");       // continues nothing
  expect_violation(frame(0xc2, "x"), 1002, "violates its rules");       // a reserved bit
  expect_violation(frame(0x83, "x"), 1002, "violates its rules");       // no such opcode
  expect_violation(frame(0x89, std::string(126, 'x')), 0, "violates");  // a long ping
  expect_violation(frame(0x09, "x"), 0, "violates its rules");          // a fragmented ping
  expect_violation(frame(0x88, std::string("\x03\xe9", 2)), 1001, "closed the WebSocket (code 1001)");
}

// Long data frames do not pass through wslay: the rules are the same for them.
TEST(WebSocket, LongFramesInAnyPiecesWithOthersBetween) {
  const std::string one = pattern(70'000, 1);
  const std::string two = pattern(5'001, 2);
  const std::string half = pattern(6'000, 3);
  const std::string wire = frame(0x82, one, "ab\xff\0"s) + frame(0x89, "there?") + frame(0x82, two) +
                           frame(0x82, "small") + frame(0x02, half) + frame(0x8a, "pong") + frame(0x80, half) +
                           frame(0x82, one);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{13}, std::size_t{16'384}, wire.size()}) {
    Sides sides;
    sides.open();
    for (std::size_t at = 0; at < wire.size(); at += piece) {
      ASSERT_TRUE(sides.server.receive(bytes(wire.substr(at, piece)), sides.at_server)) << sides.server.error();
    }
    EXPECT_TRUE(sides.at_server.text == one + two + "small" + half + half + one) << piece;
    EXPECT_EQ(output(sides.server), "\x8a\x06there?");
  }
}

TEST(WebSocket, LongFramesBelowWslayAndPastItAreTheSame) {
  std::mt19937 random(9);
  for (int round = 0; round < 50; ++round) {
    std::string wire;
    for (int i = 0; i < 20; ++i) {
      const unsigned char kinds[] = {0x82, 0x82, 0x02, 0x80, 0x89, 0x8a, 0x81, 0xa2};
      const std::string payload = pattern(random() % (i % 3 == 0 ? 9000 : 120), static_cast<unsigned>(i));
      wire += frame(kinds[random() % (round % 2 == 0 ? 8 : 6)], payload);
    }
    std::string heard[2];
    for (const bool bulk : {false, true}) {
      Sides sides;
      sides.server.set_bulk_bytes(bulk ? random() % 200 : ~std::uint64_t{0});
      sides.open();
      const std::size_t piece = 1 + random() % 3000;
      for (std::size_t at = 0; at < wire.size() && sides.server.error().empty(); at += piece) {
        sides.server.receive(bytes(wire.substr(at, piece)), sides.at_server);
      }
      heard[bulk ? 1 : 0] = sides.at_server.text + "|" + sides.server.error() + "|" + output(sides.server);
    }
    EXPECT_TRUE(heard[0] == heard[1]) << round;
  }
}

TEST(WebSocket, LongFramesThatViolateTheRules) {
  const std::string x(70'000, 'x');
  expect_violation(start(0x82, 127, x.size(), false) + x, 1002, "violates its rules");    // not masked
  expect_violation(frame(0xc2, x), 1002, "violates its rules");                           // a reserved bit
  expect_violation(frame(0x80, x), 1002, "violates its rules");                           // continues nothing
  expect_violation(start(0x82, 127, 5'000, true) + "mask" + x, 0, "violates its rules");  // not the shortest length
  expect_violation(start(0x82, 127, ~0ULL, true) + "mask" + x, 0, "violates its rules");  // a negative length
  expect_violation(start(0x82, 127, 1ULL << 31, true) + "mask" + x, 1009, "violates");    // too long
  expect_violation(frame(0x02, "") + frame(0x82, x), 1002, "violates its rules");         // inside another message
  expect_violation(frame(0x81, x), 1003, "a text message");
  Sides sides;
  sides.open();
  EXPECT_FALSE(sides.client.receive(bytes(frame(0x82, x)), sides.at_client));  // masked by a server
  EXPECT_THAT(sides.client.error(), HasSubstr("violates its rules"));
  EXPECT_EQ(sides.at_client.text, "");
}

// A sink that has enough in the middle of a long frame is left alone.
TEST(WebSocket, ASinkThatWantsNoMoreOfALongFrame) {
  struct Enough : ByteSink {
    std::size_t calls = 0;
    bool on_bytes(std::span<const std::byte>) override {
      ++calls;
      return false;
    }
  } enough;
  Sides sides;
  sides.open();
  EXPECT_FALSE(sides.server.receive(bytes(frame(0x82, pattern(70'000, 1)) + frame(0x82, "more")), enough));
  EXPECT_EQ(enough.calls, 1u);
  EXPECT_EQ(sides.server.error(), "");
}

// What a server sends may lie where it is: only the start of the frame is made.
TEST(WebSocket, AServersPayloadIsNotCopied) {
  Sides sides;
  sides.open();
  const std::string text = pattern(70'000, 1);
  const iovec pieces[] = {{const_cast<char*>(text.data()), 10},
                          {const_cast<char*>(text.data()) + 10, text.size() - 10}};
  std::vector<std::byte> before;
  EXPECT_FALSE(sides.client.send_before(pieces, before));  // it must be masked
  EXPECT_TRUE(before.empty());
  ASSERT_TRUE(sides.server.send_before(pieces, before));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(before.data()), before.size()),
            start(0x82, 127, text.size(), false));
  ASSERT_TRUE(sides.client.receive(before, sides.at_client));
  ASSERT_TRUE(sides.client.receive(bytes(text), sides.at_client));
  EXPECT_TRUE(sides.at_client.text == text);
}

TEST(WebSocket, TheFarewell) {
  Sides sides;
  sides.open();
  sides.client.finish();
  EXPECT_FALSE(sides.server.receive(bytes(output(sides.client)), sides.at_server));
  EXPECT_THAT(sides.server.error(), HasSubstr("code 1000"));
}

// UTF-8 of two bytes and of three, cut everywhere.
TEST(WebSocket, AFarewellWithAReasonInAnyPieces) {
  const std::string wire = frame(0x88, std::string("\x03\xe8", 2) + "\xc3\xa0 bient\xc3\xb4t \xe5\x88\xb9\xe9\x82\xa3");
  const std::string no_utf8 = frame(0x88, std::string("\x03\xe8", 2) + "bient\xf4t");
  for (std::size_t piece = 1; piece <= wire.size(); ++piece) {
    for (const auto& [farewell, why] : {std::pair(wire, "code 1000"), std::pair(no_utf8, "violates its rules")}) {
      Sides sides;
      sides.open();
      bool good = true;
      for (std::size_t at = 0; at < farewell.size(); at += piece) {
        ASSERT_TRUE(good) << sides.server.error();
        good = sides.server.receive(bytes(farewell.substr(at, piece)), sides.at_server);
      }
      EXPECT_FALSE(good);
      EXPECT_THAT(sides.server.error(), HasSubstr(why)) << piece;
    }
  }
}

TEST(WebSocket, RandomFrames) {
  std::mt19937 random(8);
  for (int round = 0; round < 2000; ++round) {
    Sides sides;
    sides.open();
    std::string noise(random() % 2000 + 1, '\0');
    for (char& c : noise) {
      c = static_cast<char>(random());
    }
    sides.server.receive(bytes(noise), sides.at_server);
    sides.client.receive(bytes(noise), sides.at_client);
  }
}

// ---- with hosts ----

class Paths : public LinkTest {};
INSTANTIATE_TEST_SUITE_P(Links, Paths, testing::ValuesIn(link_params({"ws", "wss"})), link_param_name);

TEST_P(Paths, SeveralOnOnePort) {
  Url one = listen_tcp(parse_url(any_url()).url.value()).url;  // its port is free again
  one.path = "/one";
  Url two = one;
  two.path = "/two?n=2";
  const Url both[] = {one, two};
  BindResult bound = bind_urls(both);
  ASSERT_EQ(bound.message, "");
  EXPECT_EQ(bound.ports.size(), 1u);
  Host& host = *hosts_.emplace_back(std::make_unique<Host>());
  host.listener =
      std::make_unique<Listener>(*reactor_, std::move(bound), credentials("secret", "host"), host, tls().server);
  Client& second = dial(two);
  run_until([&] { return second.end.opened || !second.failed.empty(); });
  Client& first = dial(one);
  run_until([&] { return first.end.opened || !first.failed.empty(); });
  EXPECT_EQ(second.failed + first.failed, "");
  EXPECT_EQ(host.came_to, (std::vector<std::size_t>{1, 0}));
  EXPECT_EQ(host.ends[0].connection->path(), "/two?n=2");
  EXPECT_EQ(first.end.connection->path(), "/one");
  Url three = one;
  three.path = "/three";
  Client& third = dial(three);
  run_until([&] { return !third.failed.empty() && host.rejected.size() == 1; });
  EXPECT_THAT(third.failed, HasSubstr("'404 Not Found': check the path"));
  EXPECT_THAT(third.failed, HasSubstr(format_url(three)));
  EXPECT_THAT(host.rejected[0], HasSubstr("asks for the path '/three', at which nobody listens"));
}

}  // namespace
}  // namespace setsuna::net
