// A proxy on the loopback that does to connections what networks do: it delays, holds back, damages, loses and cuts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/net/fault_pipe.hpp"

namespace setsuna::net {

class FaultProxy {
 public:
  // Passes on to this port of the loopback. Throws std::system_error if it cannot start.
  explicit FaultProxy(std::uint16_t target_port);
  // Resets every connection.
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  std::uint16_t port() const noexcept { return port_; }

  // --- Any thread. When these return, they are in force.
  // Each way, of all connections that there are and will be.
  void delay(std::uint64_t ns);
  // Likewise; 0: nothing passes, FaultPipe::kUnlimited: all.
  void limit(std::uint64_t bytes_per_s);
  // Happens to each connection that there is / to the next one that is made (these add up).
  void strike(const Fault& fault);
  void strike_next(const Fault& fault);
  // A pulled cable, of the connections that there are: the sockets stay open, and nothing comes through any more.
  void freeze();
  // Both ends of the connections that there are get a reset.
  void cut();
  // Open ones, frozen ones not counted.
  std::size_t connections();

 private:
  struct Connection {
    runtime::UniqueFd near;  // who has dialled
    runtime::UniqueFd far;
    FaultPipe up;
    FaultPipe down;
    bool frozen = false;
    bool over = false;
  };

  void main();
  // One look at everything that is ready; false: told to end.
  bool round();
  void welcome();
  void move(Connection& connection);
  static void reset(Connection& connection);
  void wake() const;

  runtime::UniqueFd listener_;
  runtime::UniqueFd wake_;
  std::uint16_t port_ = 0;
  const std::uint16_t target_;
  std::mutex mutex_;  // everything below
  FaultPipe::Weather weather_;
  std::list<Connection> connections_;
  std::vector<Fault> for_next_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace setsuna::net
