// What a pool tells its trace, how much of it is kept, and what becomes of it as JSON.
#include "dispatch/trace.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "dispatch/trace_json.hpp"
#include "fake_links.hpp"
#include "runtime/json_string.hpp"

namespace setsuna::dispatch {
namespace {

using nlohmann::json;

std::uint64_t the_time = 0;
std::uint64_t tell_time() { return the_time; }

RunStamps stamps(std::uint64_t claimed_ns, float decode_ns, float evaluate_ns, float encode_ns) {
  RunStamps run;
  run.claimed_ns = claimed_ns;
  run.decode_ns = decode_ns;
  run.evaluate_ns = evaluate_ns;
  run.encode_ns = encode_ns;
  run.pid = 41;
  run.daemon = 0;
  return run;
}

// --- The ring ----------------------------------------------------------------------------------------------

class TraceTest : public testing::Test {
 protected:
  TraceTest() { the_time = 1000; }

  TraceRecord resolve(Trace& trace, const RunStamps& run, std::uint64_t harvested_ns, TraceOutcome outcome) {
    trace.submitted(0, 1100, 1200, TaskKind::kEval);
    trace.ran(run);
    the_time = harvested_ns;
    trace.resolved(0, outcome);
    return trace[trace.end() - 1];
  }
};

std::uint64_t time_asked = 0;
std::uint64_t tell_time_and_count() {
  ++time_asked;
  return the_time;
}

TEST_F(TraceTest, ABatchAsksForTheTimeOnceUnlessADaemonWasStillAtATask) {
  Trace trace(&tell_time_and_count, Trace::kChunk);
  const auto harvested = [&](const RunStamps& run, std::uint64_t now_ns) {
    return resolve(trace, run, now_ns, TraceOutcome::kValue).harvested_ns;
  };
  time_asked = 0;
  trace.begin_batch();
  EXPECT_EQ(harvested(RunStamps(), 1500), 1500U);  // nobody took it
  EXPECT_EQ(harvested(stamps(1300, 10, 100, 1), 1600), 1500U);
  EXPECT_EQ(time_asked, 1U);
  EXPECT_EQ(harvested(stamps(1450, 10, 100, 1), 1700), 1700U);  // until 1561
  EXPECT_EQ(harvested(stamps(1450, 10, 100, 1), 1800), 1700U);
  EXPECT_EQ(time_asked, 2U);
  EXPECT_EQ(harvested(stamps(1450, std::numeric_limits<float>::quiet_NaN(), 0, 0), 1900), 1900U);
  trace.end_batch();
  EXPECT_EQ(harvested(stamps(1300, 10, 100, 1), 2000), 2000U);
  trace.begin_batch();
  EXPECT_EQ(harvested(stamps(1300, 10, 100, 1), 2100), 2100U);
}

TEST_F(TraceTest, ARecordHoldsEveryStage) {
  Trace trace(&tell_time, Trace::kChunk);
  const TraceRecord record = resolve(trace, stamps(1300, 10, 100, 1), 1500, TraceOutcome::kValue);
  EXPECT_EQ(record.task, 1U);
  EXPECT_EQ(record.submitted_ns, 1100U);
  EXPECT_EQ(record.queued_ns, 1200U);
  EXPECT_EQ(record.run.claimed_ns, 1300U);
  EXPECT_EQ(record.harvested_ns, 1500U);
  const StageEnds ends = stage_ends(record);
  EXPECT_EQ(ends.decoded_ns, 1310U);
  EXPECT_EQ(ends.evaluated_ns, 1410U);
  EXPECT_EQ(ends.encoded_ns, 1411U);
}

TEST_F(TraceTest, ARunIsOfOneTaskOnly) {
  Trace trace(&tell_time, Trace::kChunk);
  resolve(trace, stamps(1300, 10, 100, 1), 1500, TraceOutcome::kValue);
  trace.submitted(0, 0, 1600, TaskKind::kEval);
  trace.resolved(0, TraceOutcome::kClosed);
  EXPECT_EQ(trace[1].run.claimed_ns, 0U);
  EXPECT_EQ(trace[1].run.daemon, kNoDaemon);
  EXPECT_EQ(trace[1].submitted_ns, 1600U);
}

TEST_F(TraceTest, WhatCannotBeTrueIsNotTold) {
  Trace trace(&tell_time, Trace::kChunk);
  const auto impossible = [&](const RunStamps& run) {
    const TraceRecord record = resolve(trace, run, 1500, TraceOutcome::kValue);
    return stage_ends(record).encoded_ns == 0;
  };
  EXPECT_FALSE(impossible(stamps(1300, 10, 100, 1)));
  EXPECT_TRUE(impossible(stamps(1000, 10, 100, 1)));    // before it was submitted
  EXPECT_TRUE(impossible(stamps(1501, 10, 100, 1)));    // after its result was there
  EXPECT_TRUE(impossible(stamps(1300, 10, 1e10F, 1)));  // longer than all of it
  EXPECT_TRUE(impossible(stamps(1300, 10, std::numeric_limits<float>::quiet_NaN(), 1)));
  EXPECT_TRUE(impossible(stamps(1300, -10, 100, 1)));
  EXPECT_TRUE(impossible(stamps(1300, 10, 100, 1e30F)));
  // What looks like a remote task's.
  for (const float evaluate_ns : {std::numeric_limits<float>::quiet_NaN(), 1e30F, -5.0F}) {
    const RunStamps run = stamps(1300, kNoStage, evaluate_ns, kNoStage);
    const TraceRecord record = resolve(trace, run, 1500, TraceOutcome::kValue);
    EXPECT_EQ(record.run.evaluate_ns, kNoStage);
    EXPECT_EQ(stage_ends(record).evaluated_ns, 0U);
  }
}

TEST_F(TraceTest, StagesAreNeverOutOfOrder) {
  Trace trace(&tell_time, Trace::kChunk);
  // Rounding may make the sum of the stages too long.
  const TraceRecord record = resolve(trace, stamps(1300, 100, 100, 100), 1550, TraceOutcome::kValue);
  const StageEnds ends = stage_ends(record);
  EXPECT_LE(record.run.claimed_ns, ends.decoded_ns);
  EXPECT_LE(ends.decoded_ns, ends.evaluated_ns);
  EXPECT_LE(ends.evaluated_ns, ends.encoded_ns);
  EXPECT_LE(ends.encoded_ns, record.harvested_ns);
  // Two processors' clocks.
  EXPECT_EQ(resolve(trace, stamps(1190, 1, 1, 1), 1500, TraceOutcome::kValue).queued_ns, 1190U);
}

TEST_F(TraceTest, TheLatestAreKeptAndTheOthersCounted) {
  Trace trace(&tell_time, 2 * Trace::kChunk);
  const std::uint64_t n = 5 * Trace::kChunk + 7;
  for (std::uint64_t i = 0; i < n; ++i) {
    trace.submitted(static_cast<std::uint32_t>(i % 3), 0, 1000, TaskKind::kEval);
    trace.resolved(static_cast<std::uint32_t>(i % 3), TraceOutcome::kValue);
  }
  EXPECT_EQ(trace.end(), n);
  EXPECT_EQ(trace.first(), n - 2 * Trace::kChunk);
  for (std::uint64_t i = trace.first(); i < trace.end(); ++i) {
    ASSERT_EQ(trace[i].task, i + 1);
  }
}

TEST_F(TraceTest, ASinkSeesEveryRecordBeforeItIsOverwritten) {
  struct Writer final : TraceSink {
    std::uint64_t seen = 0;
    void on_pressing(Trace& trace) override {
      EXPECT_LE(trace.first(), trace.written());
      for (std::uint32_t i = 0; i < Trace::kChunk; ++i) {
        ASSERT_EQ(trace[trace.written()].task, ++seen);
        trace.set_written(trace.written() + 1);
      }
    }
  } writer;
  Trace trace(&tell_time, 4 * Trace::kChunk);
  trace.set_sink(&writer);
  for (int i = 0; i < 20 * static_cast<int>(Trace::kChunk); ++i) {
    trace.submitted(0, 0, 1000, TaskKind::kEval);
    trace.resolved(0, TraceOutcome::kValue);
    ASSERT_LE(trace.first(), trace.written());
  }
  EXPECT_GE(writer.seen, 16U * Trace::kChunk);
}

// --- The pool ----------------------------------------------------------------------------------------------

class TracedPoolTest : public testing::Test {
 protected:
  TracedPoolTest() : world_(4, 4), links_(world_), trace_((the_time = 1000, &tell_time), Trace::kChunk) {
    PoolConfig config;
    config.daemon_max = 4;
    config.cancel_grace_ns = 1000;
    pool_ = std::make_unique<Pool>(config, world_, world_, world_, &links_);
    pool_->set_trace(&trace_);
  }
  void add_daemon() {
    std::uint32_t epoch = 0;
    const std::uint32_t index = pool_->add_daemon(false, &epoch);
    world_.daemon(index).alive = true;
    pool_->on_online(index, epoch);
  }
  std::uint32_t submit(std::uint8_t retries = 0, std::uint64_t deadline_ns = 0) {
    SubmitSpec spec;
    spec.bytes = kBytes;
    spec.length = sizeof(kBytes);
    spec.retries = retries;
    spec.deadline_ns = deadline_ns;
    bool wake = false;
    std::uint32_t queue = 0;
    return pool_->submit(spec, ++the_time, &wake, &queue);
  }
  std::vector<TraceOutcome> outcomes() const {
    std::vector<TraceOutcome> out;
    for (std::uint64_t i = trace_.first(); i < trace_.end(); ++i) {
      out.push_back(trace_[i].outcome);
    }
    return out;
  }

  static constexpr std::uint8_t kBytes[8] = {};
  FakeWorld world_;
  FakeLinks links_;
  Trace trace_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(TracedPoolTest, EachTaskThatResolvesHasOneRecordHoweverItEnds) {
  add_daemon();
  const std::uint32_t done = submit();
  ASSERT_TRUE(world_.claim(0));
  world_.complete(0, 8, 0);
  pool_->progress();
  EXPECT_TRUE(pool_->resolved(done));
  submit(1);  // runs twice, and dies with the second
  ASSERT_TRUE(world_.claim(0));
  pool_->on_dead(0, world_.daemon(0).epoch, {}, false);
  EXPECT_EQ(trace_.end(), 1U);
  world_.daemon(0).alive = true;
  pool_->on_online(0, world_.daemon(0).epoch);
  ASSERT_TRUE(world_.claim(0));
  pool_->on_dead(0, world_.daemon(0).epoch, {}, false);
  world_.daemon(0).alive = true;
  pool_->on_online(0, world_.daemon(0).epoch);
  const std::uint32_t stopped = submit();
  pool_->cancel(stopped, ErrorCode::kCancelled, ++the_time);
  submit(0, the_time + 5);
  ASSERT_TRUE(world_.claim(0));
  pool_->on_time(the_time + 10);
  for (int i = 0; i < 9; ++i) {
    submit();  // some in slots, some in the spill
  }
  pool_->reset();
  std::vector<TraceOutcome> expected = {TraceOutcome::kValue, TraceOutcome::kDied, TraceOutcome::kCancelled,
                                        TraceOutcome::kTimedOut};
  expected.insert(expected.end(), 9, TraceOutcome::kClosed);
  EXPECT_EQ(outcomes(), expected);
  std::set<std::uint64_t> ids;
  for (std::uint64_t i = 0; i < trace_.end(); ++i) {
    ids.insert(trace_[i].task);
  }
  EXPECT_EQ(ids.size(), expected.size());
  EXPECT_EQ(*ids.rbegin(), expected.size());
}

TEST_F(TracedPoolTest, ElementsOfARangeHaveARecordEach) {
  add_daemon();
  Constant constant;
  constant.offset = 64;
  constant.bytes = 10;
  world_.allocate(64);
  MapSpec spec;
  spec.constant = pool_->add_constant(constant);
  spec.count = 30;
  std::vector<std::uint32_t> tasks(spec.count);
  pool_->submit_map(spec, ++the_time, tasks.data());
  pool_->release_constant(spec.constant);
  while (pool_->unfinished() > 0) {
    ASSERT_TRUE(world_.claim(0));
    if (world_.in_range(0)) {
      for (std::uint32_t n = world_.range_count(0); n-- > 0;) {
        ASSERT_TRUE(world_.begin_element(0));
        world_.finish_element(0, 0);
      }
      world_.finish_range(0, 1000);
    } else {
      world_.complete(0, 8, 0);
    }
    pool_->progress();
  }
  ASSERT_EQ(trace_.end(), 30U);
  for (std::uint64_t i = 0; i < 30; ++i) {
    EXPECT_EQ(trace_[i].task, i + 1);
    EXPECT_EQ(trace_[i].kind, TaskKind::kMapElement);
  }
}

TEST_F(TracedPoolTest, ARemoteTaskTellsWhenItWasSentAndHowLongItTook) {
  const std::uint32_t link = links_.join(*pool_, 4711);
  pool_->feed_links();
  submit();
  the_time = 5000;
  pool_->feed_links();
  ASSERT_EQ(links_[link].unanswered.size(), 1U);
  the_time = 9000;
  SlotResult result;
  result.bytes = sizeof(kBytes);
  result.inline_bytes = kBytes;
  result.took_ns = 3000;
  pool_->on_link_result(link, links_[link].unanswered.front().id, result);
  ASSERT_EQ(trace_.end(), 1U);
  const TraceRecord& record = trace_[0];
  EXPECT_EQ(record.run.claimed_ns, 5000U);
  EXPECT_EQ(record.run.evaluate_ns, 3000.0F);
  EXPECT_EQ(record.run.pid, 4711U);
  EXPECT_EQ(record.run.daemon, kLinkQueueBase + link);
  EXPECT_EQ(stage_ends(record).evaluated_ns, 9000U);
}

// --- JSON --------------------------------------------------------------------------------------------------

std::string as_json(TraceJson& writer, const std::vector<TraceRecord>& records) {
  std::string text = "[\n";
  writer.append_head(text);
  for (const TraceRecord& record : records) {
    writer.append(text, record, 1000);
  }
  return text + "\n]\n";
}

TraceRecord record_of(const RunStamps& run, TraceOutcome outcome) {
  TraceRecord record;
  record.task = 12;
  record.submitted_ns = 2000;
  record.queued_ns = 3000;
  record.harvested_ns = 9000;
  record.run = run;
  record.outcome = outcome;
  return record;
}

json named(const json& events, const std::string& name) {
  json out = json::array();
  for (const json& event : events) {
    if (event.at("name") == name) {
      out.push_back(event);
    }
  }
  return out;
}

TEST(TraceJsonTest, EachStageIsAnEvent) {
  TraceJson writer("default", 7);
  const json events = json::parse(as_json(writer, {record_of(stamps(4000, 1500, 500, 1), TraceOutcome::kValue)}));
  for (const json& event : events) {
    const std::string phase = event.at("ph");
    EXPECT_TRUE(event.at("pid").is_number_unsigned() && event.at("tid").is_number_unsigned());
    if (phase != "M") {
      EXPECT_TRUE(event.at("ts").is_number());
      EXPECT_EQ(event.at("args").at("task"), 12);
    }
    EXPECT_EQ(event.contains("dur"), phase == "X");
    EXPECT_EQ(event.contains("id"), phase == "b" || phase == "e");
  }
  const auto expect_stage = [&](const char* name, int pid, double from_us, double took_us) {
    const json found = named(events, name);
    ASSERT_EQ(found.size(), 1U) << name;
    EXPECT_EQ(found[0].at("pid"), pid) << name;
    EXPECT_DOUBLE_EQ(found[0].at("ts"), from_us) << name;
    EXPECT_DOUBLE_EQ(found[0].at("dur"), took_us) << name;
  };
  expect_stage("submit", 7, 1, 1);
  expect_stage("decode", 41, 3, 1.5);
  expect_stage("evaluate", 41, 4.5, 0.5);
  expect_stage("encode", 41, 5, 0.001);
  expect_stage("harvest", 7, 8, 0);
  const json queued = named(events, "queued");
  ASSERT_EQ(queued.size(), 2U);
  EXPECT_EQ(queued[0].at("ph"), "b");
  EXPECT_DOUBLE_EQ(queued[0].at("ts"), 2);
  EXPECT_EQ(queued[1].at("ph"), "e");
  EXPECT_DOUBLE_EQ(queued[1].at("ts"), 3);
  EXPECT_EQ(named(events, "result").size(), 2U);
}

TEST(TraceJsonTest, ATaskWhoseDaemonDiedEndsWithItsDeath) {
  TraceJson writer("default", 7);
  const std::string text = as_json(writer, {record_of(stamps(4000, kNoStage, kNoStage, kNoStage), TraceOutcome::kDied),
                                            record_of(RunStamps(), TraceOutcome::kDied)});
  const json events = json::parse(text);
  EXPECT_TRUE(named(events, "evaluate").empty());
  const json died = named(events, "died");
  ASSERT_EQ(died.size(), 2U);
  EXPECT_EQ(died[0].at("pid"), 41);
  EXPECT_DOUBLE_EQ(died[0].at("dur"), 5);
  EXPECT_EQ(died[1].at("pid"), 7);  // nobody knows when it began
}

TEST(TraceJsonTest, ARemoteDaemonIsAProcessOfItsOwn) {
  RunStamps run = stamps(4000, kNoStage, 2000, kNoStage);
  run.daemon = kLinkQueueBase + 2;
  TraceJson writer("default", 41);  // the number of that process, elsewhere
  const json events = json::parse(as_json(writer, {record_of(run, TraceOutcome::kValue)}));
  const json evaluated = named(events, "evaluate");
  ASSERT_EQ(evaluated.size(), 1U);
  EXPECT_NE(evaluated[0].at("pid"), 41);
  EXPECT_DOUBLE_EQ(evaluated[0].at("ts"), 6);
  EXPECT_DOUBLE_EQ(evaluated[0].at("dur"), 2);
  const json names = named(events, "process_name");
  ASSERT_EQ(names.size(), 2U);
  EXPECT_EQ(names[1].at("args").at("name"), "remote daemon 3 (process 41 there)");
}

TEST(TraceJsonTest, EveryProcessIsNamedOnce) {
  TraceJson writer("default", 7);
  const TraceRecord record = record_of(stamps(4000, 1, 1, 1), TraceOutcome::kValue);
  EXPECT_EQ(named(json::parse(as_json(writer, {record, record, record})), "process_name").size(), 2U);
}

TEST(TraceJsonTest, AnyNameIsAString) {
  const auto round_trip = [](const std::string& name) {
    TraceJson writer(name, 7);
    return named(json::parse(as_json(writer, {})), "process_name")[0].at("args").at("name").get<std::string>();
  };
  const std::string start = "session, profile ";
  EXPECT_EQ(round_trip("a \"b\" \\ c/\n\t\x01 d\x7F"), start + "a \"b\" \\ c/\n\t\x01 d\x7F");
  EXPECT_EQ(round_trip("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"), start + "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
  EXPECT_EQ(round_trip(std::string("\0", 1)), start + std::string("\0", 1));
  // Latin-1, cut off, overlong, a surrogate, beyond the last character.
  for (const char* broken : {"\xE4", "\xE2\x82", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80"}) {
    EXPECT_EQ(round_trip(broken).find(start + "\xEF\xBF\xBD"), 0U);
  }
}

}  // namespace
}  // namespace setsuna::dispatch
