// A snapshot as text, as JSON, and for Prometheus.
#pragma once

#include <string>

#include "rbridge/monitor/view/sample.hpp"

namespace setsuna::monitor {

std::string status_text(const Snapshot& snapshot);
// The schema is in `setsuna status --help`; member "schema" is its number.
std::string status_json(const Snapshot& snapshot);
// The text format 0.0.4 of Prometheus.
std::string status_prometheus(const Snapshot& snapshot);

}  // namespace setsuna::monitor
