// What can be tuned: the values in force, and the table from which R checks and documents them (knobs.cpp).
#pragma once

#include <cstdint>

#include "dispatch/pool.hpp"
#include "net/make_reactor.hpp"
#include "runtime/layout.hpp"

namespace setsuna::host {

// Of a profile. The values here are the defaults.
struct Knobs {
  std::uint32_t spin_us = 0;
  std::uint32_t wake_batch = dispatch::kWakeBatch;
  std::uint32_t slots = runtime::kDefaultSlots;
  std::uint32_t inline_bytes = runtime::kInlineArgBytes;  // larger arguments and results go to the arena
  std::uint32_t prefetch = 32;                            // short tasks that a link holds beyond the one that runs
  bool portable = false;                                  // encode by R_Serialize alone
  std::uint64_t arena_bytes = 0;                          // 0: as much as this process may use
  std::uint32_t growth_extents = runtime::kGrowthExtents;
};

// Of the session: fixed when its reactor starts.
struct SessionKnobs {
  net::ReactorChoice reactor = net::ReactorChoice::kAutomatic;
  net::RingOptions ring;
};

struct KnobInfo {
  const char* name;
  const char* unit;
  double preset;        // of a number
  double low;           // as are these
  double high;          //
  const char* choices;  // of a word: the default first, separated by |; else empty
  bool power_of_two;
  bool session;          // see SessionKnobs
  const char* meaning;   // for the manual
  const char* evidence;  // the command that shows what it does
};

inline constexpr double kMegabyte = 1048576;

}  // namespace setsuna::host
