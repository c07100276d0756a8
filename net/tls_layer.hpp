// TLS as a layer.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "net/layer.hpp"
#include "net/tls_context.hpp"

namespace setsuna::net {

class TlsLayer final : public Layer {
 public:
  // `host`: for clients, whom the server's certificate must name. Null: a server.
  TlsLayer(const TlsContext& context, const char* host) : api_(context.api()), engine_(context.new_engine(host)) {
    take_error();
  }
  ~TlsLayer() override { api_.free_engine(engine_); }

  void start() override {
    api_.start(engine_);
    take_error();
  }
  bool open() const noexcept override { return api_.is_open(engine_) == 1; }
  ChannelBinding binding() const noexcept override {
    ChannelBinding out{};
    static_assert(sizeof out == SETSUNA_TLS_BINDING_BYTES);
    return api_.binding(engine_, reinterpret_cast<std::uint8_t*>(out.data())) == 1 ? out : ChannelBinding{};
  }
  bool receive(std::span<const std::byte> bytes, ByteSink& up) override {
    const int good = api_.receive(engine_, bytes.data(), bytes.size(), room_of, on_plain, &up);
    take_error();
    return good == 1;
  }
  bool send(std::span<const iovec> pieces, std::vector<std::byte>& down) override {
    take_output(down);
    for (const iovec& piece : pieces) {
      if (api_.send(engine_, piece.iov_base, piece.iov_len, on_wire, &down) != 1) {
        take_error();
        return false;
      }
    }
    return true;
  }
  void take_output(std::vector<std::byte>& down) override {
    std::size_t size = 0;
    const auto* bytes = static_cast<const std::byte*>(api_.output(engine_, &size));
    down.insert(down.end(), bytes, bytes + size);
    api_.drop_output(engine_);
  }
  bool has_output() const noexcept override {
    std::size_t size = 0;
    api_.output(engine_, &size);
    return size > 0;
  }
  void finish() override { api_.finish(engine_); }

 private:
  static void* room_of(void* up, std::size_t* size) {
    const std::span<std::byte> room = static_cast<ByteSink*>(up)->room();
    *size = room.size();
    return room.empty() ? nullptr : room.data();
  }
  static int on_plain(void* up, const void* bytes, std::size_t size) {
    auto& sink = *static_cast<ByteSink*>(up);
    const bool more =
        bytes == nullptr ? sink.on_placed(size) : sink.on_bytes({static_cast<const std::byte*>(bytes), size});
    return more ? 1 : 0;
  }
  static int on_wire(void* down, const void* bytes, std::size_t size) {
    auto& out = *static_cast<std::vector<std::byte>*>(down);
    const auto* from = static_cast<const std::byte*>(bytes);
    out.insert(out.end(), from, from + size);
    return 1;
  }
  void take_error() { error_ = api_.error_of(engine_); }

  const setsuna_tls_api& api_;
  setsuna_tls_engine* engine_;
};

}  // namespace setsuna::net
