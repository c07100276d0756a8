#include "net/message_reader.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

MessageHeader message_header(const FrameHeader& frame) noexcept {
  return {frame.type, frame.is_control() ? Lane::kControl : Lane::kData, frame.id, frame.body_bytes};
}

}  // namespace

bool MessageReader::fail(std::string why) {
  error_ = std::move(why);
  stopped_ = true;
  return false;
}

bool MessageReader::feed(std::span<const std::byte> bytes) {
  while (!stopped_ && (!bytes.empty() || (in_chunk_ && frame_.chunk_bytes == 0))) {
    bytes = in_chunk_ ? take_chunk(bytes) : take_start(bytes);
  }
  return !stopped_;
}

// What is wanted of the header and, once that is there, of the head.
std::size_t MessageReader::start_bytes() const noexcept {
  return sizeof(FrameHeader) + (start_received_ < sizeof(FrameHeader) ? 0 : frame_.head_bytes);
}

std::span<const std::byte> MessageReader::take_start(std::span<const std::byte> bytes) {
  const std::size_t part = std::min(bytes.size(), start_bytes() - start_received_);
  std::memcpy(start_.data() + start_received_, bytes.data(), part);
  const bool had_header = start_received_ >= sizeof(FrameHeader);
  start_received_ += part;
  if (!had_header) {
    if (std::string why; !check_preamble(std::span(start_).first(start_received_), &why)) {
      fail(std::move(why));
      return bytes;
    }
    if (start_received_ == sizeof(FrameHeader)) {
      std::memcpy(&frame_, start_.data(), sizeof frame_);
    }
  }
  if (start_received_ >= sizeof(FrameHeader) && start_received_ == start_bytes()) {
    start_received_ = 0;
    begin_frame();
  }
  return bytes.subspan(part);
}

bool MessageReader::begin_frame() {
  const auto head = std::span(start_).subspan(sizeof(FrameHeader), frame_.head_bytes);
  if (std::string why; !check_start(frame_, head, &why)) {
    return fail(std::move(why));
  }
  start_hash_ = start_hash(frame_, head);
  in_chunk_ = true;
  chunk_received_ = 0;
  if (restricted_bytes_ != 0) {
    if (!frame_.is_control() || frame_.type < kFirstNetMessage) {
      return fail("it sends a message before it has proved who it is");
    }
    if (frame_.body_bytes > restricted_bytes_) {
      return fail("a message of the handshake is longer than allowed");
    }
  }
  if (!frame_.is_checked() && !takes_unchecked_) {
    return fail("a frame without a checksum came where one is wanted");
  }
  if (frame_.is_control()) {
    return true;
  }
  return (frame_.flags & FrameHeader::kFirst) != 0 ? begin_message() : continue_message();
}

bool MessageReader::begin_message() {
  if (message_.active) {
    return fail("a message begins before the one before it is whole");
  }
  if (frame_.chunk_bytes == frame_.body_bytes && !frame_.is_whole()) {
    return fail("the chunks of a message do not add up to its length");
  }
  message_.header = message_header(frame_);
  message_.active = true;
  message_.received = 0;
  message_.head_bytes = frame_.head_bytes;
  std::memcpy(message_.head.data(), start_.data() + sizeof(FrameHeader), frame_.head_bytes);
  if (frame_.body_bytes == 0) {
    return true;
  }
  std::string reject;
  message_.memory = events_->on_begin(message_.header, message_.head_span(), &reject);
  message_.lent = message_.memory != nullptr;
  return !stopped_ && (reject.empty() || fail(std::move(reject)));
}

bool MessageReader::continue_message() {
  if (!message_.active || message_.header.id != frame_.id || message_.header.type != frame_.type ||
      message_.header.body_bytes != frame_.body_bytes) {
    return fail("a chunk belongs to no message");
  }
  const std::uint64_t left = message_.header.body_bytes - message_.received;
  const bool last = (frame_.flags & FrameHeader::kLast) != 0;
  return (frame_.chunk_bytes <= left && last == (frame_.chunk_bytes == left)) ||
         fail("the chunks of a message do not add up to its length");
}

std::span<const std::byte> MessageReader::take_chunk(std::span<const std::byte> bytes) {
  const bool here = chunk_received_ == 0 && bytes.size() >= frame_.chunk_bytes;
  return here && frame_.is_whole() ? take_whole(bytes) : take_part(bytes);
}

// A message that lies before us from end to end: nothing is copied unless its receiver has memory for it.
std::span<const std::byte> MessageReader::take_whole(std::span<const std::byte> bytes) {
  const std::span<const std::byte> chunk = bytes.first(frame_.chunk_bytes);
  const auto rest = bytes.subspan(chunk.size());
  if (!finish_chunk(chunk.data())) {
    return rest;
  }
  if (frame_.is_control()) {
    events_->on_message(message_header(frame_), std::span(start_).subspan(sizeof(FrameHeader), frame_.head_bytes),
                        chunk);
  } else if (message_.memory == nullptr) {
    finish_message(chunk);
  } else {
    std::memcpy(message_.memory, chunk.data(), chunk.size());
    finish_message(std::span(message_.memory, chunk.size()));
  }
  return rest;
}

bool MessageReader::own_memory(std::uint64_t bytes) {
  message_.own.reset(new (std::nothrow) std::byte[bytes]);
  message_.memory = message_.own.get();
  return message_.memory != nullptr || fail("there is no memory for a message of " + std::to_string(bytes) + " bytes");
}

std::span<const std::byte> MessageReader::take_part(std::span<const std::byte> bytes) {
  const std::size_t part = std::min<std::size_t>(bytes.size(), frame_.chunk_bytes - chunk_received_);
  if (frame_.is_control()) {
    if (control_ == nullptr) {
      control_.reset(new std::byte[kMaxControlBytes]);
    }
    std::memcpy(control_.get() + chunk_received_, bytes.data(), part);
    chunk_received_ += static_cast<std::uint32_t>(part);
    const std::unique_ptr<std::byte[]> whole =
        chunk_received_ == frame_.chunk_bytes ? std::move(control_) : nullptr;  // idle connections keep none
    if (whole != nullptr && finish_chunk(whole.get())) {
      events_->on_message(message_header(frame_), std::span(start_).subspan(sizeof(FrameHeader), frame_.head_bytes),
                          std::span(whole.get(), frame_.chunk_bytes));
    }
    return bytes.subspan(part);
  }
  if (message_.memory == nullptr && !own_memory(message_.header.body_bytes)) {
    return bytes;
  }
  std::memcpy(message_.memory + message_.received, bytes.data(), part);
  take_placed(part);
  return bytes.subspan(part);
}

// They lie in the message's memory.
void MessageReader::take_placed(std::size_t part) {
  message_.received += part;
  chunk_received_ += static_cast<std::uint32_t>(part);
  if (chunk_received_ == frame_.chunk_bytes &&
      finish_chunk(message_.memory + (message_.received - frame_.chunk_bytes)) &&
      message_.received == message_.header.body_bytes) {
    finish_message(std::span(message_.memory, message_.received));
  }
}

std::span<std::byte> MessageReader::room() noexcept {
  if (stopped_ || !in_chunk_ || frame_.is_control() || message_.memory == nullptr) {
    return {};
  }
  return {message_.memory + message_.received, frame_.chunk_bytes - chunk_received_};
}

bool MessageReader::placed(std::size_t bytes) {
  SETSUNA_ASSERT(bytes > 0 && bytes <= room().size());
  take_placed(bytes);
  return !stopped_;
}

// All of it is there: is it what was sent?
bool MessageReader::finish_chunk(const std::byte* chunk) {
  in_chunk_ = false;
  return check_chunk(frame_, start_hash_, chunk) || fail("the contents of a frame are damaged (its checksum is wrong)");
}

void MessageReader::finish_message(std::span<const std::byte> body) {
  const std::unique_ptr<std::byte[]> own = std::move(message_.own);
  message_.active = message_.lent = false;
  message_.memory = nullptr;
  events_->on_message(message_.header, message_.head_span(), body);
}

}  // namespace setsuna::net
