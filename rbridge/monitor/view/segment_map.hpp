// The queue part of a host's segment, mapped for reading only. What daemons do is read here, and no host is asked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rbridge/monitor/view/sample.hpp"
#include "runtime/layout.hpp"
#include "runtime/memfd.hpp"

namespace setsuna::monitor {

class SegmentMap {
 public:
  // Takes the descriptor. False, with a named difference in *error, if it is not what this version knows.
  bool map(runtime::UniqueFd fd, std::string* error);
  explicit operator bool() const { return static_cast<bool>(mapping_); }

  // The first `count` records that are in use.
  std::vector<DaemonSample> daemons(std::uint32_t count) const;
  std::uint64_t ready_slots() const;
  std::uint64_t done_slots() const;

 private:
  const runtime::SegmentHeader& header() const {
    return *reinterpret_cast<const runtime::SegmentHeader*>(mapping_.base());
  }
  const runtime::Control<std::atomic>& control() const {
    return *reinterpret_cast<const runtime::Control<std::atomic>*>(mapping_.base() + header().control_offset);
  }

  runtime::Mapping mapping_;
};

}  // namespace setsuna::monitor
