// URLs: what is accepted, what is written back, what damaged ones are told.
#include "net/url.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <random>
#include <string>
#include <vector>

namespace setsuna::net {
namespace {

// A name for a test case out of its text: letters and digits of it, and its number.
template <class Info>
std::string case_name(const Info& info) {
  std::string name = "Case" + std::to_string(info.index);
  for (const char c : info.param.text.substr(0, 30)) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
      name += c;
    }
  }
  return name;
}

struct Good {
  std::string text;
  Scheme scheme;
  std::string host;
  bool ipv6;
  std::uint16_t port;
  std::string path;
  std::string formatted;  // empty: as written

  friend std::ostream& operator<<(std::ostream& out, const Good& good) { return out << quote_for_message(good.text); }
};

class GoodUrls : public testing::TestWithParam<Good> {};

TEST_P(GoodUrls, AreParsedAndWrittenBack) {
  const Good& good = GetParam();
  const ParsedUrl parsed = parse_url(good.text);
  ASSERT_TRUE(parsed.url) << parsed.error;
  EXPECT_EQ(parsed.url->scheme, good.scheme);
  EXPECT_EQ(parsed.url->host, good.host);
  EXPECT_EQ(parsed.url->ipv6, good.ipv6);
  EXPECT_EQ(parsed.url->port, good.port);
  EXPECT_EQ(parsed.url->path, good.path);
  EXPECT_EQ(format_url(*parsed.url), good.formatted.empty() ? good.text : good.formatted);
  EXPECT_EQ(parse_url(format_url(*parsed.url)).url, parsed.url);
}

INSTANTIATE_TEST_SUITE_P(
    All, GoodUrls,
    testing::Values(
        Good{"abstract://name", Scheme::kAbstract, "", false, 0, "name", ""},
        Good{"abstract://a/b c:0@[", Scheme::kAbstract, "", false, 0, "a/b c:0@[", ""},
        Good{"ipc:///tmp/a b.sock", Scheme::kIpc, "", false, 0, "/tmp/a b.sock", ""},
        Good{"ipc:///tmp/\xc3\xa4", Scheme::kIpc, "", false, 0, "/tmp/\xc3\xa4", ""},
        Good{"tcp://127.0.0.1:5555", Scheme::kTcp, "127.0.0.1", false, 5555, "", ""},
        Good{"tcp://127.0.0.1:5555/", Scheme::kTcp, "127.0.0.1", false, 5555, "", "tcp://127.0.0.1:5555"},
        Good{"TCP://host.example.org:0", Scheme::kTcp, "host.example.org", false, 0, "", "tcp://host.example.org:0"},
        Good{"tcp://node_1-a:65535", Scheme::kTcp, "node_1-a", false, 65535, "", ""},
        Good{"tcp://example.org.:1", Scheme::kTcp, "example.org.", false, 1, "", ""},
        Good{"tcp://:5555", Scheme::kTcp, "", false, 5555, "", ""},
        Good{"tcp://*:5555", Scheme::kTcp, "", false, 5555, "", "tcp://:5555"},
        Good{"tcp://[::]:0", Scheme::kTcp, "::", true, 0, "", ""},
        Good{"tls+tcp://[::1]:7000", Scheme::kTlsTcp, "::1", true, 7000, "", ""},
        Good{"tls+tcp://[fe80::1%eth0]:7000", Scheme::kTlsTcp, "fe80::1%eth0", true, 7000, "", ""},
        Good{"tcp://[::ffff:10.0.0.1]:7", Scheme::kTcp, "::ffff:10.0.0.1", true, 7, "", ""},
        Good{"ws://host", Scheme::kWs, "host", false, 80, "/", "ws://host:80/"},
        Good{"ws://host:5555/a/b?c=d", Scheme::kWs, "host", false, 5555, "/a/b?c=d", ""},
        Good{"ws://host?c=d", Scheme::kWs, "host", false, 80, "/?c=d", "ws://host:80/?c=d"},
        Good{"wss://[2001:db8::1]/x", Scheme::kWss, "2001:db8::1", true, 443, "/x", "wss://[2001:db8::1]:443/x"}),
    case_name<testing::TestParamInfo<Good>>);

struct Bad {
  std::string text;
  std::string says;

  friend std::ostream& operator<<(std::ostream& out, const Bad& bad) { return out << quote_for_message(bad.text, 40); }
};

class BadUrls : public testing::TestWithParam<Bad> {};

TEST_P(BadUrls, AreToldWhatIsWrong) {
  const ParsedUrl parsed = parse_url(GetParam().text);
  EXPECT_FALSE(parsed.url);
  EXPECT_EQ(parsed.error.rfind("invalid URL '", 0), 0u) << parsed.error;
  EXPECT_NE(parsed.error.find(GetParam().says), std::string::npos) << parsed.error;
}

INSTANTIATE_TEST_SUITE_P(
    All, BadUrls,
    testing::Values(
        Bad{"", "it is empty"}, Bad{"localhost:5555", "it has no scheme"},
        Bad{"http://host:80", "unknown scheme 'http'"}, Bad{"://host:80", "unknown scheme ''"},
        Bad{"tcp:/host:80", "it has no scheme"}, Bad{std::string("tcp://h\0st:1", 12), "control character"},
        Bad{"tcp://host:1\n", "control character"}, Bad{"tcp://ho st:1", "it contains a space"},
        Bad{"tcp://host", "it has no port"}, Bad{"tcp://host:", "the port '' is not a number"},
        Bad{"tcp://host:65536", "from 0 to 65535"}, Bad{"tcp://host:-1", "the port '-1'"},
        Bad{"tcp://host:1x", "the port '1x'"}, Bad{"tcp://host:000001", "the port"},
        Bad{"tcp://host:99999999999999999999", "the port"}, Bad{"tcp://::1:5555", "must be in brackets"},
        Bad{"tcp://[::1:5555", "is not closed"}, Bad{"tcp://[::1]5555", "may follow the bracket"},
        Bad{"tcp://[::g]:1", "'::g' is not an IPv6 address"}, Bad{"tcp://[]:1", "'' is not an IPv6 address"},
        Bad{"tcp://[127.0.0.1]:1", "is not an IPv6 address"}, Bad{"tcp://[::1%]:1", "the name of a network interface"},
        Bad{"tcp://[::1%a/b]:1", "not closed"}, Bad{"tcp://256.0.0.1:1", "'256.0.0.1' is not an IPv4 address"},
        Bad{"tcp://1.2.3:1", "is not an IPv4 address"}, Bad{"tcp://user:pw@host:1", "remove the part before '@'"},
        Bad{"tcp://host:1/path", "a tcp URL has no path"}, Bad{"tls+tcp://host:1?x", "a tls+tcp URL has no path"},
        Bad{"ws://host/a#b", "after '#'"}, Bad{"ws://host/\xff", "write it as %NN"},
        Bad{"ws://host/<x>", "write it as %NN"}, Bad{"tcp://h\xc3\xb6st:1", "'xn--' form"},
        Bad{"tcp://a..b:1", "a part that is empty"}, Bad{"tcp://.:1", "is not an IPv4 address"},
        Bad{"tcp://.a:1", "a part that is empty"}, Bad{"tcp://" + std::string(64, 'a') + ":1", "longer than 63"},
        Bad{"tcp://" + std::string(254, 'a') + ":1", "longer than 253"}, Bad{"abstract://", "it has no name"},
        Bad{"ipc://", "it has no file name"}, Bad{"ipc://tmp/x", "must be absolute"},
        Bad{"ipc:///tmp/", "names a directory"}, Bad{"abstract://" + std::string(108, 'a'), "its name has 108 bytes"},
        Bad{"ipc:///" + std::string(108, 'a'), "its name has 109 bytes"},
        Bad{"ws://host/" + std::string(3000, 'a'), "longer than 2048 bytes"}),
    case_name<testing::TestParamInfo<Bad>>);

TEST(Urls, TheErrorQuotesTheTextReadably) {
  EXPECT_EQ(parse_url("tcp://a\tb\x80:1").error,
            "invalid URL 'tcp://a\\x09b\\x80:1': it contains a control character, such as a line end; remove it");
  const std::string error = parse_url(std::string(100'000, 'x')).error;
  EXPECT_LT(error.size(), 400u);
}

// Damage of every kind: never a crash, always exactly one of URL and error, and a URL survives the round trip.
void check_any(const std::string& text) {
  const ParsedUrl parsed = parse_url(text);
  ASSERT_EQ(parsed.url.has_value(), parsed.error.empty());
  for (const char c : parsed.error) {
    ASSERT_TRUE(c >= ' ' && c < 0x7f) << parsed.error;
  }
  if (parsed.url) {
    const ParsedUrl again = parse_url(format_url(*parsed.url));
    ASSERT_EQ(again.url, parsed.url) << again.error;
  }
}

TEST(Urls, DamagedOnes) {
  const std::vector<std::string> seeds = {"abstract://name",         "ipc:///tmp/x.sock",  "tcp://127.0.0.1:5555",
                                          "tls+tcp://[::1%lo]:555",  "ws://host:80/a?b=c", "wss://a.example.org/path",
                                          "tcp://[::ffff:1.2.3.4]:1"};
  const std::string interesting = std::string(
      "\0:/[]%@#?*.-+ \n\xff"
      "0aZ",
      20);
  std::mt19937 random(20240501);
  for (int i = 0; i < 200'000; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (unsigned changes = random() % 4; changes-- > 0 && !text.empty();) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text[at] = interesting[random() % interesting.size()]; break;
        case 1: text.erase(at, 1 + random() % 3); break;
        case 2: text.insert(at, 1 + random() % 3, interesting[random() % interesting.size()]); break;
        default: text = text.substr(0, at) + seeds[random() % seeds.size()].substr(0, random() % 20); break;
      }
    }
    ASSERT_NO_FATAL_FAILURE(check_any(text));
  }
}

}  // namespace
}  // namespace setsuna::net
