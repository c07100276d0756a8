// Messages that another thread than the reactor's sends.
#include <netinet/tcp.h>

#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "net/direct_sender.hpp"
#include "net/frame.hpp"
#include "tests/net/link_fixture.hpp"

namespace setsuna::net {
namespace {

using SentNow = Connection::SentNow;
using testing::SizeIs;

std::span<const std::byte> span_of(const std::string& text) { return std::as_bytes(std::span(text)); }

void set_buffer(int fd, int which, int bytes) {
  ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, which, &bytes, sizeof bytes), 0);
}

// --- The sender alone ----------------------------------------------------------------------------------------

// So small that it is soon full; not so small that the kernel would wait for its timers.
constexpr int kNarrowBytes = 16384;

// Connected over the loopback.
struct NarrowPair {
  NarrowPair() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    near = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    set_buffer(near.get(), SO_SNDBUF, kNarrowBytes);
    EXPECT_EQ(::connect(near.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    far = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  // Up to so many bytes, if there are any; or those that come.
  void read_some(std::size_t most, std::string& to, int flags = MSG_DONTWAIT) {
    std::string buffer(most, '\0');
    const ssize_t got = ::recv(far.get(), buffer.data(), most, flags);
    to.append(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  }
  UniqueFd near, far;
};

// Of whole frames that lie behind one another.
std::vector<std::uint64_t> ids_of(const std::string& wire) {
  std::vector<std::uint64_t> ids;
  std::size_t at = 0;
  while (at + sizeof(FrameHeader) <= wire.size()) {
    FrameHeader header;
    std::memcpy(&header, wire.data() + at, sizeof header);
    const auto behind = std::as_bytes(std::span(wire)).subspan(at + sizeof header);
    std::string error;
    EXPECT_TRUE(check_start(header, behind.first(header.head_bytes), &error)) << error;
    at += sizeof header + header.head_bytes + header.chunk_bytes;
    ids.push_back(header.id);
  }
  EXPECT_EQ(at, wire.size());
  return ids;
}

TEST(DirectSender, WhatTheKernelDoesNotTakeIsLeftToTheReactor) {
  NarrowPair pair;
  LayerStack no_layers;
  DirectSender sender;
  const std::string body(DirectSender::kMaxBodyBytes, 'b');
  std::mt19937 random(7);
  std::string wire;
  std::uint64_t sent = 0;
  int parts = 0;
  int refused = 0;
  sender.offer(pair.near.get(), no_layers, false);
  while (parts < 2 || refused < 2) {
    const auto part_of_body = span_of(body).first(random() % body.size());
    switch (sender.send(9, sent, span_of("head"), part_of_body, nullptr)) {
      case SentNow::kAll: ++sent; break;
      case SentNow::kNo:
        ++refused;
        pair.read_some(65536, wire);
        break;
      case SentNow::kPart: {
        ++sent;
        ++parts;
        EXPECT_GT(sender.rest_bytes(), 0u);
        EXPECT_EQ(sender.send(9, 0, {}, {}, nullptr), SentNow::kNo);  // nothing goes between the two parts
        const std::vector<std::byte> rest = sender.take();
        std::size_t done = 0;
        while (done < rest.size()) {
          pair.read_some(65536, wire);
          const ssize_t more = ::send(pair.near.get(), rest.data() + done, rest.size() - done, MSG_DONTWAIT);
          done += static_cast<std::size_t>(std::max<ssize_t>(more, 0));
        }
        sender.offer(pair.near.get(), no_layers, false);
      }
    }
  }
  pair.near.reset();
  for (std::size_t before = wire.size() + 1; before != wire.size();) {
    before = wire.size();
    pair.read_some(65536, wire, 0);
  }
  const std::vector<std::uint64_t> ids = ids_of(wire);
  ASSERT_THAT(ids, SizeIs(sent));
  for (std::uint64_t i = 0; i < sent; ++i) {
    ASSERT_EQ(ids[i], i);
  }
}

TEST(DirectSender, SendsNothingUnlessItIsOfferedWatchedAndSmall) {
  NarrowPair pair;
  LayerStack no_layers;
  DirectSender sender;
  Watch watch;
  EXPECT_EQ(sender.send(9, 1, {}, {}, nullptr), SentNow::kNo);
  sender.offer(pair.near.get(), no_layers, false);
  EXPECT_EQ(sender.send(9, 1, {}, {}, &watch), SentNow::kNo);
  EXPECT_FALSE(watch.is_on());
  EXPECT_EQ(sender.send(9, 1, {}, span_of(std::string(DirectSender::kMaxBodyBytes + 1, 'x')), nullptr), SentNow::kNo);
  sender.offer(pair.near.get(), no_layers, true);
  EXPECT_EQ(sender.send(9, 1, {}, {}, &watch), SentNow::kAll);
  EXPECT_TRUE(watch.is_on());
  EXPECT_GT(watch.heard_ns.load(), 0u);
  EXPECT_TRUE(sender.take().empty());
  EXPECT_EQ(sender.send(9, 1, {}, {}, nullptr), SentNow::kNo);
  sender.offer(pair.near.get(), no_layers, false);
  pair.far.reset();
  while (sender.send(9, 2, {}, {}, nullptr) != SentNow::kNo) {
  }
  EXPECT_TRUE(sender.take().empty());  // an error is the reactor's to meet
}

// --- Connections ---------------------------------------------------------------------------------------------

class Direct : public LinkTest {
 protected:
  // What is sent is with the kernel, so that the sending side is offered. `tag` must not have been said before.
  void quiet(End& from, End& to, std::uint64_t tag) {
    from.say("quiet", tag);
    run_until([&] { return !to.messages.empty() && to.messages.back().id == tag; });
    run_what_is_there();
    to.messages.clear();
  }
  SentNow elsewhere(End& from, std::uint64_t id, const std::string& head, const std::string& body) {
    SentNow sent = SentNow::kNo;
    std::thread([&] { sent = from.connection->send_now(9, id, span_of(head), span_of(body), false); }).join();
    return sent;
  }
  // Of the socket behind the host's end.
  int socket_of(const End& at_host) {
    for (int fd = 3; fd < 4096; ++fd) {
      sockaddr_in peer{};
      socklen_t length = sizeof peer;
      if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0 && peer.sin_family == AF_INET &&
          "127.0.0.1:" + std::to_string(ntohs(peer.sin_port)) == at_host.connection->peer()) {
        return fd;
      }
    }
    ADD_FAILURE() << "there is no such socket";
    return -1;
  }
};
INSTANTIATE_TEST_SUITE_P(Links, Direct, testing::ValuesIn(link_params({"tcp", "ws"})), link_param_name);

TEST_P(Direct, ASmallMessageArrivesAsAllOthers) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  quiet(*at_daemon, *at_host, 1);
  EXPECT_EQ(elsewhere(*at_daemon, 5, "head", "body"), SentNow::kAll);
  EXPECT_EQ(elsewhere(*at_daemon, 6, "", ""), SentNow::kAll);
  at_daemon->send(7, "queued");
  run_until([h = at_host] { return h->messages.size() == 3; });
  EXPECT_EQ(at_host->messages[0].id, 5u);
  EXPECT_EQ(at_host->messages[0].type, 9u);
  EXPECT_EQ(at_host->messages[0].lane, Lane::kData);
  EXPECT_EQ(at_host->messages[0].head, "head");
  EXPECT_EQ(at_host->messages[0].text, "body");
  EXPECT_EQ(at_host->messages[1].id, 6u);
  EXPECT_EQ(at_host->messages[2].id, 7u);
}

TEST_P(Direct, NothingOvertakesWhatIsQueued) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  quiet(*at_daemon, *at_host, 1);
  const std::string large = pattern(8'000'000);  // more than the kernel takes at once
  at_daemon->send(2, "", large, 1);
  EXPECT_EQ(elsewhere(*at_daemon, 3, "", ""), SentNow::kNo);
  reactor_->run_once();
  EXPECT_EQ(elsewhere(*at_daemon, 3, "", ""), SentNow::kNo);
  run_until([h = at_host, d = at_daemon] { return !d->sent.empty() && h->messages.size() == 1; });
  run_what_is_there();
  EXPECT_EQ(elsewhere(*at_daemon, 3, "", ""), SentNow::kAll);
}

TEST_P(Direct, NotOnceItIsClosedOrHasEnded) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  quiet(*at_daemon, *at_host, 1);
  quiet(*at_host, *at_daemon, 2);
  at_daemon->connection->close("done");
  EXPECT_EQ(elsewhere(*at_daemon, 3, "", ""), SentNow::kNo);
  run_until([h = at_host, d = at_daemon] { return h->closes == 1 && d->closes == 1; });
  EXPECT_EQ(elsewhere(*at_daemon, 3, "", ""), SentNow::kNo);
  EXPECT_EQ(elsewhere(*at_host, 3, "", ""), SentNow::kNo);
  EXPECT_TRUE(at_host->messages.empty());
}

// Two threads send in an order that a mutex gives, as an application's do: through the outbox what cannot go at once.
struct TwoWays {
  TwoWays(Reactor& reactor_of, End& end) : reactor(reactor_of), from(end) {}
  Reactor& reactor;
  End& from;
  std::string body = pattern(DirectSender::kMaxBodyBytes);
  std::mutex mutex;
  std::vector<std::uint64_t> outbox;
  bool resume = false;
  std::uint64_t next = 0;
  int all = 0;
  int parts = 0;
  bool done = false;

  std::string body_of(std::uint64_t id) const { return body.substr(0, id % body.size()); }
  // Not the reactor's thread. False: it is not all with the kernel.
  bool send() {
    const std::lock_guard<std::mutex> lock(mutex);
    const std::uint64_t id = next++;
    SentNow how = SentNow::kNo;
    if (outbox.empty() && !resume) {
      how = from.connection->send_now(9, id, span_of("head"), span_of(body_of(id)), false);
    }
    all += how == SentNow::kAll ? 1 : 0;
    parts += how == SentNow::kPart ? 1 : 0;
    resume = resume || how == SentNow::kPart;
    if (how == SentNow::kNo) {
      outbox.push_back(id);
    }
    return how == SentNow::kAll;
  }
  void wait() {
    reactor.wake();
    for (bool busy = true; busy;) {
      std::this_thread::yield();
      const std::lock_guard<std::mutex> lock(mutex);
      busy = !outbox.empty() || resume;
    }
  }
  void finish() {
    const std::lock_guard<std::mutex> lock(mutex);
    done = true;
    reactor.wake();
  }
  // The reactor's thread.
  void on_wake(const Completion&) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (std::exchange(resume, false)) {
      from.connection->resume();
    }
    for (const std::uint64_t id : std::exchange(outbox, {})) {
      from.send(id, "head", body_of(id));
    }
  }
};

TEST_P(Direct, TheOrderHoldsWhateverWayTheMessagesGo) {
  Host& host = this->host();
  for (const bool narrow : {false, true}) {
    auto [at_host, at_daemon] = connect(host);
    if (narrow) {
      set_buffer(socket_of(*at_host), SO_SNDBUF, kNarrowBytes);
    }
    quiet(*at_host, *at_daemon, 1);
    TwoWays ways(*reactor_, *at_host);
    reactor_->on_wake(Handler::to<&TwoWays::on_wake>(&ways));
    std::thread other([&] {
      while (narrow ? ways.parts < 2 : ways.next < 1000 || ways.all < 50) {
        if (!ways.send() && ways.next % 4 != 0) {
          ways.wait();
        }
      }
      ways.finish();
    });
    std::uint64_t said = 0;
    run_until([&, d = at_daemon] {
      if (said < 100 && d->messages.size() > 20 * said) {
        ways.from.say("between", 1'000'000);  // the reactor thread's own
        ++said;
      }
      const std::lock_guard<std::mutex> lock(ways.mutex);
      return ways.done && d->messages.size() == ways.next + said;
    });
    other.join();
    std::uint64_t expected = 0;
    for (const Said& message : at_daemon->messages) {
      if (message.lane == Lane::kData) {
        ASSERT_EQ(message.id, expected);
        ASSERT_EQ(message.head, "head");
        ASSERT_EQ(message.text, ways.body_of(expected));
        ++expected;
      }
    }
    EXPECT_EQ(expected, ways.next);
  }
  reactor_->on_wake({});
}

// What is cut off in the middle of a message sent from elsewhere comes before what close() says.
TEST_P(Direct, TheRestOfAMessageGoesBeforeTheLastWord) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  set_buffer(socket_of(*at_host), SO_SNDBUF, kNarrowBytes);
  const std::string body = pattern(1000);
  std::uint64_t sent = 0;
  for (SentNow how = SentNow::kNo; how != SentNow::kPart;) {
    quiet(*at_host, *at_daemon, ++sent);
    std::thread([&, h = at_host] {
      for (how = SentNow::kAll; how == SentNow::kAll; sent += how == SentNow::kNo ? 0 : 1) {
        how = h->connection->send_now(9, sent + 1, {}, span_of(body).first((sent * 37) % body.size()), false);
      }
    }).join();
  }
  EXPECT_GT(at_host->connection->unsent_bytes(), 0u);
  at_host->connection->close("done");
  run_until([h = at_host, d = at_daemon] { return h->closes == 1 && d->closes == 1; });
  EXPECT_THAT(at_daemon->closed, testing::HasSubstr("done"));
  ASSERT_FALSE(at_daemon->messages.empty());
  EXPECT_EQ(at_daemon->messages.back().id, sent);
  EXPECT_EQ(at_daemon->messages.back().text, body.substr(0, ((sent - 1) * 37) % body.size()));
}

// How the connection ends while another thread sends over it.
enum class Ending { kOwnClose, kPeerClose, kPeerGone, kDestroyed };

TEST_P(Direct, AnotherThreadSendsUntilTheEnd) {
  Host& host = this->host();
  for (const Ending ending : {Ending::kOwnClose, Ending::kPeerClose, Ending::kPeerGone, Ending::kDestroyed}) {
    for (int turn = 0; turn < 4; ++turn) {
      auto [at_host, at_daemon] = connect(host);
      End& from = *at_host;
      at_daemon->keep_text = false;
      quiet(from, *at_daemon, 1);
      std::mutex mutex;
      Connection* connection = from.connection.get();
      std::atomic<int> sent{0};
      std::atomic<bool> resume{false};
      from.then_closed = [&](End&) {
        const std::lock_guard<std::mutex> lock(mutex);
        connection = nullptr;
      };
      std::thread other([&] {
        for (std::uint64_t id = 0;; ++id) {
          std::this_thread::yield();
          const std::lock_guard<std::mutex> lock(mutex);
          if (connection == nullptr) {
            return;
          }
          const SentNow how = connection->send_now(9, id, span_of("head"), span_of("body"), false);
          sent += how == SentNow::kNo ? 0 : 1;
          resume = resume || how == SentNow::kPart;
        }
      });
      run_until([&] {
        if (resume.exchange(false)) {
          from.connection->resume();
        }
        run_what_is_there();
        return sent > 3 * turn;
      });
      switch (ending) {
        case Ending::kOwnClose: from.connection->close("done"); break;
        case Ending::kPeerClose: at_daemon->connection->close("done"); break;
        case Ending::kPeerGone: at_daemon->connection.reset(); break;
        case Ending::kDestroyed: {
          const std::lock_guard<std::mutex> lock(mutex);
          connection = nullptr;
          from.connection.reset();
        }
      }
      if (ending != Ending::kDestroyed) {
        run_until([&] { return from.closes == 1; });
      }
      other.join();
      from.then_closed = nullptr;
    }
  }
}

using DirectTls = Direct;
INSTANTIATE_TEST_SUITE_P(Links, DirectTls, testing::ValuesIn(link_params({"tls+tcp", "wss"})), link_param_name);

TEST_P(DirectTls, IsTheReactorsAlone) {
  Host& host = this->host();
  auto [at_host, at_daemon] = connect(host);
  quiet(*at_daemon, *at_host, 1);
  EXPECT_EQ(elsewhere(*at_daemon, 5, "head", "body"), SentNow::kNo);
}

}  // namespace
}  // namespace setsuna::net
