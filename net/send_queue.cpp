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

void append_header(std::vector<std::byte>& out, FrameHeader& header, std::span<const std::byte> one,
                   std::span<const std::byte> other) {
  seal(header, one, other);
  append(out, std::as_bytes(std::span(&header, 1)));
}

void append_control(std::vector<std::byte>& out, std::uint16_t type, std::uint64_t id,
                    std::span<const std::byte> bytes) {
  SETSUNA_ASSERT(bytes.size() <= kMaxControlBytes);
  FrameHeader header;
  header.type = type;
  header.id = id;
  header.message_bytes = bytes.size();
  header.chunk_bytes = static_cast<std::uint32_t>(bytes.size());
  header.flags = FrameHeader::kFirst | FrameHeader::kLast;
  append_header(out, header, bytes, {});
  append(out, bytes);
}

// The part of `bytes`, which begins at `start` of its message, that lies in [from, to).
std::span<const std::byte> part_of(std::span<const std::byte> bytes, std::uint64_t start, std::uint64_t from,
                                   std::uint64_t to) {
  const std::uint64_t end = start + bytes.size();
  const std::uint64_t first = std::clamp(from, start, end);
  const std::uint64_t last = std::clamp(to, start, end);
  return bytes.subspan(first - start, last - first);
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
  SETSUNA_ASSERT(type < kFirstNetMessage && head.size() <= kMaxControlBytes && !has_last_);
  if (lane == Lane::kControl) {
    SETSUNA_ASSERT(body.empty() && ticket == 0);
    append_control(control_, type, id, head);
    return;
  }
  SETSUNA_ASSERT(body.empty() || ticket != 0);
  data_.push_back({type, id, {head.begin(), head.end()}, body, ticket, 0});
  data_bytes_ += sizeof(FrameHeader) + data_.back().bytes();
}

void SendQueue::push(NetMessage type, std::span<const std::byte> bytes) {
  if (!has_last_) {
    append_control(control_, static_cast<std::uint16_t>(type), 0, bytes);
  }
}

void SendQueue::push_last(NetMessage type, const std::string& text) {
  SETSUNA_ASSERT(!has_last_);
  has_last_ = true;
  last_type_ = type;
  last_ = text.substr(0, kMaxControlBytes);
}

bool SendQueue::add_chunk(SendBatch& batch, Message& message) {
  const std::uint64_t from = message.done;
  const std::uint64_t to = std::min<std::uint64_t>(message.bytes(), from + kMaxChunkBytes);
  const auto head = part_of(message.head, 0, from, to);
  const auto body = part_of(message.body, message.head.size(), from, to);
  FrameHeader header;
  header.type = message.type;
  header.id = message.id;
  header.lane = static_cast<std::uint8_t>(Lane::kData);
  header.message_bytes = message.bytes();
  header.chunk_bytes = static_cast<std::uint32_t>(to - from);
  header.flags = static_cast<std::uint8_t>((from == 0 ? FrameHeader::kFirst : 0) |
                                           (to == message.bytes() ? FrameHeader::kLast : 0));
  append_header(batch.bytes, header, head, body);
  append(batch.bytes, head);
  message.done = to;
  if (from == 0) {
    data_bytes_ -= sizeof header;
  }
  data_bytes_ -= to - from;
  if (body.size() <= kCopyBytes) {
    append(batch.bytes, body);
    return batch.bytes.size() >= kBatchBytes;
  }
  close_piece(batch);
  batch.pieces[batch.piece_count++] = {body.data(), 0, body.size()};
  batch.total_bytes += body.size();
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
    if (message.done == message.bytes()) {
      if (message.ticket != 0) {
        batch.tickets.push_back(message.ticket);
      }
      data_.pop_front();
    }
  }
  if (data_.empty() && has_last_) {
    has_last_ = false;
    append_control(batch.bytes, static_cast<std::uint16_t>(last_type_), 0, std::as_bytes(std::span(last_)));
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
