// Remote daemons that exist only in memory: each with two lanes to it and its answers back, where every message moves only
// when the test says so. They do with messages what a relay does, and check what they are told.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <vector>

#include "dispatch/link_wire.hpp"
#include "fake_world.hpp"

namespace setsuna::dispatch {

class FakeLinks final : public LinkPort {
 public:
  explicit FakeLinks(FakeWorld& world) : world_(world) {}

  enum class Kind { kTask, kConstant, kForget, kCancel, kCancelElement, kRetract };
  struct Message {
    Kind kind;
    std::uint64_t id;
    SlotContent content;                // kTask
    std::vector<std::uint8_t> bytes;    // of an argument outside the data area, as it was
    std::optional<std::uint64_t> area;  // the block that must stay
    std::uint32_t position = 0;         // kCancelElement
    std::uint64_t taken = 0;            // of a range: elements that will not begin, and those that have
    bool told = false;                  // the pool knows that it has left
    StreamState stream = {};            // of a task that has one

    bool is_range() const { return kind == Kind::kTask && content.kind == TaskKind::kMapRange; }
    std::uint32_t count() const { return static_cast<std::uint32_t>(bytes.size() / 4); }
    std::uint32_t element(std::uint32_t position_in) const {
      std::uint32_t number = 0;
      std::memcpy(&number, bytes.data() + 4 * position_in, 4);
      return number;
    }
  };
  struct Answer {
    LinkMessage type;
    std::uint64_t id;
    std::uint32_t position = 0;  // kElement
    RangeReport report = {};     // kRange
    std::vector<std::uint8_t> entries = {};
  };
  // What it does with the range that it runs.
  struct Running {
    std::uint32_t progress = 0;
    std::uint64_t given_back = 0;
    std::uint32_t count = 0;  // entries since the last report
    std::vector<std::uint8_t> entries;
    bool begun = false;  // the element behind those that are done
  };
  struct Link {
    bool up = false, running = false, interrupted = false, killed = false, stopped = false, left = false;
    std::deque<Message> outbox;         // data that has not left the host
    std::deque<Message> untold;         // has left; the pool has not been told
    std::deque<Message> data, control;  // on their way
    std::deque<Message> held;           // tasks it has; the first may run
    std::deque<Answer> answers;         // on their way back
    std::set<std::uint64_t> constants;
    Running range;
    std::vector<Message> begun;      // in order
    std::deque<Message> unanswered;  // in the order of sending, as the pool knows it
    std::set<std::uint64_t> begun_ids;
    std::size_t replay_bytes = 0;  // of the log when it joined: what it must run first
    std::size_t constants_received = 0;
  };

  Link& operator[](std::uint32_t link) {
    if (links_.size() <= link) {
      links_.resize(link + 1);
    }
    return links_[link];
  }
  std::uint32_t size() const { return static_cast<std::uint32_t>(links_.size()); }

  std::uint32_t join(Pool& pool, std::int32_t pid = 0) {
    const std::uint32_t link = pool.add_link(pid);
    if (link != kNoLink) {
      EXPECT_FALSE((*this)[link].up);
      (*this)[link] = Link();
      (*this)[link].up = true;
      (*this)[link].replay_bytes = pool.everywhere_log().size();
    }
    return link;
  }

  // --- what happens on the way ---
  // The oldest data message leaves the host.
  bool transmit(std::uint32_t link) {
    Link& it = links_[link];
    if (it.outbox.empty()) {
      return false;
    }
    const Message& message = it.outbox.front();
    it.data.push_back(message);
    if (message.kind <= Kind::kConstant && !message.told) {
      it.untold.push_back(message);
    }
    it.outbox.pop_front();
    return true;
  }
  // The pool is told of a task that it has left, while a copy of it waits. False: there is none.
  bool copy(Pool& pool, std::uint32_t link) {
    Link& it = links_[link];
    const auto task = std::find_if(it.outbox.begin(), it.outbox.end(), [](const Message& message) {
      return message.kind == Kind::kTask && !message.told && !message.area;
    });
    if (task == it.outbox.end()) {
      return false;
    }
    expect_intact(*task);
    task->told = true;
    pool.on_link_sent(link, task->id);
    return true;
  }
  // The pool is told so; up to now the bytes must be what they were.
  bool tell_sent(Pool& pool, std::uint32_t link) {
    Link& it = links_[link];
    if (it.untold.empty()) {
      return false;
    }
    const Message message = it.untold.front();
    it.untold.pop_front();
    expect_intact(message);
    message.kind == Kind::kTask ? pool.on_link_sent(link, message.id) : pool.on_link_constant_sent(link, message.id);
    return true;
  }
  bool receive_data(std::uint32_t link) {
    Link& it = links_[link];
    if (it.data.empty()) {
      return false;
    }
    const Message message = it.data.front();
    it.data.pop_front();
    if (message.kind == Kind::kTask) {
      EXPECT_TRUE(message.content.const_key == 0 || it.constants.contains(message.content.const_key))
          << "a task whose constant was not sent";
      it.held.push_back(message);
    } else if (message.kind == Kind::kConstant) {
      ++it.constants_received;
      EXPECT_TRUE(it.constants.insert(message.id).second) << "a constant that it has was sent again";
      EXPECT_LE(it.constants.size(), 64U);
    } else if (message.kind != Kind::kForget) {
      take_order(it, message);
    } else {
      EXPECT_EQ(it.constants.erase(message.id), 1U) << "told to forget what it does not have";
      for (const Message& job : it.held) {
        EXPECT_NE(job.content.const_key, message.id) << "told to forget what it needs";
      }
    }
    return true;
  }
  bool receive_control(std::uint32_t link) {
    Link& it = links_[link];
    if (it.control.empty()) {
      return false;
    }
    const Message message = it.control.front();
    it.control.pop_front();
    take_order(it, message);
    return true;
  }
  void take_order(Link& it, const Message& message) {
    for (std::size_t i = 0; i < it.held.size(); ++i) {
      if (it.held[i].id != message.id) {
        continue;
      }
      if (it.held[i].is_range() && about_elements(it, i, message)) {
        break;
      }
      if (i == 0 && it.running) {
        it.interrupted = it.interrupted || message.kind == Kind::kCancel;
      } else {
        it.held.erase(it.held.begin() + static_cast<std::ptrdiff_t>(i));
        it.answers.push_back(
            {message.kind == Kind::kCancel ? LinkMessage::kResult : LinkMessage::kRetracted, message.id});
      }
      break;
    }
  }
  const Message* begin(std::uint32_t link) {
    Link& it = links_[link];
    if (!it.up || it.running || it.left || it.killed || it.held.empty()) {
      return nullptr;
    }
    it.running = true;
    it.range = Running();
    it.begun.push_back(it.held.front());
    it.begun_ids.insert(it.held.front().id);
    return &it.begun.back();
  }
  bool complete(std::uint32_t link) {
    Link& it = links_[link];
    if (!it.running || it.killed || in_range(link)) {
      return false;
    }
    it.answers.push_back({LinkMessage::kResult, it.held.front().id});
    it.held.pop_front();
    it.running = it.interrupted = false;
    return true;
  }
  // --- what it does with a range ---
  bool in_range(std::uint32_t link) const {
    const Link& it = links_[link];
    return it.running && !it.killed && it.held.front().is_range();
  }
  const Message& running(std::uint32_t link) const { return links_[link].held.front(); }
  bool range_over(std::uint32_t link) const {
    return !links_[link].range.begun && links_[link].range.progress == running(link).count();
  }
  // Begins the next element. False: it was skipped.
  bool begin_element(std::uint32_t link) {
    Link& it = links_[link];
    const std::uint64_t bit = std::uint64_t{1} << it.range.progress;
    if ((it.held.front().taken & bit) != 0) {
      add_entry(it, {kEntrySkip});
      return false;
    }
    it.held.front().taken |= bit;
    return it.range.begun = true;
  }
  void finish_element(std::uint32_t link, bool large) {
    Link& it = links_[link];
    if (large) {
      it.answers.push_back({LinkMessage::kElement, it.held.front().id, it.range.progress});
      add_entry(it, {kEntrySkip});
    } else {
      std::vector<std::uint8_t> entry(5, 4);
      const std::uint32_t number = it.held.front().element(it.range.progress);
      std::memcpy(entry.data() + 1, &number, 4);
      add_entry(it, entry);
    }
    it.range.begun = it.interrupted = false;
  }
  void finish_range(std::uint32_t link, std::uint32_t element_ns, bool damaged) {
    Link& it = links_[link];
    report(it, element_ns, true, damaged);
    it.held.pop_front();
    it.running = it.interrupted = false;
  }

  // It ends of its own will, between two tasks.
  bool leave(std::uint32_t link) {
    Link& it = links_[link];
    if (!it.up || it.running || it.left || it.killed) {
      return false;
    }
    for (const Message& message : it.held) {
      it.answers.push_back({LinkMessage::kRetracted, message.id});
    }
    it.held.clear();
    it.left = true;
    it.answers.push_back({LinkMessage::kLeaving, 0});
    return true;
  }
  // The oldest answer arrives; a result of more than a slot's worth in the block at `offset`.
  std::optional<Answer> tell_answer(Pool& pool, std::uint32_t link, std::uint64_t bytes = 8, std::uint64_t offset = 0) {
    Link& it = links_[link];
    if (it.answers.empty()) {
      return std::nullopt;
    }
    const Answer answer = it.answers.front();
    it.answers.pop_front();
    if (answer.type != LinkMessage::kElement && (answer.type != LinkMessage::kRange || answer.report.final)) {
      std::erase_if(it.unanswered, [&](const Message& message) { return message.id == answer.id; });
    }
    switch (answer.type) {
      case LinkMessage::kElement:
        pool.on_link_element(link, answer.id, answer.position, result_of(bytes, offset));
        break;
      case LinkMessage::kRange: {
        RangeReport report = answer.report;
        report.entries = answer.entries.data();
        report.bytes = static_cast<std::uint32_t>(answer.entries.size());
        pool.on_link_range(link, answer.id, report);
        break;
      }
      case LinkMessage::kResult: tell_result(pool, link, answer.id, bytes, offset); break;
      case LinkMessage::kRetracted: pool.on_link_retracted(link, answer.id); break;
      default: pool.on_link_leaving(link); break;
    }
    return answer;
  }
  SlotResult result_of(std::uint64_t bytes, std::uint64_t offset) {
    static const std::uint8_t zeros[runtime::kInlineResultBytes] = {};
    SlotResult result;
    result.bytes = bytes;
    result.inline_bytes = bytes <= runtime::kInlineResultBytes ? zeros : nullptr;
    result.offset = offset;
    if (result.inline_bytes == nullptr) {
      world_.allocate(offset);
    }
    return result;
  }
  void tell_result(Pool& pool, std::uint32_t link, std::uint64_t id, std::uint64_t bytes, std::uint64_t offset) {
    pool.on_link_result(link, id, result_of(bytes, offset));
  }
  // As the host's reactor does, when links are hungry.
  void feed(Pool& pool) {
    pool.feed_links();
    for (std::uint32_t link = 0; link < links_.size() && world_.anything_ready(); ++link) {
      const Link& it = links_[link];
      const bool takes = it.up && !it.killed && pool.links()[link].state == LinkInfo::State::kOnline;
      EXPECT_TRUE(!takes || !it.unanswered.empty()) << "link " << link << " idles beside a task that waits";
    }
  }
  void die(Pool& pool, std::uint32_t link, std::int32_t pid = 0) {
    Link& it = links_[link];
    for (const std::deque<Message>* queue : {&it.outbox, &it.untold}) {
      for (const Message& message : *queue) {
        expect_intact(message);
      }
    }
    it = Link();
    pool.on_link_dead(link, DeathNote{pid, -1, false});
  }
  // All that is on its way arrives, and the pool is told of what was sent.
  void settle(Pool& pool, std::uint32_t link) {
    while (transmit(link) || tell_sent(pool, link) || receive_data(link) || receive_control(link)) {
    }
  }
  // Then it runs the first of what it has, to the end. False: it has nothing.
  bool run_one(Pool& pool, std::uint32_t link) {
    settle(pool, link);
    const bool any = begin(link) != nullptr;
    if (in_range(link)) {
      run_range(link);
    } else if (any) {
      complete(link);
    }
    while (tell_answer(pool, link)) {
    }
    settle(pool, link);
    return any;
  }

  // To its end.
  void run_range(std::uint32_t link) {
    while (!range_over(link)) {
      if (links_[link].range.begun || begin_element(link)) {
        finish_element(link, false);
      }
    }
    finish_range(link, 1000, false);
  }

  // --- LinkPort ---
  void send_task(std::uint32_t link, std::uint64_t id, const SlotContent& content) override {
    Message message{Kind::kTask, id, content, {}, {}};
    if (content.inline_arg != nullptr) {
      message.bytes.assign(content.inline_arg, content.inline_arg + content.arg_bytes);
    } else {
      message.area = content.arg_offset;
    }
    if (content.stream != nullptr) {
      std::copy_n(content.stream, message.stream.size(), message.stream.begin());
    }
    expect_intact(message);
    up(link).outbox.push_back(message);
    up(link).unanswered.push_back(message);
  }
  void send_constant(std::uint32_t link, std::uint64_t key, std::uint64_t offset, std::uint64_t) override {
    Message message{Kind::kConstant, key, {}, {}, offset};
    expect_intact(message);
    up(link).outbox.push_back(message);
  }
  void forget_constant(std::uint32_t link, std::uint64_t key) override {
    up(link).outbox.push_back({Kind::kForget, key, {}, {}, {}});
  }
  void cancel(std::uint32_t link, std::uint64_t id, bool behind) override {
    order(link, {Kind::kCancel, id, {}, {}, {}}, behind);
  }
  void cancel_element(std::uint32_t link, std::uint64_t id, std::uint32_t position, bool behind) override {
    order(link, {Kind::kCancelElement, id, {}, {}, {}, position}, behind);
  }
  void retract(std::uint32_t link, std::uint64_t id, bool behind) override {
    order(link, {Kind::kRetract, id, {}, {}, {}}, behind);
  }
  void kill(std::uint32_t link) override { up(link).killed = true; }
  void stop(std::uint32_t link) override { up(link).stopped = true; }

 private:
  static void add_entry(Link& it, const std::vector<std::uint8_t>& entry) {
    it.range.entries.insert(it.range.entries.end(), entry.begin(), entry.end());
    ++it.range.count;
    ++it.range.progress;
  }
  static void report(Link& it, std::uint32_t element_ns, bool final, bool damaged) {
    Message& message = it.held.front();
    const std::uint64_t all = message.count() == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << message.count()) - 1;
    it.range.given_back |= all & ~message.taken;
    message.taken = all;
    Answer answer{LinkMessage::kRange, message.id};
    answer.report.taken = it.range.given_back;
    answer.report.count = damaged ? 0 : it.range.count;
    answer.report.element_ns = element_ns;
    answer.report.final = final;
    answer.report.damaged = damaged;
    answer.entries.swap(it.range.entries);
    it.range.count = 0;
    it.answers.push_back(answer);
  }
  // True: that was all that it asks for.
  bool about_elements(Link& it, std::size_t place, const Message& message) {
    const bool runs = place == 0 && it.running;
    Message& range = it.held[place];
    if (message.kind == Kind::kRetract && runs) {
      report(it, 0, false, false);
      return true;
    }
    if (message.kind != Kind::kCancelElement) {
      EXPECT_EQ(message.kind, Kind::kRetract) << "a range is cancelled by element";
      return false;
    }
    const std::uint64_t bit = std::uint64_t{1} << message.position;
    if ((range.taken & bit) == 0) {
      range.taken |= bit;
    } else if (runs) {
      it.interrupted = it.range.begun && it.range.progress == message.position;
      report(it, 0, false, false);
    }
    return true;
  }
  void order(std::uint32_t link, const Message& message, bool behind) {
    if (behind) {
      up(link).outbox.push_back(message);
    } else {
      expect_sent(link, message.id);
      up(link).control.push_back(message);
    }
  }
  // A control message overtakes data that has not left.
  void expect_sent(std::uint32_t link, std::uint64_t id) {
    for (const std::deque<Message>* queue : {&up(link).outbox, &up(link).untold}) {
      for (const Message& message : *queue) {
        EXPECT_TRUE(message.kind != Kind::kTask || message.id != id) << "about a task that may not be there yet";
      }
    }
  }
  Link& up(std::uint32_t link) {
    EXPECT_TRUE((*this)[link].up) << "a message for a link that is gone";
    return links_[link];
  }
  void expect_intact(const Message& message) {
    if (message.told) {
      return;
    }
    if (message.area) {
      EXPECT_TRUE(world_.allocated(*message.area)) << "a block was released before it was sent";
    } else if (message.kind == Kind::kTask) {
      EXPECT_EQ(std::memcmp(message.content.inline_arg, message.bytes.data(), message.bytes.size()), 0)
          << "arguments changed before they were sent";
    }
  }

  FakeWorld& world_;
  std::deque<Link> links_;
};

}  // namespace setsuna::dispatch
