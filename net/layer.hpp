// A protocol between the socket and the frames: TLS or WebSocket. Bytes in, bytes out, no I/O of its own.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "net/channel_binding.hpp"

namespace setsuna::net {

// Who receives decoded bytes.
class ByteSink {
 public:
  // False: it wants no more.
  virtual bool on_bytes(std::span<const std::byte> bytes) = 0;

  // Where the next bytes may be put instead of being given to on_bytes(), so that nobody copies them; on_placed() says how
  // many were. Empty: nowhere.
  virtual std::span<std::byte> room() noexcept { return {}; }
  virtual bool on_placed(std::size_t /*bytes*/) { return false; }

 protected:
  ~ByteSink() = default;
};

class Layer {
 public:
  virtual ~Layer() = default;

  // The first step of its handshake, if it is this side's.
  virtual void start() {}
  // Its handshake is over.
  virtual bool open() const noexcept = 0;

  // Once open: of the connection that it protects from end to end, if it does.
  virtual ChannelBinding binding() const noexcept { return {}; }

  // Bytes from below; what they decode to goes up. False: the sink wants no more, or error() says what went wrong (the
  // other side may be told: see take_output).
  virtual bool receive(std::span<const std::byte> bytes, ByteSink& up) = 0;

  // Once open. True: `down` has got what goes before these bytes, and they themselves need no encoding. False: send() them.
  virtual bool send_before(std::span<const iovec> /*pieces*/, std::vector<std::byte>& /*down*/) { return false; }

  // Once open. Bytes from above, encoded, are appended to `down`. False: error().
  virtual bool send(std::span<const iovec> pieces, std::vector<std::byte>& down) = 0;

  // send() changes nothing of the layer once it is open, and gives what any order of calls may give: any thread may call it.
  virtual bool sends_anywhere() const noexcept { return false; }

  // What it has to say itself (handshakes, answers, farewells, why it failed), appended to `down`. After start(), receive()
  // and finish().
  virtual void take_output(std::vector<std::byte>& down) = 0;
  virtual bool has_output() const noexcept = 0;

  // Its farewell: nothing is sent after it.
  virtual void finish() = 0;

  const std::string& error() const noexcept { return error_; }

 protected:
  bool fail(std::string why) {
    error_ = std::move(why);
    return false;
  }

  std::string error_;
};

}  // namespace setsuna::net
