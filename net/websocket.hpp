// WebSocket as a layer: what goes up and down is a stream of bytes, carried in binary messages.
#pragma once

#include <wslay/wslay.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/layer.hpp"
#include "net/tls/tls_api.h"
#include "net/websocket_cutter.hpp"
#include "net/websocket_frame.hpp"

namespace setsuna::net {

class WebSocketLayer final : public Layer {
 public:
  // A server, at these paths. `paths` outlives it.
  WebSocketLayer(const std::vector<std::string>& paths, const setsuna_tls_api& crypto);
  // A client. `host`: for the Host field.
  WebSocketLayer(std::string path, std::string host, const setsuna_tls_api& crypto);
  ~WebSocketLayer() override;

  void start() override;
  bool open() const noexcept override { return events_ != nullptr; }
  bool receive(std::span<const std::byte> bytes, ByteSink& up) override;
  bool send_before(std::span<const iovec> pieces, std::vector<std::byte>& down) override;
  bool send(std::span<const iovec> pieces, std::vector<std::byte>& down) override;
  bool sends_anywhere() const noexcept override { return true; }
  void take_output(std::vector<std::byte>& down) override;
  bool has_output() const noexcept override;
  void finish() override;

  // The path that was asked for.
  const std::string& path() const noexcept { return path_; }

  // Data frames of this length and more do not pass through wslay. For tests: what comes out is the same.
  void set_bulk_bytes(std::uint64_t bytes) noexcept { bulk_bytes_ = bytes; }

 private:
  bool receive_http(std::span<const std::byte>& bytes);
  bool answer_request(const std::string& key, const std::string& path);
  std::string accept_for(const std::string& key) const;
  bool receive_frames(std::span<const std::byte> bytes);
  bool begin_bulk(std::span<const std::byte>& bytes);
  bool receive_bulk(std::span<const std::byte>& bytes);
  bool receive_control(std::span<const std::byte> part);
  bool receive_by_wslay(std::span<const std::byte> part);
  void open_context();

  static ssize_t on_pull(wslay_event_context_ptr, std::uint8_t* to, std::size_t size, int flags, void* self);
  static ssize_t on_push(wslay_event_context_ptr, const std::uint8_t* from, std::size_t size, int flags, void* self);
  static int on_mask(wslay_event_context_ptr, std::uint8_t* to, std::size_t size, void* self);
  static void on_frame(wslay_event_context_ptr, const wslay_event_on_frame_recv_start_arg* frame, void* self);
  static void on_chunk(wslay_event_context_ptr, const wslay_event_on_frame_recv_chunk_arg* chunk, void* self);

  const bool server_;
  const std::vector<std::string>* paths_ = nullptr;
  const setsuna_tls_api& crypto_;
  std::string path_;
  std::string host_;
  std::string accept_;  // a client: the answer that it expects
  std::string http_;    // what has come of the header
  std::string output_;  // of HTTP

  wslay_event_context_ptr events_ = nullptr;  // receives what is no bulk, and sends pongs and the close frame
  std::span<const std::byte> input_;          // of wslay, during receive()
  ByteSink* up_ = nullptr;                    // during receive(); null: it wants no more
  std::vector<std::byte>* down_ = nullptr;    // during take_output()
  bool in_data_ = false;                      // the frame that wslay receives is of a data message
  bool text_ = false;                         // a text message came

  WebSocketCutter cutter_;          // of what is wslay's
  std::vector<std::byte> control_;  // what has come of a control frame's payload
  std::uint64_t bulk_bytes_ = std::uint64_t{4} * 1024;
  std::uint64_t bulk_left_ = 0;  // of the payload of a bulk frame
  std::uint64_t bulk_offset_ = 0;
  std::optional<WebSocketFrame::Mask> bulk_mask_;
};

}  // namespace setsuna::net
