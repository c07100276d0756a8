// A Connection over a stream socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/connection.hpp"
#include "net/direct_sender.hpp"
#include "net/handshake.hpp"
#include "net/layer_stack.hpp"
#include "net/message_reader.hpp"
#include "net/reactor.hpp"
#include "net/send_queue.hpp"
#include "net/websocket.hpp"

namespace setsuna::net {

class StreamConnection;

// Whoever made a connection; told what becomes of it until it is open. Neither may destroy the other's caller: a connection
// may be destroyed from on_failed(), or handed on from on_proven().
class ConnectionMaker {
 public:
  // The other side is who it should be. Its sink; or null and a reason, which is told to the other side.
  virtual ConnectionSink* on_proven(StreamConnection& connection, std::string* refusal) = 0;
  // It has ended before it was open. The reason is a clause without its subject: "it said nothing for 10 s".
  virtual void on_failed(StreamConnection& connection, const std::string& reason) = 0;

 protected:
  ~ConnectionMaker() = default;
};

struct StreamSetup {
  Reactor* reactor = nullptr;
  int fd = -1;  // adopted and connected
  std::string peer;
  Handshake::Role role = Handshake::Role::kHost;
  const HandshakeConfig* config = nullptr;  // outlives the handshake
  ConnectionMaker* maker = nullptr;
  std::uint64_t deadline_ns = 0;  // until when it must be open
  LayerStack layers;
  const WebSocketLayer* websocket = nullptr;  // among the layers, if there is one
};

// The state machine behind a StreamConnection. It outlives it where the kernel still works on its sends.
class StreamCore final : MessageReader::Events, ByteSink {
 public:
  StreamCore(StreamSetup setup, StreamConnection& facade);

  void start();
  void detach();

  void send(std::uint16_t type, Lane lane, std::uint64_t id, std::span<const std::byte> head,
            std::span<const std::byte> body, std::uint64_t ticket);
  Connection::SentNow send_now(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                               std::span<const std::byte> body, bool watchful) noexcept {
    return direct_.send(type, id, head, body, watchful ? &watch_ : nullptr);
  }
  void resume() {
    take_sending();
    offer_sending();
  }
  void close(const std::string& reason);
  void set_watchful(bool on);
  std::uint64_t unsent_bytes() const;
  const std::string& peer() const noexcept { return setup_.peer; }
  // One side did not want the other: another attempt would end in the same way.
  bool refused() const noexcept {
    return handshake_.state() == Handshake::State::kRefused || !setup_.layers.error().empty();
  }
  std::span<const std::byte> peer_greeting() const noexcept { return handshake_.peer_greeting(); }
  const std::string& path() const noexcept;

 private:
  enum class State : std::uint8_t {
    kShaking,    // hands
    kOpen,       //
    kClosing,    // what is queued goes out, what comes in is not looked at
    kLingering,  // all is out and we have said so: until the other side has read it and ends, too
    kEnding,     // the reactor gives back what it works on
    kEnded,
  };

  struct Flight {
    StreamCore* core = nullptr;
    bool busy = false;
    SendBatch batch;
    std::vector<std::byte> wire;  // what goes before the batch, or what the layers made of it
    bool in_place = false;        // the batch itself follows, as it lies
    std::array<iovec, Reactor::kMaxSendPieces> gather(std::size_t* count) const noexcept;
    void on_sent(const Completion& completion) { core->on_batch_sent(*this, completion); }
  };

  // While one lives, the core does, whatever handlers do.
  class Guard {
   public:
    explicit Guard(StreamCore& core) noexcept : core_(core) { ++core_.guards_; }
    ~Guard() {
      --core_.guards_;
      core_.free_if_unused();
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    StreamCore& core_;
  };

  // Of the reader.
  std::byte* on_begin(const MessageHeader& header, std::span<const std::byte> head, std::string* reject) override;
  void on_message(const MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override;

  // Of the layers.
  bool on_bytes(std::span<const std::byte> bytes) override { return reader_.feed(bytes); }
  std::span<std::byte> room() noexcept override { return reader_.room(); }
  bool on_placed(std::size_t bytes) override { return reader_.placed(bytes); }

  void on_received(const Completion& completion);
  void receive(std::span<const std::byte> bytes);
  void layers_moved();
  void on_stream_end(std::int64_t result);
  void on_reader_stopped();
  void on_net_message(NetMessage type, std::span<const std::byte> bytes);
  void begin_handshake();
  void step(const Handshake::Reply& reply);
  void after_handshake_step();
  void open(ConnectionSink* sink);

  void schedule_flush();
  void on_flush(const Completion& completion);
  void pump();
  void take_sending();
  void offer_sending();
  bool nothing_to_send() const noexcept { return queue_.empty() && rest_.empty(); }
  bool fill(Flight& flight);
  void fill_through_layers(Flight& flight);
  void on_batch_sent(Flight& flight, const Completion& completion);
  void release(std::span<const std::uint64_t> tickets);

  void finish_with(NetMessage last, const std::string& told, const std::string& reason);
  void finish_without_a_word(const std::string& reason);
  void start_closing(const std::string& reason);
  void check_closing();
  void set_deadline(std::uint64_t ns_from_now);
  void on_deadline(const Completion& completion);
  void end(const std::string& reason);
  void on_fd_closed(const Completion& completion);
  void report_end();

  void heard();
  void look_after_peer();
  void watch_at(std::uint64_t deadline_ns);
  void on_watch(const Completion& completion);

  bool sending() const noexcept { return flights_[0].busy || flights_[1].busy; }
  bool alive() const noexcept { return state_ < State::kEnding; }
  void forget_timer(Token& token);
  void free_if_unused();

  StreamSetup setup_;
  StreamConnection* facade_;  // null: destroyed, nobody is told anything
  ConnectionSink* sink_ = nullptr;
  State state_ = State::kShaking;
  Handshake handshake_;
  MessageReader reader_;
  SendQueue queue_;
  std::vector<std::uint64_t> late_;  // tickets of what was to be sent after a close()
  std::array<Flight, 2> flights_;    // one is sent, the next one waits behind it
  std::string reason_;
  std::string write_error_;
  bool receiving_ = false;
  bool begun_ = false;           // the handshake: all layers are open
  bool finished_ = false;        // the layers have said farewell
  DirectSender direct_;          // has the sending side while nothing is to be sent
  std::vector<std::byte> rest_;  // of what it has sent in part: goes before all else
  Watch watch_;
  int guards_ = 0;
  std::uint64_t close_limit_ns_ = 0;  // while closing
  Token flush_timer_;
  Token deadline_timer_;
  Token watch_timer_;  // runs on when the watch ends: it may begin again soon
};

class StreamConnection final : public Connection {
 public:
  explicit StreamConnection(StreamSetup setup) : core_(new StreamCore(std::move(setup), *this)) {}
  ~StreamConnection() override { core_->detach(); }
  StreamConnection(const StreamConnection&) = delete;
  StreamConnection& operator=(const StreamConnection&) = delete;

  // The maker may be told of a failure inside this call's later rounds only, never inside it.
  void start() { core_->start(); }

  void send(std::uint16_t type, Lane lane, std::uint64_t id, std::span<const std::byte> head,
            std::span<const std::byte> body, std::uint64_t ticket) override {
    core_->send(type, lane, id, head, body, ticket);
  }
  SentNow send_now(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                   std::span<const std::byte> body, bool watchful) noexcept override {
    return core_->send_now(type, id, head, body, watchful);
  }
  void resume() override { core_->resume(); }
  void close(const std::string& reason) override { core_->close(reason); }
  void set_watchful(bool on) override { core_->set_watchful(on); }
  std::uint64_t unsent_bytes() const override { return core_->unsent_bytes(); }
  const std::string& peer() const override { return core_->peer(); }
  std::span<const std::byte> peer_greeting() const override { return core_->peer_greeting(); }
  const std::string& path() const override { return core_->path(); }
  bool refused() const noexcept { return core_->refused(); }

 private:
  StreamCore* core_;  // deletes itself
};

}  // namespace setsuna::net
