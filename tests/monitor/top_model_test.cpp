// What `setsuna top` shows and what its keys do.
#include "rbridge/monitor/view/top_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "samples.hpp"

namespace setsuna::monitor::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TopModelTest : public testing::Test {
 protected:
  void show(const Snapshot& what) { model_.show(what, "no session"); }
  std::string screen(std::size_t width = 80, std::size_t height = 24) {
    std::string out;
    lines_ = model_.render(width, height);
    EXPECT_EQ(lines_.size(), height);
    for (const TopLine& line : lines_) {
      EXPECT_EQ(line.text.size(), width) << line.text;
      out += line.text + "\n";
    }
    return out;
  }
  std::string selected() {
    screen();
    for (const TopLine& line : lines_) {
      if (line.selected) {
        return line.text;
      }
    }
    return "";
  }

  TopModel model_{0.25};
  std::vector<TopLine> lines_;
};

TEST_F(TopModelTest, AllFactsIn80By24) {
  Snapshot all = snapshot();
  all.hosts[0].profiles[0].tasks_per_second = 123456;
  all.hosts[0].profiles[0].recent = {50, 1, 14'000, 20'000, 90'000, 1'000'000, 2'000'000};
  all.hosts[0].profiles[0].daemons[0].cpu_percent = 97;
  show(all);
  const std::string text = screen();
  EXPECT_THAT(text, HasSubstr("1 session "));
  EXPECT_THAT(text, HasSubstr(">  4711  up 1m05s   90.0 MB  R "));
  EXPECT_THAT(text, HasSubstr("profile default  2 daemons  123,456 tasks/s  56,789 completed  3 respawns"));
  EXPECT_THAT(text, HasSubstr("1,234 awaiting (1,000 ready, 234 spilled)  2 executing  7 uncollected"));
  EXPECT_THAT(text, HasSubstr("p50 14.0 us  p90 20.0 us  p99 90.0 us  p99.9 1.0 ms"));
  EXPECT_THAT(text, HasSubstr("arguments 17.3 kB of 4.0 GB  shared 25.0 MB of 8.0 GB"));
  EXPECT_THAT(text, HasSubstr("1000  busy             400          -    97   50.0 MB"));
}

TEST_F(TopModelTest, ArrowsChooseSessionsAndDaemons) {
  Snapshot two = snapshot();
  two.hosts.push_back(host(5000));
  show(two);
  EXPECT_THAT(selected(), HasSubstr("4711"));
  model_.on_key(TopKey::kDown);
  EXPECT_THAT(selected(), HasSubstr("1000  busy"));
  EXPECT_THAT(screen(), HasSubstr("local daemon 1 of profile default of session 4711, process 1000"));
  model_.on_key(TopKey::kDown);
  model_.on_key(TopKey::kDown);
  EXPECT_THAT(selected(), HasSubstr("5000  up"));
  model_.on_key(TopKey::kUp);
  EXPECT_THAT(selected(), HasSubstr("1001  idle"));
  model_.on_key(TopKey::kEnd);
  EXPECT_THAT(screen(80, 10), HasSubstr("1001  idle"));  // it scrolls
  model_.on_key(TopKey::kHome);
  EXPECT_THAT(selected(), HasSubstr("4711"));
}

TEST_F(TopModelTest, TheChoiceFollowsItsDaemonAndFallsToANeighbour) {
  Snapshot all = snapshot();
  show(all);
  model_.on_key(TopKey::kDown);
  model_.on_key(TopKey::kDown);
  EXPECT_THAT(selected(), HasSubstr("1001  idle"));
  all.hosts.insert(all.hosts.begin(), host(17));
  show(all);
  EXPECT_THAT(screen(), HasSubstr("local daemon 2 of profile default of session 4711"));
  all.hosts.pop_back();
  show(all);
  EXPECT_THAT(screen(), HasSubstr("session 17"));
  show({});
  EXPECT_THAT(screen(), HasSubstr("no session"));
}

TEST_F(TopModelTest, SortsByEachColumn) {
  show(snapshot());
  const auto first_daemon = [&] {
    screen();
    for (const TopLine& line : lines_) {
      if (line.text.find("  busy") != std::string::npos) return 1;
      if (line.text.find("  idle") != std::string::npos) return 2;
    }
    return 0;
  };
  EXPECT_EQ(first_daemon(), 1);
  model_.on_key(TopKey::kSort);  // by rate: both unknown
  model_.on_key(TopKey::kSort);
  EXPECT_THAT(screen(), HasSubstr("by completed"));
  EXPECT_EQ(first_daemon(), 2);
  for (int i = 0; i < 3; ++i) {
    model_.on_key(TopKey::kSort);
  }
  EXPECT_EQ(first_daemon(), 1);
}

TEST_F(TopModelTest, PauseKeepsWhatIsShown) {
  show(snapshot());
  model_.on_key(TopKey::kPause);
  show({});
  EXPECT_THAT(screen(), HasSubstr("PAUSED"));
  EXPECT_THAT(screen(), HasSubstr("4711"));
  model_.on_key(TopKey::kPause);
  show({});
  EXPECT_THAT(screen(), Not(HasSubstr("4711")));
}

TEST_F(TopModelTest, IntervalHelpAndQuit) {
  show(snapshot());
  model_.on_key(TopKey::kSlower);
  EXPECT_EQ(model_.interval_s(), 0.5);
  for (int i = 0; i < 20; ++i) model_.on_key(TopKey::kFaster);
  EXPECT_EQ(model_.interval_s(), 0.1);
  for (int i = 0; i < 20; ++i) model_.on_key(TopKey::kSlower);
  EXPECT_EQ(model_.interval_s(), 60);
  model_.on_key(TopKey::kHelp);
  EXPECT_THAT(screen(), HasSubstr("sort daemons by"));
  model_.on_key(TopKey::kOther);  // any key closes it
  EXPECT_THAT(screen(), Not(HasSubstr("sort daemons by")));
  EXPECT_TRUE(model_.on_key(TopKey::kOther));
  EXPECT_FALSE(model_.on_key(TopKey::kQuit));
}

TEST_F(TopModelTest, AnyWindow) {
  Snapshot many = snapshot();
  for (std::uint32_t i = 2; i < 300; ++i) {
    many.hosts[0].profiles[0].daemons.push_back(daemon(i, DaemonSample::State::kIdle, i));
  }
  many.hosts[0].problem = "it does not answer";
  show(many);
  for (const std::size_t height : {1u, 8u, 24u, 200u}) {
    for (const std::size_t width : {1u, 40u, 80u, 300u}) {
      screen(width, height);
      model_.on_key(TopKey::kPageDown);
    }
  }
}

TEST_F(TopModelTest, ASmallWindowSaysHowLargeItMustBe) {
  show(snapshot());
  EXPECT_THAT(screen(30, 24), HasSubstr("too small: make it 40 by 8"));
  EXPECT_THAT(screen(20, 5), HasSubstr("too small: make it  \n40 by 8"));
}

TEST_F(TopModelTest, ANarrowWindowHasWholeWordsAndTheKeys) {
  show({});
  EXPECT_THAT(screen(12, 12), HasSubstr("too small: "));
  model_.show({}, "no R session of yours uses setsuna now: one can be seen from its first daemons()");
  EXPECT_THAT(screen(50, 10), HasSubstr("now: one can be\nseen from"));
  show(snapshot());
  EXPECT_THAT(screen(40, 10), HasSubstr(" session  h help\n"));
  EXPECT_THAT(screen(80, 10), HasSubstr("h help  q quit"));
  model_.on_key(TopKey::kHelp);
  EXPECT_THAT(screen(40, 10), HasSubstr("look more often,   \n"));
}

}  // namespace
}  // namespace setsuna::monitor::test
