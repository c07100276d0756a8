// What a viewer of the same user is told (rbridge/monitor/monitor_wire.hpp). Reactor thread. No R in here.
#pragma once

#include <cstddef>
#include <vector>

#include "rbridge/monitor/monitor_wire.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::host {

class Host;

struct MonitorAnswer {
  std::vector<std::byte> bytes;
  runtime::UniqueFd fd;  // of a segment, for reading only
};

// Takes the host's mutex. Empty: the question makes no sense, or comes from another version.
MonitorAnswer answer_monitor(Host& host, const monitor::MonitorRequest& request);

}  // namespace setsuna::host
