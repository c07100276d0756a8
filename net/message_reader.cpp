#include "net/message_reader.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "runtime/assert.hpp"
#include "runtime/hash.hpp"

namespace setsuna::net {
namespace {

bool is_control(const FrameHeader& frame) noexcept { return frame.lane == static_cast<std::uint8_t>(Lane::kControl); }
bool is_whole(const FrameHeader& frame) noexcept { return frame.flags == (FrameHeader::kFirst | FrameHeader::kLast); }

MessageHeader message_header(const FrameHeader& frame) noexcept {
  return {frame.type, static_cast<Lane>(frame.lane), frame.id, frame.message_bytes};
}

}  // namespace

bool MessageReader::fail(std::string why) {
  error_ = std::move(why);
  stopped_ = true;
  return false;
}

bool MessageReader::feed(std::span<const std::byte> bytes) {
  while (!stopped_ && (!bytes.empty() || (in_chunk_ && frame_.chunk_bytes == 0))) {
    bytes = in_chunk_ ? take_chunk(bytes) : take_header(bytes);
  }
  return !stopped_;
}

std::span<const std::byte> MessageReader::take_header(std::span<const std::byte> bytes) {
  const std::size_t part = std::min(bytes.size(), raw_.size() - raw_bytes_);
  std::memcpy(raw_.data() + raw_bytes_, bytes.data(), part);
  raw_bytes_ += part;
  if (std::string why; !check_header(std::span(raw_).first(raw_bytes_), &why)) {
    fail(std::move(why));
  } else if (raw_bytes_ == raw_.size()) {
    raw_bytes_ = 0;
    std::memcpy(&frame_, raw_.data(), sizeof frame_);
    begin_frame();
  }
  return bytes.subspan(part);
}

bool MessageReader::begin_frame() {
  in_chunk_ = true;
  chunk_received_ = 0;
  if (restricted_bytes_ != 0) {
    if (!is_control(frame_) || frame_.type < kFirstNetMessage) {
      return fail("it sends a message before it has proved who it is");
    }
    if (frame_.message_bytes > restricted_bytes_) {
      return fail("a message of the handshake is longer than allowed");
    }
  }
  return is_control(frame_) || begin_message();
}

// A frame of the data lane: of a new message, or the next of the one at hand.
bool MessageReader::begin_message() {
  if ((frame_.flags & FrameHeader::kFirst) != 0) {
    if (message_.active) {
      return fail("a message begins before the one before it is whole");
    }
    const std::uint64_t least = std::min<std::uint64_t>(frame_.message_bytes, ConnectionSink::kHeadBytes);
    if (frame_.chunk_bytes < least) {
      return fail("the first chunk of a message is too short");
    }
    message_ = Message{};
    message_.header = message_header(frame_);
    message_.active = true;
  } else if (!message_.active || message_.header.id != frame_.id || message_.header.type != frame_.type ||
             message_.header.bytes != frame_.message_bytes) {
    return fail("a chunk belongs to no message");
  }
  const std::uint64_t left = message_.header.bytes - message_.received;
  const bool last = (frame_.flags & FrameHeader::kLast) != 0;
  if (frame_.chunk_bytes > left || (last != (frame_.chunk_bytes == left)) || (frame_.chunk_bytes == 0 && left != 0)) {
    return fail("the chunks of a message do not add up to its length");
  }
  return true;
}

std::span<const std::byte> MessageReader::take_chunk(std::span<const std::byte> bytes) {
  const bool here = chunk_received_ == 0 && bytes.size() >= frame_.chunk_bytes;
  if (is_control(frame_)) {
    if (here) {
      return take_whole(bytes);
    }
    if (control_ == nullptr) {
      control_ = std::make_unique<std::byte[]>(kMaxControlBytes);
    }
    const std::size_t part = std::min<std::size_t>(bytes.size(), frame_.chunk_bytes - chunk_received_);
    std::memcpy(control_.get() + chunk_received_, bytes.data(), part);
    chunk_received_ += static_cast<std::uint32_t>(part);
    if (chunk_received_ == frame_.chunk_bytes) {
      const std::unique_ptr<std::byte[]> whole = std::move(control_);  // idle connections keep none
      if (finish_chunk(whole.get())) {
        events_->on_message(message_header(frame_), std::span(whole.get(), frame_.chunk_bytes));
      }
    }
    return bytes.subspan(part);
  }
  if (here && is_whole(frame_)) {
    return take_whole(bytes);
  }
  return take_into_message(bytes);
}

// A message that lies before us from end to end: nothing is copied unless its receiver has memory for it.
std::span<const std::byte> MessageReader::take_whole(std::span<const std::byte> bytes) {
  const std::span<const std::byte> chunk = bytes.first(frame_.chunk_bytes);
  if (!finish_chunk(chunk.data())) {
    return bytes;
  }
  if (is_control(frame_)) {
    events_->on_message(message_header(frame_), chunk);
  } else if (open_message(chunk.first(std::min<std::size_t>(chunk.size(), ConnectionSink::kHeadBytes)))) {
    if (message_.memory == nullptr) {
      finish_message(chunk);
    } else {
      std::memcpy(message_.memory, chunk.data(), chunk.size());
      finish_message(std::span(message_.memory, chunk.size()));
    }
  }
  return bytes.subspan(chunk.size());
}

// False: stopped.
bool MessageReader::open_message(std::span<const std::byte> head) {
  std::string reject;
  message_.memory = events_->on_begin(message_.header, head, &reject);
  if (stopped_) {
    message_.begun = message_.memory != nullptr;
    return false;
  }
  message_.begun = message_.memory != nullptr;
  return reject.empty() || fail(std::move(reject));
}

std::span<const std::byte> MessageReader::take_into_message(std::span<const std::byte> bytes) {
  std::size_t part = std::min<std::size_t>(bytes.size(), frame_.chunk_bytes - chunk_received_);
  if (message_.memory == nullptr) {
    const std::size_t wanted = std::min<std::uint64_t>(message_.header.bytes, message_.head.size());
    part = std::min<std::size_t>(part, wanted - message_.received);
    std::memcpy(message_.head.data() + message_.received, bytes.data(), part);
    if (message_.received + part == wanted) {
      if (!open_message(std::span(message_.head).first(wanted))) {
        return bytes;
      }
      if (message_.memory == nullptr) {
        message_.own.reset(new (std::nothrow) std::byte[message_.header.bytes]);
        message_.memory = message_.own.get();
      }
      if (message_.memory == nullptr) {
        fail("there is no memory for a message of " + std::to_string(message_.header.bytes) + " bytes");
        return bytes;
      }
      std::memcpy(message_.memory, message_.head.data(), wanted);
    }
  } else {
    std::memcpy(message_.memory + message_.received, bytes.data(), part);
  }
  message_.received += part;
  chunk_received_ += static_cast<std::uint32_t>(part);
  if (chunk_received_ == frame_.chunk_bytes &&
      finish_chunk(message_.memory + (message_.received - frame_.chunk_bytes)) &&
      message_.received == message_.header.bytes) {
    finish_message(std::span(message_.memory, message_.header.bytes));
  }
  return bytes.subspan(part);
}

// All of it is there: is it what was sent?
bool MessageReader::finish_chunk(const std::byte* chunk) {
  in_chunk_ = false;
  if (runtime::hash64(chunk, frame_.chunk_bytes, header_hash(frame_)) != frame_.checksum) {
    return fail("the contents of a frame are damaged (its checksum is wrong)");
  }
  return true;
}

void MessageReader::finish_message(std::span<const std::byte> bytes) {
  const Message whole = std::move(message_);
  message_ = Message{};
  events_->on_message(whole.header, bytes);
}

}  // namespace setsuna::net
