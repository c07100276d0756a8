#include "tests/fuzz/targets.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "net/frame.hpp"
#include "net/handshake.hpp"
#include "net/http_upgrade.hpp"
#include "net/message_reader.hpp"
#include "net/url.hpp"
#include "net/websocket.hpp"
#include "runtime/assert.hpp"

namespace setsuna::fuzz {
namespace {

using namespace setsuna::net;

// No cryptography: what is proved is not the matter here, and a run can be repeated.
const setsuna_tls_api& no_crypto() {
  static const setsuna_tls_api api = [] {
    setsuna_tls_api out{};
    out.random_bytes = [](void* to, std::size_t bytes) { std::memset(to, 7, bytes); };
    out.hmac_sha256 = [](const void*, std::size_t, const void*, std::size_t, std::uint8_t* to) {
      std::memset(to, 1, SETSUNA_SHA256_BYTES);
    };
    out.sha1 = [](const void*, std::size_t, std::uint8_t* to) { std::memset(to, 2, SETSUNA_SHA1_BYTES); };
    out.equal = [](const void* one, const void* other, std::size_t bytes) {
      return std::memcmp(one, other, bytes) == 0 ? 1 : 0;
    };
    return out;
  }();
  return api;
}

std::span<const std::byte> as_bytes(std::span<const std::uint8_t> input) { return std::as_bytes(input); }

struct Listener : MessageReader::Events {
  bool lend = false;
  std::string memory;
  std::string heard;

  std::byte* on_begin(const MessageHeader& header, std::span<const std::byte>, std::string* reject) override {
    if (header.body_bytes > 1 << 20) {
      *reject = "too long for a test";
      return nullptr;
    }
    memory.assign(header.body_bytes, '\0');
    return lend ? reinterpret_cast<std::byte*>(memory.data()) : nullptr;
  }
  void on_message(const MessageHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> body) override {
    SETSUNA_ASSERT(body.size() == header.body_bytes && head.size() <= kMaxHeadBytes);
    heard += std::to_string(header.type) + ":" + std::to_string(header.id) + ":";
    heard.append(reinterpret_cast<const char*>(head.data()), head.size());
    heard.append(reinterpret_cast<const char*>(body.data()), body.size());
  }
};

// All that was heard, and whether it went wrong (what the error quotes depends on the pieces).
std::string read_frames(std::span<const std::byte> wire, bool lend, bool restricted, bool unchecked,
                        std::size_t piece) {
  Listener listener;
  listener.lend = lend;
  MessageReader reader(listener);
  if (restricted) {
    reader.restrict_to(1024);
  }
  if (unchecked) {
    reader.take_unchecked();
  }
  for (std::size_t at = 0; at < wire.size();) {
    const std::span<std::byte> room = lend ? reader.room() : std::span<std::byte>();
    const std::size_t part = std::min({piece, wire.size() - at, room.empty() ? wire.size() : room.size()});
    if (!room.empty()) {
      std::copy_n(wire.data() + at, part, room.data());
    }
    if (!(room.empty() ? reader.feed(wire.subspan(at, part)) : reader.placed(part))) {
      break;
    }
    at += part;
  }
  return listener.heard + (reader.error().empty() ? "" : "|wrong");
}

// Frames whose checksums, if they have any, are right, out of anything.
std::vector<std::byte> sealed(std::span<const std::byte> input) {
  std::vector<std::byte> out;
  while (input.size() >= sizeof(FrameHeader)) {
    FrameHeader header;
    std::memcpy(&header, input.data(), sizeof header);
    input = input.subspan(sizeof header);
    header.magic = kFrameMagic;
    header.version = kFrameVersion;
    header.flags &= 15;
    header.body_bytes %= 1000;
    header.head_bytes = static_cast<std::uint8_t>(std::min<std::size_t>(header.head_bytes % 65, input.size()));
    const auto head = input.first(header.head_bytes);
    input = input.subspan(head.size());
    header.chunk_bytes = static_cast<std::uint32_t>(std::min<std::size_t>(header.chunk_bytes % 1000, input.size()));
    const auto chunk = input.first(header.chunk_bytes);
    input = input.subspan(chunk.size());
    seal(header, head, chunk);
    const auto start = std::as_bytes(std::span(&header, 1));
    for (const auto& part : {std::span<const std::byte>(start), head, chunk}) {
      out.insert(out.end(), part.begin(), part.end());
    }
  }
  return out;
}

struct Collect : ByteSink {
  std::string text;
  bool on_bytes(std::span<const std::byte> bytes) override {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }
};

struct Heard {
  std::string text;
  std::string error;
  std::string answer;  // of the layer itself
};

Heard feed(WebSocketLayer& layer, std::span<const std::byte> wire, std::size_t piece) {
  Collect up;
  std::vector<std::byte> down;
  bool good = true;
  for (std::size_t at = 0; good && at < wire.size(); at += piece) {
    good = layer.receive(wire.subspan(at, std::min(piece, wire.size() - at)), up);
    layer.take_output(down);
  }
  return {up.text, layer.error(), std::string(reinterpret_cast<const char*>(down.data()), down.size())};
}

}  // namespace

// The first byte: how. The pieces in which bytes come make no difference.
void frames(std::span<const std::uint8_t> input) {
  if (input.empty()) {
    return;
  }
  const unsigned how = input[0];
  auto wire = as_bytes(input.subspan(1));
  std::vector<std::byte> fixed;
  if ((how & 1) != 0) {
    fixed = sealed(wire);
    wire = fixed;
  }
  const bool lend = (how & 2) != 0;
  const bool restricted = (how & 4) != 0;
  const bool unchecked = (how & 8) != 0;
  const std::string whole = read_frames(wire, lend, restricted, unchecked, std::max<std::size_t>(wire.size(), 1));
  const std::string pieces = read_frames(wire, lend, restricted, unchecked, 1 + (how >> 4));
  SETSUNA_ASSERT(whole == pieces);
}

// The first byte: the side. Then messages: type, length, bytes.
void handshake(std::span<const std::uint8_t> input) {
  if (input.empty()) {
    return;
  }
  const unsigned how = input[0];
  input = input.subspan(1);
  HandshakeConfig config;
  if ((how & 2) != 0) {
    config.token = "token";
  }
  Handshake machine((how & 1) != 0 ? Handshake::Role::kHost : Handshake::Role::kDialler, config, no_crypto());
  ChannelBinding binding{};
  if ((how & 4) != 0) {
    binding.fill(std::byte{7});
  }
  machine.start(binding);
  while (input.size() >= 2 && machine.state() == Handshake::State::kGoing) {
    const auto type = static_cast<NetMessage>(kFirstNetMessage + input[0] % 10);
    const std::size_t size = std::min<std::size_t>(input[1] * std::size_t{4}, input.size() - 2);
    const Handshake::Reply reply = machine.on_message(type, as_bytes(input.subspan(2, size)));
    SETSUNA_ASSERT(!reply || reply->bytes.size() <= Handshake::kMaxMessageBytes);
    input = input.subspan(2 + size);
  }
  SETSUNA_ASSERT((machine.state() == Handshake::State::kRefused) == !machine.reason().empty());
  SETSUNA_ASSERT((how & 4) != 0 || !machine.is_end_to_end());
}

void http(std::span<const std::uint8_t> input) {
  const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  for (const bool request : {true, false}) {
    const auto parse = [request](std::string_view part) {
      return request ? parse_upgrade_request(part) : parse_upgrade_answer(part, "accept=");
    };
    const HttpResult whole = parse(text);
    SETSUNA_ASSERT((whole.state == HttpState::kBad) == !whole.error.empty());
    SETSUNA_ASSERT(whole.bytes <= std::min(text.size(), kMaxHttpBytes));
    if (whole.state == HttpState::kDone) {
      SETSUNA_ASSERT(parse(text.substr(0, whole.bytes)).state == HttpState::kDone);
      SETSUNA_ASSERT(parse(text.substr(0, whole.bytes - 1)).state == HttpState::kMore);
      SETSUNA_ASSERT(!request || whole.path.front() == '/');
    }
  }
}

namespace {

// By a new layer whose data frames of `bulk_bytes` and more go past wslay.
Heard websocket_result(bool at_server, bool upgraded, std::uint64_t bulk_bytes, std::span<const std::byte> wire,
                       std::size_t piece) {
  const std::vector<std::string> paths = {"/"};
  WebSocketLayer client("/", "host", no_crypto());
  WebSocketLayer server(paths, no_crypto());
  client.set_bulk_bytes(bulk_bytes);
  server.set_bulk_bytes(bulk_bytes);
  Collect none;
  client.start();
  std::vector<std::byte> said;
  client.take_output(said);
  if (upgraded) {
    SETSUNA_ASSERT(server.receive(said, none));
    said.clear();
    server.take_output(said);
    SETSUNA_ASSERT(client.receive(said, none));
  }
  return feed(at_server ? server : client, wire, piece);
}

}  // namespace

// The first byte: which side, whether the upgrade has gone before, and the pieces. These make no difference, nor does it
// whether wslay receives all frames, all but the longer ones, or those only that are no plain data.
void websocket(std::span<const std::uint8_t> input) {
  if (input.empty()) {
    return;
  }
  const unsigned how = input[0];
  const auto wire = as_bytes(input.subspan(1));
  const bool at_server = (how & 1) != 0;
  const bool upgraded = (how & 2) != 0;
  constexpr std::uint64_t kNoBulk = ~std::uint64_t{0};
  std::optional<Heard> first;
  for (const std::size_t piece : {std::max<std::size_t>(wire.size(), 1), std::size_t{1} + (how >> 2)}) {
    const Heard by_wslay = websocket_result(at_server, upgraded, kNoBulk, wire, piece);
    for (const std::uint64_t bulk_bytes : {0, 20}) {
      const Heard bulk = websocket_result(at_server, upgraded, bulk_bytes, wire, piece);
      SETSUNA_ASSERT(bulk.text == by_wslay.text && bulk.error == by_wslay.error && bulk.answer == by_wslay.answer);
    }
    // A header of HTTP that is damaged is noticed at different bytes of it; frames are not. (A pong may go with a farewell or
    // before it.)
    SETSUNA_ASSERT(!upgraded || !first || (first->text == by_wslay.text && first->error == by_wslay.error));
    first = by_wslay;
  }
}

void url(std::span<const std::uint8_t> input) {
  const ParsedUrl parsed = parse_url({reinterpret_cast<const char*>(input.data()), input.size()});
  if (parsed.url) {
    const ParsedUrl again = parse_url(format_url(*parsed.url));
    SETSUNA_ASSERT(again.url && *again.url == *parsed.url);
  } else {
    SETSUNA_ASSERT(parsed.error.size() < 2000);
  }
}

}  // namespace setsuna::fuzz
