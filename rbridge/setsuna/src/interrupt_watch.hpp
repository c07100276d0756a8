// Sleeping on a futex word of this process so that Ctrl-C ends it.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

namespace setsuna::host {

// Between R's last look at its interrupt flag and a sleep a Ctrl-C would be lost: while one lives it also changes the word.
class InterruptWatch {
 public:
  explicit InterruptWatch(std::atomic<std::uint32_t>* word);
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

 private:
  bool active_ = false;
};

// An interrupt that R would act upon now.
bool interrupt_pending() noexcept;

}  // namespace setsuna::host
