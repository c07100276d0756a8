// Ranges of a map: the evaluator runs them in the private segment as it does in a host's; here their entries become reports.
#include <algorithm>
#include <array>
#include <cstring>

#include "dispatch/map_range.hpp"
#include "rbridge/embed/relay.hpp"

namespace setsuna::embed {

using dispatch::bytes_of;
using dispatch::LinkElement;
using dispatch::LinkMessage;
using dispatch::LinkRange;
using net::Lane;
using runtime::kNoSlot;

// Tells what is done. What has not begun will not: the rest is for others, and at the end there is none.
void Relay::report_range(Job& job, std::uint32_t slot, bool final) {
  const std::uint64_t all = dispatch::range_bits(job.count());
  job.taken |= all & ~segment_.port().take_elements(slot, all);
  const std::uint32_t done = std::min(segment_.port().progress(slot), job.count());
  const std::uint32_t told = job.told;
  std::array<std::byte, runtime::kInlineResultBytes> entries;
  const std::uint32_t bytes = copy_entries(job, slot, done, entries.data());
  LinkRange said;
  said.taken = job.taken;
  said.count = job.told - told;
  said.final = final ? 1 : 0;
  said.damaged = job.damaged ? 1 : 0;
  if (final) {
    said.took_us = microseconds_taken(job.published_ns);
    said.element_ns = segment_.port().slot(slot).elapsed_ns;
  }
  if (connection_ != nullptr) {
    connection_->send(type_of(LinkMessage::kRange), Lane::kData, job.id, bytes_of(said), {entries.data(), bytes}, 0);
  }
}

// Entries up to the `count`th that the host has not had. A task may have scribbled over them: they are checked. The bytes.
std::uint32_t Relay::copy_entries(Job& job, std::uint32_t slot, std::uint32_t count, std::byte* to) {
  const auto& from = segment_.port().slot(slot);
  const runtime::SlotWord word = segment_.port().word(slot);
  std::uint32_t bytes = 0;
  for (; job.told < count && !job.damaged; ++job.told) {
    const std::uint32_t start = job.at;
    dispatch::RangeEntry entry;
    const bool read = dispatch::read_entry(from.result, &job.at, &entry);
    const bool in_area = entry.inline_bytes == nullptr && !entry.skipped;
    if (!read || (entry.skipped && ((job.taken >> job.told) & 1U) == 0) ||
        (in_area && !segment_.arena().plausible(entry.offset, entry.bytes, {word.owner(), word.epoch()}))) {
      job.damaged = true;
      break;
    }
    if (in_area) {
      send_element(job, entry.status, entry.offset, entry.bytes);
      to[bytes++] = std::byte{dispatch::kEntrySkip};
    } else {
      std::memcpy(to + bytes, from.result + start, job.at - start);
      bytes += job.at - start;
    }
  }
  return bytes;
}

// An outcome in the data area goes from where it lies.
void Relay::send_element(const Job& job, runtime::ResultStatus status, std::uint64_t offset, std::uint64_t bytes) {
  const LinkElement said{status, job.told};
  if (connection_ != nullptr) {
    connection_->send(type_of(LinkMessage::kElement), Lane::kData, job.id, bytes_of(said),
                      {segment_.arena().at(offset), bytes}, offset);
  } else {
    segment_.arena().host_release(offset);
  }
}

void Relay::cancel_element(std::uint64_t id, std::uint32_t position) {
  const auto waiting = std::find_if(waiting_.begin(), waiting_.end(), [&](const Job& job) { return job.id == id; });
  const auto found = slots_.find(id);
  Job* job = waiting != waiting_.end() ? &*waiting : found != slots_.end() ? &jobs_[found->second] : nullptr;
  if (job == nullptr || !job->is_range() || position >= job->count()) {
    return;
  }
  const std::uint64_t bit = std::uint64_t{1} << position;
  const bool begun = found != slots_.end() && (segment_.port().take_elements(found->second, bit) & bit) != 0;
  if (!begun) {
    job->taken |= bit;
  } else if ((job->taken & bit) == 0) {
    if (segment_.port().progress(found->second) <= position &&
        segment_.port().request_cancel_element(found->second, job->generation, position) != kNoSlot) {
      process_.interrupt_task();
    }
    report_range(*job, found->second, false);
  }
}

// The host has gone. Nothing of the range begins any more, and what runs is interrupted.
void Relay::interrupt_range(Job& job, std::uint32_t slot) {
  const std::uint64_t all = dispatch::range_bits(job.count());
  job.taken |= all & ~segment_.port().take_elements(slot, all);
  if (segment_.port().request_cancel_element(slot, job.generation, segment_.port().progress(slot)) != kNoSlot) {
    process_.interrupt_task();
  }
}

}  // namespace setsuna::embed
