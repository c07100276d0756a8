#include "tests/net/fault_pipe.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace setsuna::net {

void FaultPipe::strike(Fault fault) {
  fault.after += taken_;
  faults_.push_back(fault);
}

// Every fault whose place is among these bytes; one that reaches beyond them goes on in the next ones.
void FaultPipe::take(std::vector<char>& bytes) {
  const std::uint64_t first = taken_;
  taken_ += bytes.size();
  std::vector<bool> dropped(bytes.size(), false);
  for (Fault& fault : faults_) {
    while (fault.count > 0 && fault.after < first + bytes.size()) {
      const auto at = static_cast<std::size_t>(fault.after - first);
      if (fault.kind == Fault::Kind::kEnd) {
        bytes.resize(at);
        ended_ = broken_ = true;
        break;
      }
      if (fault.kind == Fault::Kind::kFlip) {
        bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
      } else {
        dropped[at] = true;
      }
      ++fault.after;
      --fault.count;
    }
  }
  std::erase_if(faults_, [](const Fault& fault) { return fault.count == 0; });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (!dropped[i]) {
      bytes[kept++] = bytes[i];
    }
  }
  bytes.resize(kept);
}

FaultPipe::State FaultPipe::move(int from, int to, const Weather& weather, std::uint64_t now_ns) {
  while (wants_input()) {
    std::vector<char> bytes(64 * 1024);
    const ssize_t got = ::recv(from, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) {
        break;
      }
      return State::kBroken;
    }
    ended_ = got == 0;
    bytes.resize(static_cast<std::size_t>(got));
    take(bytes);
    if (!bytes.empty()) {
      held_ += bytes.size();
      pieces_.push_back({now_ns, std::move(bytes)});
    }
  }
  if (!give(to, weather, now_ns)) {
    return State::kBroken;
  }
  if (!ended_ || !pieces_.empty()) {
    return State::kGoing;
  }
  if (!told_) {
    told_ = true;
    ::shutdown(to, SHUT_WR);
    if (broken_) {
      ::shutdown(from, SHUT_RDWR);
    }
  }
  return broken_ ? State::kBroken : State::kOver;
}

bool FaultPipe::give(int to, const Weather& weather, std::uint64_t now_ns) {
  while (has_output(weather, now_ns)) {
    const Piece& piece = pieces_.front();
    std::size_t want = piece.bytes.size() - given_;
    if (weather.bytes_per_s != kUnlimited) {
      want = std::min<std::size_t>(want, std::max<std::uint64_t>(weather.bytes_per_s / 50, 1));
    }
    const ssize_t sent = ::send(to, piece.bytes.data() + given_, want, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    const auto count = static_cast<std::size_t>(sent);
    if (weather.bytes_per_s != kUnlimited) {
      paid_until_ns_ = std::max(paid_until_ns_, now_ns) + count * std::uint64_t{1'000'000'000} / weather.bytes_per_s;
    }
    held_ -= count;
    given_ += count;
    if (given_ == piece.bytes.size()) {
      pieces_.pop_front();
      given_ = 0;
    }
  }
  return true;
}

bool FaultPipe::has_output(const Weather& weather, std::uint64_t now_ns) const noexcept {
  return next_ns(weather) <= now_ns;
}

std::uint64_t FaultPipe::next_ns(const Weather& weather) const noexcept {
  if (pieces_.empty() || weather.bytes_per_s == 0) {
    return kNever;
  }
  const std::uint64_t due = pieces_.front().came_ns + weather.delay_ns;
  return weather.bytes_per_s == kUnlimited ? due : std::max(due, paid_until_ns_);
}

}  // namespace setsuna::net
