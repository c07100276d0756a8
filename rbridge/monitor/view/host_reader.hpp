// One host: the connection to it, its mapped segments, and what it says when asked.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rbridge/monitor/monitor_wire.hpp"
#include "rbridge/monitor/view/discover.hpp"
#include "rbridge/monitor/view/sample.hpp"
#include "rbridge/monitor/view/segment_map.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::monitor {

class HostReader {
 public:
  explicit HostReader(HostAddress address) : address_(std::move(address)) {}

  // False: there is no such host, or it is another user's who took the name. Waits for nothing.
  bool connect();
  // False: it has gone. Waits for its answers at most so long, in all; a host that has not answered the last time is given no
  // time before it does. Then `out` has what was known last, and what the segments tell.
  bool read(int timeout_ms, HostSample* out);
  const HostAddress& address() const { return address_; }

 private:
  enum class Got : std::uint8_t { kAnswer, kTimeout, kGone };
  struct Profile {
    SegmentMap segment;
    ProfileSample sample;
    std::vector<DaemonSample> links;
    std::uint32_t records = 0;
    bool no_segment = false;  // it was asked for in vain
  };

  Got ask(MonitorAsk what, std::uint64_t serial);
  Got await(std::uint64_t sequence);
  Got ask_all();
  Got ask_host();
  Got ask_profile(Profile* profile);
  Got ask_latency(Profile* profile);
  Got ask_segment(Profile* profile);
  void look_into_segment(Profile* profile) const;
  template <class T>
  bool take(T* facts) const;
  template <class T>
  T entry(std::size_t facts_bytes, std::uint32_t i) const;

  HostAddress address_;
  runtime::UniqueFd socket_;
  HostSample host_;
  std::uint64_t started_ns_ = 0;
  std::vector<std::uint64_t> serials_;
  std::map<std::uint64_t, Profile> profiles_;
  std::vector<std::byte> answer_;
  runtime::UniqueFd answer_fd_;
  std::uint64_t sequence_ = 0;
  std::uint64_t deadline_ns_ = 0;
  bool silent_ = false;  // it did not answer in time
  bool met_ = false;     // it has answered once
};

}  // namespace setsuna::monitor
