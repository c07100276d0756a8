// Weakens every memory order of the queue in turn, by one half at a time, and lets the scenarios run until one fails. An order
// that none misses must be explained where it stands:
//   // Equivalent without acquire: <why>      (or without "release", "either", "acquire on failure", "any")
// In the environment: SETSUNA_WEAKEN_DEEPER=1 explores also what is explained, in full (an hour); SETSUNA_WEAKEN_AT=text tries
// only orders whose "file:line " contains the text.
#include <gtest/gtest.h>

#include <cstdlib>
#include <list>
#include <set>

#include "tests/runtime/sched_scenarios.hpp"
#include "tests/weaken/order_source.hpp"

namespace {

using queue_test::Scenario;
using queue_test::weak_scenarios;
using sched::OrderSite;
using std::memory_order;

constexpr std::uint64_t kScoutingWalks = 1'000;  // for a scenario, to see which orders it comes by
constexpr std::uint64_t kWalks = 2'000;          // before it is explored in full: they find most failures sooner

struct Mutant {
  OrderSite site;
  memory_order to{};
  const char* drops = "";
};

bool deeper() { return std::getenv("SETSUNA_WEAKEN_DEEPER") != nullptr; }

bool stands_in(const OrderSite& site, const std::string& header) {
  return site.file.size() >= header.size() &&
         site.file.compare(site.file.size() - header.size(), header.size(), header) == 0;
}

// The orders of `header` and the scenarios that come by them.
using Reach = std::map<OrderSite, std::pair<memory_order, std::set<const Scenario*>>>;

Reach scout(const std::string& header) {
  Reach reach;
  for (const Scenario& scenario : weak_scenarios()) {
    std::map<OrderSite, memory_order> sites;
    sched::mutation().record(&sites);
    const sched::Report report = sample(*scenario.make(), scenario.bounds, 1, kScoutingWalks);
    sched::mutation().clear();
    EXPECT_FALSE(report.failed) << scenario.name << " fails as it is: " << report.summary();
    for (const auto& [site, order] : sites) {
      if (stands_in(site, header)) {
        reach[site].first = order;
        reach[site].second.insert(&scenario);
      }
    }
  }
  return reach;
}

std::vector<Mutant> mutants_of(const OrderSite& site, memory_order order) {
  const bool fails = site.which == 1;
  switch (order) {
    case memory_order::acquire: return {{site, memory_order::relaxed, fails ? "acquire on failure" : "acquire"}};
    case memory_order::release: return {{site, memory_order::relaxed, "release"}};
    case memory_order::acq_rel:
      return {{site, memory_order::release, "acquire"}, {site, memory_order::acquire, "release"}};
    default: return {};
  }
}

// The scenarios; whichever has noticed something last comes first.
class Hunt {
 public:
  Hunt() {
    for (const Scenario& scenario : weak_scenarios()) {
      order_.push_back(&scenario);
    }
  }

  // What fails with the mutant; empty: nothing. `explained`: nothing is expected to, so a look is enough.
  std::string find(const Mutant& mutant, const std::set<const Scenario*>& reached_by, bool explained) {
    sched::mutation().weaken(mutant.site, mutant.to);
    std::string found;
    for (const bool in_full : {false, true}) {
      if (in_full && explained && !deeper()) {
        break;
      }
      for (auto it = order_.begin(); it != order_.end() && found.empty(); ++it) {
        const Scenario& scenario = **it;
        if (reached_by.count(&scenario) == 0) {
          continue;
        }
        const sched::Report report =
            in_full ? explore(*scenario.make(), scenario.bounds) : sample(*scenario.make(), scenario.bounds, 1, kWalks);
        if (report.failed) {
          found = std::string(scenario.name) + (in_full ? " (in full)" : "") + ": " + report.message;
          order_.splice(order_.begin(), order_, it);
          break;
        }
      }
    }
    sched::mutation().clear();
    return found;
  }

 private:
  std::list<const Scenario*> order_;
};

class Weaken : public ::testing::TestWithParam<const char*> {};

TEST_P(Weaken, EveryOrderIsNeededOrExplained) {
  const std::string header = std::string("runtime/") + GetParam() + ".hpp";
  const weaken_test::OrderSource source(SETSUNA_SOURCE_DIR "/" + header);
  const Reach reach = scout(header);
  std::vector<std::uint32_t> unreached = source.orders();
  for (const auto& [site, found] : reach) {
    if (found.first == memory_order::relaxed) {
      continue;
    }
    // An operation's orders stand at the end of its call, lines below its name if it is long.
    const auto at = std::find_if(unreached.begin(), unreached.end(),
                                 [&](std::uint32_t line) { return line >= site.line && line < site.line + 5; });
    if (at != unreached.end()) {
      unreached.erase(at);
    }
  }
  for (const std::uint32_t line : unreached) {
    ADD_FAILURE() << header << ":" << line << ": no scenario comes here";
  }

  const char* only = std::getenv("SETSUNA_WEAKEN_AT");
  Hunt hunt;
  for (const auto& [site, found] : reach) {
    const std::string place = header + ":" + std::to_string(site.line) + " ";
    if (only != nullptr && place.find(only) == std::string::npos) {
      continue;
    }
    for (const Mutant& mutant : mutants_of(site, found.first)) {
      const bool explained = source.calls_equivalent(site.line, mutant.drops);
      const std::string failure = hunt.find(mutant, found.second, explained);
      std::printf("%swithout %s: %s\n", place.c_str(), mutant.drops,
                  !failure.empty() ? failure.c_str()
                  : explained      ? "explained"
                                   : "NOTHING FAILS");
      std::fflush(stdout);
      EXPECT_TRUE(explained || !failure.empty())
          << place << "may do without " << mutant.drops << ": no scenario fails, and the source does not say why";
      EXPECT_FALSE(explained && !failure.empty())
          << place << "cannot do without " << mutant.drops << ", though the source says so: " << failure;
    }
  }
}

std::string name_of(const ::testing::TestParamInfo<const char*>& info) { return info.param; }

INSTANTIATE_TEST_SUITE_P(Queue, Weaken,
                         ::testing::Values("announcement", "daemon_port", "gate", "host_port", "parking", "ready_ring"),
                         name_of);

}  // namespace
