#include "rbridge/embed/zygote_spawn.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "rbridge/embed/zygote_wire.hpp"

namespace setsuna::embed {
namespace {

constexpr int kFirstFree = 5;  // behind the descriptors with a fixed number

void close_from(int lowest) {
  if (::syscall(SYS_close_range, static_cast<unsigned>(lowest), ~0u, 0) == 0) return;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  for (rlim_t fd = static_cast<rlim_t>(lowest); fd < limit.rlim_cur; ++fd) ::close(static_cast<int>(fd));
}

// Between vfork() and exec: the parent's memory, so nothing here may allocate, lock or return.
[[noreturn]] void become_program(const SpawnPlan& plan, bool main_thread, pid_t parent, volatile int* error) {
  do {
    ::setsid();
    // Until the zygote watches its host itself. Bound to the thread that forks: only the main thread lives long enough.
    if (main_thread) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) break;
    }
    // First away from the fixed numbers, any of which may be one of them.
    const int socket = ::fcntl(plan.socket_fd, F_DUPFD, kFirstFree);
    const int host = ::fcntl(plan.host_pidfd, F_DUPFD, kFirstFree);
    const int errors = ::fcntl(plan.stderr_fd, F_DUPFD, kFirstFree);
    const int null_device = ::fcntl(::open("/dev/null", O_RDWR), F_DUPFD, kFirstFree);
    if (socket < 0 || host < 0 || errors < 0 || null_device < 0) break;
    if (::dup2(null_device, 0) < 0 || ::dup2(null_device, 1) < 0 || ::dup2(errors, 2) < 0 ||
        ::dup2(socket, kSocketFd) < 0 || ::dup2(host, kHostPidfd) < 0) {
      break;
    }
    close_from(kFirstFree);
    rlimit limit{};
    if (plan.soft_nofile != 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
      limit.rlim_cur = plan.soft_nofile < limit.rlim_max ? plan.soft_nofile : limit.rlim_max;
      ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    // The image to come catches nothing yet: signals that were blocked for the vfork() may come from here on.
    struct sigaction action {};
    for (int signal = 1; signal < NSIG; ++signal) {
      if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL) {
        action.sa_handler = SIG_DFL;
        action.sa_flags = 0;
        ::sigaction(signal, &action, nullptr);
      }
    }
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(plan.program, plan.argv, plan.envp);
  } while (false);
  *error = errno != 0 ? errno : ECHILD;
  ::_exit(127);
}

}  // namespace

// vfork(): copying the page tables of a host with gigabytes of data would take longer than starting R.
__attribute__((noinline)) pid_t spawn_process(const SpawnPlan& plan) {
  volatile int error = 0;
  const pid_t parent = ::getpid();
  const bool main_thread = ::syscall(SYS_gettid) == parent;
  sigset_t all, old;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);  // a handler must not run on the parent's memory in the child
  const pid_t pid = ::vfork();
  if (pid == 0) become_program(plan, main_thread, parent, &error);
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (pid < 0) return -fork_error;
  if (error != 0) {
    ::waitpid(pid, nullptr, 0);
    return -error;
  }
  return pid;
}

}  // namespace setsuna::embed
