// The host's end of one connection to a remote daemon. Reactor thread, but where it says otherwise. Lives from the peer's
// proof of who it is until the connection has ended, which may be after its profile.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "dispatch/link_wire.hpp"
#include "dispatch/ports.hpp"
#include "net/connection.hpp"

namespace setsuna::host {

class Host;
class Profile;

class HostLink final : public net::ConnectionSink {
 public:
  // `seat` is taken for it already.
  HostLink(Host& host, std::uint64_t profile, std::uint32_t seat, std::unique_ptr<net::Connection> connection);

  // Under the host's mutex. Bodies stay where they are until they are sent; a small one is copied.
  void send_task(std::uint64_t id, const dispatch::LinkTask& head, std::span<const std::byte> body, bool small);
  // Any thread; see net::Connection::send_now().
  net::Connection::SentNow send_task_now(std::uint64_t id, const dispatch::LinkTask& head,
                                         std::span<const std::byte> body);
  void resume() { connection_->resume(); }
  void send_constant(std::uint64_t key, std::span<const std::byte> body);
  void send_forget(std::uint64_t key);
  void send_control(dispatch::LinkMessage what, std::uint64_t id);
  // `behind`: after the tasks that wait to be sent, not before them.
  void send_order(dispatch::LinkMessage what, std::uint64_t id, bool behind);
  void cancel_element(std::uint64_t id, std::uint32_t position, bool behind);
  void stop(bool final);
  // Its process ends, and if it does not hear that, the link does.
  void kill();
  void close(const std::string& reason) { connection_->close(reason); }

  const dispatch::LinkGreeting& greeting() const { return greeting_; }
  const std::string& peer() const { return connection_->peer(); }

  // net::ConnectionSink
  void on_open() override;
  std::byte* on_begin(const net::MessageHeader& header, std::span<const std::byte> head, std::string* reject) override;
  void on_message(const net::MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override;
  void on_torn(const net::MessageHeader& header) override;
  void on_sent(std::uint64_t ticket) override;
  void on_closed(const std::string& reason) override;

 private:
  struct OnItsWay {
    bool constant;
    std::uint64_t id;
  };

  std::uint64_t ticket_for(bool constant, std::uint64_t id);
  void welcome(Profile& profile);
  void take_result(Profile& profile, const net::MessageHeader& header, std::span<const std::byte> head,
                   std::span<const std::byte> body);
  void take_element(Profile& profile, const net::MessageHeader& header, std::span<const std::byte> head,
                    std::span<const std::byte> body);
  void take_range(Profile& profile, const net::MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body);
  dispatch::SlotResult outcome(Profile& profile, runtime::ResultStatus status, std::span<const std::byte> body);
  void answered(Profile& profile, std::uint32_t took_us);
  void release_incoming(Profile& profile);

  Host& host_;
  std::uint64_t profile_;  // serial
  std::uint32_t seat_;
  std::uint32_t link_;
  std::unique_ptr<net::Connection> connection_;
  dispatch::LinkGreeting greeting_;
  std::unordered_map<std::uint64_t, OnItsWay> on_its_way_;  // by ticket
  std::uint64_t last_ticket_ = 0;
  std::uint64_t incoming_ = 0;  // the block that a large result is being received into
  bool receiving_ = false;
};

}  // namespace setsuna::host
