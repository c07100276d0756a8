#include "net/send_queue.hpp"

#include <algorithm>
#include <utility>

#include "runtime/assert.hpp"

namespace setsuna::net {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{16} * 1024;  // small frames, copied together
constexpr std::size_t kCopyBytes = 2048;                     // a body up to this size is copied to its header

void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_start(std::vector<std::byte>& out, FrameHeader& header, std::span<const std::byte> head,
                  std::span<const std::byte> chunk) {
  header.head_bytes = static_cast<std::uint8_t>(head.size());
  header.chunk_bytes = static_cast<std::uint32_t>(chunk.size());
  seal(header, head, chunk);
  append(out, std::as_bytes(std::span(&header, 1)));
  append(out, head);
}

void append_control(std::vector<std::byte>& out, std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                    std::span<const std::byte> body) {
  SETSUNA_ASSERT(body.size() <= kMaxControlBytes);
  FrameHeader header;
  header.type = type;
  header.id = id;
  header.body_bytes = body.size();
  header.flags = FrameHeader::kWhole;
  append_start(out, header, head, body);
  append(out, body);
}

// What was copied since the last piece.
void close_piece(SendBatch& batch) {
  std::size_t start = 0;
  for (std::size_t i = batch.piece_count; i > 0 && start == 0; --i) {
    const SendBatch::Piece& piece = batch.pieces[i - 1];
    start = piece.body == nullptr ? piece.offset + piece.size : 0;
  }
  if (batch.bytes.size() > start) {
    batch.pieces[batch.piece_count++] = {nullptr, start, batch.bytes.size() - start};
  }
}

}  // namespace

std::array<iovec, Reactor::kMaxSendPieces> SendBatch::gather() const noexcept {
  std::array<iovec, Reactor::kMaxSendPieces> out{};
  for (std::size_t i = 0; i < piece_count; ++i) {
    const Piece& piece = pieces[i];
    const std::byte* from = piece.body != nullptr ? piece.body : bytes.data() + piece.offset;
    out[i] = {const_cast<std::byte*>(from), piece.size};
  }
  return out;
}

void SendQueue::push(std::uint16_t type, Lane lane, std::uint64_t id, std::span<const std::byte> head,
                     std::span<const std::byte> body, std::uint64_t ticket) {
  SETSUNA_ASSERT(type < kFirstNetMessage && head.size() <= kMaxHeadBytes && !has_last_);
  if (lane == Lane::kControl) {
    SETSUNA_ASSERT(ticket == 0);
    return append_control(control_, type, id, head, body);
  }
  Message& message = data_.emplace_back();
  message.type = type;
  message.id = id;
  std::copy(head.begin(), head.end(), message.head.begin());
  message.head_bytes = static_cast<std::uint8_t>(head.size());
  message.body = body;
  message.ticket = ticket;
  if (ticket == 0 && !body.empty()) {
    message.own.assign(body.begin(), body.end());
    message.body = message.own;
  }
  data_bytes_ += sizeof(FrameHeader) + head.size() + body.size();
}

void SendQueue::push(NetMessage type, std::span<const std::byte> bytes) {
  if (!has_last_) {
    append_control(control_, static_cast<std::uint16_t>(type), 0, {}, bytes);
  }
}

void SendQueue::push_last(NetMessage type, const std::string& text) {
  SETSUNA_ASSERT(!has_last_);
  has_last_ = true;
  last_type_ = type;
  last_ = text.substr(0, kMaxControlBytes);
}

bool SendQueue::add_chunk(SendBatch& batch, Message& message) {
  const bool first = !std::exchange(message.begun, true);
  const std::size_t size = std::min<std::uint64_t>(message.body.size() - message.done, kMaxChunkBytes);
  const auto chunk = message.body.subspan(message.done, size);
  const auto head = std::span(message.head).first(first ? message.head_bytes : 0);
  message.done += size;
  FrameHeader header;
  header.type = message.type;
  header.id = message.id;
  header.body_bytes = message.body.size();
  header.flags = static_cast<std::uint8_t>(data_flags_ | (first ? FrameHeader::kFirst : 0) |
                                           (message.done == message.body.size() ? FrameHeader::kLast : 0));
  append_start(batch.bytes, header, head, chunk);
  data_bytes_ -= (first ? sizeof header + head.size() : 0) + size;
  // A copied body goes away with its message: it must be copied once more.
  if (size <= kCopyBytes || !message.own.empty()) {
    append(batch.bytes, chunk);
    return batch.bytes.size() >= kBatchBytes;
  }
  close_piece(batch);
  batch.pieces[batch.piece_count++] = {chunk.data(), 0, size};
  batch.total_bytes += size;
  return true;  // control messages that come now need not wait for more than this
}

bool SendQueue::fill(SendBatch& batch) {
  batch.bytes.clear();
  batch.tickets.clear();
  batch.piece_count = 0;
  batch.total_bytes = 0;
  if (empty()) {
    return false;
  }
  std::swap(batch.bytes, control_);
  for (bool full = false; !full && !data_.empty();) {
    Message& message = data_.front();
    full = add_chunk(batch, message);
    if (message.done == message.body.size()) {
      if (message.ticket != 0) {
        batch.tickets.push_back(message.ticket);
      }
      data_.pop_front();
    }
  }
  if (data_.empty() && has_last_) {
    has_last_ = false;
    append_control(batch.bytes, static_cast<std::uint16_t>(last_type_), 0, {}, std::as_bytes(std::span(last_)));
  }
  close_piece(batch);
  batch.total_bytes += batch.bytes.size();
  return true;
}

std::vector<std::uint64_t> SendQueue::drop() {
  std::vector<std::uint64_t> tickets;
  for (const Message& message : data_) {
    if (message.ticket != 0) {
      tickets.push_back(message.ticket);
    }
  }
  data_.clear();
  control_.clear();
  data_bytes_ = 0;
  has_last_ = false;
  return tickets;
}

}  // namespace setsuna::net
