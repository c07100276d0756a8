#include "rbridge/embed/wire_channel.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "runtime/assert.hpp"

namespace setsuna::embed {

void WireChannel::close() noexcept {
  waiting_.clear();
  socket_.reset();
}

void WireChannel::send(const AnyMessage& message, std::vector<runtime::UniqueFd> fds) {
  SETSUNA_ASSERT(message.header.magic == kWireMagic && wire_size(message.header.kind) != 0);
  SETSUNA_ASSERT(fds.size() <= kFdSlots);
  if (!open()) return;
  waiting_.push_back(Outgoing{message, std::move(fds)});
  flush();
}

void WireChannel::flush() {
  while (!waiting_.empty()) {
    const int error = try_send(waiting_.front());
    if (error == EAGAIN) return;
    if (error == ETOOMANYREFS || error == ENOMEM || error == ENOBUFS) {
      // The kernel takes no more descriptors in flight. The message alone says enough for the peer to go on: a lost
      // pidfd can be opened by pid, a request without its descriptors is refused.
      if (waiting_.front().fds.empty()) return;
      waiting_.front().fds.clear();
      continue;
    }
    if (error != 0) {  // the peer is gone; its death is noticed through its pidfd
      waiting_.clear();
      return;
    }
    waiting_.pop_front();
  }
}

int WireChannel::try_send(const Outgoing& out) noexcept {
  iovec part{const_cast<AnyMessage*>(&out.message), wire_size(out.message.header.kind)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFdSlots)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!out.fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * out.fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * out.fds.size());
    int numbers[kFdSlots];
    for (std::size_t i = 0; i < out.fds.size(); ++i) numbers[i] = out.fds[i].get();
    std::memcpy(CMSG_DATA(rights), numbers, sizeof(int) * out.fds.size());
  }
  while (::sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

Received WireChannel::receive() {
  Received received;
  iovec part{&received.message, sizeof received.message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFdSlots)];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return received;
  if (got <= 0) {
    received.status = Received::Status::closed;
    return received;
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number;
      std::memcpy(&number, CMSG_DATA(c) + i * sizeof(int), sizeof number);
      received.fds.emplace_back(number);
    }
  }
  received.fds_lost = (header.msg_flags & MSG_CTRUNC) != 0;
  const WireHeader& wire = received.message.header;
  const bool sound = (header.msg_flags & MSG_TRUNC) == 0 && static_cast<std::size_t>(got) >= sizeof(WireHeader) &&
                     wire.magic == kWireMagic && wire.version == kWireVersion &&
                     static_cast<std::size_t>(got) == wire_size(wire.kind);
  received.status = sound ? Received::Status::message : Received::Status::damaged;
  return received;
}

}  // namespace setsuna::embed
