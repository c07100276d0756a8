// Explores the queue: every interleaving within the bounds of each scenario, a death at every step, weak memory.
// In the environment: SETSUNA_DEEPER=1 allows one preemption more (minutes a scenario), SETSUNA_SEED=n starts the random
// walks at another seed.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/runtime/sched_scenarios.hpp"

namespace {

using queue_test::Scenario;

class Explored : public ::testing::TestWithParam<Scenario> {};
class Weak : public Explored {};
class Walk : public Explored {};

void expect_explored(const Scenario& scenario) {
  const std::unique_ptr<sched::Program> program = scenario.make();
  sched::Bounds bounds = scenario.bounds;
  bounds.preemptions += std::getenv("SETSUNA_DEEPER") != nullptr && bounds.preemptions != sched::kAny ? 1 : 0;
  const sched::Report report = explore(*program, bounds);
  EXPECT_FALSE(report.failed) << report.message << "\n" << report.trace;
  EXPECT_TRUE(report.complete || report.failed);
  std::printf("    %s\n", report.summary().substr(0, 100).c_str());
}

TEST_P(Explored, Holds) { expect_explored(GetParam()); }
TEST_P(Weak, Holds) { expect_explored(GetParam()); }

TEST_P(Walk, Holds) {
  const char* seed_text = std::getenv("SETSUNA_SEED");
  const std::uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : 1;
  const std::unique_ptr<sched::Program> program = GetParam().make();
  const sched::Report report = sample(*program, GetParam().bounds, seed, 40'000);
  EXPECT_FALSE(report.failed) << report.message << "\n" << report.trace;
  std::printf("    seeds %llu to %llu: %s\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(seed + report.executions - 1), report.summary().substr(0, 100).c_str());
}

std::string name_of(const ::testing::TestParamInfo<Scenario>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Queue, Explored, ::testing::ValuesIn(queue_test::scenarios()), name_of);
INSTANTIATE_TEST_SUITE_P(Queue, Weak, ::testing::ValuesIn(queue_test::weak_scenarios()), name_of);
INSTANTIATE_TEST_SUITE_P(Queue, Walk, ::testing::ValuesIn(queue_test::large_scenarios()), name_of);

}  // namespace
