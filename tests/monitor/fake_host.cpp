#include "fake_host.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "net/unix_socket.hpp"

namespace setsuna::monitor::test {
namespace {

constexpr int kLookMs = 5;

int next_number() {
  static int last = 0;
  return ++last;
}

}  // namespace

FakeHost::FakeHost() {
  name_ = std::string(kMonitorPrefix) + std::to_string(::geteuid()) + "-" + std::to_string(::getpid()) + "-test" +
          std::to_string(next_number());
  std::string error;
  runtime::SegmentRequest request;
  request.slot_count = 64;
  request.daemon_max = 8;
  request.data_bytes = 4 * runtime::kExtentBytes;
  segment_ = runtime::Segment::create(request, &error);
  net::Url url;
  url.scheme = net::Scheme::kAbstract;
  url.path = name_;
  listener_ = net::listen_unix(url, SOCK_SEQPACKET).fd;
  if (!segment_ || !listener_) {
    std::abort();
  }
  const MonitorHead head{kMonitorMagic, kMonitorVersion, MonitorAsk::kHost, runtime::kLayoutHash, 0, 1, 0};
  host.head = profile.head = latency.head = head;
  host.pid = ::getpid();
  host.profiles = 1;
  host.serials[0] = 5;
  profile.serial = 5;
  profile.daemons = 2;
  std::strcpy(profile.name, "default");
  stop_ = runtime::UniqueFd(::eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread(&FakeHost::run, this);
}

FakeHost::~FakeHost() { end(); }

void FakeHost::end() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    static_cast<void>(::write(stop_.get(), &one, sizeof(one)));
    thread_.join();
    listener_.reset();
  }
}

void FakeHost::run() {
  std::vector<runtime::UniqueFd> guests;
  for (;;) {
    std::vector<pollfd> waiting{{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const auto& guest : guests) {
      waiting.push_back({silent.load(std::memory_order_relaxed) ? -1 : guest.get(), POLLIN, 0});
    }
    ::poll(waiting.data(), waiting.size(), kLookMs);
    if (waiting[0].revents != 0) {
      return;
    }
    if (waiting[1].revents != 0) {
      guests.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
    for (std::size_t i = waiting.size(); i-- > 2;) {
      if (waiting[i].revents != 0 && !answer(guests[i - 2].get())) {
        guests.erase(guests.begin() + static_cast<std::ptrdiff_t>(i - 2));
      }
    }
  }
}

bool FakeHost::answer(int fd) {
  MonitorRequest request{};
  const net::ReceivedMessage message =
      net::receive_message(fd, std::as_writable_bytes(std::span(&request, 1)), net::Blocking::kNo);
  if (message.bytes != static_cast<ssize_t>(sizeof(request))) {
    return false;
  }
  const auto send = [&](const auto& facts, std::span<const int> fds = {}) {
    auto copy = facts;
    copy.head.sequence = request.sequence;
    copy.head.ask = request.ask;
    std::vector<std::byte> bytes(sizeof(copy));
    std::memcpy(bytes.data(), &copy, sizeof(copy));
    const auto* from = reinterpret_cast<const std::byte*>(&bucket);
    for (std::uint32_t i = 0; i < copy.head.count; ++i) {
      bytes.insert(bytes.end(), from, from + sizeof(bucket));
    }
    return net::send_message(fd, bytes, fds, net::Blocking::kNo) > 0;
  };
  struct Alone {
    MonitorHead head;
  };
  switch (request.ask) {
    case MonitorAsk::kHost: {
      MonitorHost told = host;
      told.profiles = without_profiles.load(std::memory_order_relaxed) ? 0 : host.profiles;
      return send(told);
    }
    case MonitorAsk::kProfile: return send(profile);
    case MonitorAsk::kLatency: return send(latency);
    case MonitorAsk::kSegment: {
      const runtime::UniqueFd given = gives_other_file ? runtime::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))
                                      : gives_writable ? runtime::UniqueFd(::dup(segment_->fd()))
                                                       : runtime::reopen_for_reading(segment_->fd());
      const int fds[] = {given.get()};
      return send(Alone{host.head}, fds);
    }
  }
  return false;
}

}  // namespace setsuna::monitor::test
