// The small parts of the viewer: how numbers are written, what the kernel's lists say, command lines, requests.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rbridge/monitor/view/discover.hpp"
#include "rbridge/monitor/view/format.hpp"
#include "rbridge/monitor/view/http_request.hpp"
#include "rbridge/monitor/view/json_writer.hpp"
#include "rbridge/monitor/view/monitor_command.hpp"
#include "rbridge/monitor/view/peer_owner.hpp"
#include "rbridge/monitor/view/process_facts.hpp"

namespace setsuna::monitor::test {
namespace {

using ::testing::HasSubstr;

TEST(FormatTest, Numbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_rate(-1), "-");
  EXPECT_EQ(format_rate(12.34), "12.3");
  EXPECT_EQ(format_rate(99.96), "100");
  EXPECT_EQ(format_rate(123456.7), "123,457");
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 kB");
  EXPECT_EQ(format_bytes(999'999), "1.0 MB");
  EXPECT_EQ(format_bytes(123'400'000), "123 MB");
  EXPECT_EQ(format_duration(850), "850 ns");
  EXPECT_EQ(format_duration(14'230), "14.2 us");
  EXPECT_EQ(format_duration(2'000'000'000'000), "2000 s");
  EXPECT_EQ(format_uptime(5.9), "5s");
  EXPECT_EQ(format_uptime(303), "5m03s");
  EXPECT_EQ(format_uptime(3600 * 3 + 60 * 7), "3h07m");
  EXPECT_EQ(format_uptime(86400 * 2 + 3600 * 4), "2d04h");
  EXPECT_EQ(format_percent(-1), "-");
  EXPECT_EQ(format_percent(97.4), "97");
}

TEST(FormatTest, NothingSteersTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\nc"), "a?[2Jb?c");
  EXPECT_EQ(printable("\xc3\xa4\xff"), "\xc3\xa4?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "1m"),
            "?1m");                        // CSI as one character
  EXPECT_EQ(printable("\xe2\x82"), "??");  // cut
}

TEST(FormatTest, CommandsAsTheyWereTyped) {
  EXPECT_EQ(short_command("/usr/lib/R/bin/exec/R --no-echo --no-restore --file=/a/b.R --args 1 2"), "R /a/b.R 1 2");
  EXPECT_EQ(short_command("R"), "R");
  EXPECT_EQ(short_command(""), "");
}

TEST(FormatTest, WidthsAreCountedInCharacters) {
  EXPECT_EQ(fit("ab", 4), "ab  ");
  EXPECT_EQ(fit("ab", 4, true), "  ab");
  EXPECT_EQ(fit("abcdef", 4), "abcd");
  EXPECT_EQ(fit("\xc3\xa4\xc3\xb6\xc3\xbc", 2), "\xc3\xa4\xc3\xb6");
}

TEST(DiscoverTest, ListenersOfThisUserByPid) {
  const char text[] =
      "Num       RefCount Protocol Flags    Type St Inode Path\n"
      "0000000000000000: 00000002 00000000 00010000 0005 01 100 @setsuna-monitor-1000-77-00ab\n"
      "0000000000000000: 00000002 00000000 00010000 0005 01 101 @setsuna-monitor-1000-9-00cd\n"
      "0000000000000000: 00000003 00000000 00000000 0005 03 102 @setsuna-monitor-1000-77-00ab\n"  // a connection
      "0000000000000000: 00000002 00000000 00010000 0005 01 103 @setsuna-monitor-1001-8-00ef\n"   // another user's
      "0000000000000000: 00000002 00000000 00010000 0005 01 104 @setsuna-monitor-1000-\n"
      "0000000000000000: 00000002 00000000 00010000 0001 01 105 /run/x\n"
      "0000000000000000: 00000002 00000000 00010000 0005 01 106 @setsuna-monitor-1000-x-1";
  const std::vector<HostAddress> expected{{9, "setsuna-monitor-1000-9-00cd"}, {77, "setsuna-monitor-1000-77-00ab"}};
  EXPECT_EQ(parse_sockets(text, 1000), expected);
  EXPECT_TRUE(parse_sockets("", 1000).empty());
}

TEST(ProcessFactsTest, TheNameMayHoldAnything) {
  const char text[] =
      "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 1000 123456789 2000 18446744073709551615 1 "
      "1\n";
  const ProcessFacts facts = parse_stat(text, 100, 4096);
  EXPECT_TRUE(facts.found);
  EXPECT_DOUBLE_EQ(facts.cpu_seconds, 2.0);
  EXPECT_EQ(facts.resident_bytes, 2000u * 4096);
  EXPECT_FALSE(parse_stat("42 (x", 100, 4096).found);
  EXPECT_FALSE(parse_stat("42 (x) S 1 2", 100, 4096).found);
  EXPECT_TRUE(process_facts(::getpid()).found);
  EXPECT_FALSE(process_facts(-5).found);
}

sockaddr_in address(const char* text, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  ::inet_pton(AF_INET, text, &out.sin_addr);
  return out;
}

TEST(PeerOwnerTest, TheLineOfThePeersSocketCounts) {
  // The server's own line (uid 7) and the client's (uid 1000), as a machine of little endian writes them.
  const char text[] =
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
      "   0: 0100007F:23F0 0100007F:C350 01 00000000:00000000 00:00000000 00000000     7        0 1 1 0 20 0 0 10 -1\n"
      "   1: 0100007F:C350 0100007F:23F0 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 0 0 10 -1\n"
      "   2: 0100007F:C351 0100007F:23F0 06 00000000:00000000 03:00000AB1 00000000     0        0 0 3 0\n";
  const sockaddr_in own = address("127.0.0.1", 0x23F0);
  EXPECT_EQ(parse_owner(text, address("127.0.0.1", 0xC350), own), 1000u);
  EXPECT_FALSE(parse_owner(text, address("127.0.0.1", 0xC351), own));  // it has closed: owner forgotten
  EXPECT_FALSE(parse_owner(text, address("127.0.0.1", 0xC352), own));
}

TEST(HttpRequestTest, WhatIsAnswered) {
  bool head = false;
  EXPECT_EQ(judge_request("GET /metrics HTTP/1.1\r\nHost: localhost:9200\r\n\r\n", &head), 200);
  EXPECT_FALSE(head);
  EXPECT_EQ(judge_request("HEAD /metrics?x=1 HTTP/1.0\r\n\r\n", &head), 200);
  EXPECT_TRUE(head);
  EXPECT_EQ(judge_request("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", &head), 404);
  EXPECT_EQ(judge_request("POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", &head), 405);
  EXPECT_EQ(judge_request("GET /metrics HTTP/1.1\r\nhost: evil.example:9200\r\n\r\n", &head), 403);
  EXPECT_EQ(judge_request("GET /metrics\r\n\r\n", &head), 400);
  EXPECT_EQ(judge_request("\x16\x03\x01 garbage\r\n\r\n", &head), 400);
  EXPECT_FALSE(is_complete("GET /metrics HTTP/1.1\r\n"));
}

TEST(HttpRequestTest, Responses) {
  const std::string fine = make_response(200, "a 1\n", false);
  EXPECT_THAT(fine, HasSubstr("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(fine, HasSubstr("Content-Length: 4\r\n"));
  EXPECT_TRUE(fine.ends_with("\r\n\r\na 1\n"));
  EXPECT_TRUE(make_response(200, "a 1\n", true).ends_with("\r\n\r\n"));
  EXPECT_THAT(make_response(403, "secret 1\n", false), Not(HasSubstr("secret")));
}

// The command line of a process is whatever it was given.
TEST(JsonWriterTest, WhatIsNotUtf8IsReplaced) {
  JsonWriter json;
  json.value("caf\xE9 caf\xC3\xA9");
  EXPECT_EQ(json.text(), "\"caf\\ufffd caf\xC3\xA9\"");
}

TEST(JsonWriterTest, Syntax) {
  JsonWriter json;
  json.begin_object();
  json.member("a\"b", "x\\\n");
  json.key("list");
  json.begin_array();
  json.value(1.5);
  json.value(std::uint64_t{18446744073709551615ULL});
  json.value(true);
  json.null();
  json.value(1.0 / 0.0);
  json.begin_object();
  json.end_object();
  json.end_array();
  json.member("n", -3);
  json.end_object();
  EXPECT_EQ(json.text(), R"({"a\"b":"x\\\u000a","list":[1.5,18446744073709551615,true,null,null,{}],"n":-3})");
}

TEST(MonitorCommandTest, WhatIsMeant) {
  using What = MonitorCommand::What;
  using Form = MonitorCommand::Form;
  EXPECT_EQ(parse_monitor_command({"top", "--interval=2", "77"}).interval_s, 2);
  EXPECT_EQ(parse_monitor_command({"top", "77"}).pid, 77);
  EXPECT_EQ(parse_monitor_command({"status"}).form, Form::kText);
  EXPECT_EQ(parse_monitor_command({"status", "--json"}).form, Form::kJson);
  EXPECT_EQ(parse_monitor_command({"status", "--prometheus", "5"}).form, Form::kPrometheus);
  const MonitorCommand metrics = parse_monitor_command({"metrics", "--port", "9200", "--address=127.0.0.1"});
  EXPECT_EQ(metrics.error, "");
  EXPECT_EQ(metrics.what, What::kMetrics);
  EXPECT_EQ(metrics.port, 9200);
  for (const char* command : {"top", "status", "metrics"}) {
    EXPECT_TRUE(parse_monitor_command({command, "--help"}).help);
    EXPECT_THAT(help_of(parse_monitor_command({command}).what), HasSubstr(std::string("setsuna ") + command));
  }
}

TEST(MonitorCommandTest, WhatIsWrongIsNamed) {
  const auto error = [](std::vector<std::string> words) { return parse_monitor_command(words).error; };
  EXPECT_THAT(error({}), HasSubstr("command"));
  EXPECT_THAT(error({"statsu"}), HasSubstr("'statsu'"));
  EXPECT_THAT(error({"status", "--jsno"}), HasSubstr("'--jsno'"));
  EXPECT_THAT(error({"status", "--json", "--prometheus"}), HasSubstr("--prometheus"));
  EXPECT_THAT(error({"status", "R"}), HasSubstr("'R'"));
  EXPECT_THAT(error({"status", "0"}), HasSubstr("'0'"));
  EXPECT_THAT(error({"status", "1", "2"}), HasSubstr("'2'"));
  EXPECT_THAT(error({"top", "--interval"}), HasSubstr("takes a value"));
  EXPECT_THAT(error({"top", "--interval=0"}), HasSubstr("0.1"));
  EXPECT_THAT(error({"top", "--json"}), HasSubstr("'--json'"));
  EXPECT_THAT(error({"metrics"}), HasSubstr("--port"));
  EXPECT_THAT(error({"metrics", "--port=70000"}), HasSubstr("65535"));
  EXPECT_THAT(error({"metrics", "--port=1", "--address=0.0.0.0"}), HasSubstr("127.0.0.1"));
  EXPECT_THAT(error({"metrics", "--port=1", "5"}), HasSubstr("'5'"));
}

}  // namespace
}  // namespace setsuna::monitor::test
