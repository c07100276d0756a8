#include "submit.hpp"

#include <cstdio>

#include "guard.hpp"
#include "host.hpp"
#include "profile_codec.hpp"
#include "runtime/clock.hpp"
#include "runtime/spin.hpp"

namespace setsuna::host {
namespace {

using runtime::AllocStatus;
using runtime::kInlineArgBytes;

// Blocks of whole extents can be viewed: their pages belong to nobody else.
bool can_be_viewed(std::uint64_t bytes) { return bytes > runtime::SegmentArena::kSmallMax; }

// Whoever submits again so soon, and has not waited meanwhile, does not wait for results. Then a daemon that is up early is
// asleep again early: there would be more wakes, each a system call of several microseconds.
constexpr std::uint64_t kFloodGapNs = 20'000;
std::uint64_t last_submit_ns = 0;  // of the R thread, as the next
bool waited_since = false;

struct StoredBlock {
  std::uint64_t offset = 0;
  std::uint16_t block = runtime::kNoBlockId;
};

// Copies the encoded bytes into a block of the data area. The copy runs without the mutex.
SubmitOutcome store(Host& host, std::uint32_t id, const codec::EncodeBuffer& buffer, StoredBlock* stored) {
  std::uint8_t* to = nullptr;
  {
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    if (profile == nullptr || profile->pool().closed()) {
      return SubmitOutcome::kClosed;
    }
    if (can_be_viewed(buffer.total)) {
      profile->progress();  // what has been let go is warm memory: better than fresh
    }
    runtime::Block made = profile->arena().alloc(buffer.total);
    if (made.status == AllocStatus::kNoExtents) {
      profile->progress();
      profile->pool().sweep_blocks();
      made = profile->arena().alloc(buffer.total);
    }
    if (made.status == AllocStatus::kNoExtents && profile->pool().unfinished() > 0) {
      return SubmitOutcome::kFull;
    }
    if (!made) {
      std::snprintf(guard_message, sizeof(guard_message),
                    "arguments of %.0f MB do not fit the %.0f MB that this profile can share with its daemons (%s): "
                    "pass less, or raise that limit",
                    static_cast<double>(buffer.total) / 1e6, static_cast<double>(profile->segment().data_bytes()) / 1e6,
                    made.status == AllocStatus::kNoMemory ? "the system has no more memory"
                                                          : profile->segment().size_reason().c_str());
      return SubmitOutcome::kTooLarge;
    }
    stored->offset = made.offset;
    stored->block = can_be_viewed(buffer.total) ? profile->pool().new_block_id() : runtime::kNoBlockId;
    to = reinterpret_cast<std::uint8_t*>(profile->arena().at(made.offset));
  }
  codec::write_encoded(&buffer, to);
  return SubmitOutcome::kDone;
}

SubmitOutcome submit_locked(Host& host, std::uint32_t id, const dispatch::SubmitSpec& spec, TaskRef* ref,
                            std::uint64_t* outstanding, bool* must_wake, std::uint32_t* wake_queue) {
  Profile* profile = host.profile(id);
  if (profile == nullptr || profile->pool().closed()) {
    return SubmitOutcome::kClosed;
  }
  if (profile->pool().gave_up() && profile->pool().alive() == 0) {
    std::snprintf(guard_message, sizeof(guard_message), "the daemons cannot start any more: %s",
                  profile->failure.empty() ? "their processes ended at once" : profile->failure.c_str());
    return SubmitOutcome::kHopeless;
  }
  if (!profile->pool().admits(spec.length, spec.constant)) {
    profile->progress();
    if (!profile->pool().admits(spec.length, spec.constant)) {
      return SubmitOutcome::kFull;
    }
  }
  ref->profile = id;
  last_submit_ns = runtime::monotonic_ns();
  waited_since = false;
  ref->task = profile->pool().submit(spec, last_submit_ns, must_wake, wake_queue);
  *outstanding = profile->pool().unfinished();
  host.settle(*profile);
  return SubmitOutcome::kDone;
}

}  // namespace

void note_wait() noexcept { waited_since = true; }

void announce_task(std::uint32_t id) noexcept {
  guarded([&] {
    Host* host = Host::existing();
    Profile* profile = host == nullptr ? nullptr : host->profile(id);  // only the R thread, that is we, closes profiles
    if (profile == nullptr || !profile->config().pool.dispatcher || !profile->port().anybody_sleeps()) {
      return;
    }
    if (waited_since || runtime::monotonic_ns() - last_submit_ns > kFloodGapNs) {
      host->page()->cpu.store(runtime::Spinner::current_cpu(), std::memory_order_relaxed);
      profile->port().announce();
    }
  });
}

SubmitOutcome try_submit(std::uint32_t id, const codec::EncodeBuffer& buffer, dispatch::SubmitSpec spec, TaskRef* ref,
                         std::uint64_t* outstanding) noexcept {
  SubmitOutcome outcome = SubmitOutcome::kTooLarge;
  guarded([&] {
    Host& host = Host::get();
    std::uint8_t small[kInlineArgBytes];
    spec.length = buffer.total;
    StoredBlock stored;
    if (buffer.total <= inline_limit(id)) {
      codec::write_encoded(&buffer, small);
      spec.bytes = small;
    } else {
      outcome = store(host, id, buffer, &stored);
      if (outcome != SubmitOutcome::kDone) {
        return;
      }
      spec.in_area = true;
      spec.area_offset = stored.offset;
      spec.block = stored.block;
    }
    bool must_wake = false;
    std::uint32_t wake_queue = 0;
    Profile* profile = nullptr;
    {
      std::lock_guard<std::mutex> lock(host.mutex());
      outcome = submit_locked(host, id, spec, ref, outstanding, &must_wake, &wake_queue);
      profile = host.profile(id);
      if (outcome != SubmitOutcome::kDone && spec.in_area && profile != nullptr) {
        profile->pool().retire_block(stored.offset, stored.block);
      }
    }
    if (must_wake) {
      profile->wake_for_submitted(wake_queue);  // only the R thread, that is we, closes profiles: it is still there
    }
  });
  return outcome;
}

SubmitOutcome try_add_constant(std::uint32_t id, const codec::EncodeBuffer& buffer, std::uint32_t* constant) noexcept {
  SubmitOutcome outcome = SubmitOutcome::kTooLarge;
  guarded([&] {
    Host& host = Host::get();
    StoredBlock stored;
    outcome = store(host, id, buffer, &stored);
    if (outcome != SubmitOutcome::kDone) {
      return;
    }
    const codec::Hash128 hash = codec::hash_encoded(&buffer);
    std::lock_guard<std::mutex> lock(host.mutex());
    dispatch::Constant made;
    made.offset = stored.offset;
    made.bytes = buffer.total;
    made.block = stored.block;
    made.hash[0] = hash.low;
    made.hash[1] = hash.high;
    Profile* profile = host.profile(id);
    *constant = profile->pool().add_constant(made);
    if (*constant == dispatch::kNoConstant) {
      profile->pool().retire_block(stored.offset, stored.block);
      outcome = SubmitOutcome::kFull;
    }
  });
  return outcome;
}

bool takes_map_by_number(std::uint32_t id, std::uint64_t bytes) noexcept {
  bool takes = false;
  guarded([&] {
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    takes = profile != nullptr && profile->pool().takes_ranges() && profile->pool().admits(bytes);
  });
  return takes;
}

bool try_submit_map(std::uint32_t id, const dispatch::MapSpec& spec, std::uint32_t* tasks) noexcept {
  bool done = false;
  guarded([&] {
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    if (profile == nullptr || !profile->pool().takes_ranges()) {
      return;
    }
    profile->progress();  // what has been learnt of the elements before
    profile->pool().submit_map(spec, runtime::monotonic_ns(), tasks);
    host.settle(*profile);
    done = true;
  });
  return done;
}

void release_constant(std::uint32_t id, std::uint32_t constant) noexcept {
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    if (Profile* profile = host->profile(id)) {
      profile->pool().release_constant(constant);
    }
  });
}

}  // namespace setsuna::host
