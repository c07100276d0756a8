// The reactor where io_uring is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/reactor_core.hpp"

struct epoll_event;

namespace setsuna::net {

// One registration a descriptor, its events the union of what the active operations on it want. Only watch_readable is
// edge-triggered (its owner reads); the rest is level-triggered and read here, a bounded amount a round, so that one busy
// connection does not starve the others.
class EpollReactor final : public ReactorCore {
 public:
  // Null on failure, then `why` says so.
  static std::unique_ptr<EpollReactor> create(std::string& why);

  EpollReactor(runtime::UniqueFd epoll, runtime::UniqueFd wake);
  ~EpollReactor() override;

  const char* name() const noexcept override { return "epoll"; }

 private:
  struct Registration {
    std::uint32_t events = 0;      // 0: not registered
    std::uint32_t generation = 0;  // of the registration: events of an earlier one in the same batch are stale
  };

  void prepare(int fd) override;
  void start(Op& op) override;
  void interrupt(Op& op) override;
  void wait(std::uint64_t deadline_ns) override;
  void interest_changed(int fd) override;

  std::uint32_t interest(int fd) noexcept;
  int update(int fd);
  int sleep_until(std::uint64_t deadline_ns, epoll_event* events, int capacity);
  void handle(const epoll_event& event);
  void handle_op(Op& op, std::uint32_t events);
  void handle_recv(Token token);
  void handle_accept(Token token);
  void handle_connect(Op& op);

  // The outcome of trying: more to do when the socket can take it, or a result.
  struct Attempt {
    bool blocked;
    std::int64_t result;
  };
  static Attempt try_send(Op& op);
  static Attempt try_connect(Op& op);

  int epoll_;
  std::vector<Registration> registrations_;  // by descriptor
  std::vector<Token> scratch_;
  std::unique_ptr<std::byte[]> buffer_;
};

}  // namespace setsuna::net
