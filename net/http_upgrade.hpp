// The HTTP/1.1 request that turns a connection into a WebSocket, and its answer (RFC 6455, section 4). Pure text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace setsuna::net {

inline constexpr std::size_t kMaxHttpBytes = 8192;
inline constexpr std::string_view kSubprotocol = "setsuna";

enum class HttpState : std::uint8_t { kMore, kDone, kBad };

// What has come so far of a request or an answer.
struct HttpResult {
  HttpState state = HttpState::kMore;
  std::size_t bytes = 0;  // kDone: its length, with the empty line
  int status = 0;         // kBad, of a request: what to answer
  std::string error;      // kBad: a clause for the log
  std::string path;       // kDone, of a request
  std::string key;        // kDone, of a request: Sec-WebSocket-Key
};

HttpResult parse_upgrade_request(std::string_view text);

// `accept`: what Sec-WebSocket-Accept must be.
HttpResult parse_upgrade_answer(std::string_view text, std::string_view accept);

std::string upgrade_request(std::string_view path, std::string_view host, std::string_view key);
std::string upgrade_answer(std::string_view accept);
// 4xx, with a line of text for whoever looks at it with a browser.
std::string refusal_answer(int status, std::string_view text);

std::string base64(std::span<const std::uint8_t> bytes);
// Sec-WebSocket-Key and what is to be hashed with it.
inline constexpr std::string_view kWebSocketGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

}  // namespace setsuna::net
