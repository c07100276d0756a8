// One connection between a host and a remote daemon: authenticated messages over tcp, tls+tcp, ws or wss (or a local stream
// socket), on one reactor. The layers below (TLS, WebSocket framing, chunks and their checksums) do not show here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace setsuna::net {

// Order is kept within a lane. Control messages are at most kMaxControlBytes and go between the chunks of data messages, so
// that they are not held up by them.
enum class Lane : std::uint8_t { kControl = 0, kData = 1 };
inline constexpr std::size_t kMaxControlBytes = 4096;  // of its body

// A message is a head of a few bytes, which comes with the first frame, and a body, which may be large and lies where the
// receiver wants it. `type` and `id` mean nothing to net (see dispatch/link_wire.hpp).
inline constexpr std::size_t kMaxHeadBytes = 64;
struct MessageHeader {
  std::uint16_t type = 0;  // < 0x8000; the upper half is net's own
  Lane lane = Lane::kControl;
  std::uint64_t id = 0;
  std::uint64_t body_bytes = 0;
};

// Told by a connection, on the reactor thread, under no lock of net's. A sink may send and close() from inside any of these.
class ConnectionSink {
 public:
  // Both sides have proved who they are. Comes first, once; not at all for a connection that fails before.
  virtual void on_open() = 0;

  // A data message with a body begins: the memory that receives the body (`header.body_bytes` long), which stays valid until
  // on_message() or on_torn(). Null: net collects it in memory of its own. *reject set to a reason: the connection is closed
  // with it. Not called for control messages and for messages without a body.
  virtual std::byte* on_begin(const MessageHeader& header, std::span<const std::byte> head, std::string* reject) = 0;

  // A whole message, checked to be as it was sent. `head` is valid during the call; `body` lies where on_begin() said, or
  // is valid during the call only.
  virtual void on_message(const MessageHeader& header, std::span<const std::byte> head,
                          std::span<const std::byte> body) = 0;

  // The memory that on_begin() gave for this message will not be filled: the connection has ended. Before on_closed().
  virtual void on_torn(const MessageHeader& header) = 0;

  // The pieces of the message sent with this ticket (> 0) are not needed any more: all is sent, or the connection has ended.
  virtual void on_sent(std::uint64_t ticket) = 0;

  // It has ended, for the reason given (one sentence, for a log: names the peer). The last call. The connection object may
  // be destroyed from inside it.
  virtual void on_closed(const std::string& reason) = 0;

 protected:
  ~ConnectionSink() = default;
};

class Connection {
 public:
  // `head` (at most kMaxHeadBytes) is copied. `body` is borrowed until on_sent(ticket) if ticket > 0, and copied if it is 0.
  // The body of a control message has at most kMaxControlBytes, and ticket 0. Calls back nothing before it returns. No effect
  // once the connection has ended (but on_sent is still told).
  virtual void send(std::uint16_t type, Lane lane, std::uint64_t id, std::span<const std::byte> head,
                    std::span<const std::byte> body, std::uint64_t ticket) = 0;
  void send_control(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head = {}) {
    send(type, Lane::kControl, id, head, {}, 0);
  }

  // From any thread, while the caller keeps the connection from being destroyed: a data message with a small body goes to the
  // kernel at once if nothing else is to be sent. kPart: the kernel took some of it, the rest is kept and goes once the
  // reactor thread calls resume(). kNo: nothing was done; it is to be sent as all others. Always that over
  // TLS. `watchful`: as by set_watchful(true).
  // Between two threads that send, the order is that of the calls, if these are ordered.
  enum class SentNow : std::uint8_t { kNo, kPart, kAll };
  virtual SentNow send_now(std::uint16_t /*type*/, std::uint64_t /*id*/, std::span<const std::byte> /*head*/,
                           std::span<const std::byte> /*body*/, bool /*watchful*/) noexcept {
    return SentNow::kNo;
  }
  virtual void resume() {}

  // What was sent before goes out (within a bounded time), then it ends: on_closed() follows.
  virtual void close(const std::string& reason) = 0;

  // While on, the peer must be heard from: it is asked after kAskAfterNs of silence and given up after kSilentNs. Off (the
  // default), the kernel's keep-alive alone finds a cut cable, without any wake-up here but for a last one.
  virtual void set_watchful(bool on) = 0;
  static constexpr std::uint64_t kAskAfterNs = 5'000'000'000;
  static constexpr std::uint64_t kSilentNs = 20'000'000'000;

  virtual std::uint64_t unsent_bytes() const = 0;
  // "127.0.0.1:40522"
  virtual const std::string& peer() const = 0;
  // What the peer said of itself in the handshake (a few hundred bytes at most; meaning: dispatch/link_wire.hpp).
  virtual std::span<const std::byte> peer_greeting() const = 0;
  // ws, wss: the path it asked for. Else empty.
  virtual const std::string& path() const = 0;

  // Frees it. From inside on_closed(), or before: then nothing is called any more, and pieces still to be sent are let go
  // of before this returns (they are copied if the kernel still needs them).
  virtual ~Connection() = default;
};

}  // namespace setsuna::net
