#include "dispatch/trace.hpp"

#include <algorithm>
#include <utility>

#include "runtime/assert.hpp"

namespace setsuna::dispatch {

namespace {

constexpr std::uint64_t kLongestNs = std::uint64_t{1} << 60;
constexpr std::uint64_t kRoundingNs = 1'000'000;  // of the floats, for hours

bool plausible(float ns) { return ns >= 0 && ns < static_cast<float>(kLongestNs); }

// A task may have scribbled over the area of the stamps: what cannot be true is not told.
void drop_implausible(RunStamps& run, const TraceRecord& record) {
  if (run.claimed_ns < record.submitted_ns || run.claimed_ns > record.harvested_ns) {
    run.claimed_ns = 0;
  }
  const auto fits = [&](float ns) {
    return plausible(ns) && static_cast<std::uint64_t>(ns) <= record.harvested_ns - run.claimed_ns + kRoundingNs;
  };
  const bool remote = run.decode_ns == kNoStage && run.encode_ns == kNoStage;
  const bool whole = remote ? fits(run.evaluate_ns)
                            : fits(run.decode_ns) && fits(run.evaluate_ns) && fits(run.encode_ns) &&
                                  fits(run.decode_ns + run.evaluate_ns);
  if (run.claimed_ns == 0 || !whole) {
    run.decode_ns = run.evaluate_ns = run.encode_ns = kNoStage;
  }
}

// Nobody has checked the stamps yet.
double end_ns(const RunStamps& run) {
  return static_cast<double>(run.claimed_ns) + static_cast<double>(run.decode_ns) +
         static_cast<double>(run.evaluate_ns) + static_cast<double>(run.encode_ns);
}

}  // namespace

Trace::Trace(Clock clock, std::uint32_t kept) : clock_(clock), kept_(kept), started_ns_(clock()) {
  SETSUNA_ASSERT(kept > 0 && kept % kChunk == 0);
}

void Trace::submitted(std::uint32_t index, std::uint64_t begun_ns, std::uint64_t now_ns, runtime::TaskKind kind) {
  if (pending_.size() <= index) {
    pending_.resize(std::max<std::size_t>(index + 1, 2 * pending_.size()));
  }
  pending_[index] = {++last_task_, begun_ns == 0 ? now_ns : std::min(begun_ns, now_ns), now_ns, kind};
}

void Trace::resolved(std::uint32_t index, TraceOutcome outcome) {
  if (end_ % kChunk == 0) {
    if (sink_ != nullptr && pressing()) {
      sink_->on_pressing(*this);
    }
    if (chunks_.size() < kept_ / kChunk) {
      chunks_.push_back(std::make_unique<std::array<TraceRecord, kChunk>>());
    }
  }
  const Pending& pending = pending_[index];
  const std::uint64_t at = end_ % kept_;
  TraceRecord& record = (*chunks_[at / kChunk])[at % kChunk];
  record.task = pending.task;
  record.submitted_ns = pending.submitted_ns;
  record.queued_ns = pending.queued_ns;
  record.harvested_ns = clock_.now_ns(end_ns(run_));
  record.kind = pending.kind;
  record.outcome = outcome;
  record.run = std::exchange(run_, RunStamps());
  drop_implausible(record.run, record);
  if (record.run.claimed_ns != 0 && record.run.claimed_ns < record.queued_ns) {
    record.queued_ns = record.run.claimed_ns;  // clocks of two processors agree to some nanoseconds only
  }
  ++end_;
}

void Trace::sent(std::uint32_t slot, std::uint16_t daemon, std::uint32_t pid) {
  if (sent_.size() <= slot) {
    sent_.resize(slot + 1);
  }
  sent_[slot] = RunStamps();
  sent_[slot].claimed_ns = clock_.read_ns();
  sent_[slot].daemon = daemon;
  sent_[slot].pid = pid;
}

void Trace::ran_remotely(std::uint32_t slot, std::uint64_t took_ns) {
  if (slot >= sent_.size()) {
    return;
  }
  run_ = sent_[slot];
  if (took_ns != 0) {
    run_.evaluate_ns = static_cast<float>(std::min(took_ns, clock_.read_ns() - run_.claimed_ns));
  }
}

StageEnds stage_ends(const TraceRecord& record) {
  const RunStamps& run = record.run;
  const auto after = [&](std::uint64_t from_ns, float ns) {
    return std::min(from_ns + static_cast<std::uint64_t>(ns), record.harvested_ns);
  };
  StageEnds ends;
  if (run.claimed_ns == 0 || run.evaluate_ns < 0) {
    return ends;
  }
  if (run.decode_ns < 0) {
    ends.evaluated_ns = record.harvested_ns;  // remotely: seen from here it ended when its result came
    return ends;
  }
  ends.decoded_ns = after(run.claimed_ns, run.decode_ns);
  ends.evaluated_ns = after(ends.decoded_ns, run.evaluate_ns);
  ends.encoded_ns = after(ends.evaluated_ns, run.encode_ns);
  return ends;
}

}  // namespace setsuna::dispatch
