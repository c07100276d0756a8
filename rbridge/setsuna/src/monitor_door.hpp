// Where viewers of the same user come in (`setsuna top`, `setsuna status`): a socket with an abstract name, which the kernel
// takes away with the process, however that ends. Costs nothing while nobody looks. No R in here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "net/reactor.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::host {

class Host;

class MonitorDoor {
 public:
  // By SETSUNA_MONITOR in the environment: "on" (or nothing), "off". False: it is something else, and *error says so.
  static bool wanted(bool* wants, std::string* error);

  explicit MonitorDoor(Host& host) : host_(host) {}
  // False: nobody can look at this host, and problem() says why. Any thread, once.
  bool listen();
  const std::string& problem() const { return problem_; }
  // Reactor thread, once, after listen().
  void start(net::Reactor& reactor);

 private:
  struct Guest {
    MonitorDoor* door;
    int fd;
  };
  static constexpr std::uint32_t kMostGuests = 64;

  void on_visitor(const net::Completion& completion);
  void on_listen_again(const net::Completion&);
  static void on_question(void* guest, const net::Completion& completion);
  bool answer_all(int fd);

  Host& host_;
  net::Reactor* reactor_ = nullptr;
  runtime::UniqueFd listener_;  // until the reactor has it
  int adopted_ = -1;
  std::uint32_t guests_ = 0;
  std::string problem_;
};

}  // namespace setsuna::host
