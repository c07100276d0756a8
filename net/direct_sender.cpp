#include "net/direct_sender.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/frame.hpp"
#include "runtime/assert.hpp"
#include "runtime/clock.hpp"

namespace setsuna::net {
namespace {

using Frame = std::array<std::byte, sizeof(FrameHeader) + kMaxHeadBytes + DirectSender::kMaxBodyBytes>;

// One frame is the whole message.
std::size_t write_frame(Frame& frame, std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                        std::span<const std::byte> body) noexcept {
  FrameHeader header;
  header.type = type;
  header.id = id;
  header.body_bytes = body.size();
  header.chunk_bytes = static_cast<std::uint32_t>(body.size());
  header.head_bytes = static_cast<std::uint8_t>(head.size());
  header.flags = FrameHeader::kData | FrameHeader::kWhole;
  seal(header, head, body);
  std::size_t size = 0;
  for (const auto part : {std::as_bytes(std::span(&header, 1)), head, body}) {
    std::copy(part.begin(), part.end(), frame.begin() + static_cast<std::ptrdiff_t>(size));
    size += part.size();
  }
  return size;
}

// Valid until this thread's next call.
std::span<const std::byte> encoded(LayerStack& layers, std::span<std::byte> frame) {
  if (layers.empty()) {
    return frame;
  }
  static thread_local std::vector<std::byte> wire;
  wire.clear();
  const iovec piece{frame.data(), frame.size()};
  const bool sent = layers.send(std::span(&piece, 1), wire);
  SETSUNA_ASSERT(sent);  // that cannot fail where any thread may do it
  return wire;
}

ssize_t send_without_waiting(int fd, std::span<const std::byte> bytes) noexcept {
  ssize_t sent = 0;
  do {
    sent = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

}  // namespace

void DirectSender::offer(int fd, LayerStack& layers, bool watched) {
  const std::lock_guard<std::mutex> lock(mutex_);
  fd_ = fd;
  layers_ = &layers;
  watched_ = watched;
  offered_ = true;
}

std::vector<std::byte> DirectSender::take() {
  if (!std::exchange(offered_, false)) {
    return {};
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  fd_ = -1;
  return std::exchange(rest_, {});
}

std::size_t DirectSender::rest_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return rest_.size();
}

Connection::SentNow DirectSender::send(std::uint16_t type, std::uint64_t id, std::span<const std::byte> head,
                                       std::span<const std::byte> body, Watch* watch) noexcept {
  if (head.size() > kMaxHeadBytes || body.size() > kMaxBodyBytes) {
    return Connection::SentNow::kNo;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (fd_ < 0 || (watch != nullptr && !watched_)) {
    return Connection::SentNow::kNo;
  }
  Frame frame;
  const auto bytes = encoded(*layers_, std::span(frame).first(write_frame(frame, type, id, head, body)));
  if (watch != nullptr && !watch->is_on()) {
    watch->begin(runtime::monotonic_ns());
  }
  const ssize_t sent = send_without_waiting(fd_, bytes);
  if (sent <= 0) {
    return Connection::SentNow::kNo;  // no room; or an error, which the reactor will meet, too
  }
  const auto rest = bytes.subspan(static_cast<std::size_t>(sent));
  if (rest.empty()) {
    return Connection::SentNow::kAll;
  }
  fd_ = -1;
  rest_.assign(rest.begin(), rest.end());
  return Connection::SentNow::kPart;
}

}  // namespace setsuna::net
