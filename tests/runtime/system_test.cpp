// The thin wrappers of what the kernel offers.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <new>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "runtime/clock.hpp"
#include "runtime/eventfd.hpp"
#include "runtime/futex.hpp"
#include "runtime/hash.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::runtime {
namespace {

std::atomic<std::uint32_t>* shared_word() {
  void* raw = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return new (raw) std::atomic<std::uint32_t>(0);
}

TEST(SharedFutex, ReturnsAtOnceWhenTheWordDiffers) {
  std::atomic<std::uint32_t> word{1};
  EXPECT_EQ(SharedFutex::wait(&word, 0), FutexResult::kValueChanged);
}

TEST(SharedFutex, DeadlineInThePastAndSoon) {
  std::atomic<std::uint32_t> word{0};
  EXPECT_EQ(SharedFutex::wait_until(&word, 0, 1), FutexResult::kTimedOut);
  const std::uint64_t deadline_ns = monotonic_ns() + 5 * kNanosPerMilli;
  EXPECT_EQ(SharedFutex::wait_until(&word, 0, deadline_ns), FutexResult::kTimedOut);
  EXPECT_GE(monotonic_ns(), deadline_ns);
}

TEST(SharedFutex, WakesAnotherProcess) {
  auto* word = shared_word();
  const pid_t pid = ::fork();
  if (pid == 0) {
    while (word->load(std::memory_order_acquire) == 0) {
      SharedFutex::wait(word, 0);
    }
    ::_exit(0);
  }
  word->store(1, std::memory_order_release);
  SharedFutex::wake(word, 1);
  int status = 1;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(SharedFutex, ASignalEndsTheWaitEvenWithRestart) {
  auto* word = shared_word();
  const pid_t pid = ::fork();
  if (pid == 0) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, nullptr);
    word->store(1, std::memory_order_release);
    SharedFutex::wake(word, 1);
    ::_exit(SharedFutex::wait(word, 1) == FutexResult::kInterrupted ? 0 : 1);
  }
  while (word->load(std::memory_order_acquire) == 0) {
    SharedFutex::wait(word, 0);
  }
  // The child may not sleep yet; signals until it ends, each of which would end the wait.
  int status = 1;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    ::kill(pid, SIGUSR1);
  }
  EXPECT_EQ(status, 0);
}

TEST(EventFd, CountsAndFallsSilent) {
  const EventFd bell = EventFd::create();
  ASSERT_TRUE(bell);
  EXPECT_EQ(bell.drain(), 0u);
  bell.signal();
  bell.signal();
  EXPECT_EQ(bell.drain(), 2u);
  EXPECT_EQ(bell.drain(), 0u);
}

TEST(PidFd, NamesOneProcess) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::pause();
    ::_exit(0);
  }
  const UniqueFd handle = pidfd_open(pid);
  ASSERT_TRUE(handle);
  EXPECT_FALSE(pidfd_exited(handle.get()));
  EXPECT_EQ(pidfd_send_signal(handle.get(), 0), 0);
  EXPECT_EQ(pidfd_send_signal(handle.get(), SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(pidfd_exited(handle.get()));
  EXPECT_EQ(pidfd_send_signal(handle.get(), SIGKILL), ESRCH);
  EXPECT_FALSE(pidfd_open(pid));
  EXPECT_EQ(errno, ESRCH);
}

TEST(UniqueFd, OwnsAndMoves) {
  UniqueFd a(::dup(0));
  const int number = a.get();
  UniqueFd b = std::move(a);
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): that is the promise
  EXPECT_EQ(b.get(), number);
  const UniqueFd high = b.duplicate(1024);
  EXPECT_GE(high.get(), 1024);
  EXPECT_EQ(::fcntl(high.get(), F_GETFD), FD_CLOEXEC);
  b.reset();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(Hash, PiecesGiveTheSameHash) {
  std::string text(100'000, 'a');
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(i * 31);
  }
  const Hash128 whole = hash128(text.data(), text.size());
  EXPECT_EQ(Hasher128().update(text.data(), 7).update(text.data() + 7, text.size() - 7).digest(), whole);
  text[50'000] ^= 1;
  EXPECT_NE(hash128(text.data(), text.size()), whole);
  EXPECT_EQ(hash64("", 0), 0x2D06800538D394C2ULL) << "XXH3 as everyone computes it";
}

// Between machines: the one that has the wider instructions must agree with the one that has not.
TEST(Hash, WideInstructionsGiveTheSameHash) {
  if (!has_wide_hash()) {
    GTEST_SKIP() << "this processor has none";
  }
  std::string text(300'000, 'a');
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>((i * 2654435761U) >> 7);
  }
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{17}, std::size_t{240}, std::size_t{241}, kWideHashBytes - 1, kWideHashBytes,
        kWideHashBytes + 1, std::size_t{65536}, text.size() - 300}) {
    const char* data = text.data() + 1;
    EXPECT_EQ(wide_hash64(data, size, 7), XXH3_64bits_withSeed(data, size, 7)) << size;
    Hash128 wide{};
    wide_hash128(data, size, &wide.low, &wide.high);
    const XXH128_hash_t plain = XXH3_128bits(data, size);
    EXPECT_EQ(wide, (Hash128{plain.low64, plain.high64})) << size;
    EXPECT_EQ(Hasher128().update(data, 100).update(data + 100, size + 100).update("b", 1).digest(),
              hash128((std::string(data, size + 200) + "b").data(), size + 201))
        << size;
  }
}

}  // namespace
}  // namespace setsuna::runtime
