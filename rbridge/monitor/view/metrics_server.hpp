// The endpoint for Prometheus: a small HTTP server at 127.0.0.1 that answers this user only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace setsuna::monitor {

class MetricsServer {
 public:
  // `body`: what /metrics has, made for each request.
  explicit MetricsServer(std::function<std::string()> body) : body_(std::move(body)) {}

  // Port 0 takes a free one. 0: the reason is in *error.
  std::uint16_t listen(std::uint16_t port, std::string* error);
  // Serves until `stop_fd` can be read.
  void run(int stop_fd);

 private:
  struct Peer {
    runtime::UniqueFd fd;
    std::uint64_t deadline_ns;
    std::string request;
    std::string response;
    std::size_t sent = 0;
    bool answered = false;  // all is sent; what still comes is read, so that the answer is not lost by a reset
  };
  static constexpr std::size_t kMostPeers = 32;

  void accept_one();
  bool serve(Peer* peer);
  bool read_some(Peer* peer);
  bool send_some(Peer* peer);
  int wait_ms() const;

  std::function<std::string()> body_;
  runtime::UniqueFd listener_;
  std::vector<Peer> peers_;
};

}  // namespace setsuna::monitor
