// The thread of a remote daemon that talks to its host, from dialling to the end of the connection. One object an attempt.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/dialler.hpp"
#include "net/make_reactor.hpp"
#include "rbridge/embed/relay.hpp"

namespace setsuna::embed {

struct DialRequest {
  std::string url;
  std::optional<std::string> token;  // which the host has, too
  std::string trusted;               // see net::make_tls_client()
  std::uint64_t data_bytes = 0;      // of the private segment; 0: as much as this process may use
  int signal_at_end = 0;             // raised when the connection is lost
  RelayOptions relay;
};

class RelayThread final : net::DiallerEvents, RelayProcess {
 public:
  // A task that was interrupted because the connection has ended, and that runs on: the process is ended after this.
  static constexpr std::uint64_t kGraceNs = 5'000'000'000;

  enum class State : std::uint32_t { kDialling, kJoined, kOver };

  // R's thread, which is the one that tasks run on. Throws std::runtime_error with a message for users.
  static std::shared_ptr<RelayThread> start(DialRequest request);

  // --- R's thread
  // Acquire: what belongs to the state is there.
  State state() const { return static_cast<State>(state_.load(std::memory_order_acquire)); }
  // Changes, and is woken, after the state: what to sleep on.
  std::atomic<std::uint32_t>& changes() { return changes_; }
  // The host's welcome has come: it stays true when the connection ends.
  bool joined() const { return joined_; }
  // Once joined.
  const dispatch::LinkWelcome& welcome() const { return welcome_; }
  const std::vector<std::byte>& hooks() const { return hooks_; }
  PrivateSegment& segment() { return *segment_; }
  DirectExit& exit() { return exit_; }
  // Over without having joined: a sentence that names the URL and the cause; worth another attempt?
  const std::string& failure() const { return failure_; }
  bool retry() const { return retry_; }
  // Ends the connection (or the attempt) whatever its state; kOver follows. Any number of times.
  void give_up() noexcept;

 private:
  explicit RelayThread(DialRequest request);

  static void main(std::shared_ptr<RelayThread> self);
  void run();
  void change_state(State state) noexcept;

  void on_wake(const net::Completion& completion);
  void on_grace_over(const net::Completion& completion);
  void on_doorbell(const net::Completion& completion);

  // net::DiallerEvents
  net::ConnectionSink* on_host(std::unique_ptr<net::Connection>& connection, std::string* refusal) override;
  void on_failed(const std::string& sentence, bool refused) override;

  // RelayProcess
  void on_welcome(const dispatch::LinkWelcome& welcome, std::span<const std::byte> hooks) override;
  void interrupt_task() override;
  void end_now() override;
  void on_left() override;
  void on_end(const std::string& reason, RelayEnd how) override;

  const DialRequest request_;
  const net::Url url_;
  const net::TlsContextPtr tls_;
  const net::ReactorChoice reactor_choice_;
  const pthread_t main_thread_;

  std::atomic<std::uint32_t> state_{0};
  std::atomic<std::uint32_t> changes_{0};
  std::atomic<bool> given_up_{false};

  // The relay thread's, and R's as the state says.
  std::unique_ptr<net::Reactor> reactor_;
  std::unique_ptr<net::Dialler> dialler_;
  std::unique_ptr<net::Connection> connection_;
  std::unique_ptr<PrivateSegment> segment_;
  DirectExit exit_;
  std::unique_ptr<Relay> relay_;
  net::Token doorbell_watch_, grace_;
  dispatch::LinkWelcome welcome_;
  std::vector<std::byte> hooks_;
  bool joined_ = false;
  bool ended_ = false;  // the connection
  std::string failure_;
  bool retry_ = false;
  bool own_refusal_ = false;  // by on_host()
};

}  // namespace setsuna::embed
