// The relay of a remote daemon: what the host says over a connection becomes work in the private segment, and what the
// evaluator completes there becomes messages. One a connection, on the thread of the connection's reactor.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "dispatch/link_wire.hpp"
#include "net/connection.hpp"
#include "rbridge/embed/direct_exit.hpp"
#include "rbridge/embed/private_segment.hpp"

namespace setsuna::embed {

enum class RelayEnd : std::uint8_t {
  kLost,      // the host, or the way to it, has gone
  kLeft,      // the evaluator had left
  kFault,     // the host did what it should not
  kSentAway,  // without a welcome, by a host after which none will come
};

// What the relay does to the process that it is in.
class RelayProcess {
 public:
  // The host's welcome: R may attach its evaluator. `hooks`: serialisation hooks, encoded; valid during the call.
  virtual void on_welcome(const dispatch::LinkWelcome& welcome, std::span<const std::byte> hooks) = 0;
  // The task in hand was asked to cancel.
  virtual void interrupt_task() = 0;
  // SIGKILL to what the task has started and to the process.
  virtual void end_now() = 0;
  // The evaluator will do nothing more in this segment. Once, perhaps after on_end().
  virtual void on_left() = 0;
  // The connection has ended. Once.
  virtual void on_end(const std::string& reason, RelayEnd how) = 0;

 protected:
  ~RelayProcess() = default;
};

struct RelayOptions {
  bool interrupt_at_end = true;  // the task in hand is interrupted when the connection ends
  // An encoded task that raises an error: instead of one whose bytes find no room here. At most kInlineArgBytes.
  std::vector<std::uint8_t> no_room_task;
};

class Relay final : public net::ConnectionSink {
 public:
  // `exit`, if there is one, outlives the relay.
  Relay(PrivateSegment& segment, RelayProcess& process, RelayOptions options, DirectExit* exit = nullptr);
  virtual ~Relay() = default;

  // Before its first event.
  void set_connection(net::Connection* connection) { connection_ = connection; }
  // The segment's doorbell rings: results are done, or the evaluator leaves.
  void on_doorbell();
  // This side gives up the connection.
  void end(const std::string& reason);

  // net::ConnectionSink
  void on_open() override {}
  std::byte* on_begin(const net::MessageHeader& header, std::span<const std::byte> head, std::string* reject) override;
  void on_message(const net::MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override;
  void on_torn(const net::MessageHeader& header) override;
  void on_sent(std::uint64_t ticket) override;
  void on_closed(const std::string& reason) override;

 private:
  struct Constant {
    Room room;  // none: there was no memory for it
    std::uint64_t bytes = 0;
  };
  // A task that came: in a slot, or waiting for one.
  struct Job {
    std::uint64_t id = 0;
    std::uint32_t generation = 0;  // in its slot
    std::uint64_t published_ns = 0;
    dispatch::LinkTask task;
    std::uint64_t arg_bytes = 0;
    Room room;                             // of its arguments, or:
    std::vector<std::uint8_t> inline_arg;  // until it is in a slot
    // Of a range:
    std::uint64_t taken = 0;  // elements that will not begin
    std::uint32_t told = 0;   // entries that the host was sent
    std::uint32_t at = 0;     // their bytes
    bool damaged = false;     // what follows cannot be read

    bool is_range() const { return task.kind == runtime::TaskKind::kMapRange; }
    std::uint32_t count() const { return static_cast<std::uint32_t>(arg_bytes / sizeof(std::uint32_t)); }
    std::uint32_t weight() const { return is_range() ? dispatch::kRangeWeight : 1; }
  };

  void fail(const std::string& what);
  void take_welcome(std::span<const std::byte> head, std::span<const std::byte> hooks);
  void take_constant(std::uint64_t key, std::span<const std::byte> body);
  void take_task(std::uint64_t id, std::span<const std::byte> head, std::span<const std::byte> body);
  void take_order(const net::MessageHeader& header, std::span<const std::byte> head);
  void forget(std::uint64_t key);
  void cancel(std::uint64_t id);
  void cancel_element(std::uint64_t id, std::uint32_t position);
  void retract(std::uint64_t id);

  void receive_arguments(Job& job, std::span<const std::byte> body);
  void replace_by_error(Job& job);
  void publish_waiting();
  void publish(Job job, std::uint32_t slot);
  bool take_back(std::uint64_t id);
  void collect();
  void harvest();
  void offer_exit(const Job& job, std::uint32_t slot);
  void send_result(const Job& job, std::uint32_t slot, const runtime::SlotWord& word);

  // relay_ranges.cpp
  void report_range(Job& job, std::uint32_t slot, bool final);
  std::uint32_t copy_entries(Job& job, std::uint32_t slot, std::uint32_t count, std::byte* to);
  void send_element(const Job& job, runtime::ResultStatus status, std::uint64_t offset, std::uint64_t bytes);
  void interrupt_range(Job& job, std::uint32_t slot);
  std::uint32_t microseconds_taken(std::uint64_t published_ns);
  void send_leaving();
  void interrupt_all();

  PrivateSegment& segment_;
  RelayProcess& process_;
  const RelayOptions options_;
  DirectExit* const exit_;
  net::Connection* connection_ = nullptr;  // null once it has ended
  std::uint64_t last_done_ns_ = 0;
  bool welcomed_ = false;
  bool leaving_ = false;  // the evaluator has left
  bool fault_ = false;
  bool final_ = false;  // the host was the last one
  Room incoming_;       // of the data message under way
  std::unordered_map<std::uint64_t, Constant> constants_;
  std::vector<Job> jobs_;                                   // by slot
  std::unordered_map<std::uint64_t, std::uint32_t> slots_;  // by id: the slots in use
  std::uint32_t weight_ = 0;                                // of what is in them
  std::deque<Job> waiting_;
};

}  // namespace setsuna::embed
