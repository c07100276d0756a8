// A snapshot as text, JSON and Prometheus' format. The JSON is parsed by the integration tests.
#include "rbridge/monitor/view/reports.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "samples.hpp"

namespace setsuna::monitor::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ReportsTest, Json) {
  const std::string json = status_json(snapshot());
  EXPECT_THAT(json, HasSubstr(R"({"schema":1,"time":1700000000.5,"hosts":[{"pid":4711,)"));
  EXPECT_THAT(json, HasSubstr(R"("problem":null)"));
  EXPECT_THAT(json, HasSubstr(R"("tasks":{"awaiting":1234,"executing":2,"completed":56789})"));
  EXPECT_THAT(json, HasSubstr(R"("queue":{"ready":1000,"spilled":234,"uncollected":7})"));
  EXPECT_THAT(json, HasSubstr(R"("latency_ns":{"count":100,"mean":15000,"p50":14000,"p90":20000,"p99":90000,)"));
  EXPECT_THAT(json,
              HasSubstr(R"({"kind":"local","index":1,"pid":1000,"state":"busy","assigned":401,"completed":400,)"));
  EXPECT_TRUE(json.ends_with("}\n"));
}

TEST(ReportsTest, JsonOfOddNamesStaysUtf8) {
  Snapshot odd = snapshot();
  odd.hosts[0].command = "R\xff \"x\"\n";
  odd.hosts[0].problem = "it is silent";
  const std::string json = status_json(odd);
  EXPECT_THAT(json, HasSubstr(R"("command":"R? \"x\"?")"));
  EXPECT_THAT(json, HasSubstr(R"("problem":"it is silent")"));
}

TEST(ReportsTest, Text) {
  Snapshot all = snapshot();
  all.hosts.push_back(host(5000));
  all.hosts[1].profiles.clear();
  const std::string text = status_text(all);
  EXPECT_THAT(text, HasSubstr("4711  /usr/lib/R/bin/exec/R --no-echo  (up 1m05s, 90.0 MB, io_uring)"));
  EXPECT_THAT(text, HasSubstr("profile default: 2 daemons online, more may join at tcp://h:5"));
  EXPECT_THAT(text, HasSubstr("1,234 awaiting, 2 executing, 56,789 completed"));
  EXPECT_THAT(text, HasSubstr("1,000 ready, 234 spilled, 7 uncollected"));
  EXPECT_THAT(text, HasSubstr("p50 14.0 us, p90 20.0 us"));
  EXPECT_THAT(text, HasSubstr("no daemons are set"));
}

// Every line is a comment or a sample; a metric's samples stand together behind its type; no series twice.
TEST(ReportsTest, PrometheusFormat) {
  Snapshot all = snapshot();
  all.hosts.push_back(host(5000));
  all.hosts[1].profiles[0].name = "a \"b\" \\c\n";
  all.hosts[1].problem = "silent";
  const std::string text = status_prometheus(all);
  std::istringstream lines(text);
  std::set<std::string> finished, series;
  std::string current;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# HELP ", 0) == 0) {
      continue;
    }
    if (line.rfind("# TYPE ", 0) == 0) {
      finished.insert(current);
      current = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_FALSE(finished.contains(current)) << line;
      continue;
    }
    const std::size_t space = line.rfind(' ');
    ASSERT_NE(space, std::string::npos) << line;
    EXPECT_EQ(line.rfind(current, 0), 0u) << line;
    EXPECT_TRUE(series.insert(line.substr(0, space)).second) << line;
    EXPECT_NO_THROW(static_cast<void>(std::stod(line.substr(space + 1)))) << line;
  }
  EXPECT_THAT(text, HasSubstr("setsuna_hosts 2\n"));
  EXPECT_THAT(text, HasSubstr("setsuna_host_up{pid=\"4711\"} 1\nsetsuna_host_up{pid=\"5000\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("setsuna_tasks_completed_total{pid=\"4711\",profile=\"default\"} 56789\n"));
  EXPECT_THAT(text, HasSubstr("profile=\"a \\\"b\\\" \\\\c?\""));
  EXPECT_THAT(text,
              HasSubstr("setsuna_task_latency_seconds{pid=\"4711\",profile=\"default\",quantile=\"0.5\"} 1.4e-05\n"));
  EXPECT_THAT(text, HasSubstr("setsuna_task_latency_seconds_count{pid=\"4711\",profile=\"default\"} 100\n"));
  EXPECT_THAT(text, HasSubstr("setsuna_daemon_busy{pid=\"4711\",profile=\"default\",kind=\"local\",daemon=\"2\"} 0\n"));
}

TEST(ReportsTest, AProfileWithoutDaemonsIsToldFromItsNamesake) {
  Snapshot all = snapshot();
  all.hosts[0].profiles.push_back(profile("default"));
  all.hosts[0].profiles[1].ephemeral = true;
  all.hosts[0].profiles[1].connections = 1;
  EXPECT_THAT(status_prometheus(all), HasSubstr("setsuna_daemons_online{pid=\"4711\",profile=\"default\"} 2\n"));
  EXPECT_THAT(status_prometheus(all),
              HasSubstr("setsuna_daemons_online{pid=\"4711\",profile=\"default\",ephemeral=\"true\"} 1\n"));
  EXPECT_THAT(status_text(all), HasSubstr("profile default (a process for each task): 1 daemon online"));
  EXPECT_THAT(status_json(all), HasSubstr(R"("ephemeral":true)"));
}

TEST(ReportsTest, PrometheusOfNothing) {
  EXPECT_THAT(status_prometheus({}), HasSubstr("setsuna_hosts 0\n"));
  EXPECT_THAT(status_prometheus({}), Not(HasSubstr("{")));
}

}  // namespace
}  // namespace setsuna::monitor::test
