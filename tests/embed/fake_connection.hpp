// A connection in memory: what one side sends is kept for the test to look at, and the test says what the peer sends.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "dispatch/link_wire.hpp"
#include "net/connection.hpp"

namespace setsuna::embed::test {

struct SentMessage {
  std::uint16_t type = 0;
  net::Lane lane = net::Lane::kControl;
  std::uint64_t id = 0;
  std::vector<std::byte> head;
  std::span<const std::byte> body;  // as borrowed, with a ticket; else of `copy`
  std::vector<std::byte> copy;
  std::uint64_t ticket = 0;
};

using dispatch::bytes_of;

class FakeConnection final : public net::Connection {
 public:
  FakeConnection(net::ConnectionSink& sink, std::span<const std::byte> greeting)
      : sink_(sink), greeting_(greeting.begin(), greeting.end()) {}

  // --- net::Connection
  using net::Connection::send_control;
  void send(std::uint16_t type, net::Lane lane, std::uint64_t id, std::span<const std::byte> head,
            std::span<const std::byte> body, std::uint64_t ticket) override {
    SentMessage message{type, lane, id, {head.begin(), head.end()}, body, {}, ticket};
    if (ticket == 0) {
      message.copy.assign(body.begin(), body.end());
      message.body = message.copy;
    }
    sent.push_back(std::move(message));
    sent.back().body = ticket == 0 ? std::span<const std::byte>(sent.back().copy) : body;
  }
  SentNow send_now(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                   std::span<const std::byte> body, bool) noexcept override {
    if (takes_now != SentNow::kNo) {
      send(type, net::Lane::kData, id, head, body, 0);
    }
    return takes_now;
  }
  void close(const std::string& reason) override { close_reason = close_reason.empty() ? reason : close_reason; }
  void set_watchful(bool) override {}
  std::uint64_t unsent_bytes() const override { return 0; }
  const std::string& peer() const override { return peer_; }
  std::span<const std::byte> peer_greeting() const override { return greeting_; }
  const std::string& path() const override { return path_; }

  // --- the peer
  void peer_says(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head = {},
                 std::span<const std::byte> body = {}) {
    const net::MessageHeader header{type, net::Lane::kData, id, body.size()};
    std::byte* to = begin(header, head);
    if (to == nullptr) {
      sink_.on_message(header, head, body);
      return;
    }
    for (std::size_t at = 0; at < body.size(); at += kChunkBytes) {
      const auto part = body.subspan(at, std::min(kChunkBytes, body.size() - at));
      std::memcpy(to + at, part.data(), part.size());
    }
    sink_.on_message(header, head, {to, body.size()});
  }
  // A message of which only the beginning comes; then the connection ends.
  void peer_breaks_off(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head, std::size_t body_bytes) {
    const net::MessageHeader header{type, net::Lane::kData, id, body_bytes};
    if (std::byte* to = begin(header, head)) {
      std::memset(to, 0x5A, body_bytes / 2);
      sink_.on_torn(header);
    }
    end("connection reset by peer");
  }
  // The network has taken what was sent with this ticket.
  void sent_out(std::uint64_t ticket) { sink_.on_sent(ticket); }
  // What is still to be sent is let go of first, as in a real one.
  void end(const std::string& reason) {
    for (const SentMessage& message : sent) {
      if (message.ticket != 0) {
        sink_.on_sent(message.ticket);
      }
    }
    sink_.on_closed(reason);
  }

  SentNow takes_now = SentNow::kNo;
  std::vector<SentMessage> sent;
  std::string close_reason;  // of the first close()
  std::string rejected;

 private:
  static constexpr std::size_t kChunkBytes = 64 * 1024;

  std::byte* begin(const net::MessageHeader& header, std::span<const std::byte> head) {
    return header.body_bytes == 0 ? nullptr : sink_.on_begin(header, head, &rejected);
  }

  net::ConnectionSink& sink_;
  std::vector<std::byte> greeting_;
  std::string peer_ = "127.0.0.1:40522";
  std::string path_;
};

}  // namespace setsuna::embed::test
