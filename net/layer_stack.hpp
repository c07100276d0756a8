// The layers of one connection, none to two, the lowest first.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "net/layer.hpp"

namespace setsuna::net {

class LayerStack {
 public:
  void push(std::unique_ptr<Layer> layer) { layers_.push_back(std::move(layer)); }
  bool empty() const noexcept { return layers_.empty(); }
  bool open() const noexcept { return layers_.empty() || layers_.back()->open(); }

  // Of the lowest: those above it pass its bytes on.
  ChannelBinding binding() const noexcept { return layers_.empty() ? ChannelBinding{} : layers_.front()->binding(); }

  // Starts each once the one below is open: call it first, and again after every receive().
  void advance();

  // As for one layer.
  bool receive(std::span<const std::byte> bytes, ByteSink& up) { return receive_at(0, bytes, up); }
  bool send_before(std::span<const iovec> pieces, std::vector<std::byte>& wire) {
    return layers_.size() == 1 && layers_[0]->send_before(pieces, wire);
  }
  bool send(std::span<const iovec> pieces, std::vector<std::byte>& wire) {
    return send_at(layers_.size(), pieces, wire);
  }
  bool sends_anywhere() const noexcept {
    return layers_.empty() || (layers_.size() == 1 && layers_[0]->sends_anywhere());
  }
  bool has_output() const noexcept;
  void take_output(std::vector<std::byte>& wire);
  void finish();

  // Of the lowest layer that failed; empty: none did.
  const std::string& error() const noexcept;

 private:
  // What a layer decodes goes to the next, or to whoever is above all.
  class Step final : public ByteSink {
   public:
    Step(LayerStack& stack, std::size_t next, ByteSink& top) noexcept : stack_(stack), next_(next), top_(top) {}
    bool on_bytes(std::span<const std::byte> bytes) override { return stack_.receive_at(next_, bytes, top_); }
    std::span<std::byte> room() noexcept override {
      return next_ == stack_.layers_.size() ? top_.room() : std::span<std::byte>();
    }
    bool on_placed(std::size_t bytes) override { return top_.on_placed(bytes); }

   private:
    LayerStack& stack_;
    std::size_t next_;
    ByteSink& top_;
  };

  bool receive_at(std::size_t index, std::span<const std::byte> bytes, ByteSink& top);
  // Through the layers below `count`.
  bool send_at(std::size_t count, std::span<const iovec> pieces, std::vector<std::byte>& wire);

  std::vector<std::unique_ptr<Layer>> layers_;
  std::size_t started_ = 0;
};

}  // namespace setsuna::net
