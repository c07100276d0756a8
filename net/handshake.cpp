#include "net/handshake.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

struct Introduction {
  std::uint16_t has_token;
  std::uint16_t greeting_bytes;
  std::byte nonce[32];
  std::byte binding[sizeof(ChannelBinding)];
};
static_assert(sizeof(Introduction) == 68);

void append(std::vector<std::byte>& out, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  out.insert(out.end(), from, from + bytes);
}

// What a stranger wrote, for a log: printable, and not too long.
std::string printable(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte byte : bytes.first(std::min<std::size_t>(bytes.size(), 400))) {
    const char c = static_cast<char>(byte);
    out += c >= ' ' && c < 0x7f ? c : '?';
  }
  return out.empty() ? "no reason given" : out;
}

}  // namespace

Handshake::Handshake(Role role, const HandshakeConfig& config, const setsuna_tls_api& crypto)
    : role_(role),
      config_(config),
      crypto_(crypto),
      expected_(role == Role::kHost ? NetMessage::kHello : NetMessage::kChallenge) {
  SETSUNA_ASSERT(config.greeting.size() <= kMaxGreetingBytes);
  crypto_.random_bytes(nonce_.data(), nonce_.size());
}

Handshake::Reply Handshake::start(const ChannelBinding& binding) {
  binding_ = binding;
  return role_ == Role::kDialler ? Reply(introduction(NetMessage::kHello)) : std::nullopt;
}

Handshake::Reply Handshake::on_message(NetMessage type, std::span<const std::byte> bytes) {
  SETSUNA_ASSERT(state_ == State::kGoing);
  if (type == NetMessage::kRefusal) {
    state_ = State::kRefused;
    by_peer_ = true;
    reason_ = printable(bytes);
    return std::nullopt;
  }
  if (type != expected_) {
    return refuse("a message of the handshake came out of turn");
  }
  switch (type) {
    case NetMessage::kHello: return on_hello(bytes);
    case NetMessage::kChallenge: return on_challenge(bytes);
    case NetMessage::kProof: return on_proof(bytes);
    default: return on_welcome(bytes);
  }
}

Handshake::Reply Handshake::refuse(const std::string& reason) {
  SETSUNA_ASSERT(state_ == State::kGoing || state_ == State::kProven);
  state_ = State::kRefused;
  reason_ = reason;
  Message refusal{NetMessage::kRefusal, {}};
  append(refusal.bytes, reason.data(), std::min<std::size_t>(reason.size(), 512));
  return refusal;
}

Handshake::Message Handshake::introduction(NetMessage type) const {
  Introduction head{};
  head.has_token = config_.token ? 1 : 0;
  head.greeting_bytes = static_cast<std::uint16_t>(config_.greeting.size());
  std::memcpy(head.nonce, nonce_.data(), nonce_.size());
  std::memcpy(head.binding, binding_.data(), binding_.size());
  Message out{type, {}};
  append(out.bytes, &head, sizeof head);
  append(out.bytes, config_.greeting.data(), config_.greeting.size());
  return out;
}

bool Handshake::take_introduction(std::span<const std::byte> bytes) {
  Introduction head;
  if (bytes.size() < sizeof head) {
    return false;
  }
  std::memcpy(&head, bytes.data(), sizeof head);
  bytes = bytes.subspan(sizeof head);
  if (head.has_token > 1 || head.greeting_bytes != bytes.size() || bytes.size() > kMaxGreetingBytes) {
    return false;
  }
  peer_has_token_ = head.has_token == 1;
  std::memcpy(peer_nonce_.data(), head.nonce, peer_nonce_.size());
  std::memcpy(peer_binding_.data(), head.binding, peer_binding_.size());
  peer_greeting_.assign(bytes.begin(), bytes.end());
  return true;
}

Handshake::Reply Handshake::on_hello(std::span<const std::byte> bytes) {
  if (!take_introduction(bytes)) {
    return refuse("the hello is malformed");
  }
  if (config_.token && !peer_has_token_) {
    return refuse("this host wants a token and the daemon has none; start the daemon with the token of the host");
  }
  if (!config_.token && peer_has_token_) {
    return refuse("this host was set up without authentication and the daemon has a token; start it without");
  }
  expected_ = NetMessage::kProof;
  return introduction(NetMessage::kChallenge);
}

Handshake::Reply Handshake::on_challenge(std::span<const std::byte> bytes) {
  if (!take_introduction(bytes)) {
    return refuse("the challenge is malformed");
  }
  if (peer_has_token_ !=
      config_.token.has_value()) {  // the host has refused already, unless it is not the one it seems
    return refuse("one side has a token and the other has none");
  }
  expected_ = NetMessage::kWelcome;
  return Message{NetMessage::kProof, proof_of(Role::kDialler)};
}

Handshake::Reply Handshake::on_proof(std::span<const std::byte> bytes) {
  if (!proves(Role::kDialler, bytes)) {
    return refuse(
        "wrong token; start the daemon with the token that the host has now (it changes when the host is reset)");
  }
  state_ = State::kProven;
  return std::nullopt;
}

Handshake::Reply Handshake::accept() {
  SETSUNA_ASSERT(role_ == Role::kHost && state_ == State::kProven);
  state_ = State::kDone;
  return Message{NetMessage::kWelcome, proof_of(Role::kHost)};
}

Handshake::Reply Handshake::on_welcome(std::span<const std::byte> bytes) {
  if (!proves(Role::kHost, bytes)) {
    return refuse("the host does not know the token: it is not the one that the token belongs to");
  }
  state_ = State::kDone;
  return std::nullopt;
}

// Nothing, when there is no token.
std::vector<std::byte> Handshake::proof_of(Role role) const {
  if (!config_.token) {
    return {};
  }
  const bool dialling = role_ == Role::kDialler;
  const auto& dialler_greeting = dialling ? config_.greeting : peer_greeting_;
  const auto& host_greeting = dialling ? peer_greeting_ : config_.greeting;
  const auto& dialler_nonce = dialling ? nonce_ : peer_nonce_;
  const auto& host_nonce = dialling ? peer_nonce_ : nonce_;
  const auto& dialler_binding = dialling ? binding_ : peer_binding_;
  const auto& host_binding = dialling ? peer_binding_ : binding_;
  static constexpr char kDiallerLabel[16] = "setsuna dialler";
  static constexpr char kHostLabel[16] = "setsuna host";
  std::vector<std::byte> text;
  append(text, role == Role::kDialler ? kDiallerLabel : kHostLabel, 16);
  append(text, &kFrameVersion, sizeof kFrameVersion);
  append(text, dialler_nonce.data(), kNonceBytes);
  append(text, host_nonce.data(), kNonceBytes);
  append(text, dialler_binding.data(), dialler_binding.size());
  append(text, host_binding.data(), host_binding.size());
  const auto length = static_cast<std::uint32_t>(dialler_greeting.size());
  append(text, &length, sizeof length);
  append(text, dialler_greeting.data(), dialler_greeting.size());
  append(text, host_greeting.data(), host_greeting.size());
  Proof proof;
  crypto_.hmac_sha256(config_.token->data(), config_.token->size(), text.data(), text.size(), proof.data());
  std::vector<std::byte> out;
  append(out, proof.data(), proof.size());
  return out;
}

bool Handshake::proves(Role role, std::span<const std::byte> bytes) const {
  const std::vector<std::byte> wanted = proof_of(role);
  return wanted.size() == bytes.size() &&
         (wanted.empty() || crypto_.equal(wanted.data(), bytes.data(), wanted.size()) == 1);
}

}  // namespace setsuna::net
