// Signals belong to R's thread: every other thread starts with all of them blocked.
#pragma once

#include <signal.h>

namespace setsuna::net {

// In the calling thread.
inline void block_all_signals() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// Blocks all signals for a scope and restores the old mask. Create threads inside it: they inherit the mask, so that there
// is no moment in which a new thread could take a signal (and run R's handler).
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &old_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t old_;
};

}  // namespace setsuna::net
