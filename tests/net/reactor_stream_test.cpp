// Sockets with bytes: accept, connect, recv, send, close.
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>
#include <set>
#include <thread>

#include "tests/net/reactor_fixture.hpp"

namespace setsuna::net {
namespace {

using Stream = ReactorTest;
SETSUNA_ON_ALL_REACTORS(Stream);

void write_all(int fd, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t sent = ::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    ASSERT_GT(sent, 0);
    at += static_cast<std::size_t>(sent);
  }
}

std::string read_all(int fd, std::size_t size) {
  std::string out(size, '\0');
  std::size_t at = 0;
  while (at < size) {
    const ssize_t got = ::recv(fd, out.data() + at, size - at, 0);
    if (got <= 0) {
      break;
    }
    at += static_cast<std::size_t>(got);
  }
  out.resize(at);
  return out;
}

// ---- accept and connect ----

TEST_P(Stream, AcceptsManyAndKeepsThemHigh) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  Recorder accepted;
  const Token token = reactor_->accept(listener, accepted.handler());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(tcp_client(address));
  }
  run_until([&] { return accepted.results.size() == 200; });
  EXPECT_EQ(std::set<std::int64_t>(accepted.results.begin(), accepted.results.end()).size(), 200u);
  for (const std::int64_t fd : accepted.results) {
    EXPECT_GE(fd, 1024);
    EXPECT_EQ(::fcntl(static_cast<int>(fd), F_GETFD), FD_CLOEXEC);
  }
  clients.push_back(tcp_client(address));
  run_until([&] { return accepted.results.size() == 201; });
  reactor_->cancel(token);
  run_until([&] { return accepted.lasts == 1; });
  EXPECT_EQ(accepted.last(), -ECANCELED);
}

TEST_P(Stream, ConnectsAndIsRefused) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  Recorder accepted, connected, refused, closed;
  reactor_->accept(listener, accepted.handler());
  const int good = reactor_->adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  reactor_->connect(good, reinterpret_cast<sockaddr*>(&address), sizeof address, connected.handler());
  run_until([&] { return connected.lasts == 1 && accepted.results.size() == 1; });
  EXPECT_EQ(connected.last(), 0);

  reactor_->close(listener, closed.handler());
  run_until([&] { return closed.lasts == 1; });
  EXPECT_EQ(accepted.last(), -ECANCELED);
  const int bad = reactor_->adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  reactor_->connect(bad, reinterpret_cast<sockaddr*>(&address), sizeof address, refused.handler());
  run_until([&] { return refused.lasts == 1; });
  EXPECT_EQ(refused.last(), -ECONNREFUSED);
}

TEST_P(Stream, AcceptsOnALocalListener) {
  const Url url = parse_url("abstract://setsuna-test-" + std::to_string(::getpid())).url.value();
  SocketResult listener = listen_unix(url, SOCK_SEQPACKET);
  ASSERT_TRUE(listener) << listener.message;
  Recorder accepted;
  reactor_->accept(reactor_->adopt(listener.fd.release()), accepted.handler());
  const SocketResult client = connect_unix(url, SOCK_SEQPACKET);
  ASSERT_TRUE(client) << client.message;
  run_until([&] { return accepted.results.size() == 1; });
  const int ours = static_cast<int>(accepted.last());
  EXPECT_TRUE(peer_is_same_user(ours));
  Recorder watch;
  ASSERT_EQ(send_message(client.fd.get(), bytes("hello"), {}, Blocking::kYes), 5);
  reactor_->watch_readable(ours, watch.handler());
  run_until([&] { return !watch.results.empty(); });
  std::byte buffer[16];
  EXPECT_EQ(receive_message(ours, buffer, Blocking::kNo).bytes, 5);
  EXPECT_EQ(receive_message(ours, buffer, Blocking::kNo).bytes, -EAGAIN);
}

TEST_P(Stream, AcceptWithoutFreeDescriptorsEndsWithTheErrorAndCanBeStartedAgain) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  const UniqueFd client = tcp_client(address);
  rlimit old;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none{3, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  Recorder starved;
  reactor_->accept(listener, starved.handler());
  run_until([&] { return starved.lasts == 1; });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_EQ(starved.last(), -EMFILE);
  // The kernel may have lost the first connection with the descriptor it could not get; another one comes through.
  const UniqueFd second = tcp_client(address);
  Recorder accepted;
  reactor_->accept(listener, accepted.handler());
  run_until([&] { return !accepted.results.empty(); });
  EXPECT_GE(accepted.last(), 0);
}

// ---- recv ----

TEST_P(Stream, ReceivesUntilTheEnd) {
  Pair pair = stream_pair();
  Recorder received;
  reactor_->recv(pair.ours, received.handler());
  write_all(pair.theirs.get(), "hello ");
  run_until([&] { return received.data == "hello "; });
  write_all(pair.theirs.get(), "world");
  pair.theirs.reset();
  run_until([&] { return received.lasts == 1; });
  EXPECT_EQ(received.data, "hello world");
  EXPECT_EQ(received.last(), 0);
  EXPECT_EQ(reactor_->pending(), 0u);
}

TEST_P(Stream, AdoptsSocketsInEitherBlockingMode) {
  for (const int mode : {0, static_cast<int>(SOCK_NONBLOCK)}) {
    UniqueFd one;
    UniqueFd theirs;
    ASSERT_EQ(socket_pair(SOCK_STREAM | mode, one, theirs), 0);
    const int ours = reactor_->adopt(one.release());
    Recorder received;
    const Token token = reactor_->recv(ours, received.handler());
    run_what_is_there();
    EXPECT_TRUE(received.results.empty());
    write_all(theirs.get(), "x");
    run_until([&] { return !received.results.empty(); });
    EXPECT_EQ(received.data, "x");
    reactor_->forget(token);
  }
}

TEST_P(Stream, ReceivesMuchMoreThanItHasBuffers) {
  Pair pair = stream_pair();
  const std::string sent = pattern(32 << 20);
  Recorder received;
  reactor_->recv(pair.ours, received.handler());
  std::thread writer([&] {
    write_all(pair.theirs.get(), sent);
    pair.theirs.reset();
  });
  run_until([&] { return received.lasts == 1; });
  writer.join();
  EXPECT_EQ(received.last(), 0);
  EXPECT_TRUE(received.data == sent);
}

TEST_P(Stream, ManyConnectionsShareTheBuffers) {
  // More bytes are ready at once than the kernel has buffers for: receives run dry and must be started again.
  constexpr std::size_t kPairs = 100;
  constexpr std::size_t kBytes = 150'000;
  std::vector<Pair> pairs(kPairs);
  std::vector<Recorder> received(kPairs);
  for (std::size_t i = 0; i < kPairs; ++i) {
    pairs[i] = stream_pair();
    const int size = 1 << 20;
    ::setsockopt(pairs[i].theirs.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    const std::string text = pattern(kBytes, static_cast<unsigned>(i));
    write_all(pairs[i].theirs.get(), text);
  }
  for (std::size_t i = 0; i < kPairs; ++i) {
    reactor_->recv(pairs[i].ours, received[i].handler());
  }
  for (std::size_t i = 0; i < kPairs; ++i) {
    run_until([&] { return received[i].data.size() == kBytes; });
    EXPECT_TRUE(received[i].data == pattern(kBytes, static_cast<unsigned>(i))) << i;
  }
}

TEST_P(Stream, BusyConnectionsLeaveBuffersToTheOthers) {
  // Two of them always have more than all buffers hold.
  constexpr std::size_t kBusy = 2;
  constexpr std::size_t kQuiet = 3;
  const std::string block = pattern(1 << 20);
  std::atomic<bool> enough{false};
  std::vector<Pair> pairs(kBusy + kQuiet);
  std::vector<std::size_t> received(pairs.size());
  std::vector<Recorder> recorders(pairs.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    pairs[i] = stream_pair();
    recorders[i].then = [&, i](const Completion&) {
      received[i] += recorders[i].data.size();
      recorders[i].data.clear();
    };
    reactor_->recv(pairs[i].ours, recorders[i].handler());
  }
  std::vector<std::thread> writers;
  for (std::size_t i = 0; i < kBusy; ++i) {
    writers.emplace_back([&, i] {
      while (!enough.load(std::memory_order_relaxed)) {  // relaxed: nothing is handed over with it
        write_all(pairs[i].theirs.get(), block);
      }
      pairs[i].theirs.reset();
    });
  }
  run_until([&] { return received[0] >= 8 * block.size() && received[1] >= 8 * block.size(); });
  for (std::size_t round = 1; round <= 5; ++round) {
    for (std::size_t i = kBusy; i < pairs.size(); ++i) {
      write_all(pairs[i].theirs.get(), "x");
    }
    run_until([&] {
      return std::all_of(received.begin() + kBusy, received.end(), [&](std::size_t got) { return got == round; });
    });
  }
  enough.store(true, std::memory_order_relaxed);
  for (std::size_t i = 0; i < kBusy; ++i) {
    run_until([&] { return recorders[i].lasts == 1; });
    EXPECT_EQ(received[i] % block.size(), 0U);
  }
  for (std::thread& writer : writers) {
    writer.join();
  }
}

TEST_P(Stream, PausingARecvLosesNothing) {
  Pair pair = stream_pair();
  const std::string sent = pattern(4 << 20);
  std::thread writer([&] {
    write_all(pair.theirs.get(), sent);
    pair.theirs.reset();
  });
  std::string all;
  for (bool ended = false; !ended;) {
    Recorder received;
    Token token{};
    received.then = [&](const Completion& c) {
      if (c.more) {
        reactor_->cancel(token);
      }
    };
    token = reactor_->recv(pair.ours, received.handler());
    run_until([&] { return received.lasts == 1; });
    all += received.data;
    ended = received.last() == 0;
    EXPECT_TRUE(ended || received.last() == -ECANCELED);
  }
  writer.join();
  EXPECT_TRUE(all == sent);
}

// ---- send ----

TEST_P(Stream, SendsAllOfABigBlock) {
  Pair pair = stream_pair();
  const std::string sent = pattern(32 << 20);
  std::string got;
  std::thread reader([&] { got = read_all(pair.theirs.get(), sent.size()); });
  Recorder done;
  reactor_->send(pair.ours, bytes(sent), done.handler());
  EXPECT_TRUE(done.results.empty()) << "no handler runs inside the call";
  run_until([&] { return done.lasts == 1; });
  reader.join();
  EXPECT_EQ(done.last(), static_cast<std::int64_t>(sent.size()));
  EXPECT_TRUE(got == sent);
}

TEST_P(Stream, SendsInOrderAndInPieces) {
  Pair pair = stream_pair();
  constexpr std::size_t kSends = 3000;
  std::vector<std::string> texts;
  std::vector<Recorder> done(kSends);
  std::string expected;
  for (std::size_t i = 0; i < kSends; ++i) {
    texts.push_back(pattern(i % 997, static_cast<unsigned>(i)));
    expected += texts.back();
  }
  std::string got;
  std::thread reader([&] { got = read_all(pair.theirs.get(), expected.size()); });
  for (std::size_t i = 0; i < kSends; ++i) {
    const std::string& text = texts[i];
    const std::size_t cut = text.size() / 3;
    iovec pieces[] = {
        {const_cast<char*>(text.data()), cut}, {nullptr, 0}, {const_cast<char*>(text.data()) + cut, text.size() - cut}};
    reactor_->send(pair.ours, std::span<const iovec>(pieces), done[i].handler());
  }
  for (std::size_t i = 0; i < kSends; ++i) {
    run_until([&] { return done[i].lasts == 1; });
    EXPECT_EQ(done[i].last(), static_cast<std::int64_t>(texts[i].size()));
  }
  reader.join();
  EXPECT_TRUE(got == expected);
}

TEST_P(Stream, AFailedSendFailsThoseBehindIt) {
  Pair pair = stream_pair();
  const std::string big = pattern(8 << 20);
  Recorder first, second, third;
  reactor_->send(pair.ours, bytes(big), first.handler());
  reactor_->send(pair.ours, bytes(big), second.handler());
  reactor_->send(pair.ours, bytes(big), third.handler());
  run_what_is_there();
  pair.theirs.reset();
  run_until([&] { return first.lasts + second.lasts + third.lasts == 3; });
  EXPECT_TRUE(first.last() == -EPIPE || first.last() == -ECONNRESET) << first.last();
  EXPECT_EQ(second.last(), first.last());
  EXPECT_EQ(third.last(), first.last());
}

TEST_P(Stream, CancellingASendEndsItAndThoseBehindIt) {
  Pair pair = stream_pair();
  const std::string big = pattern(8 << 20);
  std::vector<Recorder> done(4);
  std::vector<Token> tokens;
  for (Recorder& one : done) {
    tokens.push_back(reactor_->send(pair.ours, bytes(big), one.handler()));
  }
  run_what_is_there();
  reactor_->cancel(tokens[2]);
  run_until([&] { return done[2].lasts + done[3].lasts == 2; });
  EXPECT_EQ(done[2].last(), -ECANCELED);
  EXPECT_EQ(done[3].last(), -ECANCELED);
  EXPECT_EQ(done[0].lasts + done[1].lasts, 0);
  reactor_->cancel(tokens[0]);
  run_until([&] { return done[0].lasts + done[1].lasts == 2; });
  EXPECT_EQ(done[0].last(), -ECANCELED);
  EXPECT_EQ(done[1].last(), -ECANCELED);
}

// Sends without a copy work on TCP only.
TEST_P(Stream, SendsOverTcpInPieces) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  Recorder accepted;
  reactor_->accept(listener, accepted.handler());
  const UniqueFd peer = tcp_client(address);
  run_until([&] { return accepted.results.size() == 1; });
  const int ours = static_cast<int>(accepted.results[0]);
  std::string head = pattern(64, 1);
  std::string body = pattern(16 << 20, 2);
  std::string got;
  std::thread reader([&] { got = read_all(peer.get(), 3 * (head.size() + body.size())); });
  std::vector<Recorder> done(3);
  for (Recorder& one : done) {
    const std::array<iovec, 2> pieces = {iovec{head.data(), head.size()}, iovec{body.data(), body.size()}};
    reactor_->send(ours, pieces, one.handler());
  }
  run_until([&] { return done[2].lasts == 1; });
  reader.join();
  for (const Recorder& one : done) {
    EXPECT_EQ(one.last(), static_cast<std::int64_t>(head.size() + body.size()));
  }
  EXPECT_TRUE(got == head + body + head + body + head + body);
}

// The peer reads nothing, but its kernel acknowledges what it has room for; the rest must not be waited for.
TEST_P(Stream, ClosesWhileAPeerDoesNotRead) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  Recorder accepted, sent, closed;
  reactor_->accept(listener, accepted.handler());
  const UniqueFd peer = tcp_client(address);
  run_until([&] { return accepted.results.size() == 1; });
  const int ours = static_cast<int>(accepted.results[0]);
  const std::string big = pattern(64 << 20);
  reactor_->send(ours, bytes(big), sent.handler());
  run_what_is_there();
  reactor_->close(ours, closed.handler());
  run_until([&] { return closed.lasts == 1; });
  EXPECT_EQ(sent.lasts, 1);
  EXPECT_LT(sent.last(), 0);
}

// ---- close ----

TEST_P(Stream, CloseEndsTheOperationsFirst) {
  Pair pair = stream_pair();
  const std::string big = pattern(8 << 20);
  std::string order;
  Recorder received, sent, closed, twice, late, unknown;
  received.then = [&](const Completion&) { order += 'o'; };
  sent.then = received.then;
  closed.then = [&](const Completion&) { order += 'c'; };
  reactor_->recv(pair.ours, received.handler());
  reactor_->send(pair.ours, bytes(big), sent.handler());
  run_what_is_there();
  reactor_->close(pair.ours, closed.handler());
  reactor_->close(pair.ours, twice.handler());
  reactor_->recv(pair.ours, late.handler());
  run_until([&] { return closed.lasts == 1 && twice.lasts == 1 && late.lasts == 1; });
  EXPECT_EQ(order, "ooc");
  EXPECT_EQ(received.last(), -ECANCELED);
  EXPECT_EQ(sent.last(), -ECANCELED);
  EXPECT_EQ(closed.last(), 0);
  // On epoll the first close ends inside the call's own round, so the second finds it pending or done.
  EXPECT_TRUE(twice.last() == -EALREADY || twice.last() == -EBADF);
  EXPECT_EQ(late.last(), -ECANCELED);
  EXPECT_FALSE(is_open(pair.ours));
  reactor_->close(pair.ours, unknown.handler());
  run_until([&] { return unknown.lasts == 1; });
  EXPECT_EQ(unknown.last(), -EBADF);
}

TEST_P(Stream, AHandlerMayCloseItsOwnConnection) {
  Pair pair = stream_pair();
  Recorder received, closed;
  received.then = [&](const Completion& c) {
    if (c.more) {
      reactor_->close(pair.ours, closed.handler());
    }
  };
  reactor_->recv(pair.ours, received.handler());
  write_all(pair.theirs.get(), "x");
  run_until([&] { return closed.lasts == 1; });
  EXPECT_EQ(received.last(), -ECANCELED);
  char byte;
  EXPECT_LE(::recv(pair.theirs.get(), &byte, 1, 0), 0);
}

TEST_P(Stream, ClosedNumbersComeBackClean) {
  for (int round = 0; round < 100; ++round) {
    Pair pair = stream_pair();
    Recorder received, closed;
    reactor_->recv(pair.ours, received.handler());
    write_all(pair.theirs.get(), "x");
    if (round % 2 == 0) {
      run_until([&] { return received.data == "x"; });
    }
    reactor_->close(pair.ours, closed.handler());
    run_until([&] { return closed.lasts == 1; });
    EXPECT_EQ(received.lasts, 1);
  }
  EXPECT_EQ(reactor_->pending(), 0u);
}

// ---- everything at once ----

// A peer that echoes; every operation ends exactly once and no byte is lost, whatever is cancelled or closed when.
struct Echo {
  Reactor* reactor;
  int fd = -1;
  bool closing = false;
  bool closed = false;
  int open_operations = 0;
  std::vector<std::unique_ptr<std::string>> texts;

  void start() {
    ++open_operations;
    reactor->recv(fd, Handler::to<&Echo::on_recv>(this));
  }

  void on_recv(const Completion& c) {
    if (c.result > 0) {
      texts.push_back(std::make_unique<std::string>(reinterpret_cast<const char*>(c.data.data()), c.data.size()));
      ++open_operations;
      reactor->send(fd, std::as_bytes(std::span(*texts.back())), Handler::to<&Echo::on_sent>(this));
    }
    if (!c.more) {
      --open_operations;
      close();
    }
  }

  void on_sent(const Completion& c) {
    EXPECT_FALSE(c.more);
    --open_operations;
    if (c.result < 0) {
      close();
    }
  }

  void close() {
    if (!closing) {
      closing = true;
      reactor->close(fd, Handler::to<&Echo::on_closed>(this));
    }
  }

  void on_closed(const Completion& c) {
    EXPECT_EQ(c.result, 0);
    EXPECT_EQ(open_operations, 0) << "closed before its operations ended";
    closed = true;
  }
};

struct EchoServer {
  Reactor* reactor;
  std::vector<std::unique_ptr<Echo>> echoes;

  void on_accept(const Completion& c) {
    if (c.result < 0) {
      return;
    }
    echoes.push_back(std::make_unique<Echo>());
    echoes.back()->reactor = reactor;
    echoes.back()->fd = static_cast<int>(c.result);
    echoes.back()->start();
  }

  std::size_t closed() const {
    std::size_t count = 0;
    for (const auto& echo : echoes) {
      count += echo->closed ? 1 : 0;
    }
    return count;
  }
};

void run_client(const sockaddr_in& address, unsigned seed, int connections) {
  std::mt19937 random(seed);
  for (int i = 0; i < connections; ++i) {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const std::string text = pattern(random() % 40'000 + 1, seed + static_cast<unsigned>(i));
    write_all(fd.get(), text);
    if (random() % 4 != 0) {  // else leave in the middle
      ASSERT_TRUE(read_all(fd.get(), text.size()) == text);
    }
    if (random() % 2 != 0) {
      const linger reset{1, 0};
      ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
  }
}

TEST_P(Stream, EchoesToClientsThatComeAndGo) {
  constexpr int kThreads = 4;
  constexpr int kConnections = 60;
  sockaddr_in address;
  EchoServer server{reactor_.get(), {}};
  reactor_->accept(tcp_listener(address), Handler::to<&EchoServer::on_accept>(&server));
  std::vector<std::thread> clients;
  for (unsigned t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] { run_client(address, t * 1000 + 1, kConnections); });
  }
  run_until([&] { return server.closed() == kThreads * kConnections; });
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(reactor_->pending(), 1u) << "only the accept is left";
  reactor_->close_all();
}

TEST_P(Stream, CloseAllUnderLoad) {
  for (unsigned round = 0; round < 10; ++round) {
    sockaddr_in address;
    EchoServer server{reactor_.get(), {}};
    reactor_->accept(tcp_listener(address), Handler::to<&EchoServer::on_accept>(&server));
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 50; ++i) {
      clients.push_back(tcp_client(address));
      write_all(clients.back().get(), pattern(20'000));
    }
    run_until([&] { return server.echoes.size() > round * 5; });
    reactor_->close_all();
    EXPECT_EQ(reactor_->pending(), 0u);
    for (const auto& echo : server.echoes) {
      EXPECT_EQ(echo->open_operations, 0);
      EXPECT_FALSE(is_open(echo->fd));
    }
  }
}

}  // namespace
}  // namespace setsuna::net
