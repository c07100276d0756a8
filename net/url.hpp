// The URLs that hosts listen at and daemons dial.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace setsuna::net {

enum class Scheme : std::uint8_t { kAbstract, kIpc, kTcp, kTlsTcp, kWs, kWss };

// "tls+tcp", without "://".
std::string_view scheme_name(Scheme scheme) noexcept;

struct Url {
  Scheme scheme = Scheme::kTcp;
  std::string host;        // without brackets; empty: any address (listening only); abstract and ipc: empty
  bool ipv6 = false;       // host is an IPv6 address, to be written in brackets
  std::uint16_t port = 0;  // 0: take a free one (listening only); abstract and ipc: 0
  std::string path;        // ws, wss: begins with '/'. ipc: absolute file name. abstract: the name. tcp, tls+tcp: empty

  bool is_local() const noexcept { return scheme == Scheme::kAbstract || scheme == Scheme::kIpc; }
  bool is_websocket() const noexcept { return scheme == Scheme::kWs || scheme == Scheme::kWss; }
  bool is_tls() const noexcept { return scheme == Scheme::kTlsTcp || scheme == Scheme::kWss; }

  friend bool operator==(const Url&, const Url&) = default;
};

// Either a URL, or an error: a sentence that quotes the text (shortened, control bytes escaped), says what is wrong with
// it and what to write instead.
struct ParsedUrl {
  std::optional<Url> url;
  std::string error;
};

// No system calls, no names are looked up. Any bytes may come in.
ParsedUrl parse_url(std::string_view text);

// The text that parses back to the same URL.
std::string format_url(const Url& url);

// For messages: in single quotes, control and non-ASCII bytes as \xNN, at most `limit` bytes of it.
std::string quote_for_message(std::string_view text, std::size_t limit = 200);

}  // namespace setsuna::net
