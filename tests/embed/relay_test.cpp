// The relay between a connection in memory and an evaluator without R: one thread, no sockets.
#include "rbridge/embed/relay.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>

#include "dispatch/map_range.hpp"
#include "fake_connection.hpp"
#include "rbridge/embed/link_greeting.hpp"
#include "runtime/daemon_port.hpp"

namespace setsuna::embed::test {
namespace {

using dispatch::LinkLeaving;
using dispatch::LinkMessage;
using dispatch::LinkResult;
using dispatch::LinkStop;
using dispatch::LinkTask;
using dispatch::LinkWelcome;
using runtime::kInlineArgBytes;
using runtime::ResultStatus;
using runtime::TaskKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kMb = 1 << 20;

struct FakeProcess final : RelayProcess {
  void on_welcome(const LinkWelcome& with, std::span<const std::byte> hook_bytes) override {
    welcome = with;
    hooks.assign(hook_bytes.begin(), hook_bytes.end());
  }
  void interrupt_task() override { ++interrupts; }
  void end_now() override { killed = true; }
  void on_left() override { ++left; }
  void on_end(const std::string& why, RelayEnd by) override {
    ++ends;
    reason = why;
    how = by;
  }

  std::optional<LinkWelcome> welcome;
  std::vector<std::byte> hooks;
  int interrupts = 0;
  bool killed = false;
  int left = 0;
  int ends = 0;
  std::string reason;
  RelayEnd how = RelayEnd::kLost;
};

// The evaluator's side of the queue, step by step.
class FakeEvaluator {
 public:
  using Port = runtime::DaemonPort<std::atomic, runtime::SharedFutex>;

  explicit FakeEvaluator(PrivateSegment& segment)
      : segment_(segment),
        port_(segment.segment().queue(nullptr), PrivateSegment::kDaemon, segment.epoch()),
        arena_(segment.segment(), runtime::ExtentOwner{PrivateSegment::kDaemon, segment.epoch()}) {}

  Port& port() { return port_; }
  bool claim() {
    bool refill = false;
    const auto claim = port_.claim_ready(&refill);
    if (claim) {
      claim_ = *claim;
      port_.set_current(claim_);
    }
    return claim.has_value();
  }
  Port::Slot& slot() { return port_.slot(claim_); }
  bool cancelled() const { return port_.cancelled(claim_); }
  std::span<const std::byte> argument() {
    const std::byte* at = slot().arg_bytes <= kInlineArgBytes ? reinterpret_cast<const std::byte*>(slot().arg)
                                                              : segment_.segment().base() + slot().arg_offset;
    return {at, slot().arg_bytes};
  }
  void complete(std::span<const std::byte> result, ResultStatus status = ResultStatus::kValue) {
    slot().result_status = static_cast<std::uint32_t>(status);
    slot().result_bytes = result.size();
    slot().result_offset = 0;
    if (result.size() <= runtime::kInlineResultBytes) {
      std::memcpy(slot().result, result.data(), result.size());
    } else {
      const runtime::Block block = arena_.alloc(result.size());
      ASSERT_TRUE(block);
      std::memcpy(arena_.at(block.offset), result.data(), result.size());
      slot().result_offset = block.offset;
    }
    finish();
  }
  // --- of a range ---
  bool begin_element() { return port_.take_element(claim_, position_); }
  void finish_element(std::span<const std::uint8_t> entry) {
    std::memcpy(slot().result + at_, entry.data(), entry.size());
    at_ += entry.size();
    port_.publish_progress(claim_, ++position_);
  }
  bool element_cancelled() const { return port_.cancel_wanted(Port::pack_element(Port::pack(claim_), position_)); }
  void finish_in_area(std::size_t bytes) {
    const runtime::Block block = arena_.alloc(bytes);
    ASSERT_TRUE(block);
    std::array<std::uint8_t, dispatch::kEntryAreaBytes> entry{dispatch::kEntryArea, 0};
    const std::uint64_t size = bytes;
    std::memcpy(entry.data() + 2, &block.offset, sizeof(block.offset));
    std::memcpy(entry.data() + 10, &size, sizeof(size));
    finish_element(entry);
  }
  void finish() {
    position_ = 0;
    at_ = 0;
    port_.clear_current();
    bool told = false;
    if (exit != nullptr) {
      const LinkResult result{static_cast<ResultStatus>(slot().result_status), 0, slot().elapsed_ns};
      told = exit->tell(claim_.slot, claim_.generation, result,
                        std::as_bytes(std::span(slot().result, slot().result_bytes)));
    }
    if (between) {
      between();
    }
    bool signal = false;
    ASSERT_TRUE(port_.complete(claim_, &signal));
    if (told ? !exit->may_rest(claim_.slot, claim_.generation) : signal) {
      segment_.doorbell().signal();
    }
  }
  DirectExit* exit = nullptr;     // what small results go through, as the evaluator's do
  std::function<void()> between;  // a result's being told and its task's being DONE
  void leave(std::uint32_t reason) {
    port_.record().exit_code.store(reason, std::memory_order_relaxed);
    port_.record().state.store(static_cast<std::uint32_t>(runtime::DaemonState::kLeaving), std::memory_order_release);
    port_.leave();
    segment_.doorbell().signal();
  }
  std::uint64_t bytes_in_use() const { return arena_.use().bytes_in_use; }
  void drain() { arena_.drain(); }

 private:
  PrivateSegment& segment_;
  Port port_;
  runtime::SegmentArena arena_;
  runtime::Claim claim_;
  std::uint32_t position_ = 0;
  std::size_t at_ = 0;
};

std::vector<std::byte> pattern(std::size_t bytes, int seed) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    out[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed) + (i >> 12));
  }
  return out;
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

class RelayTest : public ::testing::Test {
 protected:
  explicit RelayTest(bool interrupt_at_end = true, bool direct = false) {
    exit_ = direct ? std::make_unique<DirectExit>() : nullptr;
    std::string error;
    segment_ = PrivateSegment::create(16 * kMb, &error);
    if (!segment_) {
      throw std::runtime_error(error);
    }
    evaluator_ = std::make_unique<FakeEvaluator>(*segment_);
    relay_ = std::make_unique<Relay>(*segment_, process_, RelayOptions{interrupt_at_end, {0xEE, 0xEF}}, exit_.get());
    const dispatch::LinkGreeting greeting = own_greeting();
    connection_ = std::make_unique<FakeConnection>(*relay_, bytes_of(greeting));
    relay_->set_connection(connection_.get());
    relay_->on_open();
  }

  void welcome() {
    LinkWelcome message;
    message.index = 3;
    host(LinkMessage::kWelcome, 0, bytes_of(message));
  }
  void host(LinkMessage type, std::uint64_t id, std::span<const std::byte> head = {},
            std::span<const std::byte> body = {}) {
    connection_->peer_says(type_of(type), id, head, body);
  }
  void task(std::uint64_t id, std::span<const std::byte> argument, std::uint64_t key = 0,
            TaskKind kind = TaskKind::kEval) {
    LinkTask message;
    message.kind = kind;
    message.const_key = key;
    host(LinkMessage::kTask, id, bytes_of(message), argument);
  }
  void range(std::uint64_t id, std::uint32_t count) {
    std::vector<std::uint32_t> elements(count);
    std::iota(elements.begin(), elements.end(), 100U);
    task(id, std::as_bytes(std::span(elements)), 0, TaskKind::kMapRange);
  }
  dispatch::LinkRange report(std::size_t i) const {
    EXPECT_EQ(connection_->sent.at(i).type, type_of(LinkMessage::kRange));
    dispatch::LinkRange said;
    std::memcpy(&said, connection_->sent.at(i).head.data(), sizeof(said));
    return said;
  }
  // What the reactor does once the doorbell's descriptor is readable. False: it is not.
  bool ring() {
    if (segment_->doorbell().drain() == 0) {
      return false;
    }
    relay_->on_doorbell();
    return true;
  }
  std::vector<std::uint16_t> sent_types() const {
    std::vector<std::uint16_t> types;
    for (const SentMessage& message : connection_->sent) {
      types.push_back(message.type);
    }
    return types;
  }
  ResultStatus status_of(std::size_t i) const {
    LinkResult result;
    std::memcpy(&result, connection_->sent.at(i).head.data(), sizeof(result));
    return result.status;
  }
  std::uint64_t host_bytes() { return segment_->arena().use().bytes_in_use; }

  FakeProcess process_;
  std::unique_ptr<DirectExit> exit_;
  std::unique_ptr<PrivateSegment> segment_;
  std::unique_ptr<FakeEvaluator> evaluator_;
  std::unique_ptr<Relay> relay_;
  std::unique_ptr<FakeConnection> connection_;
};

struct FinishingRelayTest : RelayTest {
  FinishingRelayTest() : RelayTest(false) {}
};

// With an evaluator that sends results itself.
struct DirectRelayTest : RelayTest {
  DirectRelayTest() : RelayTest(true, true) {
    exit_->open(connection_.get(), nullptr);
    evaluator_->exit = exit_.get();
    connection_->takes_now = net::Connection::SentNow::kAll;
    welcome();
  }
};

// --- Beginning ---------------------------------------------------------------------------------------------

TEST_F(RelayTest, TheWelcomeIsHandedOnWithItsHooks) {
  LinkWelcome message;
  message.index = 7;
  message.stream[5] = -5;
  const auto hooks = pattern(1000, 1);
  host(LinkMessage::kWelcome, 0, bytes_of(message), hooks);
  ASSERT_TRUE(process_.welcome);
  EXPECT_EQ(process_.welcome->index, 7);
  EXPECT_EQ(process_.welcome->stream[5], -5);
  EXPECT_EQ(process_.hooks, hooks);
}

TEST_F(RelayTest, WorkBeforeTheWelcomeIsRefused) {
  task(1, pattern(4, 0));
  EXPECT_THAT(connection_->close_reason, HasSubstr("before its welcome"));
  connection_->end("closed");
  EXPECT_EQ(process_.how, RelayEnd::kFault);
}

// A daemon that waits for the next host must not, if it comes to one that is just being reset for good.
TEST_F(RelayTest, AStopInsteadOfTheWelcomeIsForGoodIfItSaysSo) {
  const dispatch::LinkStop stop{1};
  host(LinkMessage::kStop, 0, bytes_of(stop));
  connection_->end("closed");
  EXPECT_EQ(process_.how, RelayEnd::kSentAway);
}

TEST_F(RelayTest, AStopInsteadOfTheWelcomeIsALostConnectionOtherwise) {
  host(LinkMessage::kStop, 0, bytes_of(dispatch::LinkStop{}));
  connection_->end("closed");
  EXPECT_EQ(process_.how, RelayEnd::kLost);
}

TEST(LinkGreetingTest, APeerOfAnotherMakeIsNamed) {
  dispatch::LinkGreeting greeting = own_greeting();
  EXPECT_EQ(compare_greeting(bytes_of(greeting), "the host"), "");
  greeting.build_id[1] ^= 0x100;
  std::strcpy(greeting.r_version, "9.9.9");
  EXPECT_THAT(compare_greeting(bytes_of(greeting), "the host at 'x'"),
              HasSubstr("the host at 'x' runs setsuna " + std::string(greeting.package_version) +
                        " with R 9.9.9, this side setsuna"));
  greeting.byte_order = 0x04030201;
  EXPECT_THAT(compare_greeting(bytes_of(greeting), "the host"), HasSubstr("byte order"));
  EXPECT_THAT(compare_greeting({}, "the host"), HasSubstr("not a setsuna of this version"));
}

// --- Tasks and results -------------------------------------------------------------------------------------

TEST_F(RelayTest, ASmallTaskAndItsResultLieInTheSlot) {
  welcome();
  const auto argument = pattern(kInlineArgBytes, 1);
  task(42, argument);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_TRUE(same(evaluator_->argument(), argument));
  EXPECT_EQ(host_bytes(), 0U);
  evaluator_->complete(pattern(100, 2), ResultStatus::kError);
  ASSERT_TRUE(ring());
  ASSERT_EQ(connection_->sent.size(), 1U);
  const SentMessage& message = connection_->sent[0];
  EXPECT_EQ(message.type, type_of(LinkMessage::kResult));
  EXPECT_EQ(message.lane, net::Lane::kData);
  EXPECT_EQ(message.id, 42U);
  EXPECT_EQ(message.ticket, 0U);
  EXPECT_TRUE(same(message.body, pattern(100, 2)));
  EXPECT_EQ(status_of(0), ResultStatus::kError);
}

TEST_F(RelayTest, AllThatConcernsEvaluationReachesTheSlot) {
  welcome();
  LinkTask message;
  message.kind = TaskKind::kMapElement;
  message.flags = runtime::kTaskHasStream | runtime::kTaskSpread;
  for (int i = 0; i < 6; ++i) {
    message.rng[i] = -i;
  }
  host(LinkMessage::kTask, 5, bytes_of(message), pattern(3, 0));
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_EQ(evaluator_->slot().kind, TaskKind::kMapElement);
  EXPECT_EQ(evaluator_->slot().flags, message.flags);
  EXPECT_THAT(evaluator_->slot().rng, ElementsAre(0, -1, -2, -3, -4, -5));
  EXPECT_EQ(evaluator_->slot().const_bytes, 0U);
}

TEST_F(RelayTest, KindsRunInTheOrderInWhichTheyCame) {
  welcome();
  const TaskKind kinds[] = {TaskKind::kReplay, TaskKind::kEval, TaskKind::kEverywhere, TaskKind::kEval};
  for (std::uint64_t i = 0; i < 4; ++i) {
    task(i, pattern(1, static_cast<int>(i)), 0, kinds[i]);
  }
  for (const TaskKind kind : kinds) {
    ASSERT_TRUE(evaluator_->claim());
    EXPECT_EQ(evaluator_->slot().kind, kind);
    evaluator_->complete({});
  }
}

// --- Results that the evaluator sends itself ---------------------------------------------------------------

TEST_F(DirectRelayTest, ALoneResultWakesNobody) {
  for (std::uint64_t id = 1; id < 3 * PrivateSegment::kSlots; ++id) {
    task(id, pattern(10, 1));
    ASSERT_TRUE(evaluator_->claim());
    evaluator_->complete(pattern(20, static_cast<int>(id)), ResultStatus::kError);
    ASSERT_FALSE(ring());
    ASSERT_EQ(connection_->sent.size(), id);
    const SentMessage& message = connection_->sent.back();
    EXPECT_EQ(message.type, type_of(LinkMessage::kResult));
    EXPECT_EQ(message.id, id);
    EXPECT_TRUE(same(message.body, pattern(20, static_cast<int>(id))));
    EXPECT_EQ(status_of(id - 1), ResultStatus::kError);
  }
  relay_->on_doorbell();
  EXPECT_EQ(connection_->sent.size(), 3U * PrivateSegment::kSlots - 1);
}

TEST_F(DirectRelayTest, OfSeveralTasksTheRelayIsTold) {
  task(1, pattern(10, 1));
  task(2, pattern(10, 2));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(evaluator_->claim());
    evaluator_->complete(pattern(5, i));
  }
  EXPECT_TRUE(connection_->sent.empty());
  ASSERT_TRUE(ring());
  EXPECT_EQ(connection_->sent.size(), 2U);
  task(3, pattern(10, 3));  // alone again
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete({});
  EXPECT_FALSE(ring());
  EXPECT_EQ(connection_->sent.size(), 3U);
}

// The relay looked for what is done a moment too early: it must be waked, or what waits for it would wait for ever.
TEST_F(DirectRelayTest, ATaskThatComesInBetweenIsNotForgotten) {
  task(1, pattern(10, 1));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->between = [&] {
    for (std::uint64_t id = 2; id < 10; ++id) {
      task(id, pattern(10, 1));
    }
  };
  evaluator_->complete(pattern(5, 1));
  evaluator_->between = nullptr;
  ASSERT_TRUE(ring());
  ASSERT_EQ(connection_->sent.size(), 1U);  // and not twice
  for (std::uint64_t id = 2; id < 10; ++id) {
    ASSERT_TRUE(evaluator_->claim()) << id;
    evaluator_->complete({});
    ring();
  }
  ASSERT_EQ(connection_->sent.size(), 9U);
  EXPECT_EQ(connection_->sent.back().id, 9U);
}

TEST_F(DirectRelayTest, WhatTheConnectionDoesNotTakeGoesThroughTheRelay) {
  connection_->takes_now = net::Connection::SentNow::kNo;
  task(1, pattern(10, 1));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete(pattern(5, 1));
  EXPECT_TRUE(connection_->sent.empty());
  ASSERT_TRUE(ring());
  EXPECT_EQ(connection_->sent.size(), 1U);
}

TEST_F(DirectRelayTest, LargeArgumentsAreGivenBackByTheRelay) {
  task(1, pattern(kMb, 1));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete(pattern(5, 1));
  ASSERT_TRUE(ring());
  EXPECT_EQ(host_bytes(), 0U);
  EXPECT_EQ(connection_->sent.size(), 1U);
}

// The relay has not looked since the view went: it must look before it says that there is no room.
TEST_F(DirectRelayTest, WhatNobodyViewsAnyMoreMakesRoom) {
  host(LinkMessage::kConstant, 77, {}, pattern(10 * kMb, 9));
  task(1, pattern(1, 0), 77, TaskKind::kMapElement);
  ASSERT_TRUE(evaluator_->claim());
  const std::uint16_t hold = evaluator_->slot().const_block;
  evaluator_->port().hold(hold);
  evaluator_->complete({});
  host(LinkMessage::kForget, 77);
  task(2, pattern(1, 0));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->port().unhold(hold);
  evaluator_->complete({});
  ASSERT_FALSE(ring());
  host(LinkMessage::kConstant, 78, {}, pattern(10 * kMb, 8));
  task(3, pattern(1, 0), 78, TaskKind::kMapElement);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_EQ(evaluator_->slot().const_bytes, 10 * kMb);
}

TEST_F(DirectRelayTest, OrdersForATaskWhoseResultHasLeftDoNothing) {
  task(1, pattern(10, 1));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete({});
  host(LinkMessage::kCancel, 1);
  host(LinkMessage::kRetract, 1);
  EXPECT_EQ(process_.interrupts, 0);
  EXPECT_EQ(connection_->sent.size(), 1U);
  exit_->close();
  connection_->end("closed");
  EXPECT_EQ(process_.ends, 1);
  EXPECT_EQ(process_.interrupts, 0);
}

TEST_F(DirectRelayTest, AnEvaluatorThatLeavesHasToldAll) {
  task(1, pattern(10, 1));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete({});
  evaluator_->leave(0);
  ASSERT_TRUE(ring());
  EXPECT_THAT(sent_types(), ElementsAre(type_of(LinkMessage::kResult), type_of(LinkMessage::kLeaving)));
  EXPECT_EQ(process_.left, 1);
}

TEST_F(DirectRelayTest, AfterItsEndTheExitTakesNothing) {
  task(1, pattern(10, 1));
  ASSERT_TRUE(evaluator_->claim());
  exit_->close();
  evaluator_->complete({});
  EXPECT_TRUE(connection_->sent.empty());
  EXPECT_TRUE(ring());
}

// --- Arguments and results of any size ---------------------------------------------------------------------

TEST_F(RelayTest, ALargeArgumentIsReceivedIntoTheArenaAndCanBeViewed) {
  welcome();
  const auto argument = pattern(3 * kMb + 5, 1);
  task(1, argument);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_TRUE(same(evaluator_->argument(), argument));
  EXPECT_NE(evaluator_->slot().arg_block, runtime::kNoBlockId);
  EXPECT_EQ(evaluator_->slot().arg_offset % runtime::kPageBytes, 0U) << "views are dropped by whole pages";
  EXPECT_GT(host_bytes(), 0U);
  evaluator_->complete({});
  ASSERT_TRUE(ring());
  EXPECT_EQ(host_bytes(), 0U);
}

TEST_F(RelayTest, AMiddlingArgumentIsNotViewed) {
  welcome();
  const auto argument = pattern(kInlineArgBytes + 1, 1);
  task(1, argument);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_TRUE(same(evaluator_->argument(), argument));
  EXPECT_EQ(evaluator_->slot().arg_block, runtime::kNoBlockId);
}

TEST_F(RelayTest, ABlockWithAViewIsKeptUntilTheViewIsGone) {
  welcome();
  task(1, pattern(2 * kMb, 1));
  ASSERT_TRUE(evaluator_->claim());
  const std::uint16_t hold = evaluator_->slot().arg_block;
  evaluator_->port().hold(hold);
  evaluator_->complete({});
  ASSERT_TRUE(ring());
  EXPECT_GT(host_bytes(), 0U);
  evaluator_->port().unhold(hold);
  task(2, pattern(1, 1));
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete({});
  ASSERT_TRUE(ring());
  EXPECT_EQ(host_bytes(), 0U);
}

TEST_F(RelayTest, ALargeResultIsSentFromWhereItLiesAndReleasedWhenItIsSent) {
  welcome();
  task(1, {});
  ASSERT_TRUE(evaluator_->claim());
  const auto result = pattern(2 * kMb + 1, 3);
  evaluator_->complete(result);
  ASSERT_TRUE(ring());
  ASSERT_EQ(connection_->sent.size(), 1U);
  const SentMessage message = connection_->sent[0];
  ASSERT_NE(message.ticket, 0U);
  EXPECT_EQ(message.body.data(), segment_->segment().base() + message.ticket);
  EXPECT_TRUE(same(message.body, result));
  EXPECT_GT(evaluator_->bytes_in_use(), 0U);
  connection_->sent_out(message.ticket);
  evaluator_->drain();
  EXPECT_EQ(evaluator_->bytes_in_use(), 0U);
}

TEST_F(RelayTest, ADamagedResultIsNotBelieved) {
  welcome();
  task(1, {});
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->slot().result_status = 0;
  evaluator_->slot().result_bytes = 1000;
  evaluator_->slot().result_offset = 12345;
  evaluator_->finish();
  ASSERT_TRUE(ring());
  EXPECT_EQ(status_of(0), ResultStatus::kDamaged);
  EXPECT_THAT(connection_->sent[0].body, IsEmpty());
}

TEST_F(RelayTest, MoreTasksThanSlotsWaitInOrder) {
  welcome();
  const std::uint32_t count = 3 * PrivateSegment::kSlots;
  for (std::uint32_t i = 0; i < count; ++i) {
    task(i, bytes_of(i));
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSERT_TRUE(evaluator_->claim()) << i;
    EXPECT_TRUE(same(evaluator_->argument(), bytes_of(i))) << i;
    evaluator_->complete({});
    ASSERT_TRUE(ring()) << i;
  }
  EXPECT_EQ(connection_->sent.size(), count);
}

TEST_F(RelayTest, EveryCompletionRings) {
  welcome();
  for (std::uint64_t i = 0; i < 5; ++i) {
    task(i, {});
    ASSERT_TRUE(evaluator_->claim());
    evaluator_->complete({});
    EXPECT_TRUE(ring());
    EXPECT_FALSE(ring());
  }
}

TEST_F(RelayTest, ATaskOfAnUnknownKindIsRefused) {
  welcome();
  task(1, {}, 0, static_cast<TaskKind>(9));
  EXPECT_THAT(connection_->close_reason, HasSubstr("damaged task"));
}

TEST_F(RelayTest, ATaskThatHasNoRoomBecomesAnError) {
  welcome();
  task(1, pattern(15 * kMb, 1));
  task(2, pattern(15 * kMb, 1));
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_EQ(evaluator_->slot().arg_bytes, 15 * kMb);
  evaluator_->complete({});
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_EQ(evaluator_->slot().kind, TaskKind::kEval);
  EXPECT_THAT(evaluator_->argument(), ElementsAre(std::byte{0xEE}, std::byte{0xEF}));
}

// --- Constants ---------------------------------------------------------------------------------------------

TEST_F(RelayTest, AConstantServesManyTasksUntilItIsForgotten) {
  welcome();
  const auto constant = pattern(2 * kMb, 9);
  host(LinkMessage::kConstant, 77, {}, constant);
  for (std::uint64_t i = 0; i < 2; ++i) {
    task(i, pattern(1, 0), 77, TaskKind::kMapElement);
    ASSERT_TRUE(evaluator_->claim());
    const auto& slot = evaluator_->slot();
    EXPECT_EQ(slot.const_key, 77U);
    EXPECT_NE(slot.const_block, runtime::kNoBlockId);
    EXPECT_TRUE(same({segment_->segment().base() + slot.const_offset, slot.const_bytes}, constant));
    evaluator_->complete({});
    ASSERT_TRUE(ring());
  }
  EXPECT_GT(host_bytes(), 0U);
  host(LinkMessage::kForget, 77);
  EXPECT_EQ(host_bytes(), 0U);
}

TEST_F(RelayTest, AForgottenConstantThatIsViewedStays) {
  welcome();
  host(LinkMessage::kConstant, 77, {}, pattern(2 * kMb, 9));
  task(1, pattern(1, 0), 77, TaskKind::kMapElement);
  ASSERT_TRUE(evaluator_->claim());
  const std::uint16_t hold = evaluator_->slot().const_block;
  evaluator_->port().hold(hold);
  evaluator_->complete({});
  ASSERT_TRUE(ring());
  host(LinkMessage::kForget, 77);
  EXPECT_GT(host_bytes(), 0U);
  evaluator_->port().unhold(hold);
  segment_->sweep_held();
  EXPECT_EQ(host_bytes(), 0U);
}

TEST_F(RelayTest, ATaskWhoseConstantNeverCameIsRefused) {
  welcome();
  task(1, pattern(1, 0), 78, TaskKind::kMapElement);
  EXPECT_THAT(connection_->close_reason, HasSubstr("constant"));
}

TEST_F(RelayTest, AConstantThatHasNoRoomMakesItsTasksErrors) {
  welcome();
  host(LinkMessage::kConstant, 77, {}, pattern(20 * kMb, 9));
  task(1, pattern(2 * kMb, 0), 77, TaskKind::kMapElement);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_EQ(evaluator_->slot().const_bytes, 0U);
  EXPECT_THAT(evaluator_->argument(), ElementsAre(std::byte{0xEE}, std::byte{0xEF}));
  EXPECT_EQ(host_bytes(), 0U);
}

// --- Cancel, retract, kill, stop ---------------------------------------------------------------------------

TEST_F(RelayTest, ACancelledTaskThatWaitsIsAnsweredAtOnce) {
  welcome();
  task(1, pattern(2 * kMb, 0));
  host(LinkMessage::kCancel, 1);
  EXPECT_FALSE(evaluator_->claim());
  ASSERT_EQ(connection_->sent.size(), 1U);
  EXPECT_EQ(connection_->sent[0].id, 1U);
  EXPECT_EQ(status_of(0), ResultStatus::kCancelled);
  EXPECT_EQ(process_.interrupts, 0);
  EXPECT_EQ(host_bytes(), 0U);
}

TEST_F(RelayTest, ACancelledTaskThatRunsIsInterruptedAndAnswersInItsTime) {
  welcome();
  task(1, {});
  task(2, {});
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_FALSE(evaluator_->cancelled());
  host(LinkMessage::kCancel, 1);
  EXPECT_EQ(process_.interrupts, 1);
  EXPECT_TRUE(evaluator_->cancelled());
  EXPECT_THAT(connection_->sent, IsEmpty());
  evaluator_->complete({}, ResultStatus::kCancelled);
  ASSERT_TRUE(ring());
  EXPECT_EQ(status_of(0), ResultStatus::kCancelled);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_FALSE(evaluator_->cancelled()) << "it was meant for another task";
}

TEST_F(RelayTest, ACancelThatComesTooLateDoesNothing) {
  welcome();
  task(1, {});
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete({});
  host(LinkMessage::kCancel, 1);
  ASSERT_TRUE(ring());
  host(LinkMessage::kCancel, 1);
  EXPECT_EQ(process_.interrupts, 0);
  EXPECT_EQ(connection_->sent.size(), 1U);
}

TEST_F(RelayTest, ATaskBehindTheSlotsCanBeCancelledAndRetracted) {
  welcome();
  const std::uint32_t slots = PrivateSegment::kSlots;
  for (std::uint64_t i = 0; i < slots + 2; ++i) {
    task(i, {});
  }
  host(LinkMessage::kCancel, slots);
  host(LinkMessage::kRetract, slots + 1);
  EXPECT_THAT(sent_types(), ElementsAre(type_of(LinkMessage::kResult), type_of(LinkMessage::kRetracted)));
  std::uint32_t ran = 0;
  while (evaluator_->claim()) {
    evaluator_->complete({});
    ASSERT_TRUE(ring());
    ++ran;
  }
  EXPECT_EQ(ran, slots);
}

TEST_F(RelayTest, ARetractedTaskIsGivenBackOnceOnly) {
  welcome();
  task(1, pattern(2 * kMb, 0));
  host(LinkMessage::kRetract, 1);
  host(LinkMessage::kRetract, 1);
  EXPECT_THAT(sent_types(), ElementsAre(type_of(LinkMessage::kRetracted)));
  EXPECT_EQ(connection_->sent[0].id, 1U);
  EXPECT_FALSE(evaluator_->claim());
  EXPECT_EQ(host_bytes(), 0U);
}

TEST_F(RelayTest, ATaskThatHasBegunIsNotRetracted) {
  welcome();
  task(1, {});
  ASSERT_TRUE(evaluator_->claim());
  host(LinkMessage::kRetract, 1);
  EXPECT_THAT(connection_->sent, IsEmpty());
  evaluator_->complete({});
  ASSERT_TRUE(ring());
  EXPECT_THAT(sent_types(), ElementsAre(type_of(LinkMessage::kResult)));
}

// --- Ranges ------------------------------------------------------------------------------------------------

constexpr std::uint8_t kOne[] = {2, 7, 8}, kTwo[] = {1, 9};

TEST_F(RelayTest, ARangeIsAnsweredByOneReport) {
  welcome();
  range(5, 2);
  ASSERT_TRUE(evaluator_->claim());
  EXPECT_EQ(evaluator_->slot().kind, TaskKind::kMapRange);
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_element(kOne);
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_element(kTwo);
  evaluator_->slot().elapsed_ns = 1234;
  evaluator_->finish();
  ASSERT_TRUE(ring());
  ASSERT_EQ(connection_->sent.size(), 1U);
  const dispatch::LinkRange said = report(0);
  EXPECT_EQ(said.count, 2U);
  EXPECT_EQ(said.taken, 0U);
  EXPECT_EQ(said.final, 1);
  EXPECT_EQ(said.element_ns, 1234U);
  EXPECT_TRUE(same(connection_->sent[0].body, std::as_bytes(std::span<const std::uint8_t>({2, 7, 8, 1, 9}))));
}

TEST_F(RelayTest, ALargeOutcomeOfARangeGoesFromWhereItLies) {
  welcome();
  range(5, 3);
  ASSERT_TRUE(evaluator_->claim());
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_element(kTwo);
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_in_area(100'000);
  evaluator_->finish();
  ASSERT_TRUE(ring());
  ASSERT_THAT(sent_types(), ElementsAre(type_of(LinkMessage::kElement), type_of(LinkMessage::kRange)));
  dispatch::LinkElement element;
  std::memcpy(&element, connection_->sent[0].head.data(), sizeof(element));
  EXPECT_EQ(element.position, 1U);
  EXPECT_EQ(connection_->sent[0].body.size(), 100'000U);
  EXPECT_EQ(report(1).count, 2U);
  EXPECT_EQ(report(1).taken, 4U) << "what was not begun is given back";
  EXPECT_TRUE(
      same(connection_->sent[1].body, std::as_bytes(std::span<const std::uint8_t>({1, 9, dispatch::kEntrySkip}))));
  connection_->sent_out(connection_->sent[0].ticket);
  evaluator_->drain();
  EXPECT_EQ(evaluator_->bytes_in_use(), 0U);
}

TEST_F(RelayTest, OfARangeThatRunsTheRestIsGivenBack) {
  welcome();
  range(5, 4);
  ASSERT_TRUE(evaluator_->claim());
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_element(kOne);
  ASSERT_TRUE(evaluator_->begin_element());
  host(LinkMessage::kRetract, 5);
  ASSERT_EQ(connection_->sent.size(), 1U);
  EXPECT_EQ(report(0).count, 1U);
  EXPECT_EQ(report(0).taken, 12U);
  EXPECT_EQ(report(0).final, 0);
  evaluator_->finish_element(kTwo);
  EXPECT_FALSE(evaluator_->begin_element());
  evaluator_->finish();
  ASSERT_TRUE(ring());
  EXPECT_EQ(report(1).count, 1U) << "only what is new";
  EXPECT_EQ(report(1).taken, 12U);
  EXPECT_TRUE(same(connection_->sent[1].body, std::as_bytes(std::span<const std::uint8_t>({1, 9}))));
}

TEST_F(RelayTest, OneElementOfARangeIsCancelled) {
  welcome();
  range(5, 4);
  const dispatch::LinkCancel last{3}, second{1};
  host(LinkMessage::kCancel, 5, bytes_of(last));
  EXPECT_THAT(connection_->sent, IsEmpty()) << "it has not begun";
  ASSERT_TRUE(evaluator_->claim());
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_element(kOne);
  ASSERT_TRUE(evaluator_->begin_element());
  EXPECT_FALSE(evaluator_->element_cancelled());
  host(LinkMessage::kCancel, 5, bytes_of(second));
  EXPECT_TRUE(evaluator_->element_cancelled());
  EXPECT_EQ(process_.interrupts, 1);
  EXPECT_EQ(report(0).taken, 12U);
  EXPECT_EQ(report(0).count, 1U);
}

TEST_F(RelayTest, ScribbledEntriesAreNotBelieved) {
  welcome();
  range(5, 2);
  ASSERT_TRUE(evaluator_->claim());
  ASSERT_TRUE(evaluator_->begin_element());
  evaluator_->finish_element(kOne);
  ASSERT_TRUE(evaluator_->begin_element());
  const std::array<std::uint8_t, dispatch::kEntryAreaBytes> wild{dispatch::kEntryArea, 0, 0xFF, 0xFF, 0xFF};
  evaluator_->finish_element(wild);
  evaluator_->finish();
  ASSERT_TRUE(ring());
  ASSERT_EQ(connection_->sent.size(), 1U);
  EXPECT_EQ(report(0).count, 1U);
  EXPECT_EQ(report(0).damaged, 1);
}

TEST_F(RelayTest, ARangeThatIsNoneEndsTheConnection) {
  welcome();
  range(5, 0);
  EXPECT_THAT(connection_->close_reason, HasSubstr("damaged task"));
}

TEST_F(RelayTest, AnElementThatRunsIsInterruptedWhenTheHostHasGone) {
  welcome();
  range(5, 3);
  ASSERT_TRUE(evaluator_->claim());
  ASSERT_TRUE(evaluator_->begin_element());
  connection_->end("connection reset by peer");
  EXPECT_EQ(process_.interrupts, 1);
  EXPECT_TRUE(evaluator_->element_cancelled());
  evaluator_->finish_element(kOne);
  EXPECT_FALSE(evaluator_->begin_element());
}

TEST_F(RelayTest, KillEndsTheProcessAlsoBeforeTheWelcome) {
  host(LinkMessage::kKill, 0);
  EXPECT_TRUE(process_.killed);
}

TEST_F(RelayTest, StopLetsTheEvaluatorLeaveAndSaysWhetherForGood) {
  welcome();
  LinkStop stop;
  host(LinkMessage::kStop, 0, bytes_of(stop));
  EXPECT_TRUE(evaluator_->port().must_leave());
  auto& flags = segment_->segment().queue(nullptr).control->flags;
  EXPECT_EQ(flags.load() & runtime::kControlFinal, 0U);
  stop.final = 1;
  host(LinkMessage::kStop, 0, bytes_of(stop));
  EXPECT_NE(flags.load() & runtime::kControlFinal, 0U);
}

// --- Leaving -----------------------------------------------------------------------------------------------

TEST_F(RelayTest, ALeavingEvaluatorSendsItsResultsAndGivesBackTheRest) {
  welcome();
  for (std::uint64_t i = 1; i <= 3; ++i) {
    task(i, {});
  }
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete(pattern(2 * kMb, 0));
  evaluator_->leave(3);
  ASSERT_TRUE(ring());
  EXPECT_THAT(sent_types(), ElementsAre(type_of(LinkMessage::kResult), type_of(LinkMessage::kRetracted),
                                        type_of(LinkMessage::kRetracted), type_of(LinkMessage::kLeaving)));
  LinkLeaving leaving;
  std::memcpy(&leaving, connection_->sent[3].head.data(), sizeof(leaving));
  EXPECT_EQ(leaving.reason, 3U);
  EXPECT_FALSE(connection_->close_reason.empty());
  EXPECT_FALSE(evaluator_->claim());
  connection_->end("closed");
  EXPECT_EQ(process_.ends, 1);
  EXPECT_EQ(process_.how, RelayEnd::kLeft);
  EXPECT_EQ(process_.interrupts, 0);
}

TEST_F(RelayTest, ATaskThatMeetsALeavingEvaluatorIsNotRun) {
  welcome();
  evaluator_->leave(1);
  ASSERT_TRUE(ring());
  task(9, {});
  EXPECT_FALSE(evaluator_->claim());
}

// --- The connection ends -----------------------------------------------------------------------------------

TEST_F(RelayTest, AnEndBeforeTheWelcome) {
  connection_->end("the host refused");
  EXPECT_EQ(process_.reason, "the host refused");
  EXPECT_EQ(process_.how, RelayEnd::kLost);
  EXPECT_FALSE(process_.welcome);
}

TEST_F(RelayTest, AnEndWhileIdleLetsTheEvaluatorLeave) {
  welcome();
  connection_->end("reset");
  EXPECT_TRUE(evaluator_->port().must_leave());
  EXPECT_EQ(process_.interrupts, 0);
  evaluator_->leave(0);
  ASSERT_TRUE(ring());
  EXPECT_THAT(connection_->sent, IsEmpty());
  EXPECT_EQ(process_.left, 1);
  EXPECT_EQ(process_.ends, 1);
}

TEST_F(RelayTest, AnEndInterruptsTheTaskInHand) {
  welcome();
  task(1, {});
  task(2, {});
  ASSERT_TRUE(evaluator_->claim());
  connection_->end("reset");
  EXPECT_EQ(process_.interrupts, 1);
  EXPECT_TRUE(evaluator_->cancelled());
  EXPECT_TRUE(evaluator_->port().must_leave());
  evaluator_->complete(pattern(2 * kMb, 0), ResultStatus::kCancelled);
  ASSERT_TRUE(ring());
  evaluator_->drain();
  EXPECT_EQ(evaluator_->bytes_in_use(), 0U) << "nobody wants the result any more";
}

TEST_F(FinishingRelayTest, AnEndLetsTheTaskInHandFinish) {
  welcome();
  task(1, {});
  ASSERT_TRUE(evaluator_->claim());
  connection_->end("reset");
  EXPECT_EQ(process_.interrupts, 0);
  EXPECT_FALSE(evaluator_->cancelled());
  EXPECT_TRUE(evaluator_->port().must_leave());
}

TEST_F(RelayTest, AnEndInTheMiddleOfAnArgumentGivesItsRoomBack) {
  welcome();
  LinkTask message;
  connection_->peer_breaks_off(type_of(LinkMessage::kTask), 1, bytes_of(message), 4 * kMb);
  EXPECT_EQ(host_bytes(), 0U);
  EXPECT_FALSE(evaluator_->claim());
  EXPECT_EQ(process_.reason, "connection reset by peer");
}

TEST_F(RelayTest, AnEndBeforeAResultIsSentGivesItsBlockBack) {
  welcome();
  task(1, {});
  ASSERT_TRUE(evaluator_->claim());
  evaluator_->complete(pattern(2 * kMb, 0));
  ASSERT_TRUE(ring());
  connection_->end("reset");
  evaluator_->drain();
  EXPECT_EQ(evaluator_->bytes_in_use(), 0U);
}

}  // namespace
}  // namespace setsuna::embed::test
