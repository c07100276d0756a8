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

// In steps of eight bytes, whose mask is the same each time.
void apply_mask(std::span<std::byte> bytes, const std::array<std::byte, 4>& mask) noexcept {
  std::uint64_t wide;
  std::memcpy(&wide, mask.data(), 4);
  std::memcpy(reinterpret_cast<std::byte*>(&wide) + 4, mask.data(), 4);
  std::size_t at = 0;
  for (; at + sizeof wide <= bytes.size(); at += sizeof wide) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    word ^= wide;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  for (; at < bytes.size(); ++at) {
    bytes[at] ^= mask[at % mask.size()];
  }
}

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
  input_ = bytes;
  up_ = &up;
  const bool good = receive_frames();
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

bool WebSocketLayer::receive_frames() {
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

namespace {

ssize_t append(std::vector<std::byte>* out, const std::uint8_t* from, std::size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  out->insert(out->end(), bytes, bytes + size);
  return static_cast<ssize_t>(size);
}

}  // namespace

ssize_t WebSocketLayer::on_push(wslay_event_context_ptr, const std::uint8_t* from, std::size_t size, int, void* self) {
  return append(static_cast<WebSocketLayer*>(self)->down_, from, size);
}

ssize_t WebSocketLayer::on_push_frame(const std::uint8_t* from, std::size_t size, int, void* self) {
  return append(static_cast<WebSocketLayer*>(self)->down_, from, size);
}

int WebSocketLayer::on_mask(wslay_event_context_ptr, std::uint8_t* to, std::size_t size, void* self) {
  return on_mask_frame(to, size, self);
}

int WebSocketLayer::on_mask_frame(std::uint8_t* to, std::size_t size, void* self) {
  auto& layer = *static_cast<WebSocketLayer*>(self);
  layer.crypto_.random_bytes(to, size);
  std::memcpy(layer.mask_.data(), to, std::min(size, layer.mask_.size()));
  return 0;
}

// One message, a frame for each piece.
bool WebSocketLayer::send(std::span<const iovec> pieces, std::vector<std::byte>& down) {
  down_ = &down;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    wslay_frame_iocb header{};
    header.fin = i + 1 == pieces.size() ? 1 : 0;
    header.opcode = i == 0 ? WSLAY_BINARY_FRAME : WSLAY_CONTINUATION_FRAME;
    header.mask = server_ ? 0 : 1;
    header.payload_length = pieces[i].iov_len;
    send_frame(header, pieces[i], down);
  }
  down_ = nullptr;
  return true;
}

// wslay writes the header; the payload follows it here, since wslay masks byte by byte and in parts of 4 KB. A context that
// has written a header waits for the payload, so each frame has its own.
void WebSocketLayer::send_frame(const wslay_frame_iocb& header, const iovec& piece, std::vector<std::byte>& down) {
  wslay_frame_callbacks callbacks{};
  callbacks.send_callback = on_push_frame;
  callbacks.genmask_callback = on_mask_frame;
  wslay_frame_context_ptr context = nullptr;
  wslay_frame_iocb copy = header;
  const bool good = wslay_frame_context_init(&context, &callbacks, this) == 0 && wslay_frame_send(context, &copy) == 0;
  SETSUNA_ASSERT(good);  // there is always room
  wslay_frame_context_free(context);
  const auto* from = static_cast<const std::byte*>(piece.iov_base);
  const std::size_t start = down.size();
  down.insert(down.end(), from, from + piece.iov_len);
  if (header.mask != 0) {
    apply_mask(std::span(down).subspan(start), mask_);
  }
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
