// Each rule of the queue is switched off in turn, and the exploration must fail. The design's invariants 1 to 6 and the
// rules that stand in comments of the sources.
#include <gtest/gtest.h>

#include "tests/runtime/sched_scenarios.hpp"

namespace {

using namespace queue_test;

struct Rule {
  const char* name;
  std::function<std::unique_ptr<sched::Program>()> make;
  sched::Bounds bounds;
};

constexpr sched::Bounds kFew{.preemptions = 1, .races = false};
constexpr sched::Bounds kMore{.preemptions = 2, .races = false};
constexpr sched::Bounds kKill{.preemptions = 1, .races = false, .kills = 1};
constexpr QueueShape kOne{.daemons = 1, .slots = 2, .tasks = 2};
constexpr QueueShape kTwo{.daemons = 2, .slots = 2, .tasks = 2};
constexpr QueueShape kThree{.daemons = 2, .slots = 2, .tasks = 3};
constexpr QueueShape kThreeForOne{.daemons = 1, .slots = 2, .tasks = 3};
constexpr QueueShape kWide{.daemons = 2, .slots = 4, .tasks = 3};
constexpr QueueShape kSingle{.daemons = 2, .slots = 2, .tasks = 1};

using Meanwhile = AnnouncedProgram::Meanwhile;

const std::vector<Rule>& rules() {
  static const std::vector<Rule> all = {
      // 1. The host reuses a slot only when the head has passed its last ticket.
      {"pin_until_the_cell_is_gone", program<CancelQueuedProgram>(kThreeForOne, 2), kMore},
      // 2. READY is claimable only through its own cell, and that says all bits of the generation.
      {"own_cell_only", program<FlowProgram>(kThree), kMore},
      {"cell_vouches", program<WrapProgram>(QueueShape{.daemons = 2, .slots = 2, .tasks = 4}), kFew},
      // 3. READY + push, cancel, harvest and reap exclude each other.
      {"host_mutex", program<FlowProgram>(kTwo), kKill},
      // 4. Before the host sleeps for a slot it retires stale cells itself.
      {"host_retires_stale_cells", program<CancelQueuedProgram>(kThreeForOne, 2), kMore},
      // 5. What a death needs.
      {"reap_clears_the_idle_bit", program<FlowProgram>(kTwo), kKill},
      {"retire_before_requeue", program<FlowProgram>(kTwo), kKill},
      {"retry_has_a_new_generation", program<FlowProgram>(kTwo), kKill},
      {"reap_sets_done_bits", program<FlowProgram>(kTwo), kKill},
      {"reap_wakes_all", program<FlowProgram>(kTwo), kKill},
      {"wake_all_whatever_the_bits", program<MailboxLateProgram>(kTwo), {.preemptions = 2, .races = false, .kills = 1}},
      {"reaper_wakes_the_host", program<FlowProgram>(kTwo), kKill},
      {"reap_drains_the_mailbox", program<OwnQueuesProgram>(kWide), kKill},
      // 6. A daemon that parks looks again after it has set its idle bit.
      {"recheck_ring", program<FlowProgram>(kOne), kFew},
      {"recheck_mailbox", program<MailboxProgram>(kWide), kFew},
      {"recheck_stop", program<CloseProgram>(kSingle), kFew},
      // Helping.
      {"help_the_head", program<FlowProgram>(kTwo), kKill},
      {"retire_what_another_won", program<FlowProgram>(kTwo), kKill},
      // Wakes.
      {"publisher_wakes", program<FlowProgram>(kOne), kFew},
      {"host_rechecks", program<FlowProgram>(kOne), kFew},
      {"foretelling_wakes_the_host", program<ForetoldProgram>(kOne), kMore},
      {"mailbox_task_passes_the_wake", program<MailboxLateProgram>(kTwo), kMore},
      {"leaving_passes_the_wake", program<StopProgram>(kSingle), kFew},
      {"giving_up_clears_the_announcement", program<AnnouncedProgram>(kOne, Meanwhile::kNothing), kMore},
      {"other_work_passes_the_wake", program<AnnouncedProgram>(kTwo, Meanwhile::kMail), kMore},
      {"leaving_clears_the_announcement",
       program<AnnouncedProgram>(kTwo, Meanwhile::kStop),
       {.preemptions = 3, .races = false}},
      {"reap_clears_the_announcement",
       program<AnnouncedProgram>(kTwo, Meanwhile::kBusy),
       {.preemptions = 2, .races = false, .kills = 1}},
      {"an_empty_queue_is_low", program<RefillProgram>(QueueShape{.daemons = 1, .slots = 4, .tasks = 5}, 3), kFew},
      // 8. Blocks with live views; cancels; order.
      {"held_blocks_stay", program<HoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1}), {.preemptions = 1}},
      {"reap_drops_the_holds",
       program<HoldProgram>(QueueShape{.daemons = 1, .slots = 2, .tasks = 1, .retry = false, .respawn = true}),
       {.preemptions = 1, .kills = 1}},
      {"a_cancel_for_each_claim", program<CancelBothProgram>(kOne, true), kMore},
      {"mailbox_before_evaluation", program<MailboxProgram>(kWide), kFew},
  };
  return all;
}

class Rules : public ::testing::TestWithParam<Rule> {};

TEST_P(Rules, IsNeeded) {
  const Rule& rule = GetParam();
  sched::mutation().switch_off(rule.name);
  const std::unique_ptr<sched::Program> program = rule.make();
  const sched::Report report = explore(*program, rule.bounds);
  sched::mutation().clear();
  EXPECT_TRUE(report.failed) << "nothing fails without it";
  std::printf("    without it, after %llu executions: %s\n", static_cast<unsigned long long>(report.executions),
              report.message.c_str());
  EXPECT_FALSE(explore(*program, sched::Bounds{.preemptions = 0, .races = false}).failed) << "it fails with it";
}

std::string name_of(const ::testing::TestParamInfo<Rule>& rule) { return rule.param.name; }

INSTANTIATE_TEST_SUITE_P(Queue, Rules, ::testing::ValuesIn(rules()), name_of);

}  // namespace
