// A host as viewers see it: a socket, and one profile with a real segment.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "rbridge/monitor/monitor_wire.hpp"
#include "runtime/segment.hpp"

namespace setsuna::monitor::test {

class FakeHost {
 public:
  FakeHost();
  ~FakeHost();
  FakeHost(const FakeHost&) = delete;
  FakeHost& operator=(const FakeHost&) = delete;

  const std::string& name() const { return name_; }
  runtime::QueueView<std::atomic> queue() { return segment_->queue(nullptr); }
  // What it tells, until it is changed. Before the first viewer comes.
  MonitorHost host{};
  MonitorProfile profile{};
  MonitorLatency latency{};
  MonitorBucket bucket{};
  bool gives_writable = false;      // instead of a descriptor for reading
  bool gives_other_file = false;    // which is no segment
  std::atomic<bool> silent{false};  // reads questions and answers them when this ends
  std::atomic<bool> without_profiles{false};
  // It is gone, as if killed.
  void end();

 private:
  void run();
  bool answer(int fd);

  std::string name_;
  std::optional<runtime::Segment> segment_;
  runtime::UniqueFd listener_, stop_;
  std::thread thread_;
};

}  // namespace setsuna::monitor::test
