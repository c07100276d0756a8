#include "net/http_upgrade.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace setsuna::net {
namespace {

using testing::HasSubstr;

constexpr char kKey[] = "dGhlIHNhbXBsZSBub25jZQ==";

std::string with(const std::string& fields, const std::string& line = "GET /chat HTTP/1.1") {
  return line + "\r\n" + fields + "\r\n";
}

const std::string kGood =
    "Host: example.com:80\r\nupgrade: foo, WebSocket\r\nConnection: keep-alive,UPGRADE\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version:13\r\n"
    "Sec-WebSocket-Protocol: chat, setsuna\r\nUser-Agent: caf\xc3\xa9\r\n";

// The good fields without those that begin so, and with others.
std::string but(const std::string& without, const std::string& other = {}) {
  std::string out;
  for (std::size_t at = 0; at < kGood.size();) {
    const std::size_t end = kGood.find("\r\n", at) + 2;
    const std::string line = kGood.substr(at, end - at);
    out += without.empty() || !line.starts_with(without) ? line : std::string();
    at = end;
  }
  return out + other;
}

void expect_bad(const std::string& text, int status, const std::string& why) {
  const HttpResult result = parse_upgrade_request(text);
  EXPECT_EQ(result.state, HttpState::kBad) << text;
  EXPECT_EQ(result.status, status) << text << result.error;
  EXPECT_THAT(result.error, HasSubstr(why));
}

TEST(HttpUpgrade, TakesARequestWhateverComesBehindIt) {
  const std::string request = with(kGood);
  for (std::size_t length = 0; length < request.size(); ++length) {
    ASSERT_EQ(parse_upgrade_request(request.substr(0, length)).state, HttpState::kMore) << length;
  }
  const HttpResult result = parse_upgrade_request(request + "\x82 frames");
  EXPECT_EQ(result.state, HttpState::kDone) << result.error;
  EXPECT_EQ(result.bytes, request.size());
  EXPECT_EQ(result.path, "/chat");
  EXPECT_EQ(result.key, kKey);
  EXPECT_EQ(parse_upgrade_request(upgrade_request("/a?b=c", "[::1]:5", kKey)).path, "/a?b=c");
}

TEST(HttpUpgrade, RefusesWhatIsNotOne) {
  expect_bad("POST / HTTP/1.1\r\n", 400, "not HTTP as expected (it begins with 'POST / HTTP/1.1");
  expect_bad("GET http://x/ HTTP/1.1\r\n", 400, "not HTTP");
  expect_bad(std::string("STSN\x01\0", 6), 400, "not HTTP");
  expect_bad("\x16\x03\x01", 400, "not HTTP");
  expect_bad(with(kGood, "GET /chat HTTP/1.0"), 400, "request line");
  expect_bad(with(kGood, "GET /chat"), 400, "request line");
  expect_bad(with(kGood, "GET /a b HTTP/1.1"), 400, "request line");
  expect_bad(with(kGood, "GET /\x80 HTTP/1.1"), 400, "request line");
  expect_bad(with(but("Host")), 400, "Host");
  expect_bad(with(but("", "Content-Length: 5\r\n")), 400, "body");
  expect_bad(with(but("", "Transfer-Encoding: chunked\r\n")), 400, "body");
  expect_bad(with(but("upgrade")), 426, "does not ask for a WebSocket");
  expect_bad(with(but("Connection", "Connection: close\r\n")), 426, "does not ask for a WebSocket");
  expect_bad(with(but("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8\r\n")), 426, "version");
  expect_bad(with(but("Sec-WebSocket-Key")), 400, "Key");
  expect_bad(with(but("Sec-WebSocket-Key", "Sec-WebSocket-Key: short==\r\n")), 400, "Key");
  expect_bad(with(but("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j,Q==\r\n")), 400, "Key");
  expect_bad(with(but("Sec-WebSocket-Protocol")), 400, "subprotocol");
  expect_bad(with(but("", "Host: other\r\n")), 400, "Host twice");
  expect_bad(with(but("", "Sec-WebSocket-Version: 13\r\n")), 400, "twice");
  expect_bad(with(kGood + " folded: line\r\n"), 400, "no field");
  expect_bad(with(kGood + "no colon\r\n"), 400, "no field");
  expect_bad(with(kGood + ": no name\r\n"), 400, "no field");
  expect_bad(with(kGood + "Name : blank\r\n"), 400, "no field");
  expect_bad(with(kGood + std::string("Zero: \0\r\n", 9)), 400, "control characters");
  expect_bad(with(kGood + "Feed: a\nHost: b\r\n"), 400, "control characters");
}

TEST(HttpUpgrade, IsBounded) {
  const std::string endless = "GET /" + std::string(kMaxHttpBytes, 'x');
  EXPECT_EQ(parse_upgrade_request(endless.substr(0, kMaxHttpBytes - 1)).state, HttpState::kMore);
  expect_bad(endless.substr(0, kMaxHttpBytes), 431, "longer than 8192");
  expect_bad(with(kGood + "Long: " + std::string(kMaxHttpBytes, 'x') + "\r\n"), 431, "longer than 8192");
}

TEST(HttpUpgrade, Answers) {
  const std::string good = upgrade_answer("accept=");
  EXPECT_EQ(parse_upgrade_answer(good, "accept=").state, HttpState::kDone);
  EXPECT_EQ(parse_upgrade_answer(good + "x", "accept=").bytes, good.size());
  EXPECT_EQ(parse_upgrade_answer(good.substr(0, 50), "accept=").state, HttpState::kMore);
  EXPECT_THAT(parse_upgrade_answer(good, "other=").error, HasSubstr("not that of a setsuna host"));
  EXPECT_THAT(parse_upgrade_answer("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", "accept=").error,
              HasSubstr("not that of a setsuna host"));
  EXPECT_THAT(parse_upgrade_answer(refusal_answer(404, "x"), "accept=").error, HasSubstr("'404 Not Found'"));
  EXPECT_EQ(parse_upgrade_answer("SSH-2.0", "accept=").state, HttpState::kBad);
}

TEST(HttpUpgrade, Base64) {
  const auto of = [](const std::string& text) {
    return base64({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  EXPECT_EQ(of(""), "");
  EXPECT_EQ(of("f"), "Zg==");
  EXPECT_EQ(of("fo"), "Zm8=");
  EXPECT_EQ(of("foo"), "Zm9v");
  EXPECT_EQ(of("the sample nonce"), kKey);
  EXPECT_EQ(of("\xff\xfe\xfd"), "//79");
}

TEST(HttpUpgrade, RandomDamage) {
  std::mt19937 random(5);
  const std::string good = with(kGood);
  for (int round = 0; round < 20'000; ++round) {
    std::string text = good;
    for (std::uint32_t i = random() % 4 + 1; i > 0; --i) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    const HttpResult result = parse_upgrade_request(text);
    EXPECT_EQ(result.state == HttpState::kBad, !result.error.empty());
    EXPECT_LE(result.bytes, text.size());
  }
}

}  // namespace
}  // namespace setsuna::net
