#include "profile.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "net/descriptors.hpp"
#include "rbridge/embed/build_id.hpp"
#include "rbridge/embed/evaluator.hpp"
#include "rbridge/embed/zygote_wire.hpp"
#include "runtime/clock.hpp"
#include "runtime/pidfd.hpp"

namespace setsuna::host {

using runtime::DaemonState;
using runtime::kInlineArgBytes;
using runtime::kInlineResultBytes;
using runtime::kNoSlot;

namespace {

runtime::Segment create_segment(const ProfileConfig& config) {
  runtime::SegmentRequest request;
  request.slot_count = config.knobs.slots;
  request.daemon_max = config.pool.daemon_max;
  request.data_bytes = config.knobs.arena_bytes;
  request.build_id = embed::build_id();
  request.profile = config.name;
  std::string error;
  std::optional<runtime::Segment> segment = runtime::Segment::create(request, &error);
  if (!segment) {
    throw std::runtime_error("the shared memory of profile '" + config.name + "' cannot be made: " + error);
  }
  return std::move(*segment);
}

// Why a daemon ended before it was online.
std::string start_failure(const dispatch::DeathNote& note) {
  if (note.wait_status != -1 && WIFEXITED(note.wait_status)) {
    const int status = WEXITSTATUS(note.wait_status);
    return status == embed::kNoTempdirStatus
               ? "they cannot make a temporary directory: set TMPDIR to one with room, see ?tempdir"
               : "their processes ended at once, with status " + std::to_string(status);
  }
  if (note.wait_status != -1 && WIFSIGNALED(note.wait_status)) {
    return "their processes ended at once, by signal " + std::to_string(WTERMSIG(note.wait_status)) +
           (note.out_of_memory ? ": the kernel ran out of memory" : "");
  }
  return "their processes ended at once";
}

runtime::EventFd create_doorbell() {
  runtime::UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) {
    throw std::runtime_error(std::string("no descriptor is left for the daemons' doorbell: ") + std::strerror(errno));
  }
  return runtime::EventFd(runtime::UniqueFd(net::move_high(fd.release())));
}

}  // namespace

Profile::Profile(std::uint32_t id, ProfileConfig config, runtime::HostPageMap& host_page)
    : id_(id),
      config_(std::move(config)),
      segment_(create_segment(config_)),
      view_(segment_.queue(host_page.page())),
      port_(view_),
      arena_(segment_, runtime::ExtentOwner{runtime::kHostOwner, 1}),
      doorbell_(create_doorbell()),
      pool_(std::make_unique<dispatch::Pool>(config_.pool, *this, *this, *this, &links)) {
  port_.format();
  // Relaxed: no daemon has the segment yet.
  const Knobs& knobs = config_.knobs;
  view_.control->spin_us.store(knobs.spin_us, std::memory_order_relaxed);
  view_.control->inline_bytes.store(knobs.inline_bytes, std::memory_order_relaxed);
  view_.control->growth_extents.store(knobs.growth_extents, std::memory_order_relaxed);
  view_.control->encoding.store(encoding(), std::memory_order_relaxed);
  arena_.set_growth(knobs.growth_extents);
  pace = dispatch::Pace(knobs.prefetch);
  pool_->set_store(&Profile::store_bytes, this);
  if (config_.trace) {
    tracing_ = std::make_unique<Tracing>(config_.trace_path, config_.name);
    tracing_->open_area(segment_, arena_);
    pool_->set_trace(&tracing_->trace());
  }
}

void Profile::measure_latency() {
  meter_ = std::make_unique<dispatch::LatencyMeter>(&runtime::monotonic_ns);
  pool_->set_meter(meter_.get());
}

DaemonProcess& Profile::process(std::uint32_t index) {
  if (processes_.size() <= index) {
    processes_.resize(index + 1);
  }
  return processes_[index];
}

bool Profile::store_bytes(void* self, const std::uint8_t* bytes, std::uint64_t length, std::uint64_t* offset) {
  auto& arena = static_cast<Profile*>(self)->arena_;
  const runtime::Block block = arena.alloc(length);
  if (!block) {
    return false;
  }
  std::memcpy(arena.at(block.offset), bytes, length);
  *offset = block.offset;
  return true;
}

void Profile::fill(std::uint32_t slot, const dispatch::SlotContent& content) {
  auto& to = port_.slot(slot);
  to.kind = content.kind;
  to.flags = content.flags;
  to.arg_offset = content.arg_offset;
  to.arg_bytes = content.arg_bytes;
  to.arg_block = content.arg_block;
  to.const_offset = content.const_offset;
  to.const_bytes = content.const_bytes;
  to.const_key = content.const_key;
  to.const_block = content.const_block;
  to.task = content.task;
  to.taken.store(0, std::memory_order_relaxed);  // READY releases it
  to.progress.store(0, std::memory_order_relaxed);
  to.elapsed_ns = 0;
  if (content.stream != nullptr) {
    std::memcpy(to.rng, content.stream, sizeof(to.rng));
  }
  if (content.inline_arg != nullptr) {
    SETSUNA_ASSERT(content.arg_bytes <= kInlineArgBytes);
    std::memcpy(to.arg, content.inline_arg, content.arg_bytes);
  }
}

bool Profile::publish(std::uint32_t slot, const dispatch::SlotContent& content, std::uint32_t queue,
                      std::uint32_t* generation) {
  fill(slot, content);
  return port_.publish(slot, queue, generation);
}

bool Profile::claim_for_host(std::uint32_t* slot, std::uint32_t* generation) {
  const std::optional<runtime::Claim> claim = port_.claim_for_host();
  if (claim) {
    *slot = claim->slot;
    *generation = claim->generation;
  }
  return claim.has_value();
}

void Profile::place_claimed(std::uint32_t slot, const dispatch::SlotContent& content, std::uint32_t* generation) {
  fill(slot, content);
  *generation = port_.place_claimed(slot);
}

dispatch::SlotContent Profile::content_of(std::uint32_t slot) {
  const auto& from = port_.slot(slot);
  dispatch::SlotContent content;
  content.kind = from.kind;
  content.flags = from.flags;
  content.inline_arg = from.arg;
  content.arg_offset = from.arg_offset;
  content.arg_bytes = from.arg_bytes;
  content.arg_block = from.arg_block;
  content.const_offset = from.const_offset;
  content.const_bytes = from.const_bytes;
  content.const_key = from.const_key;
  content.const_block = from.const_block;
  content.task = from.task;
  content.stream = (from.flags & runtime::kTaskHasStream) != 0 ? from.rng : nullptr;
  return content;
}

std::uint32_t Profile::owner_of(std::uint32_t slot, std::uint32_t generation) {
  const runtime::SlotWord word = port_.word(slot);
  const bool runs = word.state() == runtime::SlotState::kClaimed && word.generation() == generation;
  return runs && word.owner() != runtime::kHostOwner ? word.owner() : kNoSlot;
}

std::uint32_t Profile::current_slot(std::uint32_t daemon) {
  const std::uint64_t current = port_.daemon(daemon).current.load(std::memory_order_relaxed);  // its value alone counts
  return current == 0 ? kNoSlot : static_cast<std::uint32_t>(current >> 32) - 1;
}

// A task may have scribbled over the segment: what it says of its result is checked before it is believed.
bool Profile::harvestable(std::uint32_t slot, const runtime::SlotWord& word, dispatch::SlotResult* result) {
  auto& from = port_.slot(slot);
  result->element_ns = from.elapsed_ns;
  if (from.kind == dispatch::TaskKind::kMapRange) {
    return true;  // the pool reads its entries
  }
  result->status = static_cast<runtime::ResultStatus>(from.result_status);
  result->bytes = from.result_bytes;
  result->offset = from.result_offset;
  if (result->offset == 0) {
    result->inline_bytes = from.result;
    return result->bytes <= kInlineResultBytes &&
           from.result_status <= static_cast<std::uint32_t>(runtime::ResultStatus::kDamaged);
  }
  return from.result_status <= static_cast<std::uint32_t>(runtime::ResultStatus::kDamaged) &&
         arena_.plausible(result->offset, result->bytes, {word.owner(), word.epoch()});
}

bool Profile::plausible(std::uint32_t slot, std::uint64_t offset, std::uint64_t bytes) {
  const runtime::SlotWord word = port_.word(slot);
  return arena_.plausible(offset, bytes, {word.owner(), word.epoch()});
}

std::uint32_t Profile::harvest(dispatch::HarvestSink& sink) {
  return port_.harvest([&](std::uint32_t slot, const runtime::SlotWord& word) {
    dispatch::SlotResult result;
    if (!harvestable(slot, word, &result)) {
      static const std::uint8_t nothing[1] = {0};
      result.status = runtime::ResultStatus::kDamaged;
      result.inline_bytes = nothing;
      result.bytes = 0;
    }
    sink.on_done(slot, result);
  });
}

std::uint32_t Profile::admit(std::uint32_t index) {
  const std::uint32_t epoch = port_.admit(index);
  DaemonProcess& process = this->process(index);
  std::string url = std::move(process.url);
  std::shared_ptr<const DaemonStart> start = std::move(process.start);
  process = DaemonProcess();
  process.url = std::move(url);
  process.start = std::move(start);
  process.epoch = epoch;
  return epoch;
}

void Profile::reap(std::uint32_t index, std::uint32_t epoch, dispatch::ReapSink& sink) {
  port_.reap(index, epoch, [&](std::uint32_t slot, const runtime::SlotWord& word) {
    if (!sink.on_orphan(slot, word.state())) {
      port_.release_dead(slot);
    }
  });
}

dispatch::RunStamps Profile::run_of(std::uint32_t slot, std::uint32_t generation, bool done) {
  dispatch::RunStamps run;
  const runtime::SlotWord word = port_.word(slot);
  const auto* stamps = tracing_->area().claim(slot, generation);
  if (stamps == nullptr || word.generation() != generation || word.owner() == runtime::kHostOwner) {
    return run;
  }
  run.claimed_ns = stamps->claimed_ns;
  run.pid = stamps->pid;
  run.daemon = static_cast<std::uint16_t>(word.owner());
  if (done) {
    run.decode_ns = stamps->decode_ns;
    run.evaluate_ns = stamps->evaluate_ns;
    run.encode_ns = stamps->encode_ns;
  }
  return run;
}

namespace {

// A task may have scribbled over the stamps.
std::uint64_t whole_ns(float ns) {
  constexpr float kLongestNs = 1e18F;
  return ns >= 0 && ns < kLongestNs ? static_cast<std::uint64_t>(ns) : 0;
}

}  // namespace

dispatch::RunStamps Profile::run_of_element(std::uint32_t slot, std::uint32_t generation, std::uint32_t position,
                                            bool done) {
  const std::uint32_t progress = port_.progress(slot);
  dispatch::RunStamps run = run_of(slot, generation, false);
  if (run.claimed_ns == 0 || position >= runtime::kRangeMax || (done ? progress <= position : progress != position)) {
    return {};
  }
  if (done) {
    const runtime::ElementStamps& stamps = tracing_->area().element(slot, position);
    run.claimed_ns += whole_ns(stamps.begin_ns);
    run.decode_ns = stamps.decode_ns;
    run.evaluate_ns = stamps.evaluate_ns;
    run.encode_ns = stamps.encode_ns;
  } else if (position > 0) {
    const runtime::ElementStamps& before = tracing_->area().element(slot, position - 1);
    run.claimed_ns += whole_ns(before.begin_ns + before.decode_ns + before.evaluate_ns + before.encode_ns);
  }
  return run;
}

std::uint64_t Profile::next_deadline_ns() {
  const std::uint64_t pool_ns = pool_->next_deadline_ns();
  const std::uint64_t trace_ns = tracing_ != nullptr ? tracing_->due_ns() : 0;
  return pool_ns == 0 || (trace_ns != 0 && trace_ns < pool_ns) ? trace_ns : pool_ns;
}

void Profile::on_time(std::uint64_t now_ns) {
  pool_->on_time(now_ns);
  if (tracing_ != nullptr) {
    tracing_->on_time(now_ns);
  }
}

void Profile::stop_daemon(std::uint32_t index) {
  port_.daemon(index).stop.store(1, std::memory_order_release);
  port_.wake_daemon(index);
}

void Profile::end_persistent() { view_.control->flags.fetch_or(runtime::kControlFinal, std::memory_order_acq_rel); }

std::uint32_t Profile::encoding() const noexcept { return config_.knobs.portable ? embed::kEncodingPortable : 0; }

bool Profile::is_final() const {
  return (view_.control->flags.load(std::memory_order_acquire) & runtime::kControlFinal) != 0;
}

void Profile::close() {
  view_.control->flags.fetch_or(runtime::kControlClosing, std::memory_order_acq_rel);
  port_.wake_all();
}

void Profile::interrupt(std::uint32_t index) {
  const DaemonProcess& process = this->process(index);
  if (process.pidfd) {
    runtime::pidfd_send_signal(process.pidfd.get(), embed::cancel_signal());
  }
}

void Profile::kill(std::uint32_t index) {
  const DaemonProcess& process = this->process(index);
  if (process.pidfd) {
    runtime::pidfd_send_signal(process.pidfd.get(), SIGKILL);
  }
}

void Profile::kill_busy_daemons() {
  for (std::uint32_t i = 0; i < processes_.size(); ++i) {
    const auto& record = port_.daemon(i);
    if (record.current.load(std::memory_order_acquire) != 0) {
      kill(i);
    }
  }
}

std::uint32_t Profile::admit_external(runtime::UniqueFd pidfd, std::int32_t pid, std::uint32_t* epoch) {
  const std::uint32_t index = pool_->add_daemon(true, epoch);
  if (index == kNoSlot) {
    return kNoSlot;
  }
  DaemonProcess& process = this->process(index);
  process.external = true;
  process.pidfd = std::move(pidfd);
  process.note.pid = pid;
  process.note.wait_status = -1;
  pool_->on_forked(index, *epoch, pid);
  return index;
}

bool Profile::sync_online() {
  bool any = false;
  const auto& daemons = pool_->daemons();
  for (std::uint32_t i = 0; i < daemons.size(); ++i) {
    const auto state = static_cast<DaemonState>(port_.daemon(i).state.load(std::memory_order_acquire));
    if (daemons[i].state == dispatch::DaemonInfo::State::kStarting &&
        (state == DaemonState::kLive || state == DaemonState::kLeaving)) {
      pool_->on_online(i, daemons[i].epoch);
      any = true;
    }
    // Its process may live on after daemon() has returned there, but it has done its last store to the segment.
    if (state == DaemonState::kLeaving && processes_[i].external && !daemons[i].forked_by_us &&
        daemons[i].state == dispatch::DaemonInfo::State::kLive) {
      pool_->on_dead(i, daemons[i].epoch, processes_[i].note, true);
      leave_seat(i);
      any = true;
    }
  }
  return any;
}

void Profile::rest_gate() {
  if (pool_->notify_pending() == 0) {
    port_.disarm_gate();
    return;
  }
  port_.arm_gate(runtime::GateWord::event());
  if (port_.anything_done()) {
    doorbell_.signal();  // it completed before the gate was armed
  }
}

std::uint32_t Profile::progress() {
  sync_online();
  return pool_->progress();
}

std::uint64_t Profile::executing() const {
  std::uint64_t count = 0;
  const auto& daemons = pool_->daemons();
  for (std::uint32_t i = 0; i < daemons.size(); ++i) {
    if (daemons[i].state == dispatch::DaemonInfo::State::kLive) {
      count += port_.daemon(i).current.load(std::memory_order_relaxed) != 0 ? 1 : 0;
    }
  }
  return count;
}

std::vector<SpawnRequest> Profile::take_spawns() {
  std::vector<SpawnRequest> taken;
  taken.swap(spawns_);
  return taken;
}

void Profile::note_death_if_certain(std::uint32_t index) {
  DaemonProcess& process = this->process(index);
  if (!process.gone || (!process.reported && !process.external)) {
    return;
  }
  const auto& record = port_.daemon(index);
  // It may have come online and left before anybody looked.
  sync_online();
  const bool leaving = static_cast<DaemonState>(record.state.load(std::memory_order_acquire)) == DaemonState::kLeaving;
  const dispatch::DeathNote note = process.note;
  if (!leaving && pool_->daemons()[index].state == dispatch::DaemonInfo::State::kStarting) {
    failure = start_failure(note);
  }
  process.pidfd.reset();
  pool_->on_dead(index, process.epoch, note, leaving);
  leave_seat(index);
}

void Profile::seat_daemon(std::uint32_t index) {
  const std::uint32_t seat = seats.free_seat();
  if (seat != kNoSeat) {
    seats.take(seat, Seat::Occupant::kDaemon, index);
  }
}

void Profile::leave_link_seat(std::uint32_t seat, std::uint32_t link) {
  const Seat& its = seats[seat];
  if (its.occupant != Seat::Occupant::kLink || its.index != link) {
    return;  // the seat was moved meanwhile
  }
  if (link == dispatch::kNoLink) {
    seats.leave(seat, 0, 0);
  } else {
    const dispatch::LinkInfo& info = pool_->links()[link];
    seats.leave(seat, info.assigned, info.completed);
  }
}

void Profile::log(const std::string& sentence) {
  constexpr std::size_t kKept = 64;
  events_.push_back(sentence);
  if (events_.size() > kKept) {
    events_.pop_front();
  }
}

// Not if a replacement of the daemon is under way.
void Profile::leave_seat(std::uint32_t index) {
  const std::uint32_t seat = seats.seat_of(Seat::Occupant::kDaemon, index);
  if (seat != kNoSeat && pool_->daemons()[index].state == dispatch::DaemonInfo::State::kDead) {
    const auto& record = port_.daemon(index);
    seats.leave(seat, record.assigned.load(std::memory_order_relaxed),
                record.completed.load(std::memory_order_relaxed));
  }
}

bool Profile::finished() const {
  return pool_->closed() && pool_->alive() == 0 && pool_->handles() == 0 && views == 0 && links.open == 0 && !watched;
}

}  // namespace setsuna::host
