#include "net/http_upgrade.hpp"

#include <algorithm>
#include <optional>

#include "net/url.hpp"

namespace setsuna::net {
namespace {

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same(std::string_view one, std::string_view other) noexcept {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](char a, char b) { return lower(a) == lower(b); });
}

bool is_token(char c) noexcept {
  const bool letter = (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9');
  return letter || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_value(char c) noexcept { return static_cast<unsigned char>(c) >= ' ' ? c != 0x7f : c == '\t'; }

std::string_view trim(std::string_view text) noexcept {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && blank(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

// A comma-separated list has this word.
bool lists(std::string_view list, std::string_view word) noexcept {
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    if (same(trim(list.substr(at, comma - at)), word)) {
      return true;
    }
    at = comma + 1;
  }
  return false;
}

// The fields that matter here. Those that may come once only, and those that are lists.
struct Fields {
  std::optional<std::string_view> host, key, version, accept, length;
  bool upgrade = false;     // lists "websocket"
  bool connection = false;  // lists "Upgrade"
  bool protocol = false;    // lists our subprotocol
  bool encoded = false;     // Transfer-Encoding
};

HttpResult bad(int status, std::string error) {
  HttpResult out;
  out.state = HttpState::kBad;
  out.status = status;
  out.error = std::move(error);
  return out;
}

// False: came twice.
bool once(std::optional<std::string_view>& field, std::string_view value) {
  if (field) {
    return false;
  }
  field = value;
  return true;
}

bool take_field(std::string_view name, std::string_view value, Fields& out) {
  if (same(name, "Host")) return once(out.host, value);
  if (same(name, "Sec-WebSocket-Key")) return once(out.key, value);
  if (same(name, "Sec-WebSocket-Version")) return once(out.version, value);
  if (same(name, "Sec-WebSocket-Accept")) return once(out.accept, value);
  if (same(name, "Content-Length")) return once(out.length, value);
  out.upgrade = out.upgrade || (same(name, "Upgrade") && lists(value, "websocket"));
  out.connection = out.connection || (same(name, "Connection") && lists(value, "Upgrade"));
  out.protocol = out.protocol || (same(name, "Sec-WebSocket-Protocol") && lists(value, kSubprotocol));
  out.encoded = out.encoded || same(name, "Transfer-Encoding");
  return true;
}

// Lines "Name: value" up to the end of `text`. Empty, or what is wrong.
std::string parse_fields(std::string_view text, Fields& out) {
  while (!text.empty()) {
    const std::size_t end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 2);
    const std::size_t colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    if (colon == std::string_view::npos || name.empty() || !std::all_of(name.begin(), name.end(), is_token)) {
      return "a line of its HTTP header is no field: " + quote_for_message(line, 60);
    }
    const std::string_view value = trim(line.substr(colon + 1));
    if (!std::all_of(value.begin(), value.end(), is_value)) {
      return "a field of its HTTP header has control characters";
    }
    if (!take_field(name, value, out)) {
      return "its HTTP header has " + std::string(name) + " twice";
    }
  }
  return {};
}

// The first line and the fields, once the header is whole.
struct Header {
  HttpResult result;  // kMore or kBad: nothing else is set
  std::string_view line;
  Fields fields;
};

Header split(std::string_view text, std::string_view expected_start) {
  Header out;
  const std::size_t length = std::min(text.size(), expected_start.size());
  if (text.substr(0, length) != expected_start.substr(0, length)) {
    out.result = bad(400, "what comes is not HTTP as expected (it begins with " + quote_for_message(text, 16) + ")");
    return out;
  }
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos || end + 4 > kMaxHttpBytes) {
    if (text.size() >= kMaxHttpBytes) {
      out.result = bad(431, "its HTTP header is longer than " + std::to_string(kMaxHttpBytes) + " bytes");
    }
    return out;
  }
  const std::size_t first = text.find("\r\n");
  out.line = text.substr(0, first);
  std::string error = parse_fields(text.substr(first + 2, end + 2 - (first + 2)), out.fields);
  if (!error.empty()) {
    out.result = bad(400, std::move(error));
    return out;
  }
  out.result.state = HttpState::kDone;
  out.result.bytes = end + 4;
  return out;
}

// 16 bytes in base64.
bool is_key(std::string_view key) noexcept {
  const auto in_base64 = [](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
  };
  return key.size() == 24 && key.ends_with("==") && std::all_of(key.begin(), key.begin() + 22, in_base64);
}

bool is_target(std::string_view target) noexcept {
  return !target.empty() && target.front() == '/' &&
         std::all_of(target.begin(), target.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

const char* reason_of(int status) noexcept {
  switch (status) {
    case 404: return "Not Found";
    case 426: return "Upgrade Required";
    case 431: return "Request Header Fields Too Large";
    default: return "Bad Request";
  }
}

}  // namespace

HttpResult parse_upgrade_request(std::string_view text) {
  Header header = split(text, "GET /");
  if (header.result.state != HttpState::kDone) {
    return header.result;
  }
  const std::string_view line = header.line;
  const std::size_t space = line.rfind(' ');
  if (space < 5 || line.substr(space + 1) != "HTTP/1.1" || !is_target(line.substr(4, space - 4))) {
    return bad(400, "its HTTP request line is malformed: " + quote_for_message(line, 60));
  }
  const Fields& fields = header.fields;
  if (!fields.host || (fields.length && *fields.length != "0") || fields.encoded) {
    return bad(400, "its HTTP request has no Host, or has a body");
  }
  if (!fields.upgrade || !fields.connection) {
    return bad(426, "it does not ask for a WebSocket: a browser, or a proxy that does not pass 'Upgrade' on");
  }
  if (!fields.version || *fields.version != "13") {
    return bad(426, "it asks for another version of WebSocket than 13");
  }
  if (!fields.key || !is_key(*fields.key)) {
    return bad(400, "its Sec-WebSocket-Key is missing or malformed");
  }
  if (!fields.protocol) {
    return bad(400, "it does not offer the subprotocol 'setsuna': it is no setsuna daemon");
  }
  header.result.path = std::string(line.substr(4, space - 4));
  header.result.key = std::string(*fields.key);
  return header.result;
}

HttpResult parse_upgrade_answer(std::string_view text, std::string_view accept) {
  Header header = split(text, "HTTP/1.1 ");
  if (header.result.state != HttpState::kDone) {
    return header.result;
  }
  if (!header.line.starts_with("HTTP/1.1 101 ") && header.line != "HTTP/1.1 101") {
    return bad(0, "the WebSocket was refused with " + quote_for_message(header.line.substr(9), 60) +
                      ": check the path and, if there is a proxy, that it passes 'Upgrade' on");
  }
  const Fields& fields = header.fields;
  if (!fields.upgrade || !fields.connection || !fields.accept || *fields.accept != accept || !fields.protocol) {
    return bad(0, "the answer to the request for a WebSocket is not that of a setsuna host");
  }
  return header.result;
}

std::string upgrade_request(std::string_view path, std::string_view host, std::string_view key) {
  std::string out = "GET ";
  out.append(path).append(" HTTP/1.1\r\nHost: ").append(host);
  out.append("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ").append(key);
  out.append("\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ").append(kSubprotocol);
  return out.append("\r\n\r\n");
}

std::string upgrade_answer(std::string_view accept) {
  std::string out = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
  out.append("Sec-WebSocket-Accept: ").append(accept).append("\r\nSec-WebSocket-Protocol: ").append(kSubprotocol);
  return out.append("\r\n\r\n");
}

std::string refusal_answer(int status, std::string_view text) {
  std::string out = "HTTP/1.1 " + std::to_string(status) + " " + reason_of(status) + "\r\n";
  if (status == 426) {
    out += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
  }
  out += "Connection: close\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n";
  return out.append(text);
}

std::string base64(std::span<const std::uint8_t> bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      word = word << 8 | (k < count ? bytes[i + k] : 0);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= count ? kDigits[word >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

}  // namespace setsuna::net
