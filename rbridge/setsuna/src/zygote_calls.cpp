// What R/zygote.R reaches of rbridge/embed/zygote.hpp.

#include <R_ext/Rdynload.h>
#include <Rembedded.h>
#include <Rversion.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>

#include "evaluator_calls.hpp"
#include "glue.hpp"
#include "nested.hpp"
#include "rbridge/embed/process_traits.hpp"
#include "rbridge/embed/task_scope.hpp"
#include "rbridge/embed/tempdir_board.hpp"
#include "rbridge/embed/zygote.hpp"

extern "C" char** environ;

namespace {

using setsuna::embed::Evaluator;
using setsuna::embed::Zygote;
using setsuna::embed::ZygoteStep;

constexpr int kFailedStart = 1;  // exit status

Zygote* zygote = nullptr;  // one a process, never destroyed
bool exiting = false;
int exit_status = 0;

// ---- the session's temporary directory ----

// The function of R that tempdir() calls by .Internal(): a closure around it would cost each daemon ten pages.
SEXP tempdir_call(bool check) {
  SEXP symbol = Rf_install("tempdir");
  SEXP internal = INTERNAL(symbol);
  return Rf_lang2(TYPEOF(internal) == BUILTINSXP ? internal : symbol, Rf_ScalarLogical(check));
}

// In a new daemon: a session directory of its own, else the first daemon to exit would remove everyone's. R makes a new one
// by tempdir(check = TRUE), if the present one does not exist; it has no other public way. Where R makes it, see ?tempdir.
// Not through R_tryCatchError(): the first use of that in a process compiles R code.
SEXP daemon_tempdir() {
  static char nowhere[] = "/nonexistent";
  R_TempDir = nowhere;
  SEXP call = PROTECT(tempdir_call(true));
  int failed = 0;
  R_tryEvalSilent(call, R_BaseEnv, &failed);
  UNPROTECT(1);
  if (failed != 0 || R_TempDir == nullptr || R_TempDir == nowhere) {
    std::fprintf(stderr, "setsuna: cannot make a temporary directory: set TMPDIR to one with room, see ?tempdir\n");
    ::_exit(setsuna::embed::kNoTempdirStatus);
  }
  zygote->record_tempdir(R_TempDir);
  return R_NilValue;
}

SEXP rehearse_tempdir() {
  SEXP call = PROTECT(tempdir_call(false));
  int failed = 0;
  R_tryEvalSilent(call, R_BaseEnv, &failed);
  UNPROTECT(1);
  return R_NilValue;
}

// ---- the end of a daemon ----

// R_CleanTempDir() starts a shell for it, which takes 7 ms.
void remove_tempdir() {
  if (R_TempDir != nullptr && setsuna::embed::is_session_directory(R_TempDir)) {
    setsuna::embed::remove_tree(R_TempDir);
  } else {
    R_CleanTempDir();
  }
}

[[noreturn]] void leave() {
  Rf_KillAllDevices();
  remove_tempdir();
  std::fflush(nullptr);
  ::_exit(exit_status);
}

// R runs exit finalizers from the newest to the oldest. This one stands between those that tasks have registered and those
// that the zygote had already: in a daemon that ends in its own time the latter, which are its parent's, are not run.
void zygote_sentinel(SEXP) {
  if (exiting) leave();
}

void register_sentinel() {
  SEXP key = PROTECT(R_MakeExternalPtr(nullptr, R_NilValue, R_NilValue));
  R_PreserveObject(key);
  R_RegisterCFinalizerEx(key, zygote_sentinel, TRUE);
  UNPROTECT(1);
}

// Ends a daemon with this status, as quit(runLast = FALSE) does but for what was inherited from the zygote.
SEXP daemon_exit(SEXP status) {
  exit_status = Rf_asInteger(status);
  exiting = true;
  R_RunExitFinalizers();
  leave();
}

// ---- zygote ----

// (exec command of a fresh daemon, names of packages that started threads)
SEXP zygote_open(SEXP command, SEXP threaded) {
  if (zygote != nullptr) Rf_error("this process is a fork server already");
  register_sentinel();
  try {
    setsuna::embed::ZygoteOptions options;
    for (R_xlen_t i = 0; i < XLENGTH(command); ++i) options.exec_command.emplace_back(CHAR(STRING_ELT(command, i)));
    for (R_xlen_t i = 0; i < XLENGTH(threaded); ++i) {
      options.threaded_packages += (i > 0 ? ", " : "") + std::string(CHAR(STRING_ELT(threaded, i)));
    }
    options.r_version = R_VERSION;
    zygote = new Zygote(std::move(options));
  } catch (const std::exception&) {
    zygote = nullptr;
  }
  if (zygote == nullptr) Rf_error("the fork server ran out of memory");
  return R_NilValue;
}

SEXP link_list(const setsuna::embed::DaemonLink& link) {
  const char* names[] = {"index", "epoch", "segment", "host_page", "refill", ""};
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(list, 0, Rf_ScalarInteger(static_cast<int>(link.id.index)));
  SET_VECTOR_ELT(list, 1, Rf_ScalarInteger(static_cast<int>(link.id.epoch)));
  SET_VECTOR_ELT(list, 2, Rf_ScalarInteger(link.segment_fd));
  SET_VECTOR_ELT(list, 3, Rf_ScalarInteger(link.host_page_fd));
  SET_VECTOR_ELT(list, 4, Rf_ScalarInteger(link.refill_fd));
  UNPROTECT(1);
  return list;
}

// ---- what daemons have in common, prepared before the fork ----

bool planned = false;
setsuna::embed::EvaluatorOptions plan;  // with the profile's stream
bool online = false;                    // in a daemon with a plan
bool going_online = false;
bool has_failure = false;  // of the last configuration
char failure_text[1024];

// numbers, stream: see evaluator_options(); numbers may be NULL: no plan, R code starts each daemon.
SEXP daemon_plan(SEXP numbers, SEXP stream, SEXP threads, SEXP hooks, SEXP restore, SEXP calm) {
  planned = false;
  if (numbers == R_NilValue) return R_NilValue;
  plan = setsuna::host::evaluator_options(numbers, stream);
  int counts[setsuna::embed::kThreadLibraryCount] = {};
  for (R_xlen_t i = 0; TYPEOF(threads) == INTSXP && i < XLENGTH(threads) && i < setsuna::embed::kThreadLibraryCount;
       ++i) {
    counts[i] = INTEGER(threads)[i] == NA_INTEGER ? 0 : INTEGER(threads)[i];
  }
  setsuna::embed::plan_library_threads(counts);
  // Daemons have a seed in their baseline, whatever its value.
  SEXP seed = Rf_install(".Random.seed");
  if (Rf_findVarInFrame(R_GlobalEnv, seed) == R_UnboundValue) Rf_defineVar(seed, R_NilValue, R_GlobalEnv);
  Evaluator::set_hooks(hooks);
  setsuna::embed::TaskScope::add(setsuna::host::nested_scope());
  Evaluator::prepare(restore, calm);
  planned = true;
  return R_NilValue;
}

bool attach(const setsuna::embed::DaemonLink& link) {
  setsuna::embed::EvaluatorOptions options = plan;
  const std::uint32_t epoch = link.id.epoch & 0xFFFFU;
  try {
    setsuna::host::to_daemon_stream(options.stream, link.id.index, epoch);
    Evaluator::attach(link.segment_fd, link.host_page_fd, link.refill_fd, link.id.index, epoch, options);
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return false;
  }
}

void go_online() {
  if (going_online) {  // it failed, in R
    std::fputs("setsuna: a daemon cannot start: R has no memory for it\n", stderr);
    ::_exit(kFailedStart);
  }
  going_online = true;
  daemon_tempdir();
  setsuna::embed::set_planned_threads();
  if (!attach(zygote->link())) daemon_exit(PROTECT(Rf_ScalarInteger(kFailedStart)));
  Evaluator::start();
  online = true;
}

SEXP zygote_configured(SEXP failure) {
  has_failure = TYPEOF(failure) == STRSXP;
  if (has_failure) std::snprintf(failure_text, sizeof failure_text, "%s", CHAR(STRING_ELT(failure, 0)));
  return R_NilValue;
}

SEXP config_bytes() {
  const auto& bytes = zygote->config_bytes();
  SEXP config = Rf_allocVector(RAWSXP, static_cast<R_xlen_t>(bytes.size()));
  if (!bytes.empty()) std::memcpy(RAW(config), bytes.data(), bytes.size());
  return config;
}

// In the fork server, the next thing to do in R: a raw vector is a configuration to apply (then zygote_configured() is to be
// called), NULL the end, a string what went wrong. In a daemon the reason to leave; or the link of one without a plan.
SEXP zygote_loop() {
  if (zygote->in_child()) {
    if (!online) go_online();
    return Rf_ScalarInteger(static_cast<int>(Evaluator::run()));
  }
  ZygoteStep step{};
  bool threw = false;
  try {
    step = zygote->serve(has_failure ? failure_text : nullptr);
  } catch (const std::exception&) {
    threw = true;
  }
  has_failure = false;
  if (threw) return Rf_mkString("the fork server ran out of memory");
  if (step == ZygoteStep::stopped) return R_NilValue;
  if (step == ZygoteStep::configure) return config_bytes();
  return planned ? zygote_loop() : link_list(zygote->link());
}

// The content of a file such as the memfd with a daemon's configuration; closes the descriptor.
SEXP read_fd(SEXP fd) {
  const int number = Rf_asInteger(fd);
  struct stat info {};
  if (::fstat(number, &info) != 0) Rf_error("cannot read descriptor %d: %s", number, std::strerror(errno));
  SEXP bytes = PROTECT(Rf_allocVector(RAWSXP, static_cast<R_xlen_t>(info.st_size)));
  ssize_t have = 0;
  while (have < info.st_size) {
    const ssize_t got = ::pread(number, RAW(bytes) + have, static_cast<std::size_t>(info.st_size - have), have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += got;
  }
  ::close(number);
  if (have < info.st_size) Rf_error("cannot read descriptor %d", number);
  UNPROTECT(1);
  return bytes;
}

SEXP thread_count() { return Rf_ScalarInteger(static_cast<int>(setsuna::embed::count_threads())); }

// ---- what a host hands on to its daemons ----

SEXP process_environment() {
  R_xlen_t count = 0;
  while (environ[count] != nullptr) ++count;
  SEXP values = PROTECT(Rf_allocVector(STRSXP, count));
  SEXP names = PROTECT(Rf_allocVector(STRSXP, count));
  for (R_xlen_t i = 0; i < count; ++i) {
    const char* entry = environ[i];
    const char* equals = std::strchr(entry, '=');
    const char* name_end = equals != nullptr ? equals : entry + std::strlen(entry);
    SET_STRING_ELT(names, i, Rf_mkCharLen(entry, static_cast<int>(name_end - entry)));
    SET_STRING_ELT(values, i, Rf_mkChar(equals != nullptr ? equals + 1 : ""));
  }
  Rf_setAttrib(values, R_NamesSymbol, names);
  UNPROTECT(2);
  return values;
}

// Names of the environment variables that this process was started with.
SEXP initial_names() {
  FILE* file = std::fopen("/proc/self/environ", "re");
  if (file == nullptr) return Rf_allocVector(STRSXP, 0);
  static char* entry = nullptr;  // kept by us, not by a destructor: R below may jump
  static size_t capacity = 0;
  R_xlen_t count = 0;
  while (getdelim(&entry, &capacity, '\0', file) > 0) ++count;
  std::rewind(file);
  SEXP names = PROTECT(Rf_allocVector(STRSXP, count));
  for (R_xlen_t i = 0; i < count && getdelim(&entry, &capacity, '\0', file) > 0; ++i) {
    SET_STRING_ELT(names, i, Rf_mkCharLen(entry, static_cast<int>(std::strcspn(entry, "="))));
  }
  std::fclose(file);
  UNPROTECT(1);
  return names;
}

SEXP get_umask() { return Rf_ScalarInteger(setsuna::embed::read_umask()); }

SEXP set_umask(SEXP mask) {
  ::umask(static_cast<mode_t>(Rf_asInteger(mask)));
  return R_NilValue;
}

// The mask as the kernel gives it, one bit a CPU; NULL if it cannot be read.
SEXP get_affinity() {
  alignas(unsigned long) unsigned char mask[setsuna::embed::kAffinityBytes];
  const int bytes = setsuna::embed::read_affinity(mask);
  if (bytes <= 0) return R_NilValue;
  SEXP out = Rf_allocVector(RAWSXP, bytes);
  std::memcpy(RAW(out), mask, static_cast<std::size_t>(bytes));
  return out;
}

SEXP set_affinity(SEXP mask) {
  if (TYPEOF(mask) != RAWSXP) return Rf_ScalarLogical(FALSE);
  return Rf_ScalarLogical(setsuna::embed::write_affinity(RAW(mask), static_cast<std::size_t>(XLENGTH(mask))));
}

// Thread counts of the numeric libraries that are loaded, in the order of kThreadLibraries; NA where one is not.
SEXP get_threads() {
  SEXP out = Rf_allocVector(INTSXP, setsuna::embed::kThreadLibraryCount);
  for (int i = 0; i < setsuna::embed::kThreadLibraryCount; ++i) {
    const int count = setsuna::embed::library_threads(i);
    INTEGER(out)[i] = count > 0 ? count : NA_INTEGER;
  }
  return out;
}

SEXP set_threads(SEXP counts) {
  if (TYPEOF(counts) != INTSXP) return R_NilValue;
  for (R_xlen_t i = 0; i < XLENGTH(counts) && i < setsuna::embed::kThreadLibraryCount; ++i) {
    if (INTEGER(counts)[i] != NA_INTEGER) setsuna::embed::set_library_threads(static_cast<int>(i), INTEGER(counts)[i]);
  }
  return R_NilValue;
}

}  // namespace

extern const R_CallMethodDef kZygoteEntries[] = {
    {"zygote_open", reinterpret_cast<DL_FUNC>(&zygote_open), 2},
    {"zygote_loop", reinterpret_cast<DL_FUNC>(&zygote_loop), 0},
    {"zygote_configured", reinterpret_cast<DL_FUNC>(&zygote_configured), 1},
    {"daemon_plan", reinterpret_cast<DL_FUNC>(&daemon_plan), 6},
    {"daemon_tempdir", reinterpret_cast<DL_FUNC>(&daemon_tempdir), 0},
    {"rehearse_tempdir", reinterpret_cast<DL_FUNC>(&rehearse_tempdir), 0},
    {"daemon_exit", reinterpret_cast<DL_FUNC>(&daemon_exit), 1},
    {"read_fd", reinterpret_cast<DL_FUNC>(&read_fd), 1},
    {"thread_count", reinterpret_cast<DL_FUNC>(&thread_count), 0},
    {"process_environment", reinterpret_cast<DL_FUNC>(&process_environment), 0},
    {"initial_names", reinterpret_cast<DL_FUNC>(&initial_names), 0},
    {"get_umask", reinterpret_cast<DL_FUNC>(&get_umask), 0},
    {"set_umask", reinterpret_cast<DL_FUNC>(&set_umask), 1},
    {"get_affinity", reinterpret_cast<DL_FUNC>(&get_affinity), 0},
    {"set_affinity", reinterpret_cast<DL_FUNC>(&set_affinity), 1},
    {"get_threads", reinterpret_cast<DL_FUNC>(&get_threads), 0},
    {"set_threads", reinterpret_cast<DL_FUNC>(&set_threads), 1},
    {nullptr, nullptr, 0},
};
