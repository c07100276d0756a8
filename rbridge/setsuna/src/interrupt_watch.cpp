#include "interrupt_watch.hpp"

#include "glue.hpp"

extern "C" {
extern int R_interrupts_pending;
extern Rboolean R_interrupts_suspended;
}

namespace setsuna::host {
namespace {

struct sigaction r_interrupt_action;
std::atomic<std::uint32_t>* sleeping_on = nullptr;

void interrupt_while_sleeping(int signal, siginfo_t* info, void* context) {
  if (std::atomic<std::uint32_t>* word = sleeping_on; word != nullptr) {
    word->fetch_add(1, std::memory_order_relaxed);
  }
  if ((r_interrupt_action.sa_flags & SA_SIGINFO) != 0) {
    r_interrupt_action.sa_sigaction(signal, info, context);
  } else if (r_interrupt_action.sa_handler != SIG_IGN && r_interrupt_action.sa_handler != SIG_DFL) {
    r_interrupt_action.sa_handler(signal);
  }
}

}  // namespace

InterruptWatch::InterruptWatch(std::atomic<std::uint32_t>* word) {
  ::sigaction(SIGINT, nullptr, &r_interrupt_action);
  active_ = (r_interrupt_action.sa_flags & SA_SIGINFO) != 0 ||
            (r_interrupt_action.sa_handler != SIG_IGN && r_interrupt_action.sa_handler != SIG_DFL);
  if (active_) {
    sleeping_on = word;
    struct sigaction ours {};
    ours.sa_sigaction = interrupt_while_sleeping;
    ours.sa_flags = SA_SIGINFO;
    sigemptyset(&ours.sa_mask);
    ::sigaction(SIGINT, &ours, nullptr);
  }
}

InterruptWatch::~InterruptWatch() {
  if (active_) {
    ::sigaction(SIGINT, &r_interrupt_action, nullptr);
    sleeping_on = nullptr;
  }
}

bool interrupt_pending() noexcept { return R_interrupts_pending != 0 && R_interrupts_suspended == FALSE; }

}  // namespace setsuna::host
