#include "net/websocket.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "net/http_upgrade.hpp"
#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

constexpr std::uint64_t kMaxFrameBytes = std::uint64_t{1}
                                         << 30;  // they are not collected, so this is no matter of memory

constexpr std::size_t kBlockBytes = std::size_t{16} * 1024;  // masked at a time: they stay in the nearest cache

}  // namespace

WebSocketLayer::WebSocketLayer(const std::vector<std::string>& paths, const setsuna_tls_api& crypto)
    : server_(true), paths_(&paths), crypto_(crypto) {}

WebSocketLayer::WebSocketLayer(std::string path, std::string host, const setsuna_tls_api& crypto)
    : server_(false), crypto_(crypto), path_(std::move(path)), host_(std::move(host)) {}

WebSocketLayer::~WebSocketLayer() {
  if (events_ != nullptr) {
    wslay_event_context_free(events_);
  }
}

void WebSocketLayer::start() {
  if (server_) {
    return;
  }
  std::array<std::uint8_t, 16> nonce;
  crypto_.random_bytes(nonce.data(), nonce.size());
  const std::string key = base64(nonce);
  accept_ = accept_for(key);
  output_ = upgrade_request(path_, host_, key);
}

std::string WebSocketLayer::accept_for(const std::string& key) const {
  const std::string text = key + std::string(kWebSocketGuid);
  std::array<std::uint8_t, SETSUNA_SHA1_BYTES> digest;
  crypto_.sha1(text.data(), text.size(), digest.data());
  return base64(digest);
}

bool WebSocketLayer::receive(std::span<const std::byte> bytes, ByteSink& up) {
  if (!error_.empty() || (!open() && !receive_http(bytes))) {
    return false;
  }
  if (!open()) {
    return true;
  }
  up_ = &up;
  const bool good = receive_frames(bytes);
  up_ = nullptr;
  return good;
}

// Takes what belongs to the header off `bytes`.
bool WebSocketLayer::receive_http(std::span<const std::byte>& bytes) {
  const std::size_t before = http_.size();
  const std::size_t part = std::min(bytes.size(), kMaxHttpBytes - before);
  http_.append(reinterpret_cast<const char*>(bytes.data()), part);
  const HttpResult result = server_ ? parse_upgrade_request(http_) : parse_upgrade_answer(http_, accept_);
  if (result.state == HttpState::kMore) {
    return true;
  }
  if (result.state == HttpState::kBad) {
    if (server_) {
      output_ += refusal_answer(result.status, "This is a setsuna host. Daemons connect to it by WebSocket.\n");
    }
    return fail(result.error);
  }
  bytes = bytes.subspan(result.bytes - before);
  std::string().swap(http_);
  if (server_ && !answer_request(result.key, result.path)) {
    return false;
  }
  open_context();
  return true;
}

bool WebSocketLayer::answer_request(const std::string& key, const std::string& path) {
  path_ = path;
  if (std::find(paths_->begin(), paths_->end(), path) == paths_->end()) {
    output_ += refusal_answer(404, "No setsuna host listens at this path.\n");
    return fail("it asks for the path '" + path.substr(0, 100) + "', at which nobody listens");
  }
  output_ += upgrade_answer(accept_for(key));
  return true;
}

void WebSocketLayer::open_context() {
  wslay_event_callbacks callbacks{};
  callbacks.recv_callback = on_pull;
  callbacks.send_callback = on_push;
  callbacks.genmask_callback = on_mask;
  callbacks.on_frame_recv_start_callback = on_frame;
  callbacks.on_frame_recv_chunk_callback = on_chunk;
  const int made = server_ ? wslay_event_context_server_init(&events_, &callbacks, this)
                           : wslay_event_context_client_init(&events_, &callbacks, this);
  SETSUNA_ASSERT(made == 0);
  wslay_event_config_set_no_buffering(events_, 1);
  wslay_event_config_set_max_recv_msg_length(events_, kMaxFrameBytes);
}

// ---- receiving ----

// Frame by frame, so that wslay holds nothing back where a large one begins.
bool WebSocketLayer::receive_frames(std::span<const std::byte> bytes) {
  bool good = true;
  while (good && !bytes.empty()) {
    if (bulk_left_ != 0 || begin_bulk(bytes)) {
      good = receive_bulk(bytes);
    } else {
      const bool control = cutter_.control_left() != 0;
      const std::size_t part = cutter_.take(bytes);
      good = control ? receive_control(bytes.first(part)) : receive_by_wslay(bytes.first(part));
      bytes = bytes.subspan(part);
    }
  }
  return good;
}

// True: an unfragmented data frame begins here that is long, by the rules, and has its header here. It is taken off `bytes`.
// All others are wslay's.
bool WebSocketLayer::begin_bulk(std::span<const std::byte>& bytes) {
  if (!cutter_.between_frames() || cutter_.in_message()) {
    return false;
  }
  const std::optional<WebSocketFrame> frame = WebSocketFrame::parse(bytes);
  if (!frame || !frame->final || frame->reserved != 0 || frame->opcode != WebSocketFrame::kBinary ||
      frame->mask.has_value() != server_ || !frame->shortest || frame->payload_bytes < bulk_bytes_ ||
      frame->payload_bytes > kMaxFrameBytes) {
    return false;
  }
  bytes = bytes.subspan(frame->header_bytes);
  bulk_left_ = frame->payload_bytes;
  bulk_offset_ = 0;
  bulk_mask_ = frame->mask;
  return true;
}

bool WebSocketLayer::receive_bulk(std::span<const std::byte>& bytes) {
  std::span<const std::byte> part =
      bytes.first(static_cast<std::size_t>(std::min<std::uint64_t>(bulk_left_, bytes.size())));
  bytes = bytes.subspan(part.size());
  bulk_left_ -= part.size();
  if (!bulk_mask_) {
    return part.empty() || up_->on_bytes(part);
  }
  std::array<std::byte, kBlockBytes> clear;
  while (!part.empty()) {
    const auto block = std::span(clear).first(std::min(part.size(), clear.size()));
    WebSocketFrame::apply(*bulk_mask_, bulk_offset_, part.first(block.size()), block.data());
    bulk_offset_ += block.size();
    part = part.subspan(block.size());
    if (!up_->on_bytes(block)) {
      return false;
    }
  }
  return true;
}

// wslay gets a control frame's payload in one piece: it looks whether the reason in a close frame is UTF-8 from the third byte
// of each piece on, and would find one wrong that was cut in the middle of a character.
bool WebSocketLayer::receive_control(std::span<const std::byte> part) {
  control_.insert(control_.end(), part.begin(), part.end());
  if (cutter_.control_left() != 0) {
    return true;
  }
  const bool good = receive_by_wslay(control_);
  control_.clear();
  return good;
}

bool WebSocketLayer::receive_by_wslay(std::span<const std::byte> part) {
  input_ = part;
  const int result = wslay_event_recv(events_);
  if (up_ == nullptr) {
    return false;
  }
  if (result == WSLAY_ERR_NOMEM) {
    return fail("there is no memory for the WebSocket");
  }
  if (text_) {
    wslay_event_queue_close(events_, WSLAY_CODE_UNSUPPORTED_DATA, nullptr, 0);
    return fail("a text message came over the WebSocket, where only binary ones belong");
  }
  if (wslay_event_get_close_received(events_) != 0) {
    const unsigned code = wslay_event_get_status_code_received(events_);
    return fail("the other side closed the WebSocket (code " + std::to_string(code) + ")");
  }
  return (result == 0 && wslay_event_get_read_enabled(events_) != 0) ||
         fail("what came is not WebSocket, or violates its rules");
}

ssize_t WebSocketLayer::on_pull(wslay_event_context_ptr context, std::uint8_t* to, std::size_t size, int, void* self) {
  auto& layer = *static_cast<WebSocketLayer*>(self);
  const std::size_t part = layer.up_ == nullptr || layer.text_ ? 0 : std::min(size, layer.input_.size());
  if (part == 0) {
    wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
    return -1;
  }
  std::memcpy(to, layer.input_.data(), part);
  layer.input_ = layer.input_.subspan(part);
  return static_cast<ssize_t>(part);
}

void WebSocketLayer::on_frame(wslay_event_context_ptr, const wslay_event_on_frame_recv_start_arg* frame, void* self) {
  auto& layer = *static_cast<WebSocketLayer*>(self);
  layer.in_data_ = frame->opcode == WSLAY_BINARY_FRAME || frame->opcode == WSLAY_CONTINUATION_FRAME;
  layer.text_ = layer.text_ || frame->opcode == WSLAY_TEXT_FRAME;
}

void WebSocketLayer::on_chunk(wslay_event_context_ptr, const wslay_event_on_frame_recv_chunk_arg* chunk, void* self) {
  auto& layer = *static_cast<WebSocketLayer*>(self);
  if (!layer.in_data_ || layer.text_ || layer.up_ == nullptr) {
    return;
  }
  if (!layer.up_->on_bytes(std::as_bytes(std::span(chunk->data, chunk->data_length)))) {
    layer.up_ = nullptr;
  }
}

// ---- sending ----

ssize_t WebSocketLayer::on_push(wslay_event_context_ptr, const std::uint8_t* from, std::size_t size, int, void* self) {
  std::vector<std::byte>& down = *static_cast<WebSocketLayer*>(self)->down_;
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  down.insert(down.end(), bytes, bytes + size);
  return static_cast<ssize_t>(size);
}

int WebSocketLayer::on_mask(wslay_event_context_ptr, std::uint8_t* to, std::size_t size, void* self) {
  static_cast<WebSocketLayer*>(self)->crypto_.random_bytes(to, size);
  return 0;
}

namespace {

std::uint64_t total_bytes(std::span<const iovec> pieces) noexcept {
  std::uint64_t total = 0;
  for (const iovec& piece : pieces) {
    total += piece.iov_len;
  }
  return total;
}

}  // namespace

// A server's payload is not masked: it needs no copy.
bool WebSocketLayer::send_before(std::span<const iovec> pieces, std::vector<std::byte>& down) {
  if (server_) {
    WebSocketFrame::append_header(down, total_bytes(pieces), std::nullopt);
  }
  return server_;
}

// One message of one frame. Not by wslay, which masks byte by byte and in parts of 4 KB.
bool WebSocketLayer::send(std::span<const iovec> pieces, std::vector<std::byte>& down) {
  std::optional<WebSocketFrame::Mask> mask;
  if (!server_) {
    crypto_.random_bytes(mask.emplace().data(), sizeof *mask);
  }
  WebSocketFrame::append_header(down, total_bytes(pieces), mask);
  std::uint64_t offset = 0;
  for (const iovec& piece : pieces) {
    std::span<const std::byte> left(static_cast<const std::byte*>(piece.iov_base), piece.iov_len);
    while (!left.empty()) {
      const auto block = left.first(std::min(left.size(), kBlockBytes));
      if (mask) {
        down.resize(down.size() + block.size());
        WebSocketFrame::apply(*mask, offset, block, down.data() + down.size() - block.size());
      } else {
        down.insert(down.end(), block.begin(), block.end());
      }
      offset += block.size();
      left = left.subspan(block.size());
    }
  }
  return true;
}

bool WebSocketLayer::has_output() const noexcept {
  return !output_.empty() || (events_ != nullptr && wslay_event_want_write(events_) != 0);
}

void WebSocketLayer::take_output(std::vector<std::byte>& down) {
  const auto http = std::as_bytes(std::span(output_));
  down.insert(down.end(), http.begin(), http.end());
  std::string().swap(output_);
  if (events_ != nullptr) {
    down_ = &down;
    wslay_event_send(events_);
    down_ = nullptr;
  }
}

void WebSocketLayer::finish() {
  if (events_ != nullptr) {
    wslay_event_queue_close(events_, WSLAY_CODE_NORMAL_CLOSURE, nullptr, 0);
  }
}

}  // namespace setsuna::net
