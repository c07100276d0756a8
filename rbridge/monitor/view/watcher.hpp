// All hosts of this user, as they come and go.
#pragma once

#include <cstdint>
#include <list>
#include <string>

#include "rbridge/monitor/view/host_reader.hpp"
#include "rbridge/monitor/view/rates.hpp"
#include "rbridge/monitor/view/sample.hpp"

namespace setsuna::monitor {

class Watcher {
 public:
  // `pid` 0: every host.
  explicit Watcher(std::int32_t pid = 0) : pid_(pid) {}

  // The hosts at this moment. New ones are looked for at most once a second.
  Snapshot look(int timeout_ms);
  // Why none can be found at all, or "".
  const std::string& problem() const { return problem_; }

 private:
  void find_new(std::uint64_t now_ns);

  std::int32_t pid_;
  std::list<HostReader> hosts_;
  Rates rates_;
  std::uint64_t searched_ns_ = 0;
  std::string problem_;
};

}  // namespace setsuna::monitor
