/* What R code alone cannot do to a daemon. Compiled when the tests run. */
#define _GNU_SOURCE
#include <R.h>
#include <Rinternals.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

/* A store to address 0. */
SEXP fault_segv(void) {
  *(volatile int *)0 = 1;
  return R_NilValue;
}

/* Closes every descriptor from `lowest` on, whoever owns it. */
SEXP fault_close_all(SEXP lowest) {
  for (int fd = Rf_asInteger(lowest); fd < 70000; ++fd) {
    close(fd);
  }
  return R_NilValue;
}

/* The same in one system call. */
SEXP fault_close_at_once(void) {
  close_range(3, ~0U, 0);
  return R_NilValue;
}

/* Computes for ever and looks at nothing. */
SEXP fault_spin(void) {
  for (volatile unsigned long i = 0;; ++i) {
  }
  return R_NilValue;
}

/* An interrupt that nobody has handled yet. */
extern int R_interrupts_pending;
SEXP fault_leave_interrupt(void) {
  R_interrupts_pending = 1;
  return R_NilValue;
}

/* A child that leaves by exit(), handlers of the parent included. */
SEXP fault_fork_and_exit(void) {
  const pid_t pid = fork();
  if (pid == 0) {
    exit(0);
  }
  return Rf_ScalarInteger(pid);
}

SEXP fault_limit_memory(SEXP bytes) {
  struct rlimit limit = {(rlim_t)Rf_asReal(bytes), (rlim_t)Rf_asReal(bytes)};
  return Rf_ScalarInteger(setrlimit(RLIMIT_AS, &limit));
}

/* Ignores every signal that can be ignored. */
SEXP fault_ignore_signals(void) {
  for (int s = 1; s < 65; ++s) {
    if (s != SIGSEGV && s != SIGBUS && s != SIGCHLD) {
      signal(s, SIG_IGN);
    }
  }
  return R_NilValue;
}
