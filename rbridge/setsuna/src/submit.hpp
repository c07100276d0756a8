// From encoded bytes to a queued task.
#pragma once

#include <cstdint>

#include "dispatch/pool.hpp"
#include "glue.hpp"
#include "handle.hpp"
#include "rbridge/codec/codec.hpp"

namespace setsuna::host {

enum class SubmitOutcome {
  kDone,
  kFull,      // over budget or no room now: unfinished tasks can change that
  kTooLarge,  // never: guard_message says why
  kHopeless,  // nobody will ever take it: guard_message says why
  kClosed,    // the profile is gone
};

// The R thread waits for a task: what it submits next does not belong to a flood.
void note_wait() noexcept;

// A task of `profile` is about to come: wakes a daemon early, if one sleeps and nothing waits. None need come.
void announce_task(std::uint32_t profile) noexcept;

// The bytes of `buffer` become a task of `profile`. `spec` says the rest (its bytes, area_* and block are set here).
// Never calls R.
SubmitOutcome try_submit(std::uint32_t profile, const codec::EncodeBuffer& buffer, dispatch::SubmitSpec spec,
                         TaskRef* ref, std::uint64_t* outstanding) noexcept;

// The bytes of `buffer` become a shared constant; the caller holds one reference.
SubmitOutcome try_add_constant(std::uint32_t profile, const codec::EncodeBuffer& buffer,
                               std::uint32_t* constant) noexcept;
// May the elements of a map, of `bytes` in all, lie in its constant?
bool takes_map_by_number(std::uint32_t profile, std::uint64_t bytes) noexcept;
// The tasks of such elements. False: the profile is closed, or its daemons cannot start.
bool try_submit_map(std::uint32_t profile, const dispatch::MapSpec& spec, std::uint32_t* tasks) noexcept;
void release_constant(std::uint32_t profile, std::uint32_t constant) noexcept;

}  // namespace setsuna::host
