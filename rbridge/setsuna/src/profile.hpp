// A compute profile in the host: its segment, its pool, and the processes behind it. All methods but the constructor are
// called under the host's mutex. No R in here.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "dispatch/latency_meter.hpp"
#include "dispatch/pace.hpp"
#include "dispatch/pool.hpp"
#include "knobs.hpp"
#include "net/reactor.hpp"
#include "net_door.hpp"
#include "rbridge/embed/zygote_client.hpp"
#include "remote_links.hpp"
#include "runtime/eventfd.hpp"
#include "runtime/futex.hpp"
#include "runtime/host_page.hpp"
#include "runtime/host_port.hpp"
#include "runtime/segment.hpp"
#include "seats.hpp"
#include "tracing.hpp"

namespace setsuna::host {

struct ProfileConfig {
  std::string name;
  dispatch::PoolConfig pool;
  std::string zygote_key;  // which fork server makes its daemons
  std::vector<std::string> preload;
  runtime::UniqueFd config_fd;  // for daemons, see .host_config()
  bool output = false;
  std::int32_t autoexit = 0;  // as in embed::ForkRequest
  Knobs knobs;
  std::vector<std::string> urls;        // at which daemons may join
  bool shared_url = true;               // one URL for any number of them; else one daemon at each
  std::vector<std::uint8_t> hooks;      // of serialisation, encoded, for daemons on other machines
  dispatch::StreamState base_stream{};  // daemon k has stream k of it
  bool trace = false;
  std::string trace_path;  // empty: in memory
};

// What a daemon is started with, where that differs from its profile: launch_local(...).
struct DaemonStart {
  runtime::UniqueFd config_fd;
  bool output = false;
  std::int32_t autoexit = 0;
};

// The process behind a daemon index. Two witnesses of its death: the fork server's report (which has the status) and the
// pidfd (after which there are no late stores).
struct DaemonProcess {
  std::uint32_t epoch = 0;
  runtime::UniqueFd pidfd;
  net::Token watch;
  bool watched = false;
  bool gone = false;                         // the pidfd said so
  bool reported = false;                     // the fork server said so
  bool external = false;                     // not a child of our fork server
  std::string url;                           // shown by status()
  const void* fork_server = nullptr;         // that was asked for it
  std::shared_ptr<const DaemonStart> start;  // null: as the profile says. Its replacements start with the same
  dispatch::DeathNote note;
};

// Where processes of this machine may join: they get the segment itself.
struct LocalListener {
  net::Url url;
  std::uint32_t seat = 0;
  runtime::UniqueFd fd;  // until the reactor adopts it
  int adopted = -1;
};

struct SpawnRequest {
  std::uint32_t index;
  std::uint32_t epoch;
};

class Profile final : public dispatch::QueuePort, public dispatch::ArenaPort, public dispatch::ProcessPort {
 public:
  // Throws std::runtime_error with a message for users.
  Profile(std::uint32_t id, ProfileConfig config, runtime::HostPageMap& host_page);
  ~Profile() override = default;

  std::uint32_t id() const { return id_; }
  const ProfileConfig& config() const { return config_; }
  dispatch::Pool& pool() { return *pool_; }
  runtime::Segment& segment() { return segment_; }
  runtime::SegmentArena& arena() { return arena_; }
  runtime::EventFd& doorbell() { return doorbell_; }
  runtime::HostPort<std::atomic, runtime::SharedFutex>& port() { return port_; }
  // Control::encoding: how its daemons are to encode their results.
  std::uint32_t encoding() const noexcept;
  DaemonProcess& process(std::uint32_t index);
  std::size_t process_count() const { return processes_.size(); }
  // From now on the times from submit to harvest are kept.
  void measure_latency();
  // Null: they are not.
  const runtime::Histogram* latency() const { return meter_ ? &meter_->histogram() : nullptr; }

  // A process that dialled in becomes a daemon. kNoSlot: no place is left.
  std::uint32_t admit_external(runtime::UniqueFd pidfd, std::int32_t pid, std::uint32_t* epoch);
  // Notices daemons that came online, and those from outside that have left. True if any did.
  bool sync_online();
  // How the gate stands while the R thread does not wait: closed, or, while promises wait, completions tell the reactor.
  void rest_gate();
  // Harvest, refill, and who came online. Returns the number of tasks that resolved.
  std::uint32_t progress();
  // Tasks that daemons evaluate now.
  std::uint64_t executing() const;
  std::vector<SpawnRequest> take_spawns();
  bool spawns_waiting() const { return !spawns_.empty(); }
  // Both witnesses (or the only one there can be) have spoken: tell the pool.
  void note_death_if_certain(std::uint32_t index);
  // When something is to be done that nothing else gives rise to; 0: never.
  std::uint64_t next_deadline_ns();
  void on_time(std::uint64_t now_ns);
  // Null: it is not traced.
  Tracing* tracing() { return tracing_.get(); }
  // Nothing and nobody needs this object any more.
  bool finished() const;
  void kill_busy_daemons();
  // A daemon that sits at no URL yet gets the lowest that is free.
  void seat_daemon(std::uint32_t index);
  // A connection has ended that had a seat; `link`: its number, if it had come that far.
  void leave_link_seat(std::uint32_t seat, std::uint32_t link);
  // What happened to connections, for status(): the last few sentences.
  void log(const std::string& sentence);
  const std::deque<std::string>& events() const { return events_; }
  // Before close(): daemons that would wait for another host end as well.
  void end_persistent();
  bool is_final() const;

  std::uint64_t serial = 0;  // never used again, while a number is when its profile has gone
  std::uint32_t views = 0;   // R vectors in this process that point into the segment
  bool watched = false;      // the reactor watches the doorbell
  net::Token doorbell_watch;
  Seats seats;
  std::vector<LocalListener> local_listeners;
  std::vector<std::unique_ptr<NetDoor>> doors;
  std::vector<std::unique_ptr<NetDoor>> old_doors;  // to be closed by the reactor
  RemoteLinks links;
  dispatch::Pace pace{0};  // of tasks over links
  bool links_ended = false;
  std::string failure;   // why its daemons cannot start
  bool changed = false;  // the reactor has news that the R thread has not seen

  // dispatch::QueuePort
  std::uint32_t acquire_slot() override { return port_.acquire_slot(); }
  void return_unused(std::uint32_t slot) override { port_.return_unused(slot); }
  bool publish(std::uint32_t slot, const dispatch::SlotContent& content, std::uint32_t queue,
               std::uint32_t* generation) override;
  void wake_for(std::uint32_t queue) override { port_.wake_for(queue); }
  // R thread: of a task that may have been announced.
  void wake_for_submitted(std::uint32_t queue) {
    if (queue == runtime::kReadyQueue) {
      port_.wake_for_announced();
    } else {
      port_.wake_for(queue);
    }
  }
  bool cancel_ready(std::uint32_t slot, std::uint32_t generation) override {
    return port_.cancel_ready(slot, generation);
  }
  std::uint32_t request_cancel(std::uint32_t slot, std::uint32_t generation) override {
    return port_.request_cancel(slot, generation);
  }
  std::uint32_t owner_of(std::uint32_t slot, std::uint32_t generation) override;
  std::uint32_t current_slot(std::uint32_t daemon) override;
  bool doom(std::uint32_t slot, std::uint32_t generation) override { return port_.doom(slot, generation); }
  std::uint32_t harvest(dispatch::HarvestSink& sink) override;
  bool anything_done() override { return port_.anything_done(); }
  bool arm_refill() override { return port_.arm_refill(); }
  void arm_gate(dispatch::GateWord target) override { port_.arm_gate(target); }
  void disarm_gate() override { port_.disarm_gate(); }
  std::uint32_t admit(std::uint32_t index) override;
  void reap(std::uint32_t index, std::uint32_t epoch, dispatch::ReapSink& sink) override;
  bool requeue(std::uint32_t slot, std::uint32_t queue, std::uint32_t* generation) override {
    const bool queued = port_.requeue(slot, queue, generation);
    if (queued) {
      port_.wake_for(queue);
    }
    return queued;
  }
  void stop_daemon(std::uint32_t index) override;
  void close() override;
  bool anything_ready() override { return port_.anything_ready(); }
  bool claim_for_host(std::uint32_t* slot, std::uint32_t* generation) override;
  void place_claimed(std::uint32_t slot, const dispatch::SlotContent& content, std::uint32_t* generation) override;
  dispatch::SlotContent content_of(std::uint32_t slot) override;
  void release_claimed(std::uint32_t slot) override { port_.release_claimed(slot); }
  std::uint64_t ready_depth() override { return port_.ready_depth(); }
  void set_low_water(std::uint32_t depth) override { port_.set_low_water(depth); }
  std::uint64_t take_elements(std::uint32_t slot, std::uint64_t bits) override {
    return port_.take_elements(slot, bits);
  }
  dispatch::RangeEntries entries(std::uint32_t slot) override {
    return {port_.slot(slot).result, port_.progress(slot)};
  }
  bool plausible(std::uint32_t slot, std::uint64_t offset, std::uint64_t bytes) override;
  std::uint32_t cancel_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t position) override {
    return port_.request_cancel_element(slot, generation, position);
  }
  dispatch::RunStamps run_of(std::uint32_t slot, std::uint32_t generation, bool done) override;
  dispatch::RunStamps run_of_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t position,
                                     bool done) override;

  // dispatch::ArenaPort
  void release(std::uint64_t offset) override { arena_.host_release(offset); }
  bool held(std::uint16_t block) override { return port_.held(block); }
  void reap(std::uint32_t index, std::uint32_t epoch, const std::uint64_t* live, std::size_t count) override {
    arena_.reap({index, epoch}, {live, count});
  }

  // dispatch::ProcessPort
  void interrupt(std::uint32_t index) override;
  void kill(std::uint32_t index) override;
  void spawn(std::uint32_t index, std::uint32_t epoch) override { spawns_.push_back({index, epoch}); }

 private:
  static bool store_bytes(void* self, const std::uint8_t* bytes, std::uint64_t length, std::uint64_t* offset);
  void leave_seat(std::uint32_t index);
  void fill(std::uint32_t slot, const dispatch::SlotContent& content);
  bool harvestable(std::uint32_t slot, const runtime::SlotWord& word, dispatch::SlotResult* result);

  std::uint32_t id_;
  ProfileConfig config_;
  runtime::Segment segment_;
  runtime::QueueView<std::atomic> view_;
  runtime::HostPort<std::atomic, runtime::SharedFutex> port_;
  runtime::SegmentArena arena_;
  runtime::EventFd doorbell_;
  std::vector<DaemonProcess> processes_;
  std::vector<SpawnRequest> spawns_;
  std::unique_ptr<Tracing> tracing_;
  std::unique_ptr<dispatch::LatencyMeter> meter_;
  std::unique_ptr<dispatch::Pool> pool_;
  std::deque<std::string> events_;
};

}  // namespace setsuna::host
