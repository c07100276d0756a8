// The first words on a connection: both sides say who they are and prove, if they have a token, that they know it. The
// token itself is never sent. No system calls but for random bytes.
//
//   dialler                               host
//   kHello    nonce, binding, greeting ->
//                                      <- kChallenge  nonce, binding, greeting
//   kProof    HMAC                     ->
//                                      <- kWelcome    HMAC
//
// The HMACs are over both nonces, both channel bindings, both greetings and the sender's role: an old or reflected one proves
// nothing. Instead of any of these either side may send kRefusal with the reason.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/channel_binding.hpp"
#include "net/frame.hpp"
#include "net/tls/tls_api.h"

namespace setsuna::net {

inline constexpr std::size_t kMaxGreetingBytes = 512;

struct HandshakeConfig {
  std::optional<std::string> token;  // any bytes. None: nothing is proved (auth = FALSE)
  std::vector<std::byte> greeting;   // at most kMaxGreetingBytes, shown to the other side
};

class Handshake {
 public:
  enum class Role : std::uint8_t { kDialler, kHost };
  enum class State : std::uint8_t {
    kGoing,
    kProven,   // host only: the dialler knows the token. accept() or refuse()
    kDone,     // both have proved what there was to prove
    kRefused,  // see reason()
  };
  static constexpr std::size_t kMaxMessageBytes = 1024;

  // What is to be sent after a step: at most one message.
  struct Message {
    NetMessage type = NetMessage::kHello;
    std::vector<std::byte> bytes;
  };
  using Reply = std::optional<Message>;

  // `config` outlives it.
  Handshake(Role role, const HandshakeConfig& config, const setsuna_tls_api& crypto);

  // Before any on_message(). `binding`: of the connection that it goes over.
  Reply start(const ChannelBinding& binding);
  Reply on_message(NetMessage type, std::span<const std::byte> bytes);
  Reply accept();
  Reply refuse(const std::string& reason);

  State state() const noexcept { return state_; }
  // kRefused: why; by_peer(): it was the other side that refused, in its words.
  const std::string& reason() const noexcept { return reason_; }
  bool by_peer() const noexcept { return by_peer_; }
  std::span<const std::byte> peer_greeting() const noexcept { return peer_greeting_; }
  // One TLS connection leads from here to the other side (without a token: so it says). Once the other side is proven.
  bool is_end_to_end() const noexcept { return binding_ != ChannelBinding{} && binding_ == peer_binding_; }

 private:
  static constexpr std::size_t kNonceBytes = 32;
  using Nonce = std::array<std::byte, kNonceBytes>;
  using Proof = std::array<std::uint8_t, SETSUNA_SHA256_BYTES>;

  Message introduction(NetMessage type) const;
  bool take_introduction(std::span<const std::byte> bytes);
  Reply on_hello(std::span<const std::byte> bytes);
  Reply on_challenge(std::span<const std::byte> bytes);
  Reply on_proof(std::span<const std::byte> bytes);
  Reply on_welcome(std::span<const std::byte> bytes);
  std::vector<std::byte> proof_of(Role role) const;
  bool proves(Role role, std::span<const std::byte> bytes) const;

  const Role role_;
  const HandshakeConfig& config_;
  const setsuna_tls_api& crypto_;
  State state_ = State::kGoing;
  NetMessage expected_;
  Nonce nonce_{};
  Nonce peer_nonce_{};
  ChannelBinding binding_{};
  ChannelBinding peer_binding_{};
  bool peer_has_token_ = false;
  std::vector<std::byte> peer_greeting_;
  std::string reason_;
  bool by_peer_ = false;
};

}  // namespace setsuna::net
