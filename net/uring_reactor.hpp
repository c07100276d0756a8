// The reactor on io_uring.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/buffer_ring.hpp"
#include "net/reactor_core.hpp"
#include "net/ring_options.hpp"
#include "net/uring_compat.hpp"

namespace setsuna::net {

// One system call a round: it submits what handlers have started and sleeps for the next completion. Created on the thread
// that uses it (the ring belongs to its first submitter).
class UringReactor final : public ReactorCore {
 public:
  // Sets up the ring with as much as the kernel offers (`options.best` at most) and tries it out. Null when what is needed is
  // missing (Linux before 6.0) or refused; `why` says so. On success `why` names what is in use.
  static std::unique_ptr<UringReactor> create(std::string& why, const RingOptions& options = {});

  explicit UringReactor(runtime::UniqueFd wake);
  ~UringReactor() override;

  const char* name() const noexcept override { return "io_uring"; }

 private:
  bool open(std::string& why, const RingOptions& options);
  bool set_up_ring(std::string& why, RingKind best);
  bool probe(std::string& why, std::size_t send_zc_bytes);
  bool try_out(std::string& why);

  void prepare(int fd) override;
  void start(Op& op) override;
  void interrupt(Op& op) override;
  void wait(std::uint64_t deadline_ns) override;

  io_uring_sqe* next_entry();
  void submit();
  void start_recv(io_uring_sqe* entry, const Op& op);
  bool start_send(Op& op);
  bool may_skip_copy(const Op& op, const msghdr& message) const;
  void start_wake();
  void end_wake();
  void restart(Token token);
  void restart_starved();

  void handle(const io_uring_cqe& completion);
  void handle_op(Op& op, int result, unsigned flags);
  void handle_watch(Op& op, int result);
  void handle_accept(Op& op, int result);
  void handle_recv(Op& op, int result, unsigned flags);
  void handle_send(Op& op, int result);
  bool handle_uncopied(Op& op, int* result, unsigned flags);

  io_uring ring_{};
  bool open_ = false;
  std::size_t send_zc_bytes_ = 0;  // see RingOptions
  BufferRing buffers_;
  std::vector<Token> starved_;  // receives that found no buffer, to be started again when the round has given them back
  std::uint64_t wake_count_ = 0;
};

}  // namespace setsuna::net
