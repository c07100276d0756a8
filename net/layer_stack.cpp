#include "net/layer_stack.hpp"

#include <utility>

namespace setsuna::net {
namespace {

const std::string kNone;

iovec piece_of(std::vector<std::byte>& bytes) noexcept { return {bytes.data(), bytes.size()}; }

}  // namespace

void LayerStack::advance() {
  while (started_ < layers_.size() && (started_ == 0 || layers_[started_ - 1]->open())) {
    layers_[started_++]->start();
  }
}

bool LayerStack::receive_at(std::size_t index, std::span<const std::byte> bytes, ByteSink& top) {
  if (index == layers_.size()) {
    return top.on_bytes(bytes);
  }
  Step step(*this, index + 1, top);
  return layers_[index]->receive(bytes, step);
}

bool LayerStack::send_at(std::size_t count, std::span<const iovec> pieces, std::vector<std::byte>& wire) {
  if (count == 1) {
    return layers_[0]->send(pieces, wire);
  }
  // One for all connections of the thread: there are two layers at most, so it is not in use already.
  static thread_local std::vector<std::byte> encoded;
  encoded.clear();
  if (!layers_[count - 1]->send(pieces, encoded)) {
    return false;
  }
  const iovec piece = piece_of(encoded);
  return send_at(count - 1, std::span(&piece, 1), wire);
}

bool LayerStack::has_output() const noexcept {
  for (const auto& layer : layers_) {
    if (layer->has_output()) {
      return true;
    }
  }
  return false;
}

// From above to below: each goes through those under it. The lowest last, since that is where failures are told.
void LayerStack::take_output(std::vector<std::byte>& wire) {
  for (std::size_t i = layers_.size(); i-- > 0;) {
    if (i == 0) {
      layers_[0]->take_output(wire);
    } else if (layers_[i]->has_output()) {
      std::vector<std::byte> own;
      layers_[i]->take_output(own);
      const iovec piece = piece_of(own);
      send_at(i, std::span(&piece, 1), wire);
    }
  }
}

void LayerStack::finish() {
  std::vector<std::byte> unused;
  for (std::size_t i = layers_.size(); i-- > 0;) {
    if (i < started_) {
      layers_[i]->finish();
    }
  }
}

const std::string& LayerStack::error() const noexcept {
  for (const auto& layer : layers_) {
    if (!layer->error().empty()) {
      return layer->error();
    }
  }
  return kNone;
}

}  // namespace setsuna::net
