// Waking, watching, timers and the life of operations.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "net/signals.hpp"
#include "runtime/clock.hpp"
#include "runtime/eventfd.hpp"
#include "runtime/pidfd.hpp"
#include "tests/net/reactor_fixture.hpp"

namespace setsuna::net {
namespace {

using runtime::EventFd;
using runtime::monotonic_ns;
constexpr std::uint64_t kFarNs = 3600 * runtime::kNanosPerSecond;

using Wake = ReactorTest;
using Watch = ReactorTest;
using Timer = ReactorTest;
using Life = ReactorTest;
SETSUNA_ON_ALL_REACTORS(Wake);
SETSUNA_ON_ALL_REACTORS(Watch);
SETSUNA_ON_ALL_REACTORS(Timer);
SETSUNA_ON_ALL_REACTORS(Life);

struct Counter {
  int calls = 0;
  void on(const Completion&) { ++calls; }
};

// ---- waking ----

TEST_P(Wake, ReachesTheHandlerFromAnotherThread) {
  Counter counter;
  int plain = 0;  // what was written before the wake is visible after it
  reactor_->on_wake(Handler::to<&Counter::on>(&counter));
  std::thread other([&] {
    plain = 42;
    reactor_->wake();
  });
  run_until([&] { return counter.calls > 0; });
  EXPECT_EQ(plain, 42);
  other.join();
}

TEST_P(Wake, NoneIsLostAmongMany) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 5000;
  struct Sum {
    std::atomic<int> posted{0};
    int seen = 0;
    void on(const Completion&) { seen = posted.load(std::memory_order_relaxed); }
  } sum;
  reactor_->on_wake(Handler::to<&Sum::on>(&sum));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        sum.posted.fetch_add(1, std::memory_order_relaxed);
        reactor_->wake();
      }
    });
  }
  run_until([&] { return sum.seen == kThreads * kRounds; });  // sleeps for ever if the last wake is lost
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST_P(Wake, WithoutHandlerIsHarmless) {
  reactor_->wake();
  reactor_->run_once();
  EXPECT_EQ(reactor_->pending(), 0u);
}

TEST_P(Wake, StopEndsRunAndRunCanBeCalledAgain) {
  for (int i = 0; i < 2; ++i) {
    std::thread other([&] { reactor_->stop(); });
    reactor_->run();
    other.join();
  }
}

TEST_P(Wake, TheReactorMayBeDestroyedAsSoonAsItStops) {
  for (int round = 0; round < 100; ++round) {
    std::atomic<Reactor*> shared{nullptr};
    std::thread thread([&] {
      const MadeReactor made = make(GetParam());
      shared = made.reactor.get();
      made.reactor->run();
    });
    Reactor* reactor;
    while ((reactor = shared.load()) == nullptr) {
      std::this_thread::yield();
    }
    reactor->wake();
    reactor->stop();  // may still be on its way out when the reactor is gone
    thread.join();
  }
}

std::uint64_t voluntary_switches(pid_t thread) {
  std::ifstream status("/proc/self/task/" + std::to_string(thread) + "/status");
  std::string word;
  std::uint64_t count = 0;
  while (status >> word && word != "voluntary_ctxt_switches:") {
  }
  status >> count;
  return count;
}

char thread_state(pid_t thread) {
  std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  return text[text.rfind(')') + 2];
}

TEST_P(Wake, AnIdleReactorDoesNotRun) {
  const Kind kind = GetParam();
  std::atomic<Reactor*> shared{nullptr};
  std::atomic<pid_t> id{0};
  std::thread thread([&] {
    block_all_signals();
    MadeReactor made = make(kind);
    const EventFd quiet = EventFd::create();
    Recorder watch;
    made.reactor->watch_readable(quiet.fd(), watch.handler());
    id = static_cast<pid_t>(::syscall(SYS_gettid));
    shared = made.reactor.get();
    made.reactor->run();
    made.reactor->close_all();
  });
  while (shared == nullptr || thread_state(id) != 'S') {
    std::this_thread::yield();
  }
  const std::uint64_t before = voluntary_switches(id);
  ::usleep(100'000);
  EXPECT_EQ(voluntary_switches(id), before);
  shared.load()->stop();
  thread.join();
}

// ---- watching ----

TEST_P(Watch, EventFdRingsAgainAndAgain) {
  const EventFd bell = EventFd::create();
  Recorder watch;
  std::uint64_t rings = 0;
  watch.then = [&](const Completion& c) {
    EXPECT_TRUE(c.more);
    EXPECT_NE(c.result & POLLIN, 0);
    rings += bell.drain();
  };
  bell.signal();  // already rung when the watch begins
  reactor_->watch_readable(bell.fd(), watch.handler());
  run_until([&] { return rings == 1; });
  for (std::uint64_t i = 2; i < 10; ++i) {
    std::thread other([&] { bell.signal(); });
    run_until([&] { return rings == i; });
    other.join();
  }
  EXPECT_EQ(watch.lasts, 0);
}

TEST_P(Watch, MessagesWithDescriptorsThenHangUp) {
  UniqueFd ours;
  UniqueFd theirs;
  ASSERT_EQ(socket_pair(SOCK_SEQPACKET, ours, theirs), 0);
  Recorder watch;
  std::vector<std::string> messages;
  std::vector<UniqueFd> fds;
  watch.then = [&](const Completion&) {
    std::byte buffer[64];
    for (;;) {
      ReceivedMessage message = receive_message(ours.get(), buffer, Blocking::kNo);
      if (message.bytes <= 0) {
        break;
      }
      messages.emplace_back(reinterpret_cast<char*>(buffer), static_cast<std::size_t>(message.bytes));
      for (std::size_t i = 0; i < message.fd_count; ++i) {
        fds.push_back(std::move(message.fds[i]));
      }
    }
  };
  reactor_->watch_readable(ours.get(), watch.handler());
  const EventFd bell = EventFd::create();
  const int sent[] = {bell.fd(), bell.fd()};
  ASSERT_EQ(send_message(theirs.get(), bytes("one"), sent, Blocking::kNo), 3);
  ASSERT_EQ(send_message(theirs.get(), bytes("two"), {}, Blocking::kNo), 3);
  run_until([&] { return messages.size() == 2; });
  EXPECT_EQ(messages, (std::vector<std::string>{"one", "two"}));
  ASSERT_EQ(fds.size(), 2u);
  EventFd(std::move(fds[1])).signal();
  EXPECT_EQ(bell.drain(), 1u);

  ASSERT_EQ(send_message(theirs.get(), bytes("last"), {}, Blocking::kNo), 4);
  theirs.reset();
  run_until([&] { return watch.lasts == 1; });
  EXPECT_NE(watch.last() & POLLHUP, 0);
  EXPECT_EQ(messages.back(), "last");
  run_what_is_there();
  EXPECT_EQ(reactor_->pending(), 0u);
}

TEST_P(Watch, AHandlerMayCloseTheSocketThatHungUp) {
  UniqueFd one;
  UniqueFd theirs;
  ASSERT_EQ(socket_pair(SOCK_SEQPACKET, one, theirs), 0);
  const int ours = reactor_->adopt(one.release());
  Recorder watch;
  Recorder closed;
  watch.then = [&](const Completion& c) {
    EXPECT_FALSE(reactor_->cancel(c.token)) << "it is over";
    reactor_->close(ours, closed.handler());
  };
  reactor_->watch_readable(ours, watch.handler());
  run_what_is_there();
  theirs.reset();
  run_until([&] { return closed.lasts == 1; });
  EXPECT_EQ(watch.results.size(), 1u);
  EXPECT_EQ(closed.last(), 0);
  EXPECT_FALSE(is_open(ours));
  EXPECT_EQ(reactor_->pending(), 0u);
}

TEST_P(Watch, MoreAtOnceThanAnyQueueHolds) {
  constexpr std::size_t kBells = 6000;
  rlimit old;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  if (old.rlim_max < kBells + 2000) {
    GTEST_SKIP() << "needs a hard limit of " << kBells + 2000 << " descriptors";
  }
  const rlimit raised{old.rlim_max, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &raised), 0);
  struct Ring {
    EventFd bell = EventFd::create();
    std::uint64_t rung = 0;
    int lasts = 0;
    std::size_t* total = nullptr;
    void on(const Completion& c) {
      lasts += c.more ? 0 : 1;
      if (c.more && bell.drain() > 0) {
        ++rung;
        ++*total;
      }
    }
  };
  std::size_t total = 0;
  std::vector<Ring> rings(kBells);
  for (Ring& ring : rings) {
    ASSERT_TRUE(ring.bell);
    ring.total = &total;
    reactor_->watch_readable(ring.bell.fd(), Handler::to<&Ring::on>(&ring));
  }
  run_what_is_there();
  for (std::uint64_t round = 1; round <= 3; ++round) {
    for (const Ring& ring : rings) {
      ring.bell.signal();
    }
    run_until([&] { return total == round * kBells; });
  }
  for (const Ring& ring : rings) {
    EXPECT_EQ(ring.rung, 3u);
    ring.bell.signal();
  }
  reactor_->close_all();
  for (const Ring& ring : rings) {
    EXPECT_EQ(ring.lasts, 1);
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
}

TEST_P(Watch, WritableOnceThereIsRoom) {
  UniqueFd ours;
  UniqueFd theirs;
  ASSERT_EQ(socket_pair(SOCK_SEQPACKET, ours, theirs), 0);
  const std::string message(1000, 'x');
  while (send_message(ours.get(), bytes(message), {}, Blocking::kNo) > 0) {
  }
  Recorder watch;
  reactor_->watch_writable(ours.get(), watch.handler());
  run_what_is_there();
  EXPECT_EQ(watch.lasts, 0);
  std::byte buffer[2000];
  while (receive_message(theirs.get(), buffer, Blocking::kNo).bytes > 0) {
  }
  run_until([&] { return watch.lasts == 1; });
  EXPECT_NE(watch.last() & POLLOUT, 0);
}

TEST_P(Watch, PidfdOnceTheProcessIsDead) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const UniqueFd pidfd = runtime::pidfd_open(child);
  ASSERT_TRUE(pidfd);
  Recorder watch;
  reactor_->watch_pidfd(pidfd.get(), watch.handler());
  run_what_is_there();
  EXPECT_TRUE(watch.results.empty());
  ::kill(child, SIGKILL);
  run_until([&] { return watch.lasts == 1; });
  EXPECT_NE(watch.last() & POLLIN, 0);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

TEST_P(Watch, BadDescriptorsAreErrorsInCompletions) {
  Recorder negative;
  Recorder closed;
  reactor_->watch_readable(-1, negative.handler());
  reactor_->watch_readable(1'000'000, closed.handler());
  EXPECT_TRUE(negative.results.empty()) << "no handler runs inside the call";
  run_until([&] { return negative.lasts == 1 && closed.lasts == 1; });
  EXPECT_EQ(negative.last(), -EBADF);
  EXPECT_EQ(closed.last(), -EBADF);
}

// ---- timers ----

TEST_P(Timer, FireInOrder) {
  const std::uint64_t now = monotonic_ns();
  std::string order;
  Recorder a, b, c, d;
  a.then = [&](const Completion&) { order += 'a'; };
  b.then = [&](const Completion&) { order += 'b'; };
  c.then = [&](const Completion&) { order += 'c'; };
  d.then = [&](const Completion&) { order += 'd'; };
  reactor_->timer(now + 3'000'000, d.handler());
  reactor_->timer(now + 1'000'000, b.handler());
  reactor_->timer(now + 1'000'000, c.handler());  // equal deadlines: as they were set
  reactor_->timer(0, a.handler());
  run_until([&] { return order.size() == 4; });
  EXPECT_EQ(order, "abcd");
  EXPECT_GE(monotonic_ns(), now + 3'000'000) << "never early";
  EXPECT_EQ(d.last(), 0);
}

TEST_P(Timer, CancelledOnesSayCancelledAndDoNotFire) {
  Recorder cancelled;
  Recorder forgotten;
  Recorder fired;
  const Token first = reactor_->timer(monotonic_ns() + kFarNs, cancelled.handler());
  const Token second = reactor_->timer(monotonic_ns() + kFarNs, forgotten.handler());
  reactor_->timer(monotonic_ns(), fired.handler());
  EXPECT_TRUE(reactor_->cancel(first));
  EXPECT_TRUE(reactor_->cancel(first)) << "its last completion is still to come";
  EXPECT_TRUE(reactor_->forget(second));
  EXPECT_FALSE(reactor_->forget(second));
  run_until([&] { return cancelled.lasts + fired.lasts == 2; });
  EXPECT_EQ(cancelled.last(), -ECANCELED);
  EXPECT_FALSE(reactor_->cancel(first));
  EXPECT_TRUE(forgotten.results.empty());
  EXPECT_EQ(reactor_->pending(), 0u);
}

TEST_P(Timer, AHandlerThatSetsPastTimersDoesNotStarveTheRest) {
  struct Loop {
    Reactor* reactor;
    int rounds = 0;
    void on(const Completion& c) {
      ++rounds;
      if (c.result == 0) {
        reactor->timer(0, Handler::to<&Loop::on>(this));
      }
    }
  } loop{reactor_.get()};
  loop.on(Completion{});
  const EventFd bell = EventFd::create();
  Recorder watch;
  reactor_->watch_readable(bell.fd(), watch.handler());
  bell.signal();
  run_until([&] { return !watch.results.empty(); });
  reactor_->close_all();
  EXPECT_GT(loop.rounds, 1);
}

TEST_P(Timer, ManyInRandomOrderWithCancelledOnesBetween) {
  struct Entry {
    std::uint64_t deadline;
    std::vector<std::uint64_t>* fired;
    int cancelled = 0;
    void on(const Completion& c) {
      if (c.result == 0) {
        fired->push_back(deadline);
      } else {
        ++cancelled;
      }
    }
  };
  std::vector<std::uint64_t> fired;
  std::vector<Entry> entries(2000);
  std::vector<Token> tokens;
  const std::uint64_t base = monotonic_ns();
  std::uint32_t random = 7;
  for (Entry& entry : entries) {
    random = random * 1664525u + 1013904223u;
    entry = {base + random % 20'000'000, &fired};
    tokens.push_back(reactor_->timer(entry.deadline, Handler::to<&Entry::on>(&entry)));
  }
  std::size_t cancelled = 0;
  for (std::size_t i = 0; i < tokens.size(); i += 3, ++cancelled) {
    reactor_->cancel(tokens[i]);
  }
  run_until([&] { return reactor_->pending() == 0; });
  EXPECT_EQ(fired.size(), entries.size() - cancelled);
  EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
}

// ---- tokens, forgetting, closing everything ----

TEST_P(Life, AStaleTokenDoesNotTouchTheNextUserOfItsEntry) {
  Recorder first;
  const Token stale = reactor_->timer(0, first.handler());
  run_until([&] { return first.lasts == 1; });
  Recorder second;
  const Token fresh = reactor_->timer(monotonic_ns() + kFarNs, second.handler());
  EXPECT_EQ(stale.value >> 32, fresh.value >> 32) << "the test wants the same entry";
  EXPECT_FALSE(stale == fresh);
  EXPECT_FALSE(reactor_->cancel(stale));
  EXPECT_FALSE(reactor_->forget(stale));
  EXPECT_FALSE(reactor_->cancel(Token{}));
  EXPECT_FALSE(reactor_->cancel(Token{~std::uint64_t{0}}));
  EXPECT_EQ(reactor_->pending(), 1u);
}

TEST_P(Life, AForgottenDescriptorMayBeClosedAndItsNumberUsedAgain) {
  for (int round = 0; round < 50; ++round) {
    EventFd first = EventFd::create();
    const int number = first.fd();
    Recorder forgotten;
    const Token token = reactor_->watch_readable(number, forgotten.handler());
    if (round % 2 == 0) {
      run_what_is_there();
    }
    ASSERT_TRUE(reactor_->forget(token));
    first = EventFd();
    const EventFd second = EventFd::create();
    ASSERT_EQ(second.fd(), number);
    Recorder watch;
    const Token next = reactor_->watch_readable(number, watch.handler());
    second.signal();
    run_until([&] { return !watch.results.empty(); });
    EXPECT_TRUE(forgotten.results.empty());
    reactor_->forget(next);
    run_what_is_there();
  }
  run_until([&] { return reactor_->pending() == 0; });
}

TEST_P(Life, AnEventOfAClosedDescriptorDoesNotReachTheNextUserOfItsNumber) {
  struct Ring {
    EventFd bell = EventFd::create();
    Token token{};
    bool called = false;
  };
  Ring rings[2];
  Recorder fresh;
  Recorder watches[2];
  for (std::size_t i = 0; i < 2; ++i) {
    watches[i].then = [&, i](const Completion&) {
      Ring& other = rings[1 - i];
      rings[i].called = true;
      rings[i].bell.drain();
      if (!other.called) {  // both are ready: end the other one and take its number
        const int number = other.bell.fd();
        reactor_->forget(other.token);
        other.bell = EventFd();
        other.bell = EventFd::create();
        ASSERT_EQ(other.bell.fd(), number);
        reactor_->watch_pidfd(number, fresh.handler());  // once, and without a look at the descriptor
      }
    };
    rings[i].bell.signal();
    rings[i].token = reactor_->watch_readable(rings[i].bell.fd(), watches[i].handler());
  }
  run_until([&] { return rings[0].called || rings[1].called; });
  run_what_is_there();
  EXPECT_TRUE(fresh.results.empty());
  EXPECT_EQ(watches[0].results.size() + watches[1].results.size(), 1u);
}

TEST_P(Life, AHandlerMayCancelAnotherOperationOnItsDescriptor) {
  const EventFd bell = EventFd::create();
  Recorder once;
  Recorder watch;
  Token token{};
  watch.then = [&](const Completion&) { reactor_->cancel(token); };
  bell.signal();
  token = reactor_->watch_pidfd(bell.fd(), once.handler());
  reactor_->watch_readable(bell.fd(), watch.handler());
  run_until([&] { return once.lasts == 1 && !watch.results.empty(); });
  EXPECT_TRUE(once.last() == -ECANCELED || once.last() == POLLIN) << once.last();
  run_what_is_there();
  EXPECT_EQ(once.results.size(), 1u);
  EXPECT_EQ(reactor_->pending(), 1u);
}

TEST_P(Life, AHandlerMayForgetItself) {
  const EventFd bell = EventFd::create();
  Recorder watch;
  Token token{};
  watch.then = [&](const Completion& c) {
    EXPECT_EQ(c.token, token);
    EXPECT_TRUE(reactor_->forget(c.token));
  };
  token = reactor_->watch_readable(bell.fd(), watch.handler());
  bell.signal();
  run_until([&] { return watch.results.size() == 1; });
  bell.signal();
  run_until([&] { return reactor_->pending() == 0; });
  EXPECT_EQ(watch.results.size(), 1u);
}

TEST_P(Life, CloseAllEndsEveryKindOnce) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  const EventFd bell = EventFd::create();
  Pair idle = stream_pair();
  Pair full = stream_pair();
  const std::string big = pattern(8 << 20);
  const UniqueFd self = runtime::pidfd_open(::getpid());

  std::vector<Recorder> all(7);
  reactor_->accept(listener, all[0].handler());
  reactor_->watch_readable(bell.fd(), all[1].handler());
  reactor_->recv(idle.ours, all[2].handler());
  reactor_->send(full.ours, bytes(big), all[3].handler());
  reactor_->send(full.ours, bytes(big), all[4].handler());
  reactor_->timer(monotonic_ns() + kFarNs, all[5].handler());
  reactor_->watch_pidfd(self.get(), all[6].handler());
  run_what_is_there();
  Recorder late;
  all[2].then = [&](const Completion&) { reactor_->timer(0, late.handler()); };
  reactor_->close_all();
  for (const Recorder& one : all) {
    EXPECT_EQ(one.lasts, 1);
    EXPECT_EQ(one.last(), -ECANCELED);
  }
  EXPECT_EQ(late.last(), -ECANCELED) << "nothing new begins during close_all";
  EXPECT_EQ(reactor_->pending(), 0u);
  EXPECT_FALSE(is_open(listener));
  EXPECT_FALSE(is_open(idle.ours));
  EXPECT_TRUE(is_open(bell.fd())) << "was not adopted";

  Recorder again;
  reactor_->timer(0, again.handler());
  run_until([&] { return again.lasts == 1; });
  EXPECT_EQ(again.last(), 0) << "usable afterwards";
}

TEST_P(Life, DestructionCallsNobody) {
  Recorder watch;
  Recorder read;
  Recorder write;
  const EventFd bell = EventFd::create();
  Pair pair = stream_pair();
  const std::string big = pattern(8 << 20);
  reactor_->watch_readable(bell.fd(), watch.handler());
  reactor_->recv(pair.ours, read.handler());
  reactor_->send(pair.ours, bytes(big), write.handler());
  run_what_is_there();
  reactor_.reset();
  EXPECT_TRUE(watch.results.empty() && read.results.empty() && write.results.empty());
  char byte;
  ssize_t got;
  do {
    char buffer[65536];
    got = ::read(pair.theirs.get(), buffer, sizeof buffer);
  } while (got > 0);
  EXPECT_EQ(got, 0) << "the peer sees the end";
  EXPECT_EQ(::recv(pair.theirs.get(), &byte, 1, MSG_DONTWAIT), 0);
}

// ---- forks by others ----

TEST_P(Life, AForkedChildAbandonsWithoutDisturbingTheParent) {
  sockaddr_in address;
  const int listener = tcp_listener(address);
  Pair pair = stream_pair();
  const EventFd bell = EventFd::create();
  Recorder accepted, received, watch;
  Counter wakes;
  reactor_->accept(listener, accepted.handler());
  reactor_->recv(pair.ours, received.handler());
  reactor_->watch_readable(bell.fd(), watch.handler());
  reactor_->on_wake(Handler::to<&Counter::on>(&wakes));
  run_what_is_there();

  const pid_t child = ::fork();
  if (child == 0) {
    reactor_->abandon_in_child();
    reactor_->wake();
    reactor_->stop();
    const bool closed = !is_open(listener) && !is_open(pair.ours);
    static_cast<void>(reactor_.release());
    ::_exit(closed ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);

  EXPECT_TRUE(is_open(listener) && is_open(pair.ours));
  const UniqueFd client = tcp_client(address);
  ASSERT_EQ(::send(pair.theirs.get(), "still", 5, 0), 5);
  bell.signal();
  reactor_->wake();
  run_until([&] { return accepted.results.size() == 1 && received.data == "still" && !watch.results.empty(); });
  run_until([&] { return wakes.calls > 0; });
}

// The reactor runs on its own thread; another one forks, at any moment of what that one does.
TEST_P(Life, ForksUnderLoadDisturbNobody) {
  constexpr int kForks = 60;
  struct Churn {
    Reactor* reactor;
    std::atomic<std::size_t> closed{0};
    void on_accept(const Completion& c) {
      if (c.result >= 0) {
        reactor->recv(static_cast<int>(c.result), {});
        reactor->close(static_cast<int>(c.result), Handler::to<&Churn::on_close>(this));
      }
    }
    void on_close(const Completion&) { closed.fetch_add(1, std::memory_order_relaxed); }
  };
  reactor_.reset();  // the other thread makes its own
  std::atomic<Churn*> shared{nullptr};
  sockaddr_in address;
  std::thread thread([&] {
    reactor_ = make(GetParam()).reactor;
    Churn churn{reactor_.get()};
    const int listener = tcp_listener(address);
    reactor_->accept(listener, Handler::to<&Churn::on_accept>(&churn));
    shared.store(&churn, std::memory_order_release);
    reactor_->run();
    reactor_->close_all();
    reactor_.reset();
  });
  Churn* churn;
  while ((churn = shared.load(std::memory_order_acquire)) == nullptr) {
    std::this_thread::yield();
  }
  std::atomic<bool> done{false};
  std::atomic<std::size_t> connected{0};
  std::thread client([&] {
    while (!done.load(std::memory_order_relaxed)) {
      const UniqueFd fd = tcp_client(address);
      char byte;
      EXPECT_LE(::recv(fd.get(), &byte, 1, 0), 0);  // ends although children come and go
      connected.fetch_add(1, std::memory_order_relaxed);
    }
  });
  for (int i = 0; i < kForks; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      churn->reactor->abandon_in_child();
      churn->reactor->wake();
      ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  done = true;
  client.join();
  churn->reactor->stop();
  thread.join();
  EXPECT_GT(connected.load(), 0u);
}

TEST_P(Life, AConnectionClosedByTheParentEndsAlthoughAChildHoldsACopy) {
  Pair pair = stream_pair();
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(gate[1]);
    char byte;
    static_cast<void>(::read(gate[0], &byte, 1) == 0);  // keeps all descriptors until the parent closes the gate
    ::_exit(0);
  }
  ::close(gate[0]);
  Recorder closed;
  reactor_->close(pair.ours, closed.handler());
  run_until([&] { return closed.lasts == 1; });
  char byte;
  EXPECT_EQ(::recv(pair.theirs.get(), &byte, 1, 0), 0);
  ::close(gate[1]);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

}  // namespace
}  // namespace setsuna::net
